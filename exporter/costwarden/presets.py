"""Presets: what a kind of environment sets where the configuration file says nothing. What the file says always wins.

No preset turns remediation on: what may stop machines is asked for by name.
"""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Lenient limits, higher thresholds for testing: nothing that is tried out is refused for want of a budget or a price.
    "development": {
        "logs": {"level": "debug"},
        "budgets": {"unbudgeted": "allow", "soft_limit_ratio": 0.95, "thresholds": [0.95, 1]},
        "pricing": {"unknown_price": "fallback"},
        "alert_limits": {"cloud_cost_spike_limit_ratio": 1, "cloud_cost_spike_minimum_usd": 50},
    },
    # Strict controls, optimized for stability: what is not known is refused, and the strict defaults stay though a later version
    # should change them.
    "production": {
        "logs": {"level": "info", "format": "json"},
        "budgets": {"unbudgeted": "deny", "soft_limit_ratio": 0.8, "thresholds": [0.5, 0.75, 0.8, 0.9, 1], "reservation_seconds": 900},
        "pricing": {"unknown_price": "deny"},
        "alert_limits": {"cloud_cost_spike_limit_ratio": 0.2},
    },
    # Performance-focused, higher cost tolerance: no call is held back by a missing price, warnings come late, and the processor is
    # kept for checks rather than for the metrics page.
    "high-performance": {
        "logs": {"level": "warning", "format": "json"},
        "budgets": {"soft_limit_ratio": 0.9, "thresholds": [0.9, 1]},
        "pricing": {"unknown_price": "fallback"},
        "metrics": {"min_interval_seconds": 5, "max_interval_seconds": 60},
        "alert_limits": {"ai_spend_monthly_limit_usd": 50000, "cloud_cost_spike_limit_ratio": 0.5},
    },
    # Aggressive cost controls, maximum savings: new tenants begin small, and everything warns early.
    "cost-optimized": {
        "logs": {"format": "json"},
        "budgets": {
            "default": {"monthly_limit_usd": 500},
            "unbudgeted": "deny",
            "soft_limit_ratio": 0.6,
            "thresholds": [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
        },
        "pricing": {"unknown_price": "deny"},
        "alert_limits": {"ai_spend_monthly_limit_usd": 2000, "cloud_cost_spike_limit_ratio": 0.1},
    },
}
"""Preset -> section -> key -> value."""


def with_preset(data: dict[str, Any]) -> dict[str, Any]:
    """What a configuration file says, put over what its preset sets; an unknown preset changes nothing.

    A key of a section is taken whole from the one or from the other: half a default budget of each would be nobody's.
    """
    name = data.get("preset")
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        return data
    merged = {**preset, **data}
    for section, keys in preset.items():
        if isinstance(data.get(section), dict):
            merged[section] = {**keys, **data[section]}
    return merged
