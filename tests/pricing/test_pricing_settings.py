"""Mistakes in the `pricing` section, each with its sentence."""

import re
from decimal import Decimal

import pytest
from pydantic import ValidationError

from costwarden.pricing import PricingSettings, RefreshSettings
from costwarden.pricing.settings import ModelChoice, PriceOverride

BOTH = {"input_usd_mtok": 3, "output_usd_mtok": 15}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"model": "gpt-4o", **BOTH}, "Field required"),
        ({"valid_from": "2026-01-01", **BOTH}, "name at least one of `provider`, `model` and `operation`"),
        ({"valid_from": "2026-01-01", "model": "", **BOTH}, "at least 1 character"),
        ({"valid_from": "2026-01-01", "model": "gpt-4o"}, "give a price: `input_usd_mtok` with `output_usd_mtok`"),
        (
            {"valid_from": "2026-01-01", "model": "gpt-4o", "input_usd_mtok": 3},
            "`output_usd_mtok` is missing beside `input_usd_mtok`: give both directions, 0 where one is free",
        ),
        (
            {"valid_from": "2026-01-01", "model": "gpt-4o", "cache_read_usd_mtok": 1, "output_usd_mtok": 3},
            "`input_usd_mtok` is missing beside `cache_read_usd_mtok`",
        ),
        ({"valid_from": "2026-01-01", "model": "gpt-4o", "usd_per_call": -1}, "must be a finite amount of at least 0"),
        ({"valid_from": "2026-01-01", "model": "gpt-4o", "usd_per_call": float("nan")}, "should be a finite number"),
        ({"valid_from": "2026-01-01", "model": "gpt-4o", "input_usd_mtoken": 3}, "Extra inputs are not permitted"),
        ({"valid_from": "soon", "model": "gpt-4o", **BOTH}, "valid date"),
    ],
)
def test_an_override_that_says_too_little_is_refused(override, sentence):
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        PriceOverride.model_validate(override)


def test_two_prices_of_one_thing_from_one_day_are_refused():
    twice = [
        {"valid_from": "2026-01-01", "model": "gpt-4o", **BOTH},
        {"valid_from": "2026-01-01", "model": "GPT-4o", "usd_per_call": 1},
    ]
    with pytest.raises(ValidationError, match=r"two overrides for \*/gpt-4o/\* begin on 2026-01-01"):
        PricingSettings.model_validate({"overrides": twice})


@pytest.mark.parametrize(
    "section", [{"unknown_price": "allow"}, {"fallback_usd_per_call": -1}, {"overides": []}, {"cheaper_models": ["gpt-4o"]}]
)
def test_a_section_with_a_wrong_value_or_key_is_refused(section):
    with pytest.raises(ValidationError):
        PricingSettings.model_validate(section)


def test_a_price_that_yaml_read_as_a_float_is_what_the_user_typed():
    assert PriceOverride.model_validate({"valid_from": "2026-01-01", "model": "x", "usd_per_call": 0.1}).usd_per_call == Decimal("0.1")


@pytest.mark.parametrize("section", [PricingSettings, PriceOverride, ModelChoice, RefreshSettings])
def test_every_key_says_what_it_is(section):
    assert [name for name, field in section.model_fields.items() if not field.description] == []


def test_what_is_fetched_is_kept_beside_the_configuration_unless_it_says_where(tmp_path):
    def kept(**section: object) -> object:
        loaded = PricingSettings.model_validate({"refresh": section}, context={"directory": tmp_path})
        return loaded.refresh.cache_file

    assert kept(enabled=True) == tmp_path / "costwarden-prices.json"
    assert kept(enabled=True, cache_file="kept/prices.json") == tmp_path / "kept" / "prices.json"
    assert kept() is None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/data.json", "example.com/data.json", "https://"])
def test_prices_come_from_the_web_and_from_nowhere_else(url):
    with pytest.raises(ValidationError):
        RefreshSettings(url=url)
