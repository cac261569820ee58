"""Bills, metered usage and unsettled reservations side by side, as the ledger has them.

The metered side comes from the hourly sums: no event is read. Days are those of UTC, as bills have them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.ledger import Connection
from costwarden.ledger.providers import reported_usage
from costwarden.ledger.queries import MEASURES, hourly_costs
from costwarden.ledger.reconciliation import unsettled_between
from costwarden.ledger.usage import known_events
from costwarden.model import CORRECTION, DIMENSIONS, EXACT, QUANTITIES, TOKEN_CLASSES, from_micros, to_micros
from costwarden.reconciliation.bills import BilledLine, Bills
from costwarden.reconciliation.lines import RECONCILIATION, Day, Line, correction_id, matches, model_key, names_a_model
from costwarden.reconciliation.settings import ReconciledProvider, ReconciliationSettings

ONE_DAY = timedelta(days=1)
HOURS = 24

# In the order of `ledger.budgets.RESERVATION_COLUMNS`.
_ID, _CREATED, _ESTIMATE, _DIMENSIONS = 0, 2, 5, 6
_PROVIDER, _MODEL = DIMENSIONS.index("provider"), DIMENSIONS.index("model")


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A day that cannot be compared."""

    provider: str
    day: date
    reason: str
    """`no bill` (which is not a bill of 0), or a sentence."""


class Unassigned(msgspec.Struct, frozen=True, kw_only=True):
    """Metered money that belongs to no reconciled provider, because it names none."""

    model: str
    nanos: int
    reservations: tuple[str, ...] = ()
    """Ids, where it is set aside; empty where it is spent."""


class Reconciliation(msgspec.Struct, kw_only=True):
    """Days side by side, those that were left out, and what is known by line."""

    days: list[Day]
    left_out: list[LeftOut]
    lines: list[Line]
    unassigned: list[Unassigned]
    billed_by_model: set[str]
    """Providers whose bills are lines of models altogether."""


def read_reconciliation(
    connection: Connection, settings: ReconciliationSettings, providers: Sequence[ReconciledProvider], first: date, last: date, today: date
) -> Reconciliation:
    """Compare the days from `first` to `last` of `providers`; `today` decides which are old enough."""
    assign = Assignment(settings)
    bills = Bills(connection, settings, providers, first, last)
    metered = _Metered(connection, assign, first, last)
    unsettled, unassigned = _unsettled(connection, assign, first, last)
    reasons = {(entry.provider, day): bills.left_out(entry, day, today) for entry in providers for day in _days(first, last)}
    corrected = corrections_so_far(connection, [key for key, reason in reasons.items() if not reason])
    days = [
        Day(
            provider=provider,
            day=day,
            billed=bills.compared[provider, day],
            not_compared=bills.not_compared[provider, day],
            metered=metered.cost[provider, day] - sum(known),
            corrected=sum(known),
            corrections=len(known),
            unsettled=tuple(unsettled[provider, day]),
        )
        for (provider, day), known in corrected.items()
    ]
    lines = _Lines(providers)
    for line in bills.lines:
        if (line.provider, line.day) in corrected:
            lines.add_billed(line)
    for key, model, quantities in metered.models:
        if key in corrected:
            lines.add_metered(key[0], model, quantities)
    by = ("usage_date", "provider", "model")
    for text, usage_provider, model, *counts in reported_usage(connection, by, first=first, last=last):
        owner = assign.owner(usage_provider, model)
        if owner is not None and (owner, date.fromisoformat(text)) in corrected:
            lines.add_reported(owner, model, dict(zip(QUANTITIES, counts, strict=True)))
    return Reconciliation(
        days=days,
        left_out=[LeftOut(provider=name, day=day, reason=reason) for (name, day), reason in reasons.items() if reason],
        lines=lines.all(),
        unassigned=[*metered.unassigned(), *unassigned],
        billed_by_model=lines.billed_by_model(),
    )


def day_bounds(day: date) -> tuple[int, int]:
    """The half-open range of microseconds of a day of UTC."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return to_micros(start), to_micros(start + ONE_DAY)


def _days(first: date, last: date) -> Iterator[date]:
    day = first
    while day <= last:
        yield day
        day += ONE_DAY


class Assignment:
    """Which reconciled provider a usage or a reservation belongs to."""

    def __init__(self, settings: ReconciliationSettings) -> None:
        self._by_name = {name.lower(): entry.provider for entry in settings.providers for name in entry.usage_providers}
        self._by_model = [(entry.provider, entry.models) for entry in settings.providers]

    def owner(self, provider: str, model: str) -> str | None:
        """By the provider that it names; where it names none, by its model, the first pattern that matches. None is nobody's."""
        if provider:
            return self._by_name.get(provider.lower())
        return next((owner for owner, models in self._by_model if matches(model, models)), None)


def corrections_so_far(connection: Connection, days: Iterable[tuple[str, date]]) -> dict[tuple[str, date], list[int]]:
    """By (provider, day): the nano-dollars of each correction by its bill, the first one first. They are found by their identity."""
    found: dict[tuple[str, date], list[int]] = {key: [] for key in days}
    pending = list(found)
    while pending:
        ids = {(CORRECTION, correction_id(len(found[key]) + 1, *key)): key for key in pending}
        known = known_events(connection, ids)
        for identity, cost in known.items():
            found[ids[identity]].append(cost)
        pending = [ids[identity] for identity in known]
    return found


# --- usage ---------------------------------------------------------------------------------------------------------------------


class _Metered:
    """What usage has cost by provider and day, and by model."""

    def __init__(self, connection: Connection, assign: Assignment, first: date, last: date) -> None:
        self.cost: dict[tuple[str, date], int] = defaultdict(int)
        self.models: list[tuple[tuple[str, date], str, dict[str, int]]] = []
        self._unassigned: dict[str, int] = defaultdict(int)
        hours = day_bounds(first)[0] // 3_600_000_000, day_bounds(last)[1] // 3_600_000_000
        by = ("provider", "model", "operation")
        for hour, provider, model, operation, *measures in hourly_costs(
            connection, by, {}, first_hour=hours[0], last_hour=hours[1], hours_each=HOURS
        ):
            quantities = dict(zip(MEASURES, measures, strict=True))
            owner = assign.owner(provider, model)
            if owner is None:
                if not provider and quantities["cost"]:
                    self._unassigned[model] += quantities["cost"]
                continue
            key = owner, date(1970, 1, 1) + timedelta(days=hour // HOURS)
            self.cost[key] += quantities["cost"]
            if model or operation != RECONCILIATION:
                self.models.append((key, model or operation, quantities))

    def unassigned(self) -> list[Unassigned]:
        """What names no provider, and whose model is nobody's; the dearest first."""
        rows = sorted(self._unassigned.items(), key=lambda found: (-found[1], found[0]))
        return [Unassigned(model=model, nanos=cost) for model, cost in rows]


def _unsettled(
    connection: Connection, assign: Assignment, first: date, last: date
) -> tuple[dict[tuple[str, date], list[tuple[str, int]]], list[Unassigned]]:
    found: dict[tuple[str, date], list[tuple[str, int]]] = defaultdict(list)
    strays: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in unsettled_between(connection, day_bounds(first)[0], day_bounds(last)[1]):
        provider, model = row[_DIMENSIONS + _PROVIDER], row[_DIMENSIONS + _MODEL]
        owner = assign.owner(provider, model)
        created = from_micros(row[_CREATED]).date()
        if owner is not None:
            found[owner, created].append((row[_ID], row[_ESTIMATE]))
        elif not provider:
            strays[model].append((row[_ID], row[_ESTIMATE]))
    return found, [
        Unassigned(model=model, nanos=sum(estimate for _, estimate in held), reservations=tuple(name for name, _ in held))
        for model, held in sorted(strays.items())
    ]


# --- lines ---------------------------------------------------------------------------------------------------------------------


class _Lines:
    """Lines of bills, metered and reported usage, brought together by model."""

    def __init__(self, providers: Iterable[ReconciledProvider]) -> None:
        self._models: dict[str, Collection[str]] = {entry.provider: entry.models for entry in providers}
        self._lines: dict[tuple[str, str], Line] = {}
        self._billed: list[BilledLine] = []

    def add_metered(self, provider: str, model: str, quantities: dict[str, int]) -> None:
        line = self._line(provider, model)
        line.metered += quantities["cost"]
        line.requests += quantities["requests"]
        _add_tokens(line.metered_tokens, quantities)

    def add_reported(self, provider: str, model: str, quantities: dict[str, int]) -> None:
        line = self._line(provider, model)
        line.reported_tokens = line.reported_tokens or {}
        _add_tokens(line.reported_tokens, quantities)

    def add_billed(self, line: BilledLine) -> None:
        self._billed.append(line)

    def _line(self, provider: str, model: str) -> Line:
        return self._lines.setdefault((provider, model_key(model)), Line(provider=provider, name=model))

    def _bring_in(self) -> None:
        """Last: which lines are about a model shows by the models that were metered and reported, too."""
        billed, self._billed = self._billed, []
        for found in billed:
            key = found.provider, model_key(found.name)
            line = self._lines.get(key)
            if line is None:
                is_model = names_a_model(found.name, self._models[found.provider])
                key = key if is_model else (found.provider, f"line {found.name}")
                line = self._lines.setdefault(key, Line(provider=found.provider, name=found.name, is_model=is_model))
            line.billed = EXACT.add(line.billed or Decimal(0), found.cost)

    def all(self) -> list[Line]:
        """The largest differences first."""
        self._bring_in()
        return sorted(self._lines.values(), key=lambda line: (line.provider, -abs(line.residual or Decimal(line.metered)), line.name))

    def billed_by_model(self) -> set[str]:
        """Providers that have lines of models on their bills and no others."""
        billed = [line for line in self._lines.values() if line.billed is not None]
        return {line.provider for line in billed} - {line.provider for line in billed if not line.is_model}


def _add_tokens(sums: dict[str, int], quantities: dict[str, Any]) -> None:
    for name in TOKEN_CLASSES:
        if quantities[name]:
            sums[name] = sums.get(name, 0) + quantities[name]
