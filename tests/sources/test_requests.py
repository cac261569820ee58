"""What is asked of providers is counted, paid for beforehand, capped by the day, and not paid for twice."""

from datetime import date, timedelta

import pytest

from costwarden.ledger.reading import paid_on
from costwarden.sources import RequestLimitReached, Requests, SourceError
from costwarden.sources.settings import AwsSettings

CENT = 10_000_000


@pytest.fixture
def opened(spending):
    """`opened(daily_request_limit_usd=…)`: the requests of a source, as after a restart."""
    return lambda **fields: spending.open(AwsSettings(type="aws", **fields)).requests


@pytest.fixture
def paid(spending):
    def read():
        with spending.ledger.read() as connection:
            return paid_on(connection, spending.today.isoformat())

    return read


def test_what_costs_money_is_noted_before_it_is_asked_for(opened, paid, spending):
    opened().about_to_ask(CENT)
    assert paid() == {"aws": CENT}
    assert (spending.state("aws")["requests"], spending.state("aws")["request_cost"]) == (1, CENT)


def test_what_costs_nothing_is_only_counted(opened, paid):
    requests = opened()
    requests.about_to_ask()
    assert (requests.made, requests.cost, paid()) == (1, 0, {})


def test_a_request_that_would_go_past_the_limit_of_the_day_is_not_made_even_after_a_restart(opened, paid, spending):
    for _ in range(3):
        opened(daily_request_limit_usd="0.03").about_to_ask(CENT)
    refused = opened(daily_request_limit_usd="0.03")
    with pytest.raises(RequestLimitReached, match=r"have cost \$0.03 of at most \$0.03 .*next would cost \$0.01"):
        refused.about_to_ask(CENT)
    assert (refused.made, paid()) == (0, {"aws": 3 * CENT})
    refused.about_to_ask()
    spending.today += timedelta(days=1)
    opened(daily_request_limit_usd="0.03").about_to_ask(CENT)
    assert (paid(), spending.state("aws")["request_cost"]) == ({"aws": CENT}, 4 * CENT)


def test_a_limit_of_nothing_lets_no_paid_request_through(opened):
    with pytest.raises(RequestLimitReached):
        opened(daily_request_limit_usd=0).about_to_ask(CENT)


def test_an_answer_is_not_asked_for_again_after_a_restart_until_the_next_refresh_is_due(opened, spending):
    asked = []

    def ask(requests, question="page 1"):
        return requests.answer(question, lambda: asked.append(question) or f"answer {len(asked)}")

    assert ask(opened()) == ask(opened()) == "answer 1"
    assert ask(opened(), "page 2") == "answer 2"
    # Nine tenths of the interval of six hours.
    spending.minutes = 6 * 60 * 9 // 10
    assert ask(opened()) == "answer 1"
    spending.minutes += 1
    assert ask(opened()) == "answer 3"


def test_the_answers_of_one_source_are_none_of_another(spending):
    for number, name in enumerate(("one", "other")):
        requests = spending.open(AwsSettings(type="aws", name=name)).requests
        assert requests.answer("page 1", lambda number=number: str(number)) == str(number)


def test_what_was_not_answered_is_not_kept(opened):
    def fail():
        raise SourceError("no")

    with pytest.raises(SourceError):
        opened().answer("page 1", fail)
    assert opened().answer("page 1", lambda: "yes") == "yes"


def refuse_what_is_broken(body):
    if body == "broken":
        raise SourceError("no answer")


def test_an_answer_that_is_refused_is_not_kept(opened):
    with pytest.raises(SourceError, match="no answer"):
        opened().answer("page 1", lambda: "broken", refuse_what_is_broken)
    assert opened().answer("page 1", lambda: "well", refuse_what_is_broken) == "well"
    assert opened().answer("page 1", lambda: "another", refuse_what_is_broken) == "well"


def test_a_kept_answer_that_is_refused_is_asked_for_anew(opened):
    # As one that an older version kept, or read otherwise.
    opened().answer("page 1", lambda: "broken")
    assert opened().answer("page 1", lambda: "well", refuse_what_is_broken) == "well"


def test_without_a_ledger_requests_are_counted_and_answers_asked_for_each_time():
    requests = Requests()
    requests.about_to_ask(CENT)
    assert (requests.made, requests.cost) == (1, CENT)
    assert [requests.answer("a", lambda n=n: str(n)) for n in range(2)] == ["0", "1"]


def test_the_day_of_a_payment_is_that_of_utc(opened, paid, spending):
    spending.today = date(2026, 12, 31)
    spending.minutes = 12 * 60 - 1
    opened().about_to_ask(CENT)
    assert paid() == {"aws": CENT}
