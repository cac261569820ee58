"""Cost of bills as the page would have shown it, had every bill been complete at the end of each day.

When a figure of a bill became known is not kept, and a restated day has only its newest figure. So each moment shows the days before its
own, as the bills have them now: what a perfectly punctual bill would have shown.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from costwarden.ledger import Connection
from costwarden.ledger.history import DayCosts, charge_days, daily_costs
from costwarden.metrics.bounds import Labels
from costwarden.metrics.catalogue import FAMILIES, PROVIDERS, Family, cloud_prefix
from costwarden.metrics.cloud import by_month
from costwarden.metrics.history.lines import Series
from costwarden.metrics.history.steps import DAY_SECONDS, Steps, Track
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import EXACT

_COLUMNS = {"region": "region_id", "service": "service_name"}
"""Columns of the charges that are not named as their label is."""

_ONE_DAY = timedelta(days=1)

_Make = Callable[[str, Labels, DayCosts, Sequence[date]], Iterator[Series]]


def cloud_history(connection: Connection, settings: MetricsSettings, steps: Steps) -> Iterator[tuple[Family, Iterable[Series]]]:
    """The families of cloud cost with their series, in the order of the catalogue."""
    first = datetime.fromtimestamp(steps.start, UTC).date()
    last = datetime.fromtimestamp(steps.last, UTC).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    history = _CloudHistory(connection, settings, steps, days, charge_days(connection, last))
    for prefix in (*PROVIDERS, "other"):
        for name, make in (
            ("cost_monthly_usd", history.months),
            ("cost_daily_usd", history.newest),
            ("cost_previous_day_usd", history.previous),
        ):
            family = FAMILIES[f"{prefix}_{name}"].narrowed(settings.cloud_labels)
            yield family, history.series(prefix, family, make)
        yield FAMILIES[f"{prefix}_cost_daily_timestamp_seconds"], history.starts(prefix)


class _CloudHistory:
    """`days` are those that `steps` fall on; `charged` are, by provider, the days with charges before the last of them."""

    def __init__(
        self, connection: Connection, settings: MetricsSettings, steps: Steps, days: Sequence[date], charged: dict[str, list[date]]
    ) -> None:
        self._connection, self._settings, self._steps, self._days, self._charged = connection, settings, steps, days, charged
        self._indices = [steps.index(_start(day)) for day in days]

    def series(self, prefix: str, family: Family, make: _Make) -> Iterator[Series]:
        """What `make` makes of every provider of this prefix and every combination of the family's labels."""
        columns = [_COLUMNS.get(label, label) for label in family.foldable]
        for provider in self._providers(prefix):
            costs = daily_costs(
                self._connection,
                self._settings.cost_basis,
                columns,
                provider=provider,
                before=self._days[-1],
            )
            charged = self._charged[provider]
            for labels, found in costs:
                yield from make(provider, labels, found, charged)

    def starts(self, prefix: str) -> Iterator[Series]:
        """The start of the newest day with charges, by provider."""
        for provider in self._providers(prefix):
            track = Track()
            charged = self._charged[provider]
            for day, index in zip(self._days, self._indices, strict=True):
                known = bisect_left(charged, day)
                track.set(index, float(_start(charged[known - 1])) if known else None)
            yield (provider,), track

    def months(self, provider: str, labels: Labels, costs: DayCosts, _: Sequence[date]) -> Iterator[Series]:
        """A series a month that the page ever showed: `current`, `previous`, `YYYY-MM`, `older`."""
        sums: dict[str, Decimal] = {}
        tracks: dict[Labels, Track] = {}
        shown: dict[Labels, Decimal] = {}
        position = 0
        month = ""
        for day, index in zip(self._days, self._indices, strict=True):
            before = position
            while position < len(costs) and costs[position][0] < day:
                when, cost = costs[position]
                name = f"{when:%Y-%m}"
                sums[name] = EXACT.add(sums.get(name, Decimal(0)), cost)
                position += 1
            # Names of months change with the month, and sums with a charge: on other days everything stays as it was.
            if position == before and f"{day:%Y-%m}" == month:
                continue
            month = f"{day:%Y-%m}"
            rows = [(provider, name, *labels, cost) for name, cost in sums.items()]
            now = by_month(rows, day, self._settings.months_kept_apart)
            for key in shown.keys() - now.keys():
                tracks[key].set(index, None)
            for key, cost in now.items():
                tracks.setdefault(key, Track()).set(index, float(cost))
            shown = now
        yield from tracks.items()

    def newest(self, provider: str, labels: Labels, costs: DayCosts, charged: Sequence[date]) -> Iterator[Series]:
        """The cost of the newest day with charges."""
        yield (provider, *labels), self._day_track(dict(costs), charged, 0)

    def previous(self, provider: str, labels: Labels, costs: DayCosts, charged: Sequence[date]) -> Iterator[Series]:
        """The cost of the day before it."""
        yield (provider, *labels), self._day_track(dict(costs), charged, 1)

    def _day_track(self, costs: dict[date, Decimal], charged: Sequence[date], back: int) -> Track:
        track = Track()
        for day, index in zip(self._days, self._indices, strict=True):
            known = bisect_left(charged, day)
            pair = (charged[known - 1], charged[known - 1] - _ONE_DAY) if known else ()
            # What had cost on one of the two days has a figure for both, as on the page.
            if any(when in costs for when in pair):
                track.set(index, float(costs.get(pair[back], Decimal(0))))
            else:
                track.set(index, None)
        return track

    def _providers(self, prefix: str) -> list[str]:
        return [provider for provider in self._charged if cloud_prefix(provider) == prefix]


def _start(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_SECONDS
