"""Estimated and billed AI cost as separate series: what was metered, what the providers billed, and what is between them."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal

from costwarden.ledger.figures import bills_version
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import EXACT, TOKEN_CLASSES, from_micros, from_nanos
from costwarden.reconciliation.lines import Day, Line, capture_ratio
from costwarden.reconciliation.reading import corrections_so_far, read_reconciliation
from costwarden.reconciliation.settings import ReconciliationSettings

_COST = ("ai_billed_cost_usd", "ai_metered_cost_usd", "ai_reconciliation_corrected_usd", "ai_reconciliation_residual_usd")


class Comparison:
    """The newest `window_days` days that are old enough, of those providers whose bills have any of them."""

    def __init__(self, read: Read, settings: ReconciliationSettings, now: Callable[[], int]) -> None:
        self._read = read
        self._settings = settings
        self._now = now

    def _window(self) -> tuple[date, date, date]:
        today = from_micros(self._now()).date()
        last = today - timedelta(days=self._settings.lag_days)
        return last - timedelta(days=self._settings.window_days - 1), last, today

    def version(self) -> object:
        """Changes with every refresh of a source, with every correction by a bill, and at midnight.

        Usage of days so long past is rare (a late settlement, a re-rating): it shows with the next of these.
        """
        first, last, today = self._window()
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        keys = [(entry.provider, day) for entry in self._settings.providers for day in days]
        with self._read() as connection:
            corrections = corrections_so_far(connection, keys)
            return today, bills_version(connection), sum(map(len, corrections.values()))

    def collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        """Costs, ratio and tokens by provider."""
        first, last, today = self._window()
        with self._read() as connection:
            found = read_reconciliation(connection, self._settings, self._settings.providers, first, last, today)
        days: dict[str, list[Day]] = defaultdict(list)
        for day in found.days:
            days[day.provider].append(day)
        costs = {name: _costs(of_one) for name, of_one in days.items()}
        for place, metric in enumerate(_COST):
            yield FAMILIES[metric], [((name,), float(amounts[place])) for name, amounts in costs.items()]
        ratios = {name: capture_ratio(metered, billed) for name, (billed, metered, _, _) in costs.items()}
        yield FAMILIES["ai_reconciliation_capture_ratio"], [((name,), float(ratio)) for name, ratio in ratios.items() if ratio is not None]
        yield FAMILIES["ai_reconciliation_daily_bills"], [((name,), float(len(of_one))) for name, of_one in days.items()]
        yield from _tokens(found.lines)


def _costs(days: list[Day]) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Billed, metered, corrected, residual: the last is the first without the other two."""
    billed = Decimal(0)
    for day in days:
        billed = EXACT.add(billed, day.billed)
    metered, corrected = from_nanos(sum(day.metered for day in days)), from_nanos(sum(day.corrected for day in days))
    return billed, metered, corrected, EXACT.subtract(billed, EXACT.add(metered, corrected))


def _tokens(lines: list[Line]) -> Iterator[tuple[Family, list[Sample]]]:
    """Only of providers that report any usage: of the others nobody knows what the meter missed."""
    reported: dict[tuple[str, ...], int] = {}
    metered: dict[tuple[str, ...], int] = {}
    reporting = {line.provider for line in lines if line.reported_tokens is not None}
    for line in lines:
        if line.provider not in reporting:
            continue
        for name in TOKEN_CLASSES:
            key = line.provider, name.removesuffix("_tokens")
            counts = (line.reported_tokens or {}).get(name, 0), line.metered_tokens.get(name, 0)
            if any(counts) or name in ("input_tokens", "output_tokens"):
                reported[key] = reported.get(key, 0) + counts[0]
                metered[key] = metered.get(key, 0) + counts[1]
    for metric, sums in (("ai_reported_tokens", reported), ("ai_metered_tokens", metered)):
        yield FAMILIES[metric], [(key, float(count)) for key, count in sums.items()]


def reconciliation_collector(read: Read, settings: ReconciliationSettings, now: Callable[[], int]) -> Collector:
    """The collector of metered against billed AI cost."""
    comparison = Comparison(read, settings, now)
    return Collector("reconciliation", comparison.collect, comparison.version)
