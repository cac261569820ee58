"""What a group on PostgreSQL locks: each row once, in one order, as it is after the wait, and what others hold is passed over."""

from concurrent.futures import ThreadPoolExecutor

from costwarden.ledger.budgets import (
    PERIOD_COLUMNS,
    RESERVATION_COLUMNS,
    hold_expired,
    hold_oldest_anonymous,
    hold_periods,
    hold_reservations,
    make_periods,
    read_periods,
    write_crossed,
    write_periods,
    write_reservations,
)
from costwarden.model import DIMENSIONS

DATABASES = ("postgresql",)


def period(budget, start=0, **figures):
    return tuple({"budget": budget, "period_start": start, "period_end": start + 100, **figures}.get(name, 0) for name in PERIOD_COLUMNS)


def reservation(reservation_id, **fields):
    texts = dict.fromkeys(("event_id", *DIMENSIONS), "") | {"state": "open", "kind": "call"}
    numbers = dict.fromkeys(("created_at", "expires_at", "estimate", "settled"), 0)
    return tuple({**texts, **numbers, "reservation_id": reservation_id, **fields}[name] for name in RESERVATION_COLUMNS)


def dimensions(**named):
    return tuple(named.get(name, "") for name in DIMENSIONS)


def test_periods_are_held_with_the_thresholds_they_have_crossed(ledger):
    rows = [period("b", spent=5), period("a", 1, reserved=7), period("a")]
    ledger.write(lambda connection: write_periods(connection, rows))
    ledger.write(
        lambda connection: write_crossed(connection, [("b", 0, "0.5", 3, 5, 10), ("b", 0, "0.8", 4, 5, 10), ("c", 0, "1", 4, 5, 10)])
    )
    keys = [("b", 0), ("gone", 0), ("a", 1)]
    held = ledger.write(lambda connection: hold_periods(connection, keys))
    assert {key: (row, sorted(crossed)) for key, (row, crossed) in held.items()} == {
        ("b", 0): (rows[0], ["0.5", "0.8"]),
        ("a", 1): (rows[1], []),
    }
    assert ledger.write(lambda connection: hold_periods(connection, [])) == {}


def test_whoever_waited_for_a_period_sees_what_the_other_left_thresholds_too(ledger, second, beside, waiting):
    ledger.write(lambda connection: write_periods(connection, [period("a", spent=5)]))

    def cross(connection):
        hold_periods(connection, [("a", 0)])
        write_periods(connection, [period("a", spent=9)])
        write_crossed(connection, [("a", 0, "0.8", 4, 9, 10)])

    with ThreadPoolExecutor(1) as pool:
        with beside(second, cross):
            late = pool.submit(ledger.write, lambda connection: hold_periods(connection, [("a", 0)]))
            waiting(ledger, 1)
        assert late.result(60) == {("a", 0): (period("a", spent=9), ["0.8"])}


def test_two_that_hold_the_same_periods_in_any_order_do_not_wait_in_a_circle(ledger, second):
    names = [f"budget {number}" for number in range(50)]
    ledger.write(lambda connection: write_periods(connection, [period(name) for name in names]))

    def count_up(keys):
        def work(connection):
            held = hold_periods(connection, keys)
            write_periods(connection, [period(name, spent=held[name, 0][0][2] + 1) for name, _ in keys])

        return work

    forward, backward = [(name, 0) for name in names], [(name, 0) for name in reversed(names)]
    with ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(lambda at, keys: [at.write(count_up(keys)) for _ in range(20)], at, keys)
            for at, keys in ((ledger, forward), (second, backward))
        ]
        for answer in answers:
            answer.result(60)
    with ledger.read() as connection:
        assert {row[2] for row in read_periods(connection, forward).values()} == {40}


def test_a_period_is_made_once_by_whoever_comes_first(ledger, second, beside, waiting):
    with ThreadPoolExecutor(1) as pool:
        with beside(second, lambda connection: make_periods(connection, [("b", 0, 100), ("a", 0, 100)])) as first:
            late = pool.submit(ledger.write, lambda connection: make_periods(connection, [("c", 0, 100), ("a", 0, 100)]))
            waiting(ledger, 1)
        assert first.answer.result() == {("a", 0), ("b", 0)}
        assert late.result(60) == {("c", 0)}
    with ledger.read() as connection:
        assert read_periods(connection, [("a", 0), ("c", 0)]) == {("a", 0): period("a"), ("c", 0): period("c")}


def test_a_period_of_another_time_zone_gives_way_and_those_before_and_after_it_stay(ledger):
    rows = [period("a", start) for start in (-40, 60, 160)] + [period("b", 60)]
    ledger.write(lambda connection: write_periods(connection, rows))
    # [60, 160) begins inside [50, 150), [-40, 60) ends there.
    assert ledger.write(lambda connection: make_periods(connection, [("a", 50, 150)])) == {("a", 50)}
    with ledger.read() as connection:
        found = read_periods(connection, [(name, start) for name in "ab" for start in (-40, 50, 60, 160)])
    assert sorted(found) == [("a", -40), ("a", 50), ("a", 160), ("b", 60)]


def test_reservations_are_held_by_id(ledger):
    rows = [reservation("b", estimate=5), reservation("a", tenant_id="acme"), reservation("z")]
    ledger.write(lambda connection: write_reservations(connection, rows))
    assert ledger.write(lambda connection: hold_reservations(connection, ["b", "gone", "a"])) == [rows[1], rows[0]]
    assert ledger.write(lambda connection: hold_reservations(connection, [])) == []


ACME = {"tenant_id": "acme", "model": "m"}


def test_the_oldest_call_without_a_name_that_contradicts_nothing_is_given_away(ledger):
    rows = [
        reservation("01", created_at=1, state="unsettled", **ACME),
        reservation("02", created_at=2, event_id="named", **ACME),
        reservation("03", created_at=3, kind="lease", **ACME),
        reservation("04", created_at=4, tenant_id="acme", model="n"),
        reservation("05", created_at=5, tenant_id="umbrella", model="m"),
        reservation("06", created_at=6, team="red", **ACME),
        reservation("07", created_at=7, team="blue", **ACME),
        reservation("08", created_at=8, **ACME),
    ]
    ledger.write(lambda connection: write_reservations(connection, rows))

    def oldest(excluded=(), **named):
        row = ledger.write(lambda connection: hold_oldest_anonymous(connection, dimensions(**ACME, **named), excluded))
        return None if row is None else row[0]

    assert oldest() == "06"
    assert oldest(team="blue") == "07"
    assert oldest(team="blue", excluded=["07"]) == "08"
    assert oldest(team="green") == "08"
    # What expired comes last.
    assert oldest(team="green", excluded=["08"]) == "01"
    assert oldest(team="green", excluded=["08", "01"]) is None


def test_what_another_transaction_holds_is_passed_over(ledger, second, beside):
    rows = [reservation(f"{number:02}", created_at=number, expires_at=number, **ACME) for number in range(4)]
    ledger.write(lambda connection: write_reservations(connection, rows))
    with beside(second, lambda connection: hold_oldest_anonymous(connection, dimensions(**ACME), [])) as first:
        mine = ledger.write(lambda connection: hold_oldest_anonymous(connection, dimensions(**ACME), []))
        due = ledger.write(lambda connection: hold_expired(connection, 2, 10))
    assert (first.answer.result()[0], mine[0]) == ("00", "01")
    assert [row[0] for row in due] == ["01", "02"]


def test_what_expires_at_that_moment_is_due_and_what_is_unsettled_is_not(ledger):
    rows = [
        reservation("c", expires_at=5),
        reservation("b", expires_at=4),
        reservation("a", expires_at=6),
        reservation("d", state="unsettled"),
    ]
    ledger.write(lambda connection: write_reservations(connection, rows))
    assert [row[0] for row in ledger.write(lambda connection: hold_expired(connection, 5, 10))] == ["b", "c"]
    assert len(ledger.write(lambda connection: hold_expired(connection, 5, 1))) == 1
