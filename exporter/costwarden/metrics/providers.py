"""What providers state beside their bills: forecasts, sizes, and the budgets that are kept there."""

from collections.abc import Iterator

from costwarden.ledger.figures import bills_version
from costwarden.ledger.providers import read_figures, read_provider_budgets
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, PROVIDER_FAMILIES, Family
from costwarden.metrics.page import Collector


def provider_collector(read: Read) -> Collector:
    """The collector of figures and budgets that providers state."""

    def version() -> object:
        with read() as connection:
            return bills_version(connection)

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        with read() as connection:
            figures, budgets = read_figures(connection), read_provider_budgets(connection)
        # One series twice would leave the whole page without any of them; the first part that states it holds.
        samples: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in PROVIDER_FAMILIES}
        for figure in figures:
            # Another version of costwarden may have kept it, whose metric had another name or other labels.
            if figure.metric in samples and len(FAMILIES[figure.metric].labels) == len(figure.labels):
                samples[figure.metric].setdefault(figure.labels, float(figure.value))
        for budget in budgets:
            labels = (budget.source, budget.provider_name, budget.account_id, budget.budget, budget.period)
            amounts = {"limit": budget.limit_usd, "spent": budget.spent_usd, "forecast": budget.forecast_usd}
            for what, amount in amounts.items():
                if amount is not None:
                    samples[f"cloud_provider_budget_{what}_usd"].setdefault(labels, float(amount))
        yield from ((FAMILIES[name], list(found.items())) for name, found in samples.items())

    return Collector("providers", collect, version)
