"""A bill to daily charges, in DuckDB: one pass over the rows, everything else over the groups.

The first grouping is by the values as they stand in the file, tags included; what is left of a million rows then is small enough to be
attributed in Python, a combination at a time, and grouped again by what the charges keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from costwarden.model import Charge
from costwarden.sources.attribution import Attribution, parse_tags
from costwarden.sources.currency import Rates
from costwarden.sources.focus_columns import COSTS, DIMENSIONS, MACROS, Bill, is_given, row_query
from costwarden.sources.focus_sums import fill_from_plain
from costwarden.sources.settings import TARGETS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Combinations attributed, and charges given out, at a time.
BATCH = 5_000

# As the metrics name them. What is not here keeps FOCUS's name, in lower case. The values are those that the providers' own exports
# write: AWS "AWS" and, as invoice issuer, "Amazon Web Services, Inc."; Azure "Microsoft"; Google "Google Cloud".
PROVIDERS = {
    "aws": "aws",
    "amazon web services": "aws",
    "amazon web services, inc.": "aws",
    "microsoft": "azure",
    "microsoft azure": "azure",
    "azure": "azure",
    "google": "gcp",
    "google cloud": "gcp",
    "google cloud platform": "gcp",
    "gcp": "gcp",
    "kubernetes": "kubernetes",
    "opencost": "kubernetes",
    "kubecost": "kubernetes",
}

_KEPT = ("billing_account_id", "sub_account_id", "service_name", "service_category", "region_id", "charge_category")
_COMBINATION = ("provider_name", "billing_account_id", "sub_account_id", "service_name", "tags")
_SUMS = ", ".join(f"sum({cost}) FILTER (reason = '') AS {cost}" for cost in COSTS)


class Summary(msgspec.Struct, frozen=True):
    """What a rollup found beside the charges."""

    rows: int
    rounded: int
    rejected: Mapping[str, int]
    untagged: int
    """Rows whose tags are no set of tags."""
    uncosted: Mapping[str, int]
    """Cost -> rows that do not give it; it counts as 0."""
    figures: str
    """Digest of the charges and, where the bill `sums_rows`, of the readable rows with all their columns; in any order. Empty where there
    are none."""


def connect(scratch: Path, threads: int, memory_mebibytes: int) -> DuckDBPyConnection:
    """An empty database for one bill; what does not fit into memory goes to `scratch`."""
    import duckdb

    connection = duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": f"{memory_mebibytes}MiB",
            "temp_directory": str(scratch),
            "preserve_insertion_order": False,
            # Nothing is fetched from anywhere.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(MACROS)
    return connection


def roll_up(connection: DuckDBPyConnection, bill: Bill, attribution: Attribution, rates: Rates, default_currency: str | None) -> Summary:
    """Fill the table `rollup` from `bill`.

    Raises `duckdb.Error` where the bill cannot be read, its `OutOfRangeException` where a sum has more than 14 digits before the point.
    """
    connection.execute("DROP VIEW IF EXISTS readable")
    for table in ("rows_by_value", "combinations", "attributed", "rollup"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    if not fill_from_plain(connection, bill, rates.first_days, default_currency):
        _fill(connection, bill, rates, default_currency)
    # A NUL would be another text here and the same one in the ledger, which cannot hold it.
    trimmed = ", ".join(f"coalesce(replace(trim({name}), chr(0), '\ufffd'), '') AS {name}" for name in DIMENSIONS)
    connection.execute(f"CREATE VIEW readable AS SELECT * REPLACE ({trimmed}) FROM rows_by_value WHERE reason = ''")  # noqa: S608
    connection.execute(f"""
        CREATE TABLE combinations AS
        SELECT row_number() OVER () AS combination, {", ".join(_COMBINATION)}, sum(row_count) AS row_count
        FROM readable GROUP BY {", ".join(_COMBINATION)}""")  # noqa: S608
    untagged = _attribute(connection, attribution)
    sums = ", ".join(f"CAST(coalesce(sum({cost}), 0) AS DECIMAL(38, 24)) AS {cost}" for cost in COSTS)
    connection.execute(f"""
        CREATE TABLE rollup AS
        SELECT charge_date, provider, {", ".join(_KEPT)}, billing_currency, {", ".join(TARGETS)}, {sums},
               CAST(sum(readable.row_count) AS BIGINT) AS row_count
        FROM readable JOIN combinations USING ({", ".join(_COMBINATION)}) JOIN attributed USING (combination)
        GROUP BY ALL""")  # noqa: S608
    return _summary(connection, untagged, sums_rows=bill.sums_rows)


def _fill(connection: DuckDBPyConnection, bill: Bill, rates: Rates, default_currency: str | None) -> None:
    """Fill `rows_by_value` from any bill."""
    uncosted = ", ".join(f"count(*) FILTER (NOT ({is_given(bill, cost)})) AS no_{cost}" for cost in COSTS[1:])
    connection.execute(f"""
        CREATE TABLE rows_by_value AS
        SELECT reason, charge_date, billing_currency, {", ".join(DIMENSIONS)},
               count(*) AS row_count, count(*) FILTER (is_rounded) AS rounded,
               {"sum(identity)" if bill.sums_rows else "0"} AS identities, {uncosted}, {_SUMS}
        FROM ({row_query(bill, rates.first_days, default_currency)}) GROUP BY ALL""")  # noqa: S608


def read_charges(connection: DuckDBPyConnection, source: str, part: str, rates: Rates) -> Iterator[Charge]:
    """The charges of `rollup`, by day."""
    columns = ("provider", *_KEPT, "billing_currency", *TARGETS)
    # DECIMAL(38, 24) has always a point: its zeros and then itself can go.
    costs = ", ".join(f"rtrim(rtrim(CAST({cost} AS VARCHAR), '0'), '.')" for cost in COSTS)
    cursor = connection.cursor().execute(
        f"SELECT charge_date, {', '.join(columns)}, {costs}, row_count FROM rollup ORDER BY charge_date, {', '.join(columns)}"  # noqa: S608
    )
    while found := cursor.fetchmany(BATCH):
        for row in found:
            yield _charge(source, part, row, rates)


def _charge(source: str, part: str, row: tuple[Any, ...], rates: Rates) -> Charge:
    day: date = row[0]
    currency: str = row[8]
    rate = rates.usd(currency, day)
    assert rate is not None, "a row without a rate was rejected"
    return Charge(
        source=source,
        part=part,
        charge_date=day,
        provider_name=row[1],
        billing_account_id=row[2],
        sub_account_id=row[3],
        service_name=row[4],
        service_category=row[5],
        region_id=row[6],
        charge_category=row[7],
        billing_currency=currency,
        team=row[9],
        feature=row[10],
        tenant_id=row[11],
        environment=row[12],
        billed_cost=Decimal(row[13]),
        effective_cost=Decimal(row[14]),
        list_cost=Decimal(row[15]),
        contracted_cost=Decimal(row[16]),
        usd_rate=rate,
        row_count=row[17],
    )


def _attribute(connection: DuckDBPyConnection, attribution: Attribution) -> int:
    """Fill `attributed` and give the number of rows whose tags could not be read."""
    connection.execute(f"""
        CREATE TABLE attributed (combination BIGINT, provider VARCHAR, {", ".join(f"{target} VARCHAR" for target in TARGETS)})""")
    unnested = ", ".join(["unnest(?::BIGINT[])", *["unnest(?::VARCHAR[])"] * (1 + len(TARGETS))])
    cursor = connection.cursor().execute(f"SELECT combination, row_count, {', '.join(_COMBINATION)} FROM combinations")  # noqa: S608
    untagged = 0
    while found := cursor.fetchmany(BATCH):
        answers = []
        for combination, row_count, provider_name, *columns, text in found:
            provider = PROVIDERS.get(provider_name.lower(), provider_name.lower())
            accounts = dict(zip(_COMBINATION[1:-1], columns, strict=True))
            tags = parse_tags(text)
            untagged += 0 if tags is not None else row_count
            answers.append((combination, provider, *attribution.attribute({"provider_name": provider, **accounts}, tags or {})))
        connection.execute(f"INSERT INTO attributed SELECT {unnested}", list(map(list, zip(*answers, strict=True))))
    return untagged


def _summary(connection: DuckDBPyConnection, untagged: int, *, sums_rows: bool) -> Summary:
    totals = ", ".join(f"coalesce(sum(no_{cost}), 0)" for cost in COSTS[1:])
    query = f"SELECT coalesce(sum(row_count), 0), coalesce(sum(rounded), 0), {totals} FROM rows_by_value WHERE reason = ''"  # noqa: S608
    rows, rounded, *uncosted = map(int, connection.execute(query).fetchall()[0])
    rejected = "SELECT reason, sum(row_count) FROM rows_by_value WHERE reason <> '' GROUP BY reason ORDER BY reason"
    # Neither sum nor exclusive or asks for an order. No two rows of the table are equal, so that none cancels another.
    of_row = f"hash({', '.join(('charge_date', 'provider', *_KEPT, 'billing_currency', *TARGETS, *COSTS, 'row_count'))})"
    digest = f"SELECT count(*), bit_xor({of_row}), (SELECT CAST(sum(identities) AS VARCHAR) FROM readable) FROM rollup"  # noqa: S608
    charges, exclusive, identities = connection.execute(digest).fetchall()[0]
    return Summary(
        rows=rows,
        rounded=rounded,
        rejected={reason: int(count) for reason, count in connection.execute(rejected).fetchall()},
        untagged=untagged,
        uncosted={cost: count for cost, count in zip(COSTS[1:], uncosted, strict=True) if count},
        figures=(f"{charges}:{exclusive:x}" + (f"/{identities}" if sums_rows else "")) if charges else "",
    )
