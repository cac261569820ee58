"""What AI usage of the weeks before lets one expect: of a tenant's hour, of this month by its end."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from math import ceil
from zoneinfo import ZoneInfo

from costwarden.analytics.baseline import Expected, expected_of_bursts
from costwarden.analytics.forecast import month_end
from costwarden.ledger import Connection
from costwarden.ledger.usage import usage_hours
from costwarden.metrics.ai import Read
from costwarden.metrics.baselines import forecast_samples
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD, from_micros

_HOUR = 3600
_DAYS = 28
_HISTORY_HOURS = 24 * (31 + 31 + 1)
"""From the first of the month before on, which stands for the first of a month that has just begun."""

FEWEST_WEEKDAYS = 5
FEWEST_WEEKEND_DAYS = 3
"""Days since a tenant's first usage below which nothing is expected of its hours."""


class AiBaselines:
    """Expected AI cost of hours, by tenant, and of the month. What is over is read once an hour, when the hours that count change."""

    def __init__(self, read: Read, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._read = read
        self._zone = zone
        self._now = now
        self._read_at = (-1, -1)
        self._expected: dict[int, dict[str, Expected]] = {}
        self._days: dict[date, float] = {}

    def version(self) -> int:
        """Changes every minute."""
        return self._now() // (60 * MICROS_PER_SECOND)

    def collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        """As of now."""
        seconds = self._now() / MICROS_PER_SECOND
        hour = int(seconds // _HOUR)
        now = from_micros(self._now()).astimezone(self._zone)
        # The first hour that begins today. Where days begin at half past (India), the hour across midnight is yesterday's as a whole.
        midnight = ceil(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() / _HOUR)
        with self._read() as connection:
            if (hour, midnight) != self._read_at:
                self._expected = {wanted: _expected_hours(connection, wanted, self._zone) for wanted in (hour - 1, hour)}
                self._days = self._daily(connection, midnight - _HISTORY_HOURS, midnight)
                self._read_at = (hour, midnight)
            today = self._daily(connection, midnight, hour + 1)
        expected = self._between(hour, seconds / _HOUR - hour)
        yield FAMILIES["ai_cost_expected_hourly_usd"], [((tenant,), found.cost) for tenant, found in expected.items()]
        yield FAMILIES["ai_cost_deviation_hourly_usd"], [((tenant,), found.deviation) for tenant, found in expected.items()]
        forecast = month_end(self._days | today, now.date() - timedelta(days=1), now.date())
        yield from forecast_samples("ai_spend_forecast", {(): forecast})

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

    def _daily(self, connection: Connection, first_hour: int, last_hour: int) -> dict[date, float]:
        """AI cost of the hours in [first_hour, last_hour) by local day."""
        days: dict[date, float] = defaultdict(float)
        for hour, cost in usage_hours(connection, ["hour"], first_hour, last_hour):
            days[_moment(hour).astimezone(self._zone).date()] += cost / NANOS_PER_USD
        return days


def _expected_hours(connection: Connection, hour: int, zone: ZoneInfo) -> dict[str, Expected]:
    """What is expected of an hour (hours since 1970, UTC) by tenant: by the same hour of weekdays, or of weekend days, before it.

    The same hour by the clock of `zone`: people keep their hours when the clock is changed.
    """
    local = datetime.fromtimestamp(hour * _HOUR, zone)
    is_weekend = _is_weekend(local)
    days = [found for back in range(_DAYS, 0, -1) if _is_weekend(found := local - timedelta(days=back)) == is_weekend]
    earlier = [int(found.timestamp() // _HOUR) for found in days]
    tables = [dict(usage_hours(connection, ["tenant_id"], found, found + 1)) for found in earlier]
    # What came before a tenant's first usage is no day without any.
    began: dict[str, int] = {}
    for number, table in enumerate(tables):
        for tenant in table:
            began.setdefault(tenant, number)
    began.pop("", None)
    fewest = FEWEST_WEEKEND_DAYS if is_weekend else FEWEST_WEEKDAYS
    found_of = {
        tenant: expected_of_bursts([table.get(tenant, 0) / NANOS_PER_USD for table in tables[number:]], fewest)
        for tenant, number in began.items()
    }
    return {tenant: expected for tenant, expected in found_of.items() if expected is not None}


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _HOUR, UTC)


def _is_weekend(moment: datetime) -> bool:
    return moment.weekday() >= 5


def ai_baseline_collector(read: Read, zone: ZoneInfo, now: Callable[[], int]) -> Collector:
    """The collector of what was to be expected of AI usage."""
    baselines = AiBaselines(read, zone, now)
    return Collector("ai_baselines", baselines.collect, baselines.version)
