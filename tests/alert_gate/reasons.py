"""What the gate lets pass, each with the reason. An entry that nothing needs any more is a fault."""

_SWITCH = "a switch that people set and lift: it belongs to no day and no month"
_COUNTER = "what a counter has risen by in a trailing window: no figure of a day or a month"
_AGE = "an age against a limit: no figure of a day or a month"
_FACTOR = "a factor of a burn rate belongs to its window: docs/burn_rate.md derives both together"

NUMBERS = {
    ("BudgetExceeded80Percent", 0.8): "document 2 names the alert after the number",
    ("AIBudgetServiceFailing", 0.05): "a share of failing checks is about the service, not about money: no limit to configure",
    ("AIBudgetBurnsFast", 13): _FACTOR,
    ("AIBudgetBurnsFast", 6): _FACTOR,
    ("AIBudgetBurnsSlowly", 3): _FACTOR,
    ("AIBudgetBurnsSlowly", 2): _FACTOR,
    ("CloudBudgetBurns", 3): _FACTOR,
    ("MetricsPageStale", 300): "ten times the interval at which the page is rendered; nothing to configure",
}
"""Alerts that compare with a number other than 0 and 1, where others compare with a series that has the limit."""

DIVISORS = {
    "cloud_budget_limit_usd": "of $0 everything is overspent (+Inf is above every threshold), and nothing is not (0/0 is no number)",
    "ai_budget_limit_usd": "as of a cloud budget: a limit of $0 blocks a tenant",
    "ai_budget_checks_total": "without a check none has failed: 0/0 is no number, and silent",
    "costwarden_source_requests_total": "a source that has made no request has spent nothing on them: 0/0 is no number, and silent",
    "budget:ai_budget_period_start_timestamp_seconds:max": "a period has a length, and what is left of it is above 0",
    "global:utc_month_seconds:max": "in the last second of a month nothing is left to burn in",
    "job_provider:cloud_cost_previous_day_usd:sum": "a cloud that had cost nothing the day before has grown without bound",
    "kube_pod_container_resource_requests": "a pod that requests 0 of CPU has no container left to divide",
}
"""Series that an alert divides by, which can be 0, and where that is meant."""

ENDS_WITH_THE_EXPORTER: dict[str, str] = {}
"""Alerts without `keep_firing_for` and without a look at absence."""

KEEPS_ITS_TARGET: dict[str, str] = {"OverprovisionedPod": "its `pod` is the pod that it is about, of kube-state-metrics"}
"""Alerts on money that carry the scrape target: a restart ends one and begins another."""

NO_ROLLOVER = {
    "AIEmergencyStop": _SWITCH,
    "AIUsageUnpriced": _COUNTER,
    "OverprovisionedPod": _COUNTER,
    "PriceDataOld": _AGE,
}
"""Alerts on money whose figure has no period that could turn."""

NO_SAMPLES = {
    "AIEmergencyStop": _SWITCH,
    "AIUsageUnpriced": _COUNTER,
    "OverprovisionedPod": _COUNTER,
    "PriceDataOld": _AGE,
}
"""Alerts on money whose figure is of the moment, not of a day or a month: several samples a day are no trap."""
