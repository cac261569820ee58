"""A FOCUS file, read: its rollup, the rows that could not be read with their lines, and what a person should know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from costwarden.sources import aws_cur
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.focus_columns import (
    COST_COLUMNS,
    COSTS,
    NULLS,
    NUMBER,
    WHOLE_DIGITS,
    Bill,
    Column,
    UnreadableBill,
    absent_costs,
    find_columns,
    literal,
    row_query,
)
from costwarden.sources.focus_lines import LONGEST_CONTENT, LONGEST_ROW, copy_with_lines, count_lines, read_header, row_texts
from costwarden.sources.focus_rollup import Summary, roll_up

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Characters of a value in a sentence about it.
LONGEST_VALUE = 100

# Bytes that DuckDB reads at a time, its default.
_CSV = "auto_detect = false, delim = ',', quote = '\"', escape = '\"', strict_mode = true, buffer_size = 32000000"

# Bytes of a row of the copy: four for a character, and twice that where all of them are quotes, which are doubled.
_LONGEST_COPIED = 8 * LONGEST_ROW + 100


class Rules(msgspec.Struct, frozen=True):
    """What the rows are read by."""

    attribution: Attribution
    rates: Rates
    default_currency: str | None
    keep_rejected_rows: int


class Unreadable(msgspec.Struct, frozen=True):
    """A row that could not be read."""

    line: int
    reason: str
    detail: str
    content: str
    lines: int = 1


class Reading(msgspec.Struct, frozen=True):
    """What a file holds; its charges are in the table `rollup` of the connection."""

    summary: Summary
    rejected: Mapping[str, int]
    """Reason -> rows, broken ones included."""
    unreadable: list[Unreadable]
    """The first of them."""
    notes: tuple[str, ...]
    figures: str
    """As `focus_copies` has them; without the whole rows where these would have to be read for it."""
    whole_rows: Callable[[], str]
    """Their digest, as long as the connection is open."""


def read_parquet(connection: DuckDBPyConnection, path: Path, rules: Rules) -> Reading:
    """Raises `UnreadableBill` and `duckdb.Error`."""
    bill = _parquet_bill(connection, path)
    summary = _roll_up(connection, bill, rules)
    unreadable = _unreadable(connection, bill, rules) if summary.rejected else []
    notes = tuple(_notes(summary, bill))
    return Reading(summary, summary.rejected, unreadable, notes, summary.figures, lambda: _digest_rows(connection, bill, rules))


def whole_rows(connection: DuckDBPyConnection, path: Path, rules: Rules) -> str:
    """The digest of the whole rows of a Parquet file. Raises `UnreadableBill` and `duckdb.Error`."""
    return _digest_rows(connection, _parquet_bill(connection, path), rules)


def _parquet_bill(connection: DuckDBPyConnection, path: Path) -> Bill:
    table = f"read_parquet({literal(str(path))}, binary_as_string = true, file_row_number = true, hive_partitioning = false)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()  # noqa: S608
    # The last is DuckDB's number of the row, which says nothing about it.
    names = [row[0] for row in described if row[0] != "file_row_number"]
    all_columns = [Column('"' + row[0].replace('"', '""') + '"', row[1]) for row in described if row[0] != "file_row_number"]
    bill = _bill(table, names, all_columns)
    return msgspec.structs.replace(
        bill,
        table=f"{bill.table} AS file_row",
        line="file_row_number + 1",
        content="CAST(to_json(file_row) AS VARCHAR)",
        is_columnar=not aws_cur.is_report(names),
    )


def _bill(table: str, names: Sequence[str], columns: Sequence[Column]) -> Bill:
    """A file in FOCUS, or a report of AWS as if it were one. Raises `UnreadableBill` where it is neither."""
    # By name: the same bill may be written with its columns in another order.
    row_hash = _hash(column.reference for _, column in sorted(zip(names, columns, strict=True), key=lambda pair: pair[0]))
    if aws_cur.is_report(names):
        table, mapped = aws_cur.as_focus(table, names, columns)
        return Bill(table, mapped, row_hash, has_nulls=True)
    return Bill(table, {name: columns[position] for name, position in find_columns(names).items()}, row_hash)


def _digest_rows(connection: DuckDBPyConnection, bill: Bill, rules: Rules) -> str:
    """In any order: a sum asks for none."""
    rows = row_query(bill, rules.rates.first_days, rules.default_currency)
    (found,) = connection.execute(f"SELECT CAST(sum(identity) AS VARCHAR) FROM ({rows}) WHERE reason = ''").fetchall()  # noqa: S608
    return found[0] or "0"


def read_csv(connection: DuckDBPyConnection, path: Path, rules: Rules, check_open: Callable[[], None]) -> Reading:
    """`path` ends in .csv or .csv.gz. `check_open` is asked again and again, and what it raises ends the reading.

    Raises `UnreadableBill`, `duckdb.Error`, and what reading, decompressing and writing beside `path` raise.
    """
    header = read_header(path)
    types = {f"c{position}": "VARCHAR" for position in range(len(header))}
    columns = [Column(name) for name in types]
    # Of a CSV file all columns are read anyway.
    bill = msgspec.structs.replace(_bill(_csv_table(path, types), header, columns), has_nulls=True, sums_rows=True)
    summary = _at_once(connection, bill, path, rules, check_open)
    if summary is not None and not summary.rejected:
        return Reading(summary, {}, [], tuple(_notes(summary, bill)), summary.figures, str)
    # With lines, and without what breaks a row: slower, for files that have something to tell.
    copy = path.with_name("with_lines.csv")
    met = copy_with_lines(path, copy, rules.keep_rejected_rows, check_open)
    table = _csv_table(copy, {"line": "BIGINT", "lines": "BIGINT", **types}, header=False, longest=_LONGEST_COPIED)
    bill = msgspec.structs.replace(_bill(table, header, columns), line="line", lines="lines", has_nulls=True, sums_rows=True)
    summary = _roll_up(connection, bill, rules)
    if _rows_seen(summary) != met.rows:
        raise UnreadableBill(f"has {met.rows} rows, of which DuckDB reads {_rows_seen(summary)}")
    found = _unreadable(connection, bill, rules)
    copy.unlink()
    texts = row_texts(path, {row.line: row.lines for row in found}, check_open)
    unreadable = [msgspec.structs.replace(row, content=texts[row.line]) for row in found]
    unreadable += [Unreadable(row.line, "broken_row", row.detail, row.content) for row in met.first_broken]
    unreadable = sorted(unreadable, key=lambda row: row.line)[: rules.keep_rejected_rows]
    rejected = {**summary.rejected, "broken_row": met.broken} if met.broken else summary.rejected
    return Reading(summary, rejected, unreadable, tuple(_notes(summary, bill, met.undecodable)), summary.figures, str)


def _at_once(connection: DuckDBPyConnection, bill: Bill, path: Path, rules: Rules, check_open: Callable[[], None]) -> Summary | None:
    """The summary of a file of which every line is a row; None of any other, on which DuckDB is not to be trusted."""
    import duckdb

    with ThreadPoolExecutor(1) as beside:
        lines = beside.submit(count_lines, path, check_open)
        try:
            summary = _roll_up(connection, bill, rules)
        except duckdb.Error as error:
            # Where the file is damaged, this raises and says so better.
            lines.result()
            if isinstance(error, duckdb.InvalidInputException | duckdb.NotImplementedException):
                return None
            raise
        return summary if _rows_seen(summary) == lines.result() - 1 else None


def _rows_seen(summary: Summary) -> int:
    return summary.rows + sum(summary.rejected.values())


def _roll_up(connection: DuckDBPyConnection, bill: Bill, rules: Rules) -> Summary:
    import duckdb

    try:
        return roll_up(connection, bill, rules.attribution, rules.rates, rules.default_currency)
    except duckdb.OutOfRangeException as error:
        raise UnreadableBill("the costs of a day add up to more than 14 digits before the point") from error


def _hash(columns: Iterable[str]) -> str:
    return f"hash({', '.join(columns)})"


def _csv_table(path: Path, types: Mapping[str, str], *, header: bool = True, longest: int = LONGEST_ROW) -> str:
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    nulls = ", ".join(f"'{null}'" for null in NULLS)
    compression = "gzip" if path.suffix == ".gz" else "none"
    options = f"{_CSV}, header = {header}, compression = '{compression}', nullstr = [{nulls}], columns = {{{columns}}}"
    options += f", max_line_size = {longest}"
    return f"read_csv({literal(str(path))}, {options})"


def _unreadable(connection: DuckDBPyConnection, bill: Bill, rules: Rules) -> list[Unreadable]:
    """The first rows of the bill that cannot be read."""
    texts = ", ".join(f"{cost}_text" for cost in COSTS)
    rows = row_query(bill, rules.rates.first_days, rules.default_currency)
    found = connection.execute(
        f"SELECT line, lines, left(content, {LONGEST_CONTENT}), reason, charge_date, day_text, billing_currency, {texts}"  # noqa: S608
        f" FROM ({rows}) WHERE reason <> '' ORDER BY line LIMIT {rules.keep_rejected_rows}"
    ).fetchall()
    return [Unreadable(line, reason, _detail(reason, *values), content, lines) for line, lines, content, reason, *values in found]


def _detail(reason: str, day: object, day_text: str | None, currency: str | None, *costs: str | None) -> str:
    if reason in ("missing_date", "missing_cost", "missing_currency"):
        return {
            "missing_date": "ChargePeriodStart is empty",
            "missing_cost": "BilledCost is empty",
            "missing_currency": "BillingCurrency is empty, and the source has no `default_currency`",
        }[reason]
    if reason == "bad_date":
        return f"ChargePeriodStart {_value(day_text)} is not a time from 2000 to 2099"
    if reason == "no_exchange_rate":
        return f"no rate for {_value(currency)} on {day}: add one to `exchange_rates`"
    named = [(COST_COLUMNS[cost], text) for cost, text in zip(COSTS, costs, strict=True) if text is not None]
    if reason == "bad_cost":
        name, text = next(((name, text) for name, text in named if not re.fullmatch(NUMBER, text)), named[0])
        return f"{name} {_value(text)} is not a number"
    name, text = max(named, key=lambda item: abs(float(item[1])))
    return f"{name} {_value(text)} has more than {WHOLE_DIGITS} digits before the point"


def _value(text: str | None) -> str:
    shown = text or ""
    return repr(shown if len(shown) <= LONGEST_VALUE else shown[:LONGEST_VALUE] + "…")


def _notes(summary: Summary, bill: Bill, undecodable: int = 0) -> Iterable[str]:
    absent = absent_costs(bill)
    if absent:
        yield f"no column {', '.join(absent)}: {'counts' if len(absent) == 1 else 'each counts'} as 0"
    for cost, rows in summary.uncosted.items():
        if COST_COLUMNS[cost] not in absent:
            yield f"{_rows(rows)} without {COST_COLUMNS[cost]}, which counts as 0"
    if summary.rounded:
        yield f"{_rows(summary.rounded)} with a cost finer than 24 decimal places, rounded"
    if summary.untagged:
        yield f"{_rows(summary.untagged)} whose Tags are not a JSON object, read without tags"
    if undecodable:
        yield f"{_rows(undecodable)} with bytes that are not UTF-8"


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
