"""The scheduler: what a refresh puts in force, and that no source is another's trouble."""

import shutil
import threading
from decimal import Decimal
from functools import partial

import pytest
from sqlalchemy import func, select

from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.charges import count_rejected, read_parts
from costwarden.ledger.schema import charges, source_state, staged_charges
from costwarden.sources import Gone, Requests, SourceError, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings
from costwarden.sync import Reading, Scheduler, open_for_ledger, refresh

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""
HEADER = "ServiceName,BilledCost,BillingCurrency,ChargePeriodStart"


def read(source):
    """A source whose requests nobody counts."""
    return Reading(source, Requests(), [])


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(f"sqlite:///{tmp_path / 'costwarden.db'}")
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bills"
    path.mkdir()
    return path


@pytest.fixture
def write_bill(folder):
    """`write_bill("a.csv", ("EC2", "5"), …)`: a bill with a row of a service and its cost for each."""

    def write(name, *rows, currency="USD", day="2026-01-15"):
        (folder / name).write_text("\n".join((HEADER, *(f"{service},{cost},{currency},{day}" for service, cost in rows), "")))

    return write


@pytest.fixture
def read_folder(ledger, folder):
    """`read_folder(currencies=…)`: a refresh of the folder."""

    def run(**currencies):
        rates = ExchangeRates.model_validate({"currencies": currencies})
        return refresh(ledger, "focus", read(open_source(FocusSettings(path=folder), AttributionSettings(), rates)), lambda: NOON)

    return run


@pytest.fixture
def query(ledger):
    """`query(select(…))`: the rows."""

    def run(statement):
        with ledger.read() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    return run


@pytest.fixture
def costs(query):
    """Part -> service -> dollars in force."""

    def run():
        found = {}
        for part, service, cost in query(select(charges.c.part, charges.c.service_name, charges.c.billed_cost_usd)):
            found.setdefault(part, {})[service] = Decimal(cost)
        return found

    return run


@pytest.fixture
def state(query):
    """`state("up", "message")`: these columns of the state of the source `focus`."""
    return lambda *names, source="focus": query(select(*(source_state.c[name] for name in names)).where(source_state.c.source == source))[0]


@pytest.fixture
def parts(ledger):
    """Part -> what is known of it."""

    def run():
        with ledger.read() as connection:
            return {part.part: part for _, part in read_parts(connection)}

    return run


# --- a refresh -----------------------------------------------------------------------------------------------------------------


def test_a_refresh_puts_the_folder_in_force_and_the_next_one_what_has_changed(write_bill, read_folder, costs, state, parts):
    write_bill("a.csv", ("EC2", "5"), ("S3", "7"), ("EC2", "1"), ("S3", "broken"))
    write_bill("b.csv", ("RDS", "10"), currency="EUR")
    rates = {"EUR": [{"valid_from": "2026-01-01", "usd": "1.08"}]}
    assert read_folder(**rates).failure == ""
    assert costs() == {"a.csv": {"EC2": 5 + 1, "S3": 7}, "b.csv": {"RDS": Decimal("10.80")}}
    assert state("up", "rows", "refreshes_ok", "last_success_at") == (1, 4, 1, NOON)
    assert (parts()["a.csv"].rows, parts()["a.csv"].rejected, parts()["a.csv"].first_day) == (3, 1, "2026-01-15")
    write_bill("a.csv", ("EC2", "6"))
    write_bill("c.csv", ("SQS", "0.0000008"))
    read_folder(**rates)
    assert costs() == {"a.csv": {"EC2": 6}, "b.csv": {"RDS": Decimal("10.80")}, "c.csv": {"SQS": Decimal("0.0000008")}}
    assert state("rows", "refreshes_ok") == (3, 2)


def test_a_file_that_cannot_be_read_keeps_its_figures_and_stops_no_other(folder, write_bill, read_folder, costs, state, parts, ledger):
    write_bill("a.csv", ("EC2", "5"), ("EC2", "broken"))
    write_bill("b.csv", ("S3", "7"))
    read_folder()
    (folder / "a.csv").write_text("no bill\n1\n")
    write_bill("b.csv", ("S3", "8"))
    assert read_folder().failure == ""
    assert costs() == {"a.csv": {"EC2": 5}, "b.csv": {"S3": 8}}
    assert (parts()["a.csv"].state, parts()["b.csv"].state) == ("failed", "ok")
    assert parts()["a.csv"].message == "a.csv: is not a FOCUS bill: no column BilledCost and ChargePeriodStart"
    assert state("up") == (1,)
    with ledger.read() as connection:
        assert count_rejected(connection) == [("focus", "bad_cost", 1)]
    write_bill("a.csv", ("EC2", "6"))
    read_folder()
    assert (costs()["a.csv"], parts()["a.csv"].state) == ({"EC2": 6}, "ok")


def test_a_file_that_is_gone_takes_its_charges_along(folder, write_bill, read_folder, costs, parts):
    write_bill("a.csv", ("EC2", "5"))
    write_bill("b.csv", ("S3", "7"))
    read_folder()
    (folder / "a.csv").unlink()
    read_folder()
    assert (costs(), list(parts())) == ({"b.csv": {"S3": 7}}, ["b.csv"])


def test_a_folder_that_is_gone_changes_no_figure(folder, write_bill, read_folder, costs, state):
    write_bill("a.csv", ("EC2", "5"))
    read_folder()
    shutil.rmtree(folder)
    assert read_folder().failure == f"{folder}: No such file or directory"
    assert costs() == {"a.csv": {"EC2": 5}}
    assert state("up", "refreshes_ok", "refreshes_failed", "message") == (0, 1, 1, f"{folder}: No such file or directory")


def test_a_copy_is_not_counted_until_its_original_is_gone(folder, write_bill, read_folder, costs, parts):
    write_bill("a.csv", ("EC2", "5"))
    write_bill("b.csv", ("EC2", "5"))
    read_folder()
    assert costs() == {"a.csv": {"EC2": 5}}
    assert (parts()["b.csv"].state, parts()["b.csv"].message) == ("duplicate", "b.csv: has the same charges as a.csv and is not counted")
    read_folder()
    (folder / "a.csv").unlink()
    read_folder()
    assert costs() == {"b.csv": {"EC2": 5}}


def test_bills_that_share_days_are_summed_and_the_new_one_says_so(write_bill, read_folder, costs, parts):
    write_bill("a.csv", ("EC2", "5"))
    read_folder()
    write_bill("b.csv", ("EC2", "6"))
    read_folder()
    assert costs() == {"a.csv": {"EC2": 5}, "b.csv": {"EC2": 6}}
    assert parts()["b.csv"].message.endswith("1 of its days is also in a.csv, for the same account; both are counted")


def test_what_a_killed_refresh_has_staged_never_shows(ledger, folder, write_bill, read_folder, costs, query):
    write_bill("a.csv", *((f"s{number}", "1") for number in range(1200)))
    writes = []

    class DyingLedger:
        """The ledger as it is, up to its fifth write: claimed, what was left behind is cleared, 500 and 500 rows are staged."""

        read = ledger.read

        @staticmethod
        def write(operation):
            writes.append(operation)
            if len(writes) == 5:
                raise LedgerUnavailable("killed")
            return ledger.write(operation)

    source = open_source(FocusSettings(path=folder), AttributionSettings(), ExchangeRates())
    with pytest.raises(LedgerUnavailable):
        refresh(DyingLedger(), "focus", read(source), lambda: NOON)
    staged = select(func.count()).select_from(staged_charges)
    assert (costs(), query(staged)) == ({}, [(500 + 500,)])
    read_folder()
    assert (sum(costs()["a.csv"].values()), query(staged)) == (1200, [(0,)])


# --- the scheduler -------------------------------------------------------------------------------------------------------------


class Scripted:
    """A source whose every fetch is a call of the next function of its script, the last one for ever."""

    def __init__(self, *script):
        self.script = list(script)
        self.requests = Requests()
        self.fetches = 0
        self.closed = threading.Event()

    def fetch(self, known, window):
        self.fetches += 1
        self.requests.about_to_ask()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        yield from step() or ()

    def close(self):
        self.closed.set()


def fail():
    raise SourceError("the provider is down")


def explode():
    raise ZeroDivisionError("a fault of ours")


@pytest.fixture
def scheduled(ledger):
    """`scheduled(focus=source, …, draw=…)`: a scheduler of these sources that runs; `pauses` gets (source, seconds) of each pause.

    A pause ends when `refresh_now` or `stop` is called and not by time.
    """
    started = []

    def wait(pauses):
        def pause(event, seconds):
            pauses.append((threading.current_thread().name.removeprefix("source-"), seconds))
            return event.wait(60)

        return pause

    def start(pauses=None, draw=lambda: 0.0, settings=None, **sources):
        def open_it(found, *_):
            source = sources[found.name]
            source = source() if callable(source) else source
            return Reading(source, source.requests, [])

        scheduler = Scheduler(
            ledger,
            [settings_of(name, **(settings or {})) for name in sources],
            AttributionSettings(),
            ExchangeRates(),
            now=lambda: NOON,
            open_source=open_it,
            wait=wait([] if pauses is None else pauses),
            draw=draw,
        )
        scheduler.start()
        started.append(scheduler)
        return scheduler

    yield start
    for scheduler in started:
        scheduler.stop()


def settings_of(name, **fields):
    return FocusSettings(**{"name": name, "path": "unused", "interval_seconds": 900, **fields})


def test_every_source_is_read_at_once_and_then_at_its_interval_lengthened_by_jitter(scheduled, wait_until, state):
    source, pauses = Scripted(list), []
    scheduler = scheduled(pauses, draw=lambda: 0.5, settings={"jitter_ratio": 0.1}, focus=source)
    wait_until(lambda: len(pauses) == 1)
    scheduler.refresh_now("focus")
    wait_until(lambda: len(pauses) == 2)
    # 900 s and half of their tenth.
    assert pauses == [("focus", 900 + 45)] * 2
    assert source.fetches == 2
    assert state("refreshes_ok", "requests", "request_cost") == (2, 2, 0)


def test_a_source_that_fails_is_tried_again_ever_later_up_to_its_interval_and_then_as_before(scheduled, wait_until, state):
    source, pauses = Scripted(fail, explode, fail, fail, fail, fail, list), []
    scheduler = scheduled(pauses, focus=source)
    for tries in range(1, 8):
        wait_until(lambda tries=tries: len(pauses) == tries)
        if tries == 2:
            assert state("up", "message") == (0, "ZeroDivisionError: a fault of ours")
        scheduler.refresh_now("focus")
    assert [seconds for _, seconds in pauses[:7]] == [30, 60, 120, 240, 480, 900, 900]
    wait_until(lambda: len(pauses) == 8)
    assert state("up", "message", "refreshes_failed") == (1, "", 6)


def test_a_source_that_hangs_or_raises_or_cannot_be_opened_leaves_the_others_alone(scheduled, wait_until, state):
    hanging = Scripted(lambda: hanging.closed.wait(60) and None)

    def unopenable():
        raise ImportError("pip install 'costwarden[gcp]'")

    good, pauses = Scripted(list), []
    scheduler = scheduled(pauses, hanging=hanging, raising=Scripted(explode), unopenable=unopenable, good=good)
    for count in range(1, 4):
        wait_until(lambda count=count: sum(name == "good" for name, _ in pauses) == count)
        scheduler.refresh_now("good")
    wait_until(lambda: good.fetches == 4)
    wait_until(lambda: hanging.fetches == 1 and {name for name, _ in pauses} == {"raising", "unopenable", "good"})
    assert state("up", "message", source="unopenable") == (0, "ImportError: pip install 'costwarden[gcp]'")


def test_stop_ends_every_thread_and_what_is_under_way_is_not_kept(scheduled, wait_until, query):
    hanging = Scripted(lambda: hanging.closed.wait(60) and None)
    waiting, pauses = Scripted(list), []
    scheduler = scheduled(pauses, hanging=hanging, waiting=waiting)
    wait_until(lambda: hanging.fetches and pauses)
    scheduler.stop()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("source-", "refresh-"))] == []
    assert sorted(query(select(source_state.c.source, source_state.c.last_attempt_at))) == [("hanging", 0), ("waiting", NOON)]


def test_stop_leaves_a_thread_behind_that_does_not_end_and_it_changes_nothing_later(scheduled, wait_until, query):
    let_go = threading.Event()
    deaf = Scripted(lambda: let_go.wait(60) and [Gone(part="a.csv")])
    scheduler = scheduled(deaf=deaf)
    wait_until(lambda: deaf.fetches)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "refresh-deaf")
    scheduler.stop(seconds=0.05)
    assert thread.is_alive()
    let_go.set()
    thread.join(60)
    assert not thread.is_alive()
    assert query(select(source_state.c.last_attempt_at)) == [(0,)]


def test_a_reload_ends_what_is_removed_reopens_what_is_changed_and_leaves_the_rest(scheduled, wait_until, query):
    removed, changed, same, pauses = Scripted(list), Scripted(list), Scripted(list), []
    opened = []
    scheduler = scheduled(
        pauses,
        removed=lambda: opened.append("removed") or removed,
        changed=lambda: opened.append("changed") or changed,
        same=lambda: opened.append("same") or same,
    )
    wait_until(lambda: len(pauses) == 3)
    sources = [settings_of("changed", threads=1), settings_of("same")]
    scheduler.configure(sources, AttributionSettings(), ExchangeRates())
    wait_until(lambda: len(pauses) == 4)
    assert sorted(opened) == ["changed", "changed", "removed", "same"]
    assert removed.closed.is_set()
    assert not same.closed.is_set()
    assert sorted(query(select(source_state.c.source))) == [("changed",), ("same",)]
    with pytest.raises(KeyError):
        scheduler.refresh_now("removed")


def test_new_rules_reopen_every_source(scheduled, wait_until):
    opened, pauses = [], []
    scheduler = scheduled(pauses, focus=lambda: opened.append("focus") or Scripted(list))
    wait_until(lambda: len(pauses) == 1)
    rates = ExchangeRates.model_validate({"currencies": {"EUR": [{"valid_from": "2026-01-01", "usd": 1}]}})
    scheduler.configure([settings_of("focus")], AttributionSettings(), rates)
    wait_until(lambda: len(pauses) == 2)
    assert opened == ["focus", "focus"]


def test_the_bills_of_a_source_that_was_renamed_are_not_counted_twice(ledger, folder, write_bill, read_folder, wait_until, query):
    write_bill("a.csv", ("EC2", "5"))
    read_folder()
    renamed = FocusSettings(name="bills", path=folder)
    open_it = partial(open_for_ledger, ledger, reveal=None, now=lambda: NOON)
    scheduler = Scheduler(ledger, [renamed], AttributionSettings(), ExchangeRates(), now=lambda: NOON, open_source=open_it)
    scheduler.start()
    try:
        wait_until(lambda: query(select(charges.c.source, charges.c.billed_cost)) == [("bills", "5")])
    finally:
        scheduler.stop()


def test_a_ledger_that_does_not_write_is_tried_again(scheduled, wait_until, ledger):
    source, pauses = Scripted(list), []
    scheduler = scheduled(pauses, focus=source)
    wait_until(lambda: len(pauses) == 1)
    ledger.close()
    scheduler.refresh_now("focus")
    wait_until(lambda: len(pauses) == 2)
    assert [seconds for _, seconds in pauses] == [900, 30]
