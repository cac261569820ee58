"""What AI usage of the weeks before lets one expect: of a tenant's hour, of this month by its end."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from math import ceil
from statistics import median
from zoneinfo import ZoneInfo

from costwarden.analytics.baseline import Expected, expected_of_bursts
from costwarden.analytics.forecast import history_begins, month_end
from costwarden.ledger import Connection
from costwarden.ledger.figures import busiest_hours, first_hours, hours_since
from costwarden.ledger.usage import Cursor, usage_cursor, usage_hours
from costwarden.metrics.ai import Read
from costwarden.metrics.baselines import forecast_samples
from costwarden.metrics.bounds import Sample, paced
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector, breathe
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD, from_micros

_HOUR = 3600
_DAYS = 28
_BUSY_DAYS = 14
_FOR_EVER = 1 << 40
"""Hours since 1970: an event may be dated ahead."""

FEWEST_WEEKDAYS = 5
FEWEST_WEEKEND_DAYS = 3
"""Days since a tenant's first usage below which nothing is expected of its hours."""


class AiBaselines:
    """Expected AI cost of hours, by tenant, and of the month.

    History is read once a day; from then on only what was recorded since the last look, and once an hour the same hour of the days before.
    """

    def __init__(self, read: Read, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._read = read
        self._zone = zone
        self._now = now
        self._day: date | None = None
        self._seen: Cursor = 0
        self._hours: dict[int, int] = {}
        """Nano-dollars by hour since 1970."""
        self._began: dict[str, int] = {}
        """The hour of each tenant's first usage in the last 28 days."""
        self._busiest: dict[str, float] = {}
        """Dollars of the dearest hour that each tenant usually has in a day."""
        self._expected: dict[int, dict[str, Expected]] = {}

    def version(self) -> int:
        """Changes every minute."""
        return self._now() // (60 * MICROS_PER_SECOND)

    def collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        """As of now."""
        seconds = self._now() / MICROS_PER_SECOND
        hour = int(seconds // _HOUR)
        now = from_micros(self._now()).astimezone(self._zone)
        with self._read() as connection:
            self._advance(connection, now.date(), hour)
            known = self._expected
            self._expected = {
                wanted: known[wanted] if wanted in known else self._expected_of(connection, wanted) for wanted in (hour - 1, hour)
            }
        between = self._between(hour, seconds / _HOUR - hour)
        yield FAMILIES["ai_cost_expected_hourly_usd"], [((tenant,), found.cost) for tenant, found in between.items()]
        yield FAMILIES["ai_cost_deviation_hourly_usd"], [((tenant,), found.deviation) for tenant, found in between.items()]
        forecast = month_end(self._daily(hour), now.date() - timedelta(days=1), now.date())
        yield from forecast_samples("ai_spend_forecast", {(): forecast})

    def _advance(self, connection: Connection, today: date, hour: int) -> None:
        """Read what was recorded since the last look, or all history where a day has begun. A failed read changes nothing."""
        cursor = usage_cursor(connection)
        first = ceil(datetime.combine(history_begins(today), datetime.min.time(), self._zone).timestamp() / _HOUR)
        first_of_tenants = hour - 24 * _DAYS
        if today == self._day:
            # What is reported later still is no history: the days up to the first one that is known would count as days without cost.
            for recorded, tenant, cost in hours_since(connection, ["tenant_id"], self._seen):
                if recorded >= first:
                    self._hours[recorded] = self._hours.get(recorded, 0) + cost
                if recorded >= first_of_tenants:
                    self._began[tenant] = min(recorded, self._began.get(tenant, recorded))
        else:
            hours = dict(usage_hours(connection, ["hour"], first, _FOR_EVER))
            began = first_hours(connection, first_of_tenants)
            self._busiest = _busiest(connection, hour)
            self._hours, self._began, self._day = hours, began, today
        self._seen = cursor

    def _between(self, hour: int, passed: float) -> Mapping[str, Expected]:
        """Of the 60 minutes that end now: `passed` of them belong to this hour and the rest to the one before."""
        before, current = self._expected[hour - 1], self._expected[hour]
        return {
            tenant: Expected(
                (1 - passed) * before[tenant].cost + passed * found.cost,
                (1 - passed) * before[tenant].deviation + passed * found.deviation,
            )
            for tenant, found in current.items()
            if tenant in before
        }

    def _daily(self, hour: int) -> dict[date, float]:
        """AI cost up to this hour by local day.

        Where days begin at half past (India), the hour across midnight is yesterday's as a whole.
        """
        days: dict[date, int] = defaultdict(int)
        for recorded, cost in self._hours.items():
            if recorded <= hour:
                days[datetime.fromtimestamp(recorded * _HOUR, UTC).astimezone(self._zone).date()] += cost
        return {day: cost / NANOS_PER_USD for day, cost in days.items()}

    def _expected_of(self, connection: Connection, hour: int) -> dict[str, Expected]:
        """What is expected of an hour (since 1970, UTC) by tenant: by the same hour of weekdays, or of weekend days, before it.

        The same hour by the clock of the time zone: people keep their hours when the clock is changed. Days count from a tenant's first
        usage on, at whatever hour: at hours that it never uses, nothing is expected.
        """
        local = datetime.fromtimestamp(hour * _HOUR, self._zone)
        is_weekend = _is_weekend(local)
        days = [found for back in range(_DAYS, 0, -1) if _is_weekend(found := local - timedelta(days=back)) == is_weekend]
        earlier = [int(found.timestamp() // _HOUR) for found in days]
        tables = [dict(usage_hours(connection, ["tenant_id"], found, found + 1)) for found in earlier]
        fewest = FEWEST_WEEKEND_DAYS if is_weekend else FEWEST_WEEKDAYS
        expected = {}
        for tenant, began in paced(self._began.items(), breathe):
            values = [table.get(tenant, 0) / NANOS_PER_USD for table in tables[bisect_left(earlier, began) :]]
            of_hour = expected_of_bursts(values, fewest, self._busiest.get(tenant, 0.0))
            if tenant and of_hour is not None:
                expected[tenant] = of_hour
        return expected


def _busiest(connection: Connection, hour: int) -> dict[str, float]:
    """Tenant -> dollars of the dearest hour of a day, the median of the last 14 days on which it used anything."""
    found: dict[str, list[int]] = defaultdict(list)
    for back in range(_BUSY_DAYS):
        for tenant, cost in busiest_hours(connection, hour - 24 * (back + 1), hour - 24 * back).items():
            found[tenant].append(cost)
    return {tenant: median(costs) / NANOS_PER_USD for tenant, costs in found.items()}


def _is_weekend(moment: datetime) -> bool:
    return moment.weekday() >= 5


def ai_baseline_collector(read: Read, zone: ZoneInfo, now: Callable[[], int]) -> Collector:
    """The collector of what was to be expected of AI usage."""
    baselines = AiBaselines(read, zone, now)
    return Collector("ai_baselines", baselines.collect, baselines.version)
