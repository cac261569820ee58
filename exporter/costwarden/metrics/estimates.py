"""What budget checks have learned of the size of calls."""

from collections.abc import Iterator

from costwarden.budgets.estimates import LearnedSizes
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector


def estimate_collector(sizes: LearnedSizes) -> Collector:
    """The collector of the estimates in force."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        estimates = sizes.estimated_output_tokens()
        yield FAMILIES["ai_estimated_output_tokens"], [(kind, float(tokens)) for kind, tokens in estimates.items()]

    return Collector("estimates", collect)
