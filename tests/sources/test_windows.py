"""Which days are asked for: those that are missing, and those that may have been restated."""

from datetime import date, timedelta

from costwarden.sources.windows import Window, usual_window

TODAY = date(2026, 11, 20)


def days(first, last):
    return {first + timedelta(days=number) for number in range((last - first).days + 1)}


def test_at_first_everything_since_the_beginning_of_the_history_is_asked_for():
    window = usual_window(TODAY, history_days=62, reread_days=45)
    assert window.days_to_ask(set()) == (TODAY - timedelta(days=62), TODAY)


def test_later_only_the_days_that_may_be_restated():
    window = usual_window(TODAY, history_days=62, reread_days=3)
    known = days(window.first, TODAY - timedelta(days=1))
    assert window.days_to_ask(known) == (TODAY - timedelta(days=3), TODAY)


def test_a_gap_is_asked_for_with_what_came_after_it():
    window = usual_window(TODAY, history_days=62, reread_days=3)
    known = days(window.first, TODAY) - {date(2026, 10, 15)}
    assert window.days_to_ask(known) == (date(2026, 10, 15), TODAY)


def test_a_month_of_the_past_is_asked_for_once():
    first, last = date(2025, 2, 1), date(2025, 2, 28)
    window = Window(first, last + timedelta(days=1), last)
    assert window.days_to_ask(set()) == (first, last)
    assert window.days_to_ask(days(first, last) - {date(2025, 2, 10), date(2025, 2, 12)}) == (date(2025, 2, 10), date(2025, 2, 12))
    assert window.days_to_ask(days(first, last)) is None


def test_more_days_read_again_than_kept_at_first_are_asked_for_all_the_same():
    assert usual_window(TODAY, history_days=7, reread_days=45).first == TODAY - timedelta(days=45)
