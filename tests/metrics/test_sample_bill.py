"""The real sample bill on the metrics page: the total of every service equals the file's."""


import pytest

from costwarden.sources import open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

BASES = {"billed_cost": "BilledCost", "effective_cost": "EffectiveCost", "list_cost": "ListCost", "contracted_cost": "ContractedCost"}


@pytest.mark.sample_data
@pytest.mark.parametrize("basis", BASES)
def test_the_total_of_every_service_equals_the_files(ledger, sample_data, basis):
    source = open_source(FocusSettings(path=sample_data / "focus"), AttributionSettings(), ExchangeRates())
