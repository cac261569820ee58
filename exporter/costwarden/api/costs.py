"""`/api/costs`: what usage has cost, by any dimensions and by time, from the hourly sums; `/api/cloud-costs`: what bills say."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from costwarden.api.callers import Caller
from costwarden.api.pages import Day, DimensionQuery, Filter, Query, Range, day_of, time_answer
from costwarden.budgets.rules import period_bounds
from costwarden.ledger import Connection, Ledger
from costwarden.ledger.charges import breakdown
from costwarden.ledger.queries import MEASURES, hourly_costs
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, exact_sum, from_micros, from_nanos

MICROS_PER_HOUR = 3600 * MICROS_PER_SECOND

BUCKETS = ("hour", "day", "month")

Group = Literal[
    "hour", "day", "month", "tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "user_id", "service"
]

Dimension = Literal["tenant", "provider", "model", "operation", "report-type", "feature", "team", "user", "learner", "service"]

COLUMNS = {"tenant": "tenant_id", "user": "user_id", "learner": "user_id", "report-type": "report_type"}
"""`/api/costs/by-…` -> the dimension, where it has another name there."""

CloudGroup = Literal[
    "provider", "service", "service_category", "region", "account", "charge_category", "team", "feature", "tenant", "environment", "day"
]

CLOUD_COLUMNS = {
    "provider": "provider_name",
    "service": "service_name",
    "service_category": "service_category",
    "region": "region_id",
    "account": "sub_account_id",
    "charge_category": "charge_category",
    "team": "team",
    "feature": "feature",
    "tenant": "tenant_id",
    "environment": "environment",
    "day": "charge_date",
}


class CostsFilter(Range, DimensionQuery):
    """Filters of costs. Without `since` it is the current month; times are cut to the whole hour."""

    limit: int = Field(default=1000, ge=1, le=10_000)
    """Most rows; of more, the dearest, and `rows_omitted` and `omitted_usd` tell of the others."""


class CostsQuery(CostsFilter):
    """Parameters of `GET /api/costs`."""

    group_by: Annotated[list[Group], Field(max_length=6)] = []
    """Dimensions, and `hour`, `day` or `month`, of which the shortest holds; may be repeated."""


class SummaryQuery(Range, DimensionQuery):
    """Parameters of `GET /api/costs/summary`."""


class CloudCostsQuery(Query):
    """Parameters of `GET /api/cloud-costs`."""

    group_by: Annotated[list[CloudGroup], Field(max_length=6)] = ["service"]
    """What to break the cost down by; may be repeated."""
    first_day: Day = None
    """Default is the first of this month."""
    last_day: Day = None
    """Default is today."""
    provider: Filter = None
    """Only this one, as `aws`."""
    basis: Literal["billed_cost", "effective_cost", "list_cost", "contracted_cost"] = "effective_cost"
    """Which of FOCUS's costs."""


class CostsApi:
    """The endpoints of costs. `zone` is that of budgets: its midnight begins a day and a month."""

    def __init__(self, ledger: Ledger, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._zone = zone
        self._now = now

    def costs(self, caller: Caller, query: CostsFilter, group_by: Sequence[str]) -> dict[str, Any]:
        """`GET /api/costs` and `/api/costs/by-…`."""
        group_by = list(dict.fromkeys(group_by))
        first, last = self._hours(query)
        with self._ledger.read() as connection:
            rows = self._rows(connection, caller, query, group_by, first, last)
        rows.sort(key=lambda row: (row["period"] or "", -row["cost_usd"], *(row[name] for name in group_by if name not in BUCKETS)))
        shown = rows
        if len(rows) > query.limit:
            dearest = sorted(range(len(rows)), key=lambda index: -rows[index]["cost_usd"])[: query.limit]
            shown = [rows[index] for index in sorted(dearest)]
        total = exact_sum([row["cost_usd"] for row in rows])
        return {
            "since": time_answer(first * MICROS_PER_HOUR),
            "until": time_answer(last * MICROS_PER_HOUR),
            "group_by": group_by,
            "total_usd": total,
            "rows": shown,
            "rows_omitted": len(rows) - len(shown),
            "omitted_usd": total - exact_sum([row["cost_usd"] for row in shown]),
        }

    def summary(self, caller: Caller, query: SummaryQuery) -> dict[str, Any]:
        """`GET /api/costs/summary`: the total, what it was in as long a time before, and the dearest of each kind."""
        first, last = self._hours(query)
        top: dict[str, Any] = {}
        with self._ledger.read() as connection:
            now, before = (
                self._rows(connection, caller, query, (), start, end) for start, end in ((first, last), (2 * first - last, first))
            )
            for name in ("tenant_id", "provider", "model", "feature", "team", "user_id", "service"):
                rows = self._rows(connection, caller, query, (name,), first, last)
                rows.sort(key=lambda row: (-row["cost_usd"], row[name]))
                top[name] = [{name: row[name], "cost_usd": row["cost_usd"], "requests": row["requests"]} for row in rows[:5]]
        figures = {name: value for name, value in now[0].items() if name not in ("period", "cost_usd")}
        return {
            "since": time_answer(first * MICROS_PER_HOUR),
            "until": time_answer(last * MICROS_PER_HOUR),
            "total_usd": now[0]["cost_usd"],
            "previous_usd": before[0]["cost_usd"],
            **figures,
            "top": top,
        }

    def _hours(self, query: Range) -> tuple[int, int]:
        """The range of hours since 1970 that is asked for."""
        now = self._now()
        start = period_bounds("month", now, self._zone)[0] if query.since is None else query.start
        end = now + MICROS_PER_HOUR if query.until is None else query.end
        first, last = max(0, start // MICROS_PER_HOUR), max(0, end // MICROS_PER_HOUR)
        return first, max(first, min(last, now // MICROS_PER_HOUR + 1))

    def _rows(
        self, connection: Connection, caller: Caller, query: DimensionQuery, group_by: Sequence[str], first: int, last: int
    ) -> list[dict[str, Any]]:
        bucket = next((name for name in BUCKETS if name in group_by), "")
        where = query.dimensions
        tenant_id = caller.tenant_of(query.tenant_id)
        if tenant_id is not None:
            where["tenant_id"] = tenant_id
        names = [name for name in DIMENSIONS if name in group_by]
        # Days of another zone than UTC do not begin at a multiple of 24 hours.
        hours_each = 0 if not bucket else 24 if bucket != "hour" and self._zone.key == "UTC" else 1
        found = hourly_costs(connection, names, where, first_hour=first, last_hour=last, hours_each=hours_each)
        sums: dict[tuple[str, ...], list[int]] = {}
        for hour, *rest in found:
            key = (self._period(bucket, hour), *rest[: len(names)])
            values = rest[len(names) :]
            sums[key] = [a + b for a, b in zip(sums.get(key, [0] * len(values)), values, strict=True)]
        return [self._row(names, key, values) for key, values in sums.items()]

    def _period(self, bucket: str, hour: int) -> str:
        if not bucket:
            return ""
        when = from_micros(hour * MICROS_PER_HOUR)
        if bucket == "hour":
            return when.isoformat().replace("+00:00", "Z")
        day = when.astimezone(self._zone).date().isoformat()
        return day if bucket == "day" else day[:7]

    @staticmethod
    def _row(names: Sequence[str], key: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
        figures = dict(zip(MEASURES, values, strict=True))
        cost = figures.pop("cost")
        seconds = figures.pop("audio_milliseconds") / 1000
        named = dict(zip(names, key[1:], strict=True))
        return {"period": key[0] or None, **named, "cost_usd": from_nanos(cost), **figures, "audio_seconds": seconds}

    def cloud_costs(self, caller: Caller, query: CloudCostsQuery) -> dict[str, Any]:
        """`GET /api/cloud-costs`: the cost of bills in dollars."""
        today = from_micros(self._now()).astimezone(self._zone).date()
        first = today.replace(day=1) if query.first_day is None else day_of("first_day", query.first_day)
        last = today if query.last_day is None else day_of("last_day", query.last_day)
        group_by = list(dict.fromkeys(query.group_by))
        where = {} if query.provider is None else {"provider_name": query.provider}
        if caller.tenant_id:
            where["tenant_id"] = caller.tenant_id
        with self._ledger.read() as connection:
            rows = breakdown(
                connection,
                query.basis,
                [CLOUD_COLUMNS[name] for name in group_by],
                first=first,
                last=last,
                where=where,
                # Of one provider alone nothing counts twice.
                allocated=query.provider is not None,
            )
        return {
            "first_day": first.isoformat(),
            "last_day": last.isoformat(),
            "basis": query.basis,
            "total_usd": exact_sum([row[-1] for row in rows]),
            "rows": [{**dict(zip(group_by, row[:-1], strict=True)), "cost_usd": row[-1]} for row in rows],
        }
