"""What is sent to CloudWatch, and whether."""

from collections.abc import Iterator

from costwarden.ledger.sinks import read_sink
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD


def cloudwatch_collector(read: Read, *, enabled: bool = True) -> Collector:
    """The collector of the CloudWatch sink. Nothing is shown of one that is not `enabled`, or has not begun."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        with read() as connection:
            state = read_sink(connection, "cloudwatch")
        shown = enabled and bool(state.cursor or state.message)
        figures = {
            "costwarden_cloudwatch_up": float(not state.message),
            "costwarden_cloudwatch_sent_total": float(state.sent),
            "costwarden_cloudwatch_failed_total": float(state.failed),
            "costwarden_cloudwatch_requests_total": float(state.requests),
            "costwarden_cloudwatch_request_cost_usd_total": state.request_cost / NANOS_PER_USD,
        }
        for name, value in figures.items():
            yield FAMILIES[name], [((), value)] if shown else []
        # A time of 0 is never; as a series it would read as 1970.
        sent: list[Sample] = [((), state.sent_at / MICROS_PER_SECOND)] if shown and state.sent_at else []
        yield FAMILIES["costwarden_cloudwatch_last_success_timestamp_seconds"], sent

    return Collector("cloudwatch", collect)
