"""Charges of bills: staged a batch at a time while a bill is read, then put in force, all changes of a refresh in one transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, case, delete, func, insert, literal, select, union, update

from costwarden.ledger.bulk import insert_rows, storable, total_of
from costwarden.ledger.schema import (
    CHARGE_KEY,
    COST_BASES,
    charges,
    provider_budgets,
    provider_figures,
    provider_usage,
    rejected_counts,
    rejected_rows,
    source_answers,
    source_parts,
    source_state,
    staged_charges,
)
from costwarden.model import ALLOCATED, EXACT, Charge, RejectedRow, to_micros

CHARGE_COLUMNS = tuple(column.name for column in charges.columns)


_OF_SOURCES = (
    charges,
    staged_charges,
    source_parts,
    rejected_counts,
    rejected_rows,
    provider_usage,
    provider_figures,
    provider_budgets,
    source_answers,
    source_state,
)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a part of a source: a file, an object, an answer."""

    part: str
    state: str
    """`ok`; `duplicate`: not counted; `failed`: what it held before is kept."""
    fingerprint: str = ""
    figures: str = ""
    message: str = ""
    rows: int = 0
    """Rows that its charges are the sum of."""
    rejected: int = 0
    rounded: int = 0
    read_at: int = 0
    """Microseconds of the last attempt."""
    first_day: str = ""
    last_day: str = ""


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to read a source."""

    at: int
    """When it began, in microseconds."""
    duration_seconds: float
    failure: str = ""
    """Why it failed; empty where it did not."""
    requests: int = 0
    """Free ones: what costs money was noted before it was asked for."""


# --- writing -------------------------------------------------------------------------------------------------------------------


def charge_row(charge: Charge) -> tuple[Any, ...]:
    """`charge` in the order of `CHARGE_COLUMNS`, its costs in dollars added."""
    key = [charge.charge_date.isoformat() if name == "charge_date" else storable(getattr(charge, name)) for name in CHARGE_KEY]
    costs = [getattr(charge, name) for name in COST_BASES]
    texts = [format(cost, "f") for cost in costs]
    in_usd = texts if charge.usd_rate == 1 else [format(EXACT.multiply(cost, charge.usd_rate), "f") for cost in costs]
    return (*key, *texts, format(charge.usd_rate, "f"), *in_usd, charge.row_count)


def stage_charges(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Set `rows` (see `charge_row`) aside. Nobody sees them before `replace_part`."""
    insert_rows(connection, staged_charges, CHARGE_COLUMNS, rows)


def clear_staged(connection: Connection, source: str, limit: int) -> int:
    """Drop up to `limit` staged rows of `source`, which are in force by now or will never be, and give their number."""
    some = select(staged_charges.c.staged_charge_id).where(staged_charges.c.source == source).limit(limit)
    return connection.execute(delete(staged_charges).where(staged_charges.c.staged_charge_id.in_(some))).rowcount


def replace_part(connection: Connection, source: str, part: Part, rejected: Mapping[str, int], kept: Iterable[RejectedRow]) -> None:
    """Put the staged charges of a part in force, in place of all that it held; `rejected` counts rows by reason, `kept` has the first.

    The days, and the number of rejected rows, are found here. Raises `RuntimeError` where the staged charges are not the sum of
    `part.rows` rows: another process has read the same source into the same ledger at the same time.
    """
    remove_part(connection, source, part.part)
    names = [staged_charges.c[name] for name in CHARGE_COLUMNS]
    mine = (staged_charges.c.source == source, staged_charges.c.part == part.part)
    connection.execute(insert(charges).from_select(list(CHARGE_COLUMNS), select(*names).where(*mine)))
    summary = select(func.min(charges.c.charge_date), func.max(charges.c.charge_date), total_of(charges.c.row_count))
    first, last, rows = connection.execute(summary.where(charges.c.source == source, charges.c.part == part.part)).one()
    if rows != part.rows:
        raise RuntimeError(f"{source}: {part.part}: charges of {rows} rows were staged, not of {part.rows}")
    found = _storable(msgspec.structs.asdict(part)) | {"rejected": sum(rejected.values()), "first_day": first or "", "last_day": last or ""}
    connection.execute(insert(source_parts).values(source=source, **found))
    if rejected:
        counts = [{"source": source, "part": part.part, "reason": reason, "rows": rows} for reason, rows in rejected.items()]
        connection.execute(insert(rejected_counts), counts)
    # A broken row may hold anything.
    if texts := [_storable(msgspec.structs.asdict(row)) for row in kept]:
        connection.execute(insert(rejected_rows), texts)


def _storable(values: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}


def mark_failed(connection: Connection, source: str, part: str, message: str, at: int) -> None:
    """A part could not be read; what it held stays. Without a fingerprint the next refresh tries again."""
    failed = {"state": "failed", "fingerprint": "", "message": storable(message), "read_at": at}
    mine = (source_parts.c.source == source, source_parts.c.part == part)
    if not connection.execute(update(source_parts).where(*mine).values(**failed)).rowcount:
        connection.execute(insert(source_parts).values(source=source, part=part, **failed))


def remove_part(connection: Connection, source: str, part: str) -> None:
    """Drop a part with all that it holds."""
    for table in (charges, source_parts, rejected_counts, rejected_rows, provider_usage):
        connection.execute(delete(table).where(table.c.source == source, table.c.part == part))


def record_refresh(connection: Connection, source: str, refresh: Refresh) -> None:
    """Note an attempt in `source_state`."""
    mine = source_state.c.source == source
    if not connection.execute(select(source_state.c.source).where(mine)).first():
        connection.execute(insert(source_state).values(source=source))
    values: dict[str, Any] = {
        "up": int(not refresh.failure),
        "last_attempt_at": refresh.at,
        "duration_seconds": refresh.duration_seconds,
        "message": storable(refresh.failure),
        "requests": source_state.c.requests + refresh.requests,
    }
    if refresh.failure:
        values["refreshes_failed"] = source_state.c.refreshes_failed + 1
    else:
        totals = select(total_of(source_parts.c.rows), func.max(source_parts.c.last_day))
        rows, newest = connection.execute(totals.where(source_parts.c.source == source)).one()
        values |= {
            "refreshes_ok": source_state.c.refreshes_ok + 1,
            "last_success_at": refresh.at,
            "rows": rows,
            "data_newest_at": _end_of(newest) if newest else 0,
        }
    connection.execute(update(source_state).where(mine).values(**values))


def forget_sources(connection: Connection, configured: Collection[str]) -> list[str]:
    """Drop the bills of all sources but the `configured` ones, and give the names of those dropped.

    A source that was renamed would else count twice; one that comes back is read again.
    """
    known = union(*(select(table.c.source) for table in (source_parts, source_state, staged_charges)))
    gone = sorted(set(connection.execute(known).scalars()) - set(configured))
    for table in _OF_SOURCES:
        connection.execute(delete(table).where(table.c.source.in_(gone)))
    return gone


def _end_of(day: str) -> int:
    return to_micros(datetime.combine(date.fromisoformat(day) + timedelta(days=1), datetime.min.time(), UTC))


# --- reading -------------------------------------------------------------------------------------------------------------------


def read_parts(connection: Connection, source: str | None = None) -> list[tuple[str, Part]]:
    """(source, part) of one source or of all, in order of their names."""
    query = select(source_parts).order_by(source_parts.c.source, source_parts.c.part)
    if source is not None:
        query = query.where(source_parts.c.source == source)
    found = []
    for row in connection.execute(query).mappings():
        fields = dict(row)
        found.append((fields.pop("source"), Part(**fields)))
    return found


def overlaps(connection: Connection, source: str, replaced: Collection[str]) -> dict[str, str]:
    """Staged part -> a sentence about the days that other parts have too, of the same provider and billing account.

    `replaced` are the parts whose charges in force are about to go. One bill in several files looks like that, and so does an older
    version of a bill that was left beside the newer one: only a person can tell.
    """
    key = ("part", "provider_name", "billing_account_id", "charge_date")
    staged = select(*(staged_charges.c[name] for name in key), literal(1).label("is_new")).where(staged_charges.c.source == source)
    in_force = select(*(charges.c[name] for name in key), literal(0)).where(charges.c.source == source, charges.c.part.not_in(replaced))
    days = union(staged, in_force).cte("days")
    same_day = [days.c[name] for name in key[1:]]
    first, last = func.min(days.c.part).label("first"), func.max(days.c.part).label("last")
    shared = select(*same_day, first, last).group_by(*same_day).having(func.count() > 1).cte("shared")
    other = func.min(case((shared.c.first == days.c.part, shared.c.last), else_=shared.c.first))
    query = (
        select(days.c.part, func.count(func.distinct(days.c.charge_date)), other)
        .join(shared, _all_equal(days, shared, key[1:]))
        .where(days.c.is_new == 1)
        .group_by(days.c.part)
    )
    return {
        part: f"{count} of its days {'is' if count == 1 else 'are'} also in {example}, for the same account; both are counted"
        for part, count, example in connection.execute(query)
    }


def _all_equal(left: Any, right: Any, names: Iterable[str]) -> Any:
    conditions = [left.c[name] == right.c[name] for name in names]
    return conditions[0] & conditions[1] & conditions[2]


def breakdown(
    connection: Connection,
    basis: str,
    by: Sequence[str],
    *,
    first: date,
    last: date,
    where: Mapping[str, str] | None = None,
    allocated: bool = False,
) -> list[tuple[Any, ...]]:
    """(*by, exact dollars) of the days from `first` to `last`, the dearest first.

    `basis` is one of `COST_BASES`; `by` and `where` name columns of the charges. What another provider's bill has already
    (`model.ALLOCATED`) counts with `allocated` alone.
    """
    keys = [charges.c[name] for name in by]
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).group_by(*keys)
    if not allocated:
        query = query.where(charges.c.charge_category != ALLOCATED)
    query = query.where(charges.c.charge_date.between(first.isoformat(), last.isoformat()))
    for name, value in (where or {}).items():
        query = query.where(charges.c[name] == value)
    rows = [(*row[:-1], Decimal(row[-1])) for row in connection.execute(query) if row[-1] is not None]
    return sorted(rows, key=lambda row: (-row[-1], row[:-1]))


def count_rejected(connection: Connection) -> list[tuple[str, str, int]]:
    """(source, reason, rows) of all rejected rows in force."""
    keys = (rejected_counts.c.source, rejected_counts.c.reason)
    query = select(*keys, total_of(rejected_counts.c.rows)).group_by(*keys).order_by(*keys)
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def read_rejected(connection: Connection, source: str | None = None, reason: str | None = None, limit: int = 100) -> list[RejectedRow]:
    """The rejected rows that were kept, by source, part and line."""
    names = RejectedRow.__struct_fields__
    query: Select[Any] = select(*(rejected_rows.c[name] for name in names)).limit(limit)
    if source is not None:
        query = query.where(rejected_rows.c.source == source)
    if reason is not None:
        query = query.where(rejected_rows.c.reason == reason)
    query = query.order_by(rejected_rows.c.source, rejected_rows.c.part, rejected_rows.c.line)
    return [RejectedRow(**row) for row in connection.execute(query).mappings()]
