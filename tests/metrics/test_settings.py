"""The sections of the configuration that belong to the metrics: a mistake is an error with a sentence."""

from decimal import Decimal

import pytest
from pydantic import TypeAdapter, ValidationError

from costwarden.metrics.catalogue import CLOUD_LABELS, CLOUD_SCOPE
from costwarden.metrics.settings import AlertLimits, CloudBudget, CloudBudgets, CloudLabel, CloudScope, MetricsSettings, UsageLabel
from costwarden.model import DIMENSIONS


@pytest.mark.parametrize(
    ("section", "given", "message"),
    [
        (MetricsSettings, {"cost_basis": "amortised_cost"}, "Input should be 'billed_cost', 'effective_cost', 'list_cost' or"),
        (MetricsSettings, {"cloud_labels": ["region", "zone"]}, "Input should be 'region', 'service'"),
        (MetricsSettings, {"cloud_labels": ["region", "region"]}, "the label `region` is given twice"),
        (MetricsSettings, {"usage_labels": ["tenant"]}, "Input should be 'tenant_id', 'provider'"),
        (MetricsSettings, {"months_kept_apart": 1}, "greater than or equal to 2"),
        (MetricsSettings, {"series_limit": 0}, "greater than or equal to 1"),
        (MetricsSettings, {"series_limits": {"aws_cost_monthly": 5}}, "there is no metric `aws_cost_monthly`"),
        (MetricsSettings, {"min_interval_seconds": 0}, "greater than or equal to 0.05"),
        (MetricsSettings, {"min_interval_seconds": 31}, "`max_interval_seconds` must be at least `min_interval_seconds`"),
        (MetricsSettings, {"max_interval_seconds": float("inf")}, "Input should be a finite number"),
        (MetricsSettings, {"serie_limit": 5}, "Extra inputs are not permitted"),
        (AlertLimits, {"ai_spend_monthly_limit_usd": -1}, "must be a finite amount of at least 0"),
        (CloudBudget, {"name": "all", "monthly_limit_usd": 0}, "greater than 0"),
        (CloudBudget, {"name": "", "monthly_limit_usd": 1}, "at least 1 character"),
        (CloudBudget, {"name": "all", "monthly_limit_usd": 1, "scope": {"acount": "1"}}, "Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_an_error(section, given, message):
    with pytest.raises(ValidationError, match=message):
        section.model_validate(given)


def test_two_cloud_budgets_of_one_name_are_an_error():
    budget = {"name": "all", "monthly_limit_usd": 100}
    with pytest.raises(ValidationError, match="the budget name `all` is given twice"):
        TypeAdapter(CloudBudgets).validate_python([budget, budget])


def test_a_limit_has_exactly_the_digits_that_were_typed():
    assert CloudBudget(name="all", monthly_limit_usd=1234.1).monthly_limit_usd == Decimal("1234.1")
    assert AlertLimits(cloud_cost_spike_limit_ratio=0.2).cloud_cost_spike_limit_ratio == Decimal("0.2")


def test_what_can_be_chosen_is_what_the_catalogue_has():
    assert CloudLabel.__args__ == CLOUD_LABELS
    assert UsageLabel.__args__ == DIMENSIONS
    assert tuple(CloudScope.model_fields) == CLOUD_SCOPE
