"""What a refresh puts in force beside charges, who may read a source, what hangs, and how the past is read month by month."""

import threading
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest

from costwarden.ledger.reading import claim_source
from costwarden.model import ProviderBudget, ProviderFigure, ReportedUsage, to_micros
from costwarden.sources import Gone, Requests, SourceError, Stated, read_of
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import Cost, DailyCosts
from costwarden.sources.settings import AttributionSettings, ExchangeRates, OpenaiSettings
from costwarden.sources.windows import ONE_DAY, Window
from costwarden.sync import BeingRead, Reading, Scheduler, backfill, refresh
from costwarden.sync.backfill import months_before
from costwarden.sync.refresh import CLAIM_SECONDS

TODAY = date(2026, 11, 20)
WEEK = Window(TODAY - 6 * ONE_DAY, TODAY - ONE_DAY, TODAY)


class Provider:
    """A source that is read by days. `costs` is what the provider says now; `asked` has the days of every fetch."""

    def __init__(self):
        self.costs = {}
        self.stated = ()
        self.asked = []
        self.requests = Requests()
        self.before_answer = lambda: None
        self.closed = threading.Event()

    def fetch(self, known, window):
        days = window.days_to_ask({date.fromisoformat(part.removeprefix("acme/")) for part in known})
        self.asked.append(days)
        if days is None:
            return
        self.requests.about_to_ask()
        self.before_answer()
        daily = DailyCosts("openai", "acme", Attribution(AttributionSettings()), Rates(ExchangeRates()))
        for day, cost in self.costs.items():
            if days[0] <= day <= days[1]:
                daily.add(Cost(day=day, provider_name="openai", billing_currency="USD", billed_cost=cost))
                tokens = int(cost) if cost.isdigit() else 0
                daily.add_usage(ReportedUsage(source="", part="", usage_date=day, provider="openai", model="gpt-4o", input_tokens=tokens))
        yield from map(read_of, daily.changes(*days, known, accepts_empty=True))
        yield from self.stated

    def close(self):
        self.closed.set()

    def reading(self):
        return Reading(self, self.requests, [])


@pytest.fixture
def provider():
    made = Provider()
    made.costs = {TODAY - number * ONE_DAY: str(100 + number) for number in range(7)}
    return made


@pytest.fixture
def read(spending, provider):
    return lambda window=WEEK, **options: refresh(spending.ledger, "openai", provider.reading(), spending.now, window=window, **options)


# --- what is put in force ------------------------------------------------------------------------------------------------------


def test_a_restated_day_replaces_what_it_held_with_its_usage_and_no_other_day(read, provider, spending):
    read()
    assert spending.total() == sum(100 + number for number in range(7))
    provider.costs[TODAY] = "90"
    provider.costs[TODAY - 6 * ONE_DAY] = "1"
    read()
    # The newest two days are read again; what was said of the oldest was not asked for.
    assert provider.asked == [(TODAY - 6 * ONE_DAY, TODAY), (TODAY - ONE_DAY, TODAY)]
    assert spending.total() == sum(100 + number for number in range(7)) - 10
    assert [usage["input_tokens"] for usage in spending.reported()] == [106, 105, 104, 103, 102, 101, 90]


def test_what_a_provider_states_replaces_what_it_stated_before_and_nothing_else(read, provider, spending):
    def stated(part, forecast, *budgets):
        figure = ProviderFigure(
            source="openai", part=part, metric="aws_cost_forecast_usd", labels=("openai", part), value=Decimal(forecast)
        )
        return Stated(part=part, figures=[figure], budgets=budgets)

    budget = ProviderBudget(
        source="openai",
        part="one",
        provider_name="aws",
        account_id="1",
        budget="all",
        period="month",
        limit_usd=Decimal("100.5"),
        spent_usd=None,
    )
    provider.stated = [stated("one", "5", budget), stated("other", "6")]
    read()
    assert spending.budgets() == [budget]
    provider.stated = [stated("one", "7")]
    read()
    assert spending.figures() == {("aws_cost_forecast_usd", "openai", "one"): 7, ("aws_cost_forecast_usd", "openai", "other"): 6}
    assert spending.budgets() == []
    assert 'aws_cost_forecast_usd{source="openai",account="other"} 6.0' in spending.exposition()


def test_a_day_that_is_gone_takes_its_usage_along(read, provider, spending):
    read()
    provider.stated = [Gone(part=f"acme/{TODAY}")]
    provider.costs = {}
    read(Window(TODAY, TODAY, TODAY))
    assert (spending.charges(charge_date=TODAY.isoformat()), len(spending.reported())) == ([], 6)


# --- who reads -----------------------------------------------------------------------------------------------------------------


def test_while_another_process_reads_a_source_nothing_is_asked(read, provider, spending):
    until = spending.now() + 1
    assert spending.ledger.write(lambda connection: claim_source(connection, "openai", "backfill/1", spending.now(), until))
    with pytest.raises(BeingRead, match="openai: another process reads it"):
        read()
    assert provider.asked == []
    spending.minutes += 1
    assert read().failure == ""


def test_a_server_takes_over_at_once_what_the_server_before_it_had_begun(read, provider, spending):
    until = spending.now() + CLAIM_SECONDS * 1_000_000
    spending.ledger.write(lambda connection: claim_source(connection, "openai", "server/killed", spending.now(), until))
    with pytest.raises(BeingRead):
        read(reader="backfill")
    assert read().failure == ""
    assert read(reader="backfill").failure == ""


def test_a_refresh_that_was_overtaken_puts_nothing_in_force(read, provider, spending):
    def overtake():
        provider.before_answer = lambda: None
        assert read().failure == ""
        provider.costs = dict.fromkeys(provider.costs, "1")

    provider.before_answer = overtake
    assert read().failure == "another process has begun to read it; this refresh took too long and was given up"
    assert spending.total() == sum(100 + number for number in range(7))
    assert spending.state("openai")["up"] == 1


def test_a_reader_that_was_overtaken_does_not_take_its_claim_back(read, provider, spending):
    def overtake():
        provider.before_answer = lambda: None
        # The other one reads newer figures, and is done; then an hour passes.
        provider.costs = dict.fromkeys(provider.costs, "1")
        assert read(reader="backfill/other").failure == ""
        provider.costs = dict.fromkeys(provider.costs, "1000")
        spending.minutes += 60

    spending.minutes = 0
    provider.before_answer = lambda: setattr(spending, "minutes", 30) or overtake()
    assert read().failure == "another process has begun to read it; this refresh took too long and was given up"
    assert spending.total() == 7 * 1


def test_a_failure_that_cannot_be_stored_as_it_is_is_told_all_the_same(read, provider, spending):
    def fail():
        raise SourceError("the provider says \0 and \ud800")

    provider.before_answer = fail
    read()
    assert (spending.state("openai")["up"], spending.state("openai")["message"]) == (0, "the provider says \ufffd and \ufffd")


def test_a_refresh_that_fails_lets_the_next_one_begin_at_once(read, provider, spending):
    def fail():
        provider.before_answer = lambda: None
        raise SourceError("the provider is down")

    provider.before_answer = fail
    assert read().failure == "the provider is down"
    assert read(reader="backfill").failure == ""


# --- what hangs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scheduled(spending):
    started = []

    def start(open_it, **settings):
        pauses = []

        def wait(event, seconds):
            pauses.append(seconds)
            return event.wait(60)

        scheduler = Scheduler(
            spending.ledger,
            [OpenaiSettings(type="openai", admin_key={"env": "KEY"}, interval_seconds=900, **settings)],
            AttributionSettings(),
            ExchangeRates(),
            now=spending.now,
            open_source=open_it,
            wait=wait,
            draw=lambda: 0.0,
        )
        scheduler.start()
        started.append(scheduler)
        return scheduler, pauses

    yield start
    for scheduler in started:
        scheduler.stop()


@pytest.fixture
def pass_time(monkeypatch):
    """`pass_time(3600)`: has the clock that the scheduler measures a refresh by go on by so many seconds."""
    passed = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(passed))
    monkeypatch.setattr("costwarden.sync.scheduler.time", clock)
    return passed.append


def test_a_source_that_hangs_is_given_up_closed_and_not_started_again_until_it_ends(scheduled, provider, spending, pass_time, wait_until):
    let_go = threading.Event()
    provider.before_answer = lambda: let_go.wait(60)
    scheduler, pauses = scheduled(lambda *_: provider.reading(), timeout_seconds=3600)
    wait_until(lambda: provider.asked)
    pass_time(3600)
    wait_until(lambda: pauses == [30])
    assert spending.state("openai")["message"] == "did not end within 3600 s (`timeout_seconds`) and was given up"
    assert provider.closed.is_set()
    scheduler.refresh_now("openai")
    wait_until(lambda: pauses == [30, 60])
    assert (spending.state("openai")["message"], len(provider.asked)) == ("the refresh before this one still hangs", 1)
    let_go.set()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "refresh-openai"])
    # What it brought at last was not put in force.
    assert spending.charges() == []
    provider.before_answer = lambda: None
    scheduler.refresh_now("openai")
    wait_until(lambda: pauses == [30, 60, 900])
    assert spending.state("openai")["up"] == 1


def test_the_schedule_asks_for_the_history_at_first_and_then_for_what_may_be_restated(scheduled, provider, wait_until):
    scheduler, pauses = scheduled(lambda *_: provider.reading(), history_days=62, reread_days=3)
    wait_until(lambda: pauses == [900])
    scheduler.refresh_now("openai")
    wait_until(lambda: pauses == [900, 900])
    assert provider.asked == [(TODAY - timedelta(days=62), TODAY), (TODAY - timedelta(days=3), TODAY)]


def test_garbage_leaves_the_figures_as_they_were_and_is_told(read, provider, spending):
    read()
    provider.stated = [object()]
    assert read().failure.startswith("AttributeError: ")
    assert (spending.total(), spending.state("openai")["up"]) == (sum(100 + number for number in range(7)), 0)


# --- the past ------------------------------------------------------------------------------------------------------------------


def test_months_are_read_from_the_newest_back_whole_and_over_the_turn_of_the_year():
    assert months_before(date(2027, 2, 14), 4) == [
        (date(2027, 2, 1), date(2027, 2, 14)),
        (date(2027, 1, 1), date(2027, 1, 31)),
        (date(2026, 12, 1), date(2026, 12, 31)),
        (date(2026, 11, 1), date(2026, 11, 30)),
    ]


@pytest.fixture
def past(spending, provider):
    def run(months, **options):
        return [
            (month.first, month.refresh.failure)
            for month in backfill(spending.ledger, "openai", provider.reading, spending.now, months=months, **options)
        ]

    return run


def test_a_year_that_was_ended_in_its_middle_goes_on_where_it_ended_and_asks_for_nothing_twice(past, provider, spending):
    provider.costs = {TODAY - number * ONE_DAY: "1" for number in range(400)}
    months = []

    def end_in_the_third():
        months.append(1)
        if len(months) == 3:
            raise SourceError("the connection was lost")

    provider.before_answer = end_in_the_third
    assert past(13) == [(date(2026, 11, 1), ""), (date(2026, 10, 1), ""), (date(2026, 9, 1), "the connection was lost")]
    assert spending.total() == 20 + 31
    provider.before_answer = lambda: None
    provider.asked.clear()
    assert [failure for _, failure in past(13)] == [""] * 13
    assert provider.asked[:3] == [None, None, (date(2026, 9, 1), date(2026, 9, 30))]
    # 2025-11-01 to 2026-11-20.
    assert spending.total() == 365 + 20
    provider.asked.clear()
    past(13)
    assert provider.asked == [None] * 13


def test_days_of_which_a_row_was_rejected_are_asked_for_again(past, provider, spending):
    provider.costs[TODAY - 50 * ONE_DAY] = "n/a"
    past(2)
    assert spending.rejected() == {"bad_cost": 1}
    provider.costs[TODAY - 50 * ONE_DAY] = "5"
    provider.asked.clear()
    past(2)
    assert provider.asked == [None, (TODAY - 50 * ONE_DAY, TODAY - 50 * ONE_DAY)]
    assert (spending.rejected(), spending.total()) == ({}, sum(100 + number for number in range(7)) + 5)


def test_what_is_known_is_asked_for_again_where_it_is_wanted(past, provider, spending):
    past(1)
    provider.costs[TODAY - 5 * ONE_DAY] = "1"
    past(1)
    assert spending.total() == sum(100 + number for number in range(7))
    past(1, again=True)
    assert spending.total() == sum(100 + number for number in range(7)) - 104


def test_a_year_of_days_makes_one_part_a_day_and_the_next_refresh_still_asks_for_few(past, provider, read, spending):
    past(2)
    read(Window(TODAY - 40 * ONE_DAY, TODAY - ONE_DAY, TODAY))
    assert provider.asked[-1] == (TODAY - ONE_DAY, TODAY)
    assert len(spending.parts()) == 31 + 20
    assert spending.state("openai")["data_newest_at"] == to_micros(datetime(2026, 11, 21, tzinfo=UTC))
