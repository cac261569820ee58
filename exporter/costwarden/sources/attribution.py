"""Whose cost a charge is: tags, accounts and services to team, feature, tenant and environment, by ordered rules."""

import json
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from costwarden.sources.settings import ORIGINS, TARGETS, AttributionRule, AttributionSettings
from costwarden.sources.settings.attribution import ComparedRules

Attribute = Callable[[Mapping[str, str], Mapping[str, str]], str]

_UNHELD = re.compile("[\0\ud800-\udfff]")


class Attribution:
    """The rules, ready to be asked.

    Of `ComparedRules` each value is what both sets of rules say, in one text that `value_before_and_after` takes apart: so every charge
    of one reading tells what it was and what it would be.
    """

    def __init__(self, settings: AttributionSettings) -> None:
        self._both = (Attribution(settings.before), Attribution(settings.after)) if isinstance(settings, ComparedRules) else None
        rules = (*settings.rules, *settings.defaults)
        self._rules = tuple([_compile(rule) for rule in rules if rule.target == target] for target in TARGETS)

    def attribute(self, columns: Mapping[str, str], tags: Mapping[str, str]) -> tuple[str, ...]:
        """Team, feature, tenant and environment; empty where no rule sets one.

        `columns` has every name of `ORIGINS`; `tags` is as `parse_tags` gives it.
        """
        if self._both is not None:
            before, after = (one.attribute(columns, tags) for one in self._both)
            # The length first: a value may hold any character that could stand between them.
            return tuple(f"{len(old)}:{old}{new}" for old, new in zip(before, after, strict=True))
        return tuple(next(filter(None, (rule(columns, tags) for rule in rules)), "") for rules in self._rules)


def value_before_and_after(text: str) -> tuple[str, str]:
    """The two values of a target that was attributed by `ComparedRules`."""
    length, _, values = text.partition(":")
    return values[: int(length)], values[int(length) :]


def parse_tags(text: str) -> dict[str, str] | None:
    """Tag key, trimmed and in lower case -> value; None where `text` is not a set of tags.

    Reads FOCUS's JSON object and the list of `{"key": …, "value": …}` that BigQuery exports. Of keys that are equal then, the first
    with a value holds: which of two a provider meant cannot be known, and the order of the text is the one thing that is stable.
    """
    if not text:
        return {}
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    if pairs is None:
        # A column of JSON may hold a null of its own.
        return {}
    if not isinstance(pairs, list):
        return None
    tags: dict[str, str] = {}
    for item in pairs:
        pair = item if isinstance(item, tuple) else _key_and_value(item)
        if pair is None:
            return None
        key, value = clean(pair[0]).strip().lower(), clean(_text(pair[1]))
        if value and key not in tags:
            tags[key] = value
    return tags


def clean(text: str) -> str:
    """`text` with U+FFFD for what JSON can write and a database cannot hold: U+0000, and half of a surrogate pair."""
    return _UNHELD.sub("\ufffd", text)


def _key_and_value(item: Any) -> tuple[str, Any] | None:
    try:
        fields = {str(name).lower(): value for name, value in item}
        return str(fields["key"]), fields.get("value")
    except (KeyError, TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _compile(rule: AttributionRule) -> Attribute:
    readers = [_reader(origin) for origin in rule.origins]

    def attribute(columns: Mapping[str, str], tags: Mapping[str, str]) -> str:
        for read in readers:
            value = read(columns, tags)
            if value and (found := _mapped(value, rule.values)):
                return found
        return ""

    return attribute


def _reader(origin: str) -> Attribute:
    if origin in ORIGINS:
        return lambda columns, _: columns[origin]
    key = origin.removeprefix("tag:").strip().lower()
    return lambda _, tags: tags.get(key, "")


def _mapped(value: str, values: Mapping[str, str]) -> str:
    if not values:
        return value
    return next((mapped for pattern, mapped in values.items() if fnmatchcase(value, pattern)), "")
