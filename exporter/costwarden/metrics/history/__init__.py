"""The past as Prometheus would have it, had it always scraped: the page's own series, written as OpenMetrics with timestamps.

What `promtool tsdb create-blocks-from openmetrics` takes: a family in one piece, a series in one piece, its samples in the order of time,
and `# EOF` (https://prometheus.io/docs/prometheus/latest/storage/#backfilling-from-openmetrics-format).
"""

from costwarden.metrics.history.clouds import cloud_history
from costwarden.metrics.history.lines import HistoryError, Series, family_lines
from costwarden.metrics.history.steps import Steps, Track, parse_step
from costwarden.metrics.history.usage import usage_history

__all__ = ["HistoryError", "Series", "Steps", "Track", "cloud_history", "family_lines", "parse_step", "usage_history"]
