"""The catalogue holds to the naming rules of Prometheus and of this project."""

import re

import pytest

from costwarden.metrics.catalogue import CLOUD_LABELS, FAMILIES, PROVIDERS, cloud_prefix
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import DIMENSIONS


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_name_ends_in_total_where_and_only_where_it_is_a_counter(family):
    assert (family.kind == "counter") == family.name.endswith("_total")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_names_labels_and_help_are_plain(family):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in family.labels)
    assert len(set(family.labels)) == len(family.labels)
    assert set(family.foldable) <= set(family.labels)
    assert re.fullmatch(r"[A-Z1][^\n\"\\]*\.", family.help)


def test_every_name_with_a_unit_ends_in_it():
    for name in FAMILIES:
        words = name.removesuffix("_total").split("_")
        assert not {"usd", "seconds", "bytes", "ratio"} & set(words[:-1]), name


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("ai_budget_spent_usd", "usd"),
        ("costwarden_source_request_cost_usd_total", "usd"),
        ("process_cpu_seconds_total", "seconds"),
        ("cloud_cost_spike_limit_ratio", "ratio"),
        ("ai_tokens_total", ""),
        ("costwarden_series", ""),
    ],
)
def test_the_unit_is_what_the_name_ends_in(name, unit):
    assert FAMILIES[name].unit == unit


@pytest.mark.parametrize("prefix", [*PROVIDERS, "other"])
def test_every_cloud_has_the_same_metrics(prefix):
    assert FAMILIES[f"{prefix}_cost_monthly_usd"].labels == ("provider", "month", *CLOUD_LABELS)
    assert FAMILIES[f"{prefix}_cost_daily_usd"].labels == FAMILIES[f"{prefix}_cost_previous_day_usd"].labels == ("provider", *CLOUD_LABELS)
    assert FAMILIES[f"{prefix}_budget_monthly_limit_usd"].labels == ("provider",)


@pytest.mark.parametrize(("provider", "prefix"), [("aws", "aws"), ("kubernetes", "kubernetes"), ("oracle", "other"), ("other", "other")])
def test_a_provider_without_metrics_of_its_own_counts_as_other(provider, prefix):
    assert cloud_prefix(provider) == prefix


def test_narrowing_keeps_the_fixed_labels_and_the_order_of_the_catalogue():
    family = FAMILIES["aws_cost_monthly_usd"].narrowed(("team", "region"))
    assert family.labels == ("provider", "month", "region", "team")
    assert family.foldable == ("region", "team")
    assert family.name == "aws_cost_monthly_usd"


def test_narrowing_to_a_label_that_the_metric_does_not_have_is_an_error():
    with pytest.raises(ValueError, match=r"ai_requests_total has no label \['region'\] to choose"):
        FAMILIES["ai_requests_total"].narrowed(("tenant_id", "region"))


def test_every_configurable_label_is_a_label_of_the_metrics():
    settings = MetricsSettings()
    assert FAMILIES["aws_cost_daily_usd"].narrowed(settings.cloud_labels).labels == ("provider", "region", "service")
    assert FAMILIES["ai_token_usage_cost_usd"].narrowed(settings.usage_labels).labels == tuple(d for d in DIMENSIONS if d != "user_id")
