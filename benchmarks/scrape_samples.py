"""The series of the scrape benches: AI cost by eight labels, as a busy installation has them."""

import random
import time

from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.page import Collector, Page
from costwarden.metrics.settings import MetricsSettings

LABELS = ("tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "service")
FAMILY = FAMILIES["ai_token_usage_cost_usd"].narrowed(LABELS)


def samples_of(series: int) -> list[Sample]:
    """`series` samples of one metric with amounts that have all their digits."""
    draw = random.Random(1)
    return [
        (
            (
                f"tenant-{number:06d}",
                "anthropic",
                "claude-3-5-sonnet-20241022",
                "generate",
                "quarterly",
                "reports",
                f"team-{number % 20}",
                "reporting",
            ),
            draw.random() * 100,
        )
        for number in range(series)
    ]


def page_of(series: int) -> Page:
    """A page that shows them all; not rendered yet."""
    samples = samples_of(series)
    collector = Collector("bench", lambda: [(FAMILY, samples)])
    return Page([collector], MetricsSettings(series_limit=series), lambda: time.time_ns() // 1000)
