"""Charges of bills: invisible while they are staged, in force all at once, exact in both currencies."""

from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from sqlalchemy import select

from costwarden.ledger.charges import (
    CHARGE_COLUMNS,
    Part,
    Refresh,
    breakdown,
    charge_row,
    clear_staged,
    count_rejected,
    forget_sources,
    mark_failed,
    overlaps,
    read_parts,
    read_rejected,
    record_refresh,
    remove_part,
    replace_part,
    stage_charges,
)
from costwarden.ledger.schema import charges, rejected_rows, source_state, staged_charges
from costwarden.model import Charge, RejectedRow, to_micros

CHARGE = Charge(
    source="focus",
    part="a.csv",
    charge_date=date(2026, 1, 15),
    provider_name="aws",
    billing_account_id="1111",
    sub_account_id="4444",
    service_name="EC2",
    service_category="Compute",
    region_id="us-east-1",
    charge_category="Usage",
    billing_currency="USD",
    team="",
    feature="",
    tenant_id="",
    environment="",
    billed_cost=Decimal(1),
    effective_cost=Decimal(1),
    list_cost=Decimal(1),
    contracted_cost=Decimal(1),
    usd_rate=Decimal(1),
    row_count=1,
)
ALWAYS = {"first": date(2000, 1, 1), "last": date(2099, 12, 31)}


@pytest.fixture
def stage(ledger):
    """`stage({"billed_cost": Decimal(5)}, …, source="focus", part="a.csv")`: stages charges that are as `CHARGE` in all else."""

    def run(*differences, **common):
        rows = [charge_row(msgspec.structs.replace(CHARGE, **{**common, **difference})) for difference in differences]
        ledger.write(lambda connection: stage_charges(connection, rows))
        return len(rows)

    return run


@pytest.fixture
def put(ledger, stage):
    """`put("a.csv", {…}, …)`: stages charges of a part and puts them in force, with what else it has."""

    def run(name, *differences, source="focus", rejected=None, kept=(), **fields):
        rows = stage(*differences, source=source, part=name)
        part = Part(part=name, state="ok", **{"rows": rows, **fields})
        ledger.write(lambda connection: replace_part(connection, source, part, rejected or {}, kept))
        ledger.write(lambda connection: clear_staged(connection, source, 1_000))

    return run


@pytest.fixture
def read(ledger):
    """`read(breakdown, "billed_cost", …)`: calls a function with a reading connection."""

    def run(function, *arguments, **options):
        with ledger.read() as connection:
            return function(connection, *arguments, **options)

    return run


def billed(read, *by):
    return read(breakdown, "billed_cost", by, **ALWAYS)


def test_the_row_of_a_charge_has_exact_plain_decimals_in_both_currencies():
    charge = msgspec.structs.replace(
        CHARGE,
        billing_currency="EUR",
        usd_rate=Decimal("1.08"),
        billed_cost=Decimal("12345678901234.123456789012345678901234"),
        effective_cost=Decimal("8E-7"),
        list_cost=Decimal(-10),
        contracted_cost=Decimal(0),
    )
    row = dict(zip(CHARGE_COLUMNS, charge_row(charge), strict=True))
    assert row["charge_date"] == "2026-01-15"
    assert [row[name] for name in ("billed_cost", "effective_cost", "list_cost", "contracted_cost", "usd_rate")] == [
        "12345678901234.123456789012345678901234",
        "0.0000008",
        "-10",
        "0",
        "1.08",
    ]
    # 12345678901234.123456789012345678901234 · 1.08, to the last digit.
    assert row["billed_cost_usd"] == "13333333213332.85333333213333333321333272"
    assert [row[name] for name in ("effective_cost_usd", "list_cost_usd", "contracted_cost_usd")] == ["0.000000864", "-10.80", "0.00"]


def test_what_is_staged_is_seen_by_nobody_until_its_part_is_put_in_force(ledger, stage, read):
    stage({"billed_cost": Decimal(5)}, {"billed_cost": Decimal(7), "service_name": "S3"})
    assert billed(read, "service_name") == []
    ledger.write(lambda connection: replace_part(connection, "focus", Part(part="a.csv", state="ok", rows=2), {}, ()))
    assert billed(read, "service_name") == [("S3", 7), ("EC2", 5)]


def test_a_part_replaces_all_that_it_held_and_leaves_other_parts_and_sources_alone(put, read):
    kept = [RejectedRow(source="focus", part="a.csv", line=3, reason="bad_cost", detail="d", content="c")]
    put("a.csv", {"billed_cost": Decimal(1)}, rejected={"bad_cost": 5, "bad_date": 1}, kept=kept, message="old")
    put("b.csv", {"billed_cost": Decimal(2)})
    put("a.csv", {"billed_cost": Decimal(4)}, source="other")
    put("a.csv", {"billed_cost": Decimal(8), "charge_date": date(2026, 1, 1)}, {"billed_cost": Decimal(16)}, figures="f", read_at=9)
    assert sorted(billed(read, "source", "part")) == [("focus", "a.csv", 8 + 16), ("focus", "b.csv", 2), ("other", "a.csv", 4)]
    assert (read(count_rejected), read(read_rejected)) == ([], [])
    assert read(read_parts, "focus")[0] == (
        "focus",
        Part(part="a.csv", state="ok", figures="f", rows=2, read_at=9, first_day="2026-01-01", last_day="2026-01-15"),
    )


def test_charges_that_are_not_the_sum_of_the_rows_are_refused_and_nothing_changes(ledger, put, stage, read):
    put("a.csv", {"billed_cost": Decimal(1)})
    stage({"billed_cost": Decimal(5), "row_count": 3})
    with pytest.raises(RuntimeError, match=r"focus: a\.csv: charges of 3 rows were staged, not of 4"):
        ledger.write(lambda connection: replace_part(connection, "focus", Part(part="a.csv", state="ok", rows=4), {}, ()))
    assert billed(read) == [(1,)]


def test_staged_rows_that_were_left_behind_are_cleared_a_batch_at_a_time(ledger, stage, read):
    stage(*({"service_name": str(number)} for number in range(5)))
    stage({}, source="other")
    assert [ledger.write(lambda connection: clear_staged(connection, "focus", 3)) for _ in range(3)] == [3, 2, 0]
    assert read(lambda connection: connection.execute(select(staged_charges.c.source)).scalars().all()) == ["other"]


def test_a_part_that_fails_keeps_what_it_held_and_is_read_again(ledger, put, read):
    put("a.csv", {"billed_cost": Decimal(5)}, rejected={"bad_cost": 1}, fingerprint="x", figures="f")
    ledger.write(lambda connection: mark_failed(connection, "focus", "a.csv", "a.csv: broken", 77))
    ledger.write(lambda connection: mark_failed(connection, "focus", "new.csv", "new.csv: broken", 78))
    assert billed(read, "part") == [("a.csv", 5)]
    assert read(count_rejected) == [("focus", "bad_cost", 1)]
    (_, kept), (_, new) = read(read_parts)
    assert (kept.state, kept.fingerprint, kept.figures, kept.rows, kept.message, kept.read_at) == (
        "failed",
        "",
        "f",
        1,
        "a.csv: broken",
        77,
    )
    assert (new.part, new.state, new.rows, new.first_day) == ("new.csv", "failed", 0, "")


def test_a_part_that_is_removed_leaves_nothing(ledger, put, read):
    kept = [RejectedRow(source="focus", part="a.csv", line=3, reason="bad_cost", detail="d", content="c")]
    put("a.csv", {}, rejected={"bad_cost": 1}, kept=kept)
    ledger.write(lambda connection: remove_part(connection, "focus", "a.csv"))
    assert (billed(read), read(count_rejected), read(read_rejected), read(read_parts)) == ([], [], [], [])


def test_sources_that_are_configured_no_more_are_dropped_with_all_they_hold(ledger, put, stage, read):
    kept = [RejectedRow(source="old", part="a.csv", line=3, reason="bad_cost", detail="d", content="c")]
    put("a.csv", {"billed_cost": Decimal(1)}, source="old", rejected={"bad_cost": 1}, kept=kept)
    put("a.csv", {"billed_cost": Decimal(2)})
    stage({}, source="older")
    ledger.write(lambda connection: record_refresh(connection, "oldest", Refresh(at=1, duration_seconds=0)))
    assert ledger.write(lambda connection: forget_sources(connection, {"focus"})) == ["old", "older", "oldest"]
    assert billed(read, "source") == [("focus", 2)]
    assert (read(count_rejected), read(read_rejected)) == ([], [])
    assert ledger.write(lambda connection: forget_sources(connection, {"focus"})) == []


def test_days_that_parts_share_are_told_and_those_of_replaced_charges_are_not(put, stage, read):
    days = [{"charge_date": date(2026, 1, day)} for day in (1, 2, 3)]
    put("a.csv", *days)
    put("old.csv", *days)
    stage(*days[1:], {"charge_date": date(2026, 1, 9)}, part="b.csv")
    stage({"charge_date": date(2026, 1, 1), "billing_account_id": "2222"}, part="c.csv")
    stage({"charge_date": date(2026, 1, 9), "service_name": "S3"}, part="d.csv")
    assert read(overlaps, "focus", ["old.csv"]) == {
        "b.csv": "3 of its days are also in a.csv, for the same account; both are counted",
        "d.csv": "1 of its days is also in b.csv, for the same account; both are counted",
    }
    assert read(overlaps, "other", []) == {}


def test_a_breakdown_is_exact_and_begins_with_the_dearest(put, read):
    put(
        "a.csv",
        {"billed_cost": Decimal("0.1"), "region_id": "a", "list_cost": Decimal(9)},
        {"billed_cost": Decimal("0.2"), "region_id": "b"},
        {"billed_cost": Decimal("1e-24"), "region_id": "a", "charge_date": date(2026, 1, 31)},
        {"billed_cost": Decimal(-3), "region_id": "c", "team": "web"},
        {"billed_cost": Decimal(7), "region_id": "a", "charge_date": date(2026, 2, 1)},
    )
    january = {"first": date(2026, 1, 1), "last": date(2026, 1, 31)}
    assert read(breakdown, "billed_cost", ["region_id"], **january) == [
        ("b", Decimal("0.2")),
        ("a", Decimal("0.100000000000000000000001")),
        ("c", Decimal(-3)),
    ]
    assert read(breakdown, "list_cost", [], **january, where={"region_id": "a"}) == [(9 + 1,)]
    assert read(breakdown, "billed_cost", ["team"], **january, where={"team": "web"}) == [("web", -3)]
    assert read(breakdown, "billed_cost", ["team"], **january, where={"team": "data"}) == []


def test_rejected_rows_are_listed_in_order_and_can_be_narrowed(put, read):
    def row(source, part, line, reason):
        return RejectedRow(source=source, part=part, line=line, reason=reason, detail="d", content="c")

    rows = [row("focus", "b.csv", 9, "bad_cost"), row("focus", "b.csv", 3, "bad_date")]
    put("b.csv", {}, rejected={"bad_cost": 12, "bad_date": 1}, kept=rows)
    put("a.csv", {}, rejected={"bad_cost": 2}, kept=[row("focus", "a.csv", 5, "bad_cost")])
    put("a.csv", {}, source="other", rejected={"bad_cost": 1}, kept=[row("other", "a.csv", 1, "bad_cost")])
    assert [(found.source, found.part, found.line) for found in read(read_rejected)] == [
        ("focus", "a.csv", 5),
        ("focus", "b.csv", 3),
        ("focus", "b.csv", 9),
        ("other", "a.csv", 1),
    ]
    assert [found.line for found in read(read_rejected, source="focus", reason="bad_cost", limit=1)] == [5]
    # 12 + 2, although only two of them are kept.
    assert read(count_rejected) == [("focus", "bad_cost", 12 + 2), ("focus", "bad_date", 1), ("other", "bad_cost", 1)]


def test_a_source_reports_on_itself(ledger, put, read):
    def state():
        return dict(read(lambda connection: connection.execute(select(source_state)).mappings().one()))

    def note(**fields):
        ledger.write(lambda connection: record_refresh(connection, "focus", Refresh(**fields)))

    note(at=5, duration_seconds=0.5, failure="no such folder", requests=2)
    assert state() == {
        "source": "focus",
        "up": 0,
        "last_attempt_at": 5,
        "last_success_at": 0,
        "duration_seconds": 0.5,
        "data_newest_at": 0,
        "rows": 0,
        "refreshes_ok": 0,
        "refreshes_failed": 1,
        "requests": 2,
        "request_cost": 0,
        "message": "no such folder",
        "reader": "",
        "reader_until": 0,
    }
    put("a.csv", {}, {"service_name": "S3"})
    put("b.csv", {"charge_date": date(2026, 1, 31)})
    note(at=6, duration_seconds=1.5, requests=1)
    assert state() == {
        "source": "focus",
        "up": 1,
        "last_attempt_at": 6,
        "last_success_at": 6,
        "duration_seconds": 1.5,
        # The end of 2026-01-31.
        "data_newest_at": to_micros(datetime(2026, 2, 1, tzinfo=UTC)),
        "rows": 2 + 1,
        "refreshes_ok": 1,
        "refreshes_failed": 1,
        "requests": 2 + 1,
        "request_cost": 0,
        "message": "",
        "reader": "",
        "reader_until": 0,
    }
    note(at=7, duration_seconds=0, failure="again")
    assert (state()["up"], state()["last_success_at"], state()["rows"], state()["refreshes_failed"]) == (0, 6, 3, 2)


def test_the_tables_of_bills_have_a_column_for_every_field_of_their_records():
    assert [name.removesuffix("_usd") for name in CHARGE_COLUMNS if name not in Charge.__struct_fields__] == [
        "billed_cost",
        "effective_cost",
        "list_cost",
        "contracted_cost",
    ]
    assert set(Charge.__struct_fields__) <= set(charges.c.keys())
    assert set(RejectedRow.__struct_fields__) | {"rejected_row_id"} == set(rejected_rows.c.keys())
    assert set(charges.c.keys()) | {"staged_charge_id"} == set(staged_charges.c.keys())


def test_a_rejected_row_is_kept_whatever_its_bytes_say(put, read):
    kept = [RejectedRow(source="focus", part="a.csv", line=7, reason="bad_cost", detail="BilledCost", content="a\0b,😀")]
    put("a.csv", {"billed_cost": Decimal(5)}, rejected={"bad_cost": 1}, kept=kept)
    assert [row.content for row in read(read_rejected)] == ["a\ufffdb,😀"]


def test_a_charge_is_kept_whatever_its_texts_say(put, read):
    put("a.csv", {"service_name": "S\0x \ud83d", "team": "\ud83d\ude00"}, {"service_name": "plain"})
    rows = read(lambda connection: connection.execute(select(charges.c.part, charges.c.service_name, charges.c.team)).all())
    assert sorted(map(tuple, rows)) == [("a.csv", "S\ufffdx \ufffd", "😀"), ("a.csv", "plain", "")]
