"""Guardrails as series, so that an alert rule compares series with series and its `action` label names a playbook."""

from collections.abc import Callable, Iterator, Sequence

from costwarden.budgets.guardrails import GuardrailFigure
from costwarden.budgets.rules import scope_of
from costwarden.metrics.bounds import Labels, Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import NANOS_PER_USD

_VALUES: dict[str, Callable[[GuardrailFigure], float]] = {
    "costwarden_guardrail_spend_usd": lambda figure: figure.spent / NANOS_PER_USD,
    "costwarden_guardrail_threshold_usd": lambda figure: figure.threshold / NANOS_PER_USD,
    "costwarden_guardrail_breached": lambda figure: float(figure.breached),
}


def guardrail_collector(figures: Callable[[], Sequence[GuardrailFigure]]) -> Collector:
    """The collector of guardrails; `figures` gives how they stood when they were looked at last."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        found = sorted(figures(), key=lambda figure: figure.spent / figure.threshold, reverse=True)
        for name, value in _VALUES.items():
            yield FAMILIES[name], [(labels, value(figure)) for figure in found for labels in _labels(figure)]

    return Collector("guardrails", collect)


def _labels(figure: GuardrailFigure) -> Iterator[Labels]:
    """One series for each playbook of a guardrail, or one without an action."""
    guardrail = figure.guardrail
    for action in guardrail.playbooks or ("",):
        yield (guardrail.name, guardrail.severity, action, *scope_of(guardrail.scope))
