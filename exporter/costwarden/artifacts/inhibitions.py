"""Which alert holds back which: a table, from which `alertmanager.yaml` is made."""

from typing import NamedTuple


class Inhibition(NamedTuple):
    """While `source` fires, `targets` with the same values of `equal` are held back; both must have the labels `given`."""

    comment: str
    source: str
    targets: tuple[str, ...]
    """Names of alerts; none: all of costwarden's but the source."""
    equal: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    where: str = ""
    """A matcher more, of the source alone."""


INHIBITIONS = (
    Inhibition("No costwarden answers: what its figures say is of the past, and it can act on nothing.", "CostwardenDown", (), ("job",)),
    Inhibition(
        "An instance that is down says nothing new about itself.",
        "CostwardenInstanceDown",
        ("LedgerDown", "MetricsPageStale", "AIBudgetServiceFailing", "ConfigReloadFailed"),
        ("job", "instance"),
        ("instance",),
    ),
    Inhibition(
        "Without its ledger it can neither answer checks nor keep what it reads.",
        "LedgerDown",
        ("MetricsPageStale", "AIBudgetServiceFailing"),
        ("job", "instance"),
        ("instance",),
    ),
    Inhibition("", "LedgerDown", ("CostSourceFailing", "CostSourceStale"), ("job",), ("job",)),
    Inhibition("Figures that stand still make every source look stale.", "MetricsPageStale", ("CostSourceStale",), ("job",), ("job",)),
    Inhibition("The cause holds back what follows from it.", "CostSourceFailing", ("CostSourceStale",), ("job", "source"), ("source",)),
    # Not BudgetExceededCritical: bills that are missing make a month's overspend greater and never false. Held back, its page would fall
    # silent and its escalation stop, with nothing mended. Every other one of these may be wrong the other way, or is no page.
    Inhibition(
        "The figures of this provider are old: what reads them is told again when they are fresh. A month that is overspent by old\n"
        "figures is overspent by new ones, so that BudgetExceededCritical is told all the same.",
        "CostSourceStale",
        (
            "BudgetExceeded80Percent",
            "CloudBudgetBurns",
            "CloudBudgetForecastExceeded",
            "CloudCostSpike",
            "CloudCostAnomaly",
            "ProviderBudgetExceeded",
            "ProviderBudgetForecastExceeded",
            "AICaptureLow",
        ),
        ("job", "provider"),
        ("provider",),
    ),
    Inhibition("As above; sizes of buckets name no provider.", "CostSourceStale", ("S3BucketLarge",), where="provider = aws"),
    Inhibition(
        "Critical over warning, about the same budget.",
        "BudgetExceededCritical",
        ("BudgetExceeded80Percent", "CloudBudgetBurns", "CloudBudgetForecastExceeded"),
        ("job", "budget"),
        ("budget",),
    ),
    Inhibition(
        "",
        "AIBudgetExceeded",
        (
            "AIBudgetWarning",
            "AIBudgetBurnsFast",
            "AIBudgetBurnsSlowly",
            "AIBudgetForecastExceeded",
            "AIBudgetThresholdReached",
            "AIBudgetRefusesCalls",
        ),
        ("job", "budget", "period"),
        ("budget",),
    ),
    Inhibition("", "AIBudgetBurnsFast", ("AIBudgetBurnsSlowly", "AIBudgetForecastExceeded"), ("job", "budget", "period"), ("budget",)),
    Inhibition("", "CostGuardrailBreachedCritical", ("CostGuardrailBreached",), ("job", "guardrail"), ("guardrail",)),
    Inhibition("What has happened over what is expected.", "TotalAISpendHigh", ("TotalAISpendForecastHigh",), ("job",)),
    Inhibition(
        "",
        "ProviderBudgetExceeded",
        ("ProviderBudgetForecastExceeded",),
        ("job", "provider", "account", "budget", "period"),
        ("budget",),
    ),
)
"""Each pair is by name: `severity` alone would let any critical alert hold back every warning that lacks the same labels."""
