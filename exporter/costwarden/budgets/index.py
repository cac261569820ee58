"""Which budgets there are and who is suspended, as the ledger has it: what every decision looks up first."""

from collections import Counter

from costwarden.budgets.rules import Budget, Dimensions, ScopeIndex
from costwarden.budgets.store import budget_of
from costwarden.ledger import Connection
from costwarden.ledger.budgets import changes_since, newest_change, read_budgets, read_named, read_suspended
from costwarden.model import DIMENSIONS

TENANT, MODEL = DIMENSIONS.index("tenant_id"), DIMENSIONS.index("model")

EVERYBODY = ""
"""The tenant whose suspension stops everybody."""


class BudgetIndex:
    """Budgets by name and by scope, and suspended tenants; kept current by what the ledger says has changed."""

    def __init__(self, connection: Connection) -> None:
        # First: what changes while the rest is read is read once more.
        self._seen = newest_change(connection)
        self.suspended = read_suspended(connection)
        self.budgets: dict[str, Budget] = {}
        self._scopes: ScopeIndex[str] = ScopeIndex()
        self._of_tenants: Counter[str] = Counter()
        for row in read_budgets(connection):
            self.put(budget_of(row))

    def put(self, budget: Budget) -> None:
        """Take a budget, new or changed."""
        known = self.budgets.get(budget.budget)
        if known is None or known.scope != budget.scope:
            if known is not None:
                self._scopes.remove(known.scope, known.budget)
                self._of_tenants[known.scope[TENANT]] -= 1
            self._scopes.add(budget.scope, budget.budget)
            self._of_tenants[budget.scope[TENANT]] += 1
        self.budgets[budget.budget] = budget

    def remove(self, name: str) -> None:
        """Drop a budget."""
        scope = self.budgets.pop(name).scope
        self._scopes.remove(scope, name)
        self._of_tenants[scope[TENANT]] -= 1
        if not self._of_tenants[scope[TENANT]]:
            del self._of_tenants[scope[TENANT]]

    def matching(self, dimensions: Dimensions) -> list[str]:
        """The names of the budgets whose scope matches."""
        return self._scopes.matching(dimensions)

    def has_budget(self, tenant_id: str) -> bool:
        """Whether any budget is the tenant's own, for whatever it is."""
        return self._of_tenants[tenant_id] > 0

    def changes(self, connection: Connection) -> list[Budget | str] | None:
        """Budgets that have changed since the last look, and the names of those that are gone; takes suspensions over at once.

        None where nothing was noted, or figures have changed too: then memory is of no use where it holds any.
        """
        newest = newest_change(connection)
        if newest == self._seen:
            return None
        noted = changes_since(connection, self._seen)
        if any(kind == "figures" for kind, _ in noted):
            self._seen = newest
            return None
        if any(kind == "tenant" for kind, _ in noted):
            self.suspended = read_suspended(connection)
        found: list[Budget | str] = []
        names = sorted(name for kind, name in noted if kind == "budget")
        rows = read_named(connection, names)
        for name in names:
            row = rows.get(name)
            if row is not None:
                found.append(budget_of(row))
            elif name in self.budgets:
                found.append(name)
        # Last: where the connection breaks in between, the next look finds them once more.
        self._seen = newest
        return found
