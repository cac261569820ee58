"""Which rules read what others record."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Rule = Mapping[str, Any]


def name_of(rule: Rule) -> str:
    """The name of an alert or of what is recorded."""
    return rule.get("alert") or rule["record"]


class Dependencies:
    """Of rules on each other, by their names."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = list(rules)
        self._names = {name_of(rule) for rule in rules}
        # A record may be made of several rules.
        self._reads: dict[str, set[str]] = {name: set() for name in map(name_of, rules)}
        for rule in rules:
            # Annotations ask for series as well.
            self._reads[name_of(rule)] |= self.mentioned([rule["expr"], *rule.get("annotations", {}).values()]) - {name_of(rule)}

    def mentioned(self, texts: Iterable[str]) -> set[str]:
        """The rules that expressions or templates name."""
        return {word for text in texts for word in re.findall(r"[\w:]+", text)} & self._names

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """These rules, what they read, what that reads, and so on."""
        found: set[str] = set()
        left = set(names)
        while left:
            found |= left
            left = set().union(*(self._reads[name] for name in left)) - found
        return found

    def dependents(self, name: str) -> list[str]:
        """The rule and all that read it, or what reads it, in the order of the rules."""
        return [other for other in self._reads if name in self.ancestors([other])]
