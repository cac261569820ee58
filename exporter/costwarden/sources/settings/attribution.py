"""The `attribution` section of `costwarden.yaml`."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from costwarden.settings import Settings

Target = Literal["team", "feature", "tenant_id", "environment"]

TARGETS: tuple[Target, ...] = ("team", "feature", "tenant_id", "environment")
"""What a charge is attributed to."""

ORIGINS = ("provider_name", "billing_account_id", "sub_account_id", "service_name")
"""Columns that a rule may read; `tag:KEY` reads a tag."""


class AttributionRule(Settings):
    """Reads `origins` in order; the first that has a value, and one that `values` knows where `values` is given, sets `target`."""

    target: Target
    """What is set: `team`, `feature`, `tenant_id` or `environment`."""
    origins: tuple[str, ...] = Field(min_length=1)
    """`tag:KEY`, `sub_account_id`, `billing_account_id`, `service_name` or `provider_name`. Case and outer spaces of tag keys do not
    matter."""
    values: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """Value, or pattern with `*`, `?` or `[…]` -> what is set, first match wins, case matters. Without it the value itself is set."""

    @field_validator("origins")
    @classmethod
    def _known_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin not in ORIGINS and not re.fullmatch(r"tag:.*\S.*", origin):
                raise ValueError(f"{origin!r} is neither `tag:KEY` nor one of {', '.join(f'`{name}`' for name in ORIGINS)}")
        return origins


def _default_rules() -> tuple[AttributionRule, ...]:
    return (
        AttributionRule(target="team", origins=("tag:team",)),
        AttributionRule(target="feature", origins=("tag:feature",)),
        AttributionRule(target="tenant_id", origins=("tag:tenant_id", "tag:tenant")),
        AttributionRule(target="environment", origins=("tag:environment", "tag:env")),
    )


class AttributionSettings(Settings):
    """Whose cost a charge is. For each target the rules are tried in order, then the defaults, until one sets it; else it is empty."""

    rules: tuple[AttributionRule, ...] = ()
    """Rules of one's own."""
    defaults: tuple[AttributionRule, ...] = Field(default_factory=_default_rules)
    """What holds where no rule sets a target: the tags `team`, `feature`, `tenant_id` or `tenant`, `environment` or `env`."""

    @property
    def tag_keys(self) -> tuple[str, ...]:
        """The keys of all tags that a rule reads, as the rules write them, in their order: what a source has to ask its provider for."""
        origins = [origin for rule in (*self.rules, *self.defaults) for origin in rule.origins if origin not in ORIGINS]
        return tuple(dict.fromkeys(origin.removeprefix("tag:").strip() for origin in origins))


class ComparedRules(AttributionSettings):
    """Two sets of rules in one reading of a source, which asks for the tags of both; see `sources.attribution.Attribution`."""

    before: AttributionSettings
    """The rules in force."""
    after: AttributionSettings
    """Those that are tried."""

    @classmethod
    def of(cls, before: AttributionSettings, after: AttributionSettings) -> Self:
        """`rules` and `defaults` hold those of both, for sources that look which tags to ask for."""
        return cls(rules=(*before.rules, *after.rules), defaults=(*before.defaults, *after.defaults), before=before, after=after)
