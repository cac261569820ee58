"""How much of the cost has an owner, and how much of a bill a cluster explains.

The collector reads the bills again only after a refresh or at midnight.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.ledger import Connection
from costwarden.ledger.attribution import allocated_by_day, allocated_by_month, attributed_costs, billed_by_day
from costwarden.ledger.figures import bills_version
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.cloud import by_month
from costwarden.metrics.page import Collector
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import EXACT, exact_sum, from_micros

TARGETS = ("team", "feature", "tenant_id", "environment")
"""What cost is attributed to: the columns of the charges."""

EXPLAINED_DAYS = 7
"""A week, so that weekends weigh as they do in a bill."""

LOOKED_BACK_DAYS = 62
"""Days without a common one after which a cluster explains nothing any more."""


class Coverage(msgspec.Struct, frozen=True):
    """How much of the cost that can be attributed to a target is, in dollars."""

    total: Decimal
    unattributed: Decimal

    @property
    def ratio(self) -> Decimal | None:
        """Share that is attributed; None where there is no cost to attribute. Refunds can bring it below 0 or above 1."""
        return 1 - self.unattributed / self.total if self.total > 0 else None


class Explained(msgspec.Struct, frozen=True):
    """What clusters have allocated of a provider's bill in the newest days that the bill and all of them have."""

    provider: str
    days: tuple[date, ...]
    """The oldest first; at most `EXPLAINED_DAYS`."""
    billed: Decimal
    allocated: Mapping[str, Decimal]
    """By source."""

    @property
    def ratio(self) -> Decimal | None:
        """Share of the bill; None where the bill is nothing. Above 1 where list prices are allocated and a discounted bill is paid."""
        return exact_sum(list(self.allocated.values())) / self.billed if self.billed > 0 else None


def coverage(rows: Iterable[tuple[Any, ...]]) -> dict[str, Coverage]:
    """Target -> coverage, of rows (*TARGETS, dollars)."""
    total = Decimal(0)
    unattributed = dict.fromkeys(TARGETS, Decimal(0))
    for *values, cost in rows:
        total = EXACT.add(total, cost)
        for target, value in zip(TARGETS, values, strict=True):
            if not value:
                unattributed[target] = EXACT.add(unattributed[target], cost)
    return {target: Coverage(total, unattributed[target]) for target in TARGETS}


def explained(connection: Connection, basis: str, billed_by: Mapping[str, str], today: date) -> list[Explained]:
    """What the sources of `billed_by` (source -> the provider that bills its clusters) explain, by provider.

    Counted are the newest `EXPLAINED_DAYS` before `today` that the provider's bill and each of its sources have cost on. A source without
    any cost in the last `LOOKED_BACK_DAYS` is passed over, and so is a provider without a bill.
    """
    sources = [source for source, provider in billed_by.items() if provider]
    if not sources:
        return []
    first, last = today - timedelta(days=LOOKED_BACK_DAYS), today - timedelta(days=1)
    costs: dict[str, dict[str, dict[str, Decimal]]] = defaultdict(lambda: defaultdict(dict))
    for (source, day), cost in allocated_by_day(connection, basis, sources, first=first, last=last).items():
        costs[billed_by[source]][source][day] = cost
    found = []
    for provider, by_source in sorted(costs.items()):
        bill = billed_by_day(connection, basis, provider, first=first, last=last)
        common = sorted(set(bill).intersection(*by_source.values()))[-EXPLAINED_DAYS:]
        if common:
            allocated = {source: exact_sum([days[day] for day in common]) for source, days in sorted(by_source.items())}
            dates = tuple(date.fromisoformat(day) for day in common)
            found.append(Explained(provider, dates, exact_sum([bill[day] for day in common]), allocated))
    return found


def month_bounds(today: date) -> tuple[date, date]:
    """First and last day of the month of `today`: a bill may be dated ahead."""
    first = today.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def attribution_collector(read: Read, settings: MetricsSettings, billed_by: Mapping[str, str], now: Callable[[], int]) -> Collector:
    """The collector of coverage, and of what the clusters of `billed_by` (source -> provider, or empty) explain."""
    basis = settings.cost_basis

    def today() -> date:
        return from_micros(now()).date()

    def version() -> object:
        with read() as connection:
            return today(), bills_version(connection)

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        first, last = month_bounds(today())
        with read() as connection:
            covered = coverage(attributed_costs(connection, basis, TARGETS, first=first, last=last))
            clusters = explained(connection, basis, billed_by, today())
            # Where nobody allocates, history need not be looked through.
            allocated = allocated_by_month(connection, basis) if billed_by else []
        months = by_month(allocated, today(), settings.months_kept_apart)
        ratios: list[Sample] = [((target,), float(found.ratio)) for target, found in covered.items() if found.ratio is not None]
        yield FAMILIES["cloud_cost_attributed_ratio"], ratios
        yield FAMILIES["cloud_cost_unattributed_usd"], [((target,), float(found.unattributed)) for target, found in covered.items()]
        yield (
            FAMILIES["kubernetes_cost_explained_ratio"],
            [((found.provider,), float(found.ratio)) for found in clusters if found.ratio is not None],
        )
        yield (
            FAMILIES["kubernetes_cost_explained_usd"],
            [((source, found.provider), float(cost)) for found in clusters for source, cost in found.allocated.items()],
        )
        yield FAMILIES["kubernetes_cost_explained_bill_usd"], [((found.provider,), float(found.billed)) for found in clusters]
        yield FAMILIES["cloud_cost_allocated_monthly_usd"], [(labels, float(cost)) for labels, cost in months.items()]

    return Collector("attribution", collect, version)
