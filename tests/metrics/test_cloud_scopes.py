"""A charge counts towards the budgets whose scope it is in, as if each were compared with it."""

import random
from collections import defaultdict
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import insert

from costwarden.ledger.schema import COST_BASES, charges
from costwarden.metrics.catalogue import CLOUD_SCOPE
from costwarden.metrics.cloud_scopes import budget_costs, charge_column, scope_values
from costwarden.metrics.settings import CloudBudget
from costwarden.model import ALLOCATED

FIRST, LAST = date(2025, 11, 1), date(2025, 11, 30)


def in_scope(budget, charge):
    if charge["charge_category"] == ALLOCATED and not budget.scope.provider:
        return False
    return all(wanted in ("", charge[charge_column(label)]) for label, wanted in zip(CLOUD_SCOPE, scope_values(budget), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_budgets_cost_what_they_would_if_each_scope_were_compared_with_each_charge(ledger, seed):
    chance = random.Random(seed)
    rows = []
    for number in range(200):
        row = {column.name: "" for column in charges.c if column.name != "row_count"}
        row |= {charge_column(label): chance.choice(["", "a", "b"]) for label in CLOUD_SCOPE}
        row |= {"source": str(number), "charge_category": chance.choice(["Usage", ALLOCATED])}
        row |= {"charge_date": chance.choice(["2025-10-31", "2025-11-01", "2025-11-30", "2025-12-01"])}
        rows.append(row | {f"{basis}_usd": f"{chance.randrange(-99, 999)}.00000000000{number}" for basis in COST_BASES})
    ledger.write(lambda connection: connection.execute(insert(charges), rows))
    scopes = [{label: chance.choice(["", "", "", "a", "b"]) for label in CLOUD_SCOPE} for _ in range(60)]
    budgets = [CloudBudget(name=str(number), monthly_limit_usd=1, scope=scope) for number, scope in enumerate(scopes)]
    expected, found = defaultdict(Decimal), defaultdict(Decimal)
    for budget in budgets:
        for row in rows:
            if in_scope(budget, row) and "2025-11-01" <= row["charge_date"] <= "2025-11-30":
                expected[budget.name, row["charge_date"]] += Decimal(row["billed_cost_usd"])
    with ledger.read() as connection:
        for name, (day,), cost in budget_costs(connection, "billed_cost", budgets, ["charge_date"], first=FIRST, last=LAST):
            found[name, day] += cost
    assert found == expected
    assert len({name for name, _ in found}) > 20
