"""Whether Alertmanager's inhibitions can do what they are there for: that the alerts exist and have the labels that must be equal."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from promql import Labels

_MATCHER = re.compile(r'\s*([\w.]+)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*')


def _holds(matcher: str, labels: Mapping[str, str]) -> bool:
    """Whether an alert with these labels can match; a label that is a template, or not the rule's own, may be anything."""
    parsed = _MATCHER.fullmatch(matcher)
    if parsed is None:
        raise ValueError(f"{matcher} is no matcher")
    name, sign, value = parsed.groups()
    if name not in labels or "{{" in labels[name]:
        return True
    equal = re.fullmatch(value, labels[name]) is not None if "~" in sign else labels[name] == value
    return equal != sign.startswith("!")


def inhibition_faults(rules: list[Any], alerts: Mapping[str, Any], labels: Mapping[str, Labels]) -> Iterator[str]:
    """What keeps an inhibition from acting, a sentence each. `labels` are those that each alert may have."""
    for rule in rules:
        sides = []
        for side in ("source_matchers", "target_matchers"):
            for matcher in rule[side]:
                parsed = _MATCHER.fullmatch(matcher)
                if parsed and parsed[1] == "alertname" and parsed[2] in {"=", "=~"}:
                    unknown = [name for name in re.findall(r"\w+", parsed[3]) if name not in alerts and parsed[3].count("*") == 0]
                    yield from (f"inhibits by {name}, which is no alert" for name in unknown)
            fit = {
                name
                for name, alert in alerts.items()
                if all(_holds(matcher, alert["labels"] | {"alertname": name}) for matcher in rule[side])
            }
            if not fit:
                yield f"inhibits by {rule[side]}, which no alert matches"
            sides.append(fit)
        # Where the targets are not named, what lacks a label is left alone: an alert of no job is of none that is down.
        named = any(matcher.startswith(("alertname =", "alertname=")) for matcher in rule["target_matchers"])
        for label in rule.get("equal", []):
            for name in sorted(sides[0] | sides[1] if named else sides[0]):
                if label not in labels[name]:
                    yield f"wants {label} equal, which {name} never has"
