"""What receivers of notifications were told, and what they are still to be told."""

from collections.abc import Iterator, Sequence

from costwarden.ledger.notifications import OUTCOMES, PENDING, outcome_totals, pending_counts
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import MICROS_PER_SECOND


def notification_collector(read: Read, receivers: Sequence[str]) -> Collector:
    """The collector of the notifier. `receivers` are those configured, which have every series from the beginning; others that were
    told something once are shown too: what was given up does not vanish by a change of the configuration."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        with read() as connection:
            totals = outcome_totals(connection)
            pending = pending_counts(connection)
        names = sorted({*receivers, *(receiver for receiver, _ in [*totals, *pending])})
        counted: list[Sample] = [((name, outcome), float(totals.get((name, outcome), (0, 0))[0])) for name in names for outcome in OUTCOMES]
        yield FAMILIES["costwarden_notifications_total"], counted
        waiting: list[Sample] = [((name, state), float(pending.get((name, state), 0))) for name in names for state in PENDING]
        yield FAMILIES["costwarden_notification_queue_length"], waiting
        # Never is no time: as a series it would read as 1970.
        told = [(name, totals[name, "delivered"][1]) for name in names if (name, "delivered") in totals]
        yield (
            FAMILIES["costwarden_notification_last_success_timestamp_seconds"],
            [((name,), at / MICROS_PER_SECOND) for name, at in told],
        )

    return Collector("notifications", collect)
