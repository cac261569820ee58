"""The sum of the charges is the sum of the readable rows, to the last digit; readable and rejected rows are all rows."""

import csv
import io
import re
from collections import Counter, defaultdict
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costwarden.sources import Read, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings

COLUMNS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
BASES = ("billed_cost", "effective_cost", "list_cost", "contracted_cost")
DAYS = {
    "2026-01-31T23:30:00Z": "2026-01-31",
    "2026-01-31 23:30:00": "2026-01-31",
    "2026-02-01": "2026-02-01",
    "2026-01-31T23:30:00-05:00": "2026-02-01",
    "2026-02-01T01:30:00+02:00": "2026-01-31",
    "2026-02-01T00:00:00.123456789Z": "2026-02-01",
}
NOTHING = ("", "NULL", "null")
TIDY = re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})? *")


def parse_cost(text):
    """What the row says, by Python's own arithmetic: (cost, rounded), or the reason why it cannot be read."""
    if not TIDY.fullmatch(text):
        return "bad_cost"
    with localcontext(prec=1200):
        exact = Decimal(text.strip())
        cost = exact.quantize(Decimal("1e-24"), ROUND_HALF_UP)
        return (cost, cost != exact) if abs(cost) < Decimal(10) ** 12 else "cost_out_of_range"


def expected(rows):
    """Sums by (day, basis), and rows by reason, of rows as written."""
    sums = defaultdict(Decimal)
    reasons = Counter()
    for row in rows:
        parsed = [(Decimal(0), False) if cost in NOTHING else parse_cost(cost) for cost in row["costs"]]
        if row["day"] in NOTHING:
            reasons["missing_date"] += 1
        elif row["day"] not in DAYS:
            reasons["bad_date"] += 1
        elif row["costs"][0] in NOTHING:
            reasons["missing_cost"] += 1
        elif "bad_cost" in parsed:
            reasons["bad_cost"] += 1
        elif "cost_out_of_range" in parsed:
            reasons["cost_out_of_range"] += 1
        else:
            reasons[""] += 1
            for basis, (cost, _) in zip(BASES, parsed, strict=True):
                with localcontext(prec=80):
                    sums[DAYS[row["day"]], basis] += cost
    return dict(sums), reasons


def read_folder(folder):
    (change,) = [
        (change, list(change.charges))
        for change in open_source(FocusSettings(path=folder, default_currency="USD"), AttributionSettings(), ExchangeRates()).fetch({})
        if isinstance(change, Read)
    ]
    return change


def summed(charges):
    sums = defaultdict(Decimal)
    with localcontext(prec=80):
        for charge in charges:
            for basis in BASES:
                sums[charge.charge_date.isoformat(), basis] += getattr(charge, basis)
    return dict(sums)


digits = st.text("0123456789", max_size=12)
plain = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole or '0'}{'.' if fraction else ''}{fraction}",
    st.sampled_from(["", "-", "+"]),
    digits,
    st.text("0123456789", max_size=32),
)
scientific = st.builds(lambda number, e, power: f"{number}{e}{power}", plain, st.sampled_from("eE"), st.integers(-40, 14))
garbage = st.sampled_from(["n/a", "1,5", "1_000", "$1", "0x10", "1e", "nan", "inf", "--1", "1e99", "123456789012345", "-"])
cost = st.one_of(plain, plain, plain, scientific, st.sampled_from(NOTHING), garbage)
day = st.sampled_from([*DAYS, *DAYS, *DAYS, "", "NULL", "yesterday", "2026-02-30", "infinity", "1999-12-31"])
# What a quoted value may hold, and what looks like an end of it.
text = st.lists(st.sampled_from(["a", '"', ",", "\n", "\r\n", "é", "'", " ", "NULL"]), max_size=6).map("".join)
rows = st.lists(st.fixed_dictionaries({"day": day, "costs": st.tuples(cost, cost, cost, cost), "name": text}), max_size=40)
broken = st.sampled_from(["one,two", 'a,"b"c,1,1,1,1', ",".join("x" * 9), '"never closed,1,1,1,1'])


def write_csv(path, rows, lost=()):
    """A CSV file with `rows`; each of `lost`, (position, text of a line), stands before the row of that position."""
    lines = []
    for row in rows:
        out = io.StringIO()
        csv.writer(out).writerow([row["name"], row["day"], *row["costs"]])
        lines.append(out.getvalue())
    for position, line in sorted(lost, reverse=True):
        lines.insert(min(position, len(lines)), line + "\r\n")
    path.write_text(",".join(("ResourceName", "ChargePeriodStart", *COLUMNS)) + "\r\n" + "".join(lines), encoding="utf-8", newline="")


def check(folder, rows, lost=()):
    sums, reasons = expected(rows)
    change, charges = read_folder(folder)
    assert summed(charges) == sums
    assert (
        {"": change.rows} | dict(change.rejected) == {"": 0, "broken_row": len(lost)} | dict(reasons) if lost else {"": 0} | dict(reasons)
    )
    assert sum(charge.row_count for charge in charges) == change.rows
    assert change.rows + sum(change.rejected.values()) == len(rows) + len(lost)
    assert len(change.rejected_rows) == sum(change.rejected.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(rows)
def test_every_row_of_a_csv_file_is_summed_exactly_or_rejected(rows):
    with TemporaryDirectory() as folder:
        write_csv(Path(folder, "bill.csv"), rows)
        check(folder, rows)


# A quote that stays open ends at the next one, wherever that stands: names that begin with one would make two readings possible.
tidy_rows = st.lists(
    st.fixed_dictionaries({"day": day, "costs": st.tuples(cost, cost, cost, cost), "name": st.sampled_from(["", "a", "b\nc"])})
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(tidy_rows, st.lists(st.tuples(st.integers(0, 40), broken), min_size=1, max_size=4))
def test_a_broken_line_costs_no_other_row(rows, lost):
    with TemporaryDirectory() as folder:
        write_csv(Path(folder, "bill.csv"), rows, lost)
        check(folder, rows, lost)


doubles = st.one_of(
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.floats(-999, 999).map(lambda x: round(x, 8)),
    st.integers(-(10**9), 10**9).map(lambda n: n * 0.1),
    st.sampled_from([0.1 + 0.2, 1e-7, 8.333333333333334e-07, 999.0, 1e11, -0.0]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(doubles, st.decimals(-(10**12) + 1, 10**12 - 1, places=11)), min_size=1, max_size=40))
def test_a_parquet_cost_is_its_shortest_decimal_where_it_is_a_double_and_itself_where_it_is_a_decimal(costs):
    with TemporaryDirectory() as folder:
        path = Path(folder, "bill.parquet")
        with duckdb.connect() as connection:
            connection.execute(
                "CREATE TABLE bill (BilledCost DOUBLE, ListCost DECIMAL(38, 11), ChargePeriodStart TIMESTAMP, BillingCurrency VARCHAR)"
            )
            connection.executemany("INSERT INTO bill VALUES (?, ?, '2026-01-01 12:00:00', 'USD')", costs)
            connection.execute(f"COPY bill TO '{path}'")
        change, charges = read_folder(folder)
        (charge,) = charges
        with localcontext(prec=80):
            billed = sum(Decimal(repr(double)).quantize(Decimal("1e-24"), ROUND_HALF_UP) for double, _ in costs)
            listed = sum(decimal for _, decimal in costs)
        assert (charge.billed_cost, charge.list_cost) == (billed, listed)
        assert (change.rows, charge.row_count, charge.effective_cost) == (len(costs), len(costs), 0)


def test_threads_that_begin_inside_a_quoted_newline_misread_nothing(folder, read_one, totals):
    # A thread takes 8,000,000 bytes and more; each row is 100 lines, so that most places to begin are inside a value.
    note = '"' + "\n,USD,2026-01-01,".join(["x"] * 100) + '"'
    rows = 9_000
    with (folder / "bill.csv").open("w") as file:
        file.write("Note,BillingCurrency,ChargePeriodStart,BilledCost\n")
        file.writelines(f"{note},USD,2026-01-01,{number}.01\n" for number in range(rows))
    assert (folder / "bill.csv").stat().st_size > 14_000_000
    change = read_one()
    assert (change.rows, change.rejected) == (rows, {})
    # 0.01 + 1.01 + … + 8999.01 = 8999 · 9000 / 2 + 9000 · 0.01
    assert totals(change)["billed_cost"] == Decimal(40_495_500 + 90)


@pytest.mark.sample_data
def test_the_totals_per_service_of_the_focus_sample_are_those_of_the_file(sample_data, fetch):
    (change,) = [change for part, change in fetch(path=sample_data / "focus").items() if part == "focus_sample.csv"]
    with (sample_data / "focus" / "focus_sample.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with localcontext(prec=80):
        for column, basis in zip(COLUMNS, BASES, strict=True):
            in_file, in_charges = defaultdict(Decimal), defaultdict(Decimal)
            for row in rows:
                in_file[row["ServiceName"]] += Decimal(row[column].replace("NULL", "0"))
            for charge in change.charges:
                in_charges[charge.service_name] += getattr(charge, basis)
            assert in_charges == in_file
    assert (change.rows, change.rejected, change.rounded) == (1000, {}, 0)
    assert change.message == "7 rows without ContractedCost, which counts as 0"


@pytest.mark.sample_data
def test_the_examples_of_the_specification_are_read_once_they_have_a_currency(sample_data, fetch, totals):
    folder = sample_data / "focus" / "spec-examples"
    assert {next(iter(change.rejected)) for change in fetch(path=folder).values()} == {"missing_currency"}
    found = fetch(path=folder, default_currency="USD")
    # Purchases: 8760 upfront, 3 · 1.00 recurring, 4380 + 3 · 0.50 of both; usage: 0.50 beyond the commitment.
    assert sum(totals(change)["billed_cost"] for change in found.values()) == 8760 + 3 + 4380 + Decimal("1.50") + Decimal("0.50")
    # Used or not, an hour of a commitment costs 1.00: 1.00 + 1.00 + (0.75 + 0.25) + (1.00 + 0.50).
    assert sum(totals(change)["effective_cost"] for change in found.values()) == Decimal("4.50")
