"""What was to be expected is the same on both databases."""

from datetime import date, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import insert

from costwarden.ledger import Ledger
from costwarden.ledger.schema import COST_BASES, charges
from costwarden.ledger.usage import append_usage
from costwarden.metrics.ai_baselines import AiBaselines
from costwarden.metrics.baselines import Baselines
from costwarden.metrics.cloud import CloudCosts
from costwarden.metrics.settings import CloudBudget, MetricsSettings
from costwarden.model import ALLOCATED, Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""
HOUR = 3_600_000_000


def fill(ledger):
    rows = []
    for back in range(1, 80):
        for number, provider in enumerate(("aws", "aws", "gcp")):
            row = {column.name: "" for column in charges.c if column.name != "row_count"}
            row |= {"source": f"source-{number}", "charge_date": str(date(2025, 11, 15) - timedelta(days=back + number)), "team": "web"}
            row |= {"provider_name": provider, "charge_category": ALLOCATED if number == 2 else "Usage", "service_name": f"s{back % 2}"}
            rows.append(row | {f"{basis}_usd": f"{back * (number + 1)}.00000000001" for basis in COST_BASES})
    ledger.write(lambda connection: connection.execute(insert(charges), rows))


def record(ledger, numbers, first, last):
    events = [
        Usage(source="test", event_id=str(next(numbers)), timestamp=NOON - back * HOUR // 2, tenant_id=f"t{back % 3}", cost=back * 10**9)
        for back in range(first, last)
    ]
    ledger.write(lambda connection: append_usage(connection, [msgspec.structs.astuple(event) for event in events]))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_expectations_and_days_are_the_same_on_both_databases(tmp_path, postgresql_url, zone):
    budgets = [
        CloudBudget(name="all", monthly_limit_usd=1),
        CloudBudget(name="web", monthly_limit_usd=1, scope={"team": "web"}),
        CloudBudget(name="gcp", monthly_limit_usd=1, scope={"provider": "gcp", "team": "web"}),
    ]
    found = []
    for url in (f"sqlite:///{tmp_path / 'ledger.db'}", postgresql_url()):
        ledger, numbers = Ledger(url), count()
        try:
            fill(ledger)
            record(ledger, numbers, 1, 30 * 48)
            usage = AiBaselines(ledger.read, ZoneInfo(zone), lambda: NOON)
            list(usage.collect())
            record(ledger, numbers, 0, 6)  # recorded since the last look
            collectors = (
                Baselines(ledger.read, "billed_cost", budgets, lambda: NOON),
                CloudCosts(ledger.read, MetricsSettings(), budgets, lambda: NOON),
                usage,
            )
            found.append({family.name: dict(samples) for collector in collectors for family, samples in collector.collect()})
        finally:
            ledger.close()
    assert found[0] == found[1]
    assert all(found[0][name] for name in ("cloud_budget_forecast_usd", "aws_cost_daily_usd", "ai_spend_forecast_usd"))
    assert found[0]["ai_cost_expected_hourly_usd"]
