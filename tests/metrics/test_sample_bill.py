"""The real sample bill on the metrics page: the total of every service equals the file's."""

import csv
from collections import defaultdict
from decimal import Decimal

import pytest

from costwarden.metrics.cloud import CloudCosts
from costwarden.metrics.settings import MetricsSettings
from costwarden.sources import Requests, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings
from costwarden.sync import Reading, refresh

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

BASES = {"billed_cost": "BilledCost", "effective_cost": "EffectiveCost", "list_cost": "ListCost", "contracted_cost": "ContractedCost"}


@pytest.mark.sample_data
@pytest.mark.parametrize("basis", BASES)
def test_the_total_of_every_service_equals_the_files(ledger, sample_data, tmp_path, basis):
    bill = sample_data / "focus" / "focus_sample.csv"
    (tmp_path / "bills").mkdir()
    (tmp_path / "bills" / bill.name).symlink_to(bill)
    source = open_source(FocusSettings(path=tmp_path / "bills"), AttributionSettings(), ExchangeRates())
    assert refresh(ledger, "focus", Reading(source, Requests(), []), lambda: NOON).failure == ""

    expected: dict[str, Decimal] = defaultdict(Decimal)
    with bill.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            cost = row[BASES[basis]]
            # Seven Oracle rows have no ContractedCost.
            expected[row["ServiceName"]] += Decimal(0) if cost == "NULL" else Decimal(cost)

    shown: dict[str, float] = defaultdict(float)
    for family, samples in CloudCosts(ledger.read, MetricsSettings(cost_basis=basis), (), lambda: NOON).collect():
        for labels, value in samples:
            if family.name.endswith("_cost_monthly_usd"):
                shown[dict(zip(family.labels, labels, strict=True))["service"]] += value
    assert len(shown) == 33
    assert shown == pytest.approx({service: float(cost) for service, cost in expected.items()}, rel=1e-12, abs=1e-12)
