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
    Inhibition("No costwarden answers: what its figures say is of the past, and it can act on nothing.", "CostwardenDown", ()),
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
    Inhibition(
        "The figures of this provider are old: what reads them is told again when they are fresh.",
        "CostSourceStale",
        (
            "BudgetExceeded80Percent",
            "BudgetExceededCritical",
            "CloudBudgetBurns",
            "CloudBudgetForecastExceeded",
            "CloudCostSpike",
            "CloudCostAnomaly",
            "ProviderBudgetExceeded",
            "ProviderBudgetForecastExceeded",
            "AICaptureLow",
        ),
        ("provider",),
        ("provider",),
    ),
    Inhibition("As above; sizes of buckets name no provider.", "CostSourceStale", ("S3BucketLarge",), where="provider = aws"),
    Inhibition(
        "Critical over warning, about the same budget.",
        "BudgetExceededCritical",
        ("BudgetExceeded80Percent", "CloudBudgetBurns", "CloudBudgetForecastExceeded"),
        ("budget",),
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
        ("budget", "period"),
        ("budget",),
    ),
    Inhibition("", "AIBudgetBurnsFast", ("AIBudgetBurnsSlowly", "AIBudgetForecastExceeded"), ("budget", "period"), ("budget",)),
    Inhibition("", "CostGuardrailBreachedCritical", ("CostGuardrailBreached",), ("guardrail",), ("guardrail",)),
    Inhibition("What has happened over what is expected.", "TotalAISpendHigh", ("TotalAISpendForecastHigh",)),
    Inhibition(
        "",
        "ProviderBudgetExceeded",
        ("ProviderBudgetForecastExceeded",),
        ("source", "provider", "account", "budget", "period"),
        ("budget",),
    ),
)
"""Each pair is by name: `severity` alone would let any critical alert hold back every warning that lacks the same labels."""
