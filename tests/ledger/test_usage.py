"""Usage is appended once, and its sums by the hour and since the beginning are those of its rows."""

from collections import Counter
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costwarden.ledger.usage import (
    MICROS_PER_HOUR,
    Spend,
    known_event,
    known_events,
    spend_between,
    usage_between,
    usage_cursor,
    usage_hours,
    usage_since,
    usage_sums,
)
from costwarden.model import DIMENSIONS

NOON = 1_763_208_000_000_000
ANYONE = ("",) * len(DIMENSIONS)


def scope(**named):
    return tuple(named.get(dimension, "") for dimension in DIMENSIONS)


def test_an_event_that_is_recorded_is_known_at_what_it_cost(ledger, record):
    record({"event_id": "a", "cost": 5}, {"event_id": "b", "cost": 7, "source": "other"})
    with ledger.read() as connection:
        assert known_event(connection, "test", "a") == 5
        assert known_event(connection, "test", "b") is None
        wanted = [("test", "a"), ("other", "b"), ("test", "b")]
        assert known_events(connection, wanted) == {("test", "a"): 5, ("other", "b"): 7}


def test_ids_that_look_like_numbers_json_or_sql_are_told_apart(ledger, record):
    odd = ["1", "1.0", "01", "null", '"', "'; DROP TABLE usage; --", "[1]", "é", "😀", " ", "a\nb", "\\u0041"]
    record(*({"event_id": event_id, "cost": cost} for cost, event_id in enumerate(odd)))
    with ledger.read() as connection:
        wanted = [("test", event_id) for event_id in odd]
        assert known_events(connection, wanted) == {identity: cost for cost, identity in enumerate(wanted)}
        assert [known_event(connection, *identity) for identity in wanted] == list(range(len(odd)))


def test_sums_tell_success_from_failure_and_priced_from_unpriced(ledger, record):
    record(
        {"tenant_id": "acme", "cost": 5, "input_tokens": 10},
        {"tenant_id": "acme", "cost": 7, "input_tokens": 20, "images": 2},
        {"tenant_id": "acme", "success": False, "input_tokens": 40},
        {"tenant_id": "acme", "priced_by": "unpriced", "input_tokens": 80},
    )
    with ledger.read() as connection:
        sums = usage_sums(connection, ("tenant_id",))
    found = {(row["success"], row["priced"]): (row["cost"], row["input_tokens"], row["images"], row["requests"]) for row in sums}
    assert found == {(1, 1): (5 + 7, 10 + 20, 2, 2), (0, 1): (0, 40, 0, 1), (1, 0): (0, 80, 0, 1)}


def test_a_cursor_lets_a_reader_go_on_where_it_stopped(ledger, record):
    with ledger.read() as connection:
        nothing = usage_cursor(connection)
        assert usage_since(connection, ("tenant_id",), nothing) == []
    record({"cost": 5})
    with ledger.read() as connection:
        one = usage_cursor(connection)
        assert [row[-1] for row in usage_since(connection, ("tenant_id",), nothing)] == [5]
    record({"cost": 7}, {"cost": 9})
    with ledger.read() as connection:
        assert [row[-1] for row in usage_since(connection, ("tenant_id",), one)] == [7, 9]
        assert [row[-1] for row in usage_since(connection, ("tenant_id",), nothing)] == [5, 7, 9]
        assert usage_since(connection, ("tenant_id",), usage_cursor(connection)) == []


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            # Six hours around noon, often on an hour's edge.
            "timestamp": st.one_of(
                st.integers(NOON - 3 * MICROS_PER_HOUR, NOON + 3 * MICROS_PER_HOUR),
                st.integers(-3, 3).map(lambda hour: NOON + hour * MICROS_PER_HOUR),
                st.integers(-3, 3).map(lambda hour: NOON + hour * MICROS_PER_HOUR - 1),
            ),
            "cost": st.integers(0, 10**12),
            "tenant_id": st.sampled_from(["acme", "umbrella"]),
            "model": st.sampled_from(["m", "n", ""]),
            "input_tokens": st.integers(0, 10**10),
            "output_tokens": st.integers(0, 10**10),
            "success": st.booleans(),
        }
    ),
    max_size=12,
)
TIMES = st.integers(NOON - 4 * MICROS_PER_HOUR, NOON + 4 * MICROS_PER_HOUR)
TEAMS = count()


# One ledger for all examples: each is told apart by its team.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, bounds=st.tuples(TIMES, TIMES).map(sorted), model=st.sampled_from(["m", ""]))
def test_what_a_scope_spent_between_two_moments_is_the_sum_of_its_events(ledger, record, events, bounds, model):
    team = f"team {next(TEAMS)}"
    record(*({**event, "team": team} for event in events))
    start, end = bounds
    matching = [
        event for event in events if start <= event["timestamp"] < end and event["tenant_id"] == "acme" and model in ("", event["model"])
    ]
    with ledger.read() as connection:
        found = spend_between(connection, scope(tenant_id="acme", model=model, team=team), start, end)
    assert found == Spend(
        cost=sum(event["cost"] for event in matching),
        input_tokens=sum(event["input_tokens"] for event in matching),
        output_tokens=sum(event["output_tokens"] for event in matching),
        requests=len(matching),
    )


def test_hourly_sums_and_totals_are_those_of_the_rows(ledger, record):
    events = [
        {"tenant_id": f"t{n % 3}", "timestamp": NOON + n * 20 * 60 * 1_000_000, "cost": n, "input_tokens": n, "success": n % 5 > 0}
        for n in range(40)
    ]
    # Two transactions, so that the second adds to rows that are there.
    record(*events[:25])
    record(*events[25:])
    by_hour = Counter()
    for event in events:
        by_hour[event["timestamp"] // MICROS_PER_HOUR, event["tenant_id"]] += event["cost"]
    with ledger.read() as connection:
        for hour in range(NOON // MICROS_PER_HOUR, NOON // MICROS_PER_HOUR + 14):
            expected = {tenant: cost for (of_hour, tenant), cost in by_hour.items() if of_hour == hour}
            assert dict(usage_hours(connection, ("tenant_id",), hour, hour + 1)) == expected
            assert dict(usage_between(connection, ("tenant_id",), hour * MICROS_PER_HOUR, (hour + 1) * MICROS_PER_HOUR)) == expected
        totals = Counter()
        for row in usage_sums(connection, ("tenant_id",)):
            totals[row["tenant_id"]] += row["cost"]
    # 0 + 3 + … + 39, 1 + 4 + … + 37, 2 + 5 + … + 38
    assert totals == {"t0": 273, "t1": 247, "t2": 260}
