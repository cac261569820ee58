"""Every configured source tells how it does, from before its first reading on."""

from collections import defaultdict
from decimal import Decimal

import pytest
from sqlalchemy import insert

from costwarden.ledger.schema import rejected_counts, source_parts, source_requests, source_state
from costwarden.metrics.sources import SourceLimits, source_collector

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""
HOUR = 3_600_000_000


def limits(**stale_after):
    return {name: SourceLimits(seconds, Decimal("0.25")) for name, seconds in stale_after.items()}


@pytest.fixture
def put(ledger):
    """`put(table, column=…)`: a row in a table of the ledger."""
    return lambda table, **values: ledger.write(lambda connection: connection.execute(insert(table).values(values)))


@pytest.fixture
def collected(ledger):
    """`collected(focus=7200)`: metric -> label values -> value, of the sources with these limits."""

    def collect(**stale_after):
        collector = source_collector(ledger.read, limits(**stale_after), lambda: NOON)
        return defaultdict(dict, {family.name: dict(samples) for family, samples in collector.collect()})

    return collect


def test_sources_on_the_page(ledger, put, shown):
    put(
        source_state,
        source="focus",
        up=0,
        last_attempt_at=NOON,
        last_success_at=NOON - HOUR,
        duration_seconds=1.25,
        data_newest_at=NOON - 12 * HOUR,
        rows=990,
        refreshes_ok=5,
        refreshes_failed=2,
        requests=7,
        request_cost=7 * 10_000_000,
    )
    for part, state, rejected in [("a.csv", "ok", 0), ("b.csv", "ok", 12), ("c.csv", "failed", 0), ("d.csv", "duplicate", 0)]:
        put(source_parts, source="focus", part=part, state=state, rejected=rejected)
    put(rejected_counts, source="focus", part="b.csv", reason="bad_date", rows=2)
    put(rejected_counts, source="focus", part="b.csv", reason="missing_cost", rows=10)
    put(rejected_counts, source="focus", part="c.csv", reason="missing_cost", rows=3)
    # What was paid yesterday does not count today.
    for day, cost in (("2025-11-14", 900_000_000), ("2025-11-15", 3 * 10_000_000)):
        put(source_requests, source="focus", day=day, requests=3, cost=cost)
    shown(source_collector(ledger.read, limits(focus=7200.0), lambda: NOON), "sources")


def test_a_source_that_was_never_read_is_not_up_and_has_no_times(collected):
    found = collected(focus=7200.0)
    assert found["costwarden_source_up"] == {("focus",): 0}
    assert found["costwarden_source_stale_after_seconds"] == {("focus",): 7200}
    assert found["costwarden_source_last_success_timestamp_seconds"] == {}
    assert found["costwarden_source_data_newest_timestamp_seconds"] == {}
    assert found["costwarden_source_refreshes_total"] == {("focus", "success"): 0, ("focus", "failure"): 0}
    assert found["costwarden_source_parts"] == {("focus", "ok"): 0, ("focus", "duplicate"): 0, ("focus", "failed"): 0}


def test_a_source_without_any_bill_is_up_and_has_no_newest_day(put, collected):
    put(source_state, source="focus", up=1, last_success_at=NOON, refreshes_ok=1)
    found = collected(focus=7200.0)
    assert found["costwarden_source_up"] == {("focus",): 1}
    assert found["costwarden_source_last_success_timestamp_seconds"] == {("focus",): NOON / 1e6}
    assert found["costwarden_source_data_newest_timestamp_seconds"] == {}


def test_a_source_that_is_configured_no_more_is_not_shown(put, collected):
    put(source_state, source="gone", up=0)
    put(source_parts, source="gone", part="a.csv", state="failed")
    put(rejected_counts, source="gone", part="a.csv", reason="bad_date", rows=1)
    assert {labels[0] for series in collected(focus=7200.0).values() for labels in series} == {"focus"}
