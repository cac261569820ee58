"""What the scopes of cloud budgets have cost: read a shape of scope at a time, so that 100 budgets cost little more than one."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

from costwarden.ledger import Connection
from costwarden.ledger.figures import costs_between
from costwarden.metrics.bounds import Labels, paced
from costwarden.metrics.catalogue import CLOUD_SCOPE
from costwarden.metrics.page import breathe
from costwarden.metrics.settings import CloudBudget

_COLUMNS = {"provider": "provider_name", "region": "region_id", "service": "service_name"}
"""Columns of the charges that are not named as their label is."""


def charge_column(label: str) -> str:
    """The column of the charges that a label shows."""
    return _COLUMNS.get(label, label)


def scope_values(budget: CloudBudget) -> Labels:
    """The scope of a budget in the order of `CLOUD_SCOPE`; empty is any."""
    return tuple([getattr(budget.scope, label) for label in CLOUD_SCOPE])


def budget_costs(
    connection: Connection, basis: str, budgets: Sequence[CloudBudget], columns: Sequence[str], *, first: date, last: date
) -> Iterator[tuple[str, Labels, Decimal]]:
    """(budget, values of `columns`, exact dollars) of the charges in its scope, of the days from `first` to `last`, in no order.

    What one provider allocates and another one bills (`model.ALLOCATED`) counts where the scope names the former; everywhere else it would
    count twice.
    """
    # Budgets that name the same labels are read together: of a million charges SQLite hands over those alone that have their values.
    shapes: dict[Labels, dict[Labels, list[str]]] = defaultdict(lambda: defaultdict(list))
    for budget in budgets:
        scope = dict(zip(CLOUD_SCOPE, scope_values(budget), strict=True))
        named = {label: value for label, value in scope.items() if value}
        shapes[tuple(named)][tuple(named.values())].append(budget.name)
    for labels, names in shapes.items():
        scoped = [charge_column(label) for label in labels]
        among = {column: {values[position] for values in names} for position, column in enumerate(scoped)}
        allocated = "provider" in labels
        rows = costs_between(connection, basis, [*scoped, *columns], first=first, last=last, among=among, allocated=allocated)
        for *values, cost in paced(rows, breathe):
            for name in names.get(tuple(values[: len(scoped)]), ()):
                yield name, tuple(values[len(scoped) :]), cost
