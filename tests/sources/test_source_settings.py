"""Mistakes in the `sources`, `attribution` and `exchange_rates` sections, each with its sentence; and the table of sources."""

import re
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from costwarden.config import Config
from costwarden.sources import SOURCES
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings
from costwarden.strict_yaml import models_in

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("section", "value", "sentence"),
    [
        (SourceSettings, {"path": "x", "type": "fokus"}, "does not match any of the expected tags: 'focus', 'aws'"),
        (SourceSettings, {"type": "focus"}, "needs exactly one of `path` and `url`"),
        (SourceSettings, {"path": "x", "intervall_seconds": 5}, "Extra inputs are not permitted"),
        (SourceSettings, {"path": "x", "interval_seconds": 0.5}, "greater than or equal to 1"),
        (SourceSettings, {"path": "x", "name": "AWS bills"}, "String should match pattern"),
        (SourceSettings, {"path": "x", "default_currency": "euro"}, "String should match pattern"),
        (
            SourceSettings,
            {"path": "x", "interval_seconds": 7200, "jitter_ratio": 0.5},
            "`stale_after_seconds` must be above the longest interval, 10800 s",
        ),
        (AttributionSettings, {"rules": [{"target": "squad", "origins": ["tag:a"]}]}, "Input should be 'team', 'feature', 'tenant_id'"),
        (AttributionSettings, {"rules": [{"target": "team", "origins": []}]}, "at least 1 item"),
        (
            AttributionSettings,
            {"rules": [{"target": "team", "origins": ["account"]}]},
            "'account' is neither `tag:KEY` nor one of `provider_name`, `billing_account_id`, `sub_account_id`, `service_name`",
        ),
        (AttributionSettings, {"rules": [{"target": "team", "origins": ["tag: "]}]}, "'tag: ' is neither"),
        (AttributionSettings, {"rules": [{"target": "team", "origins": ["tag:a"], "values": {"x": ""}}]}, "at least 1 character"),
        (ExchangeRates, {"currencies": {"eur": [{"valid_from": "2026-01-01", "usd": 1}]}}, "String should match pattern"),
        (ExchangeRates, {"currencies": {"USD": [{"valid_from": "2026-01-01", "usd": 1}]}}, "`USD` has no rate: a dollar is a dollar"),
        (ExchangeRates, {"currencies": {"EUR": []}}, "at least 1 item"),
        (ExchangeRates, {"currencies": {"EUR": [{"valid_from": "2026-01-01", "usd": 0}]}}, "greater than 0"),
        (ExchangeRates, {"currencies": {"EUR": [{"valid_from": "2026-01-01", "usd": "1." + "1" * 20}]}}, "no more than 20 digits"),
        (
            ExchangeRates,
            {"currencies": {"EUR": [{"valid_from": "2026-02-01", "usd": 1}, {"valid_from": "2026-01-01", "usd": 1}]}},
            "the rates of `EUR` must ascend: 2026-01-01 stands after 2026-02-01",
        ),
    ],
)
def test_a_mistake_in_a_section_is_told(section, value, sentence):
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        TypeAdapter(section).validate_python(value)


def test_the_path_of_a_source_is_meant_from_the_directory_of_the_configuration(tmp_path):
    settings = TypeAdapter(SourceSettings).validate_python({"path": "bills"}, context={"directory": tmp_path})
    assert settings.path == tmp_path / "bills"


def test_a_rate_that_yaml_read_as_a_float_is_what_the_user_typed():
    rates = ExchangeRates.model_validate({"currencies": {"EUR": [{"valid_from": "2026-01-01", "usd": 1.08}]}})
    assert rates.currencies["EUR"][0].usd == Decimal("1.08")


def settings_of(kind):
    """The class of settings whose `type` is `kind`."""
    return next(
        model for model in models_in(Config.model_fields["sources"].annotation) if kind in get_args(model.model_fields["type"].annotation)
    )


def test_the_table_of_sources_names_what_is_there_and_what_the_configuration_can_name():
    for kind, target in SOURCES.items():
        module, class_name = target.split(":")
        assert module == f"costwarden.sources.{kind}"
        assert {"fetch", "probe", "close"} <= set(dir(getattr(import_module(module), class_name)))
        assert settings_of(kind).model_fields["name"].default == kind
    assert len(models_in(Config.model_fields["sources"].annotation)) == len(SOURCES)


def rows_of(table):
    """The first cells of the rows of a Markdown table, without back ticks and links."""
    return [re.sub(r"[`\[\]]|\(.*", "", line.split("|")[1]).strip() for line in table.splitlines() if line.startswith("|")]


def test_the_readme_and_the_page_on_sources_have_a_row_for_each_type_and_each_has_a_page():
    readme, page = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/sources.md"))
    assert rows_of(readme[readme.index("| `type` |") :].split("\n\n")[0])[2:] == list(SOURCES)
    assert rows_of(page[page.index("| type |") :].split("\n\n")[0])[2:] == list(SOURCES)
    pages = {"focus": "docs/focus.md"} | {kind: f"docs/sources/{kind}.md" for kind in SOURCES if kind != "focus"}
    for kind, path in pages.items():
        assert f"[{kind}]({path.removeprefix('docs/')})" in page
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        assert f"type: {kind}" in text
        assert "costwarden source test" in text, f"{path} does not say how to try the source"
