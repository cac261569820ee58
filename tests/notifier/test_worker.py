"""Deliveries: in order, again after failures with growing waits, given up at last, and no receiver held up by another."""

import logging
import threading
import time

import pytest
from stand_in import Answer, StandIn

from costwarden.ledger.notifications import ask_again, first_of_each, prune
from costwarden.notifier import worker
from costwarden.notifier.settings import RetrySettings
from costwarden.notifier.worker import wait_seconds

DAY = 86_400_000_000


def now():
    return time.time_ns() // 1000


def test_what_is_taken_in_is_delivered_and_journaled(scene, service, json_to, webhook, told, wait_until):
    scene.configure({"hook": json_to(service)})
    number, is_new = scene.receive("hook", webhook())
    assert is_new
    wait_until(lambda: scene.states() == ["delivered"])
    assert told(service) == ["[FIRING] CloudCostSpike (warning): aws costs twice as much as a week ago"]
    done = scene.one(number)
    assert (done.attempts, done.failures, done.receipts, done.message) == (1, 0, 1, "")
    (attempt,) = scene.attempts(number)
    assert (attempt.attempt, attempt.outcome, attempt.message) == (1, "delivered", "")
    assert done.received_at <= attempt.started_at <= attempt.finished_at == done.finished_at
    assert scene.totals() == {("hook", "delivered"): 1}


def test_links_are_those_of_the_configuration_at_the_time_of_the_attempt(scene, service, json_to, webhook, wait_until):
    notes = {"summary": "s", "dashboard_url": "/d/finops-cloud-cost", "runbook_url": "alerts/README.md#cloudcostspike"}
    scene.configure({"hook": json_to(service)})
    scene.receive("hook", webhook({"annotations": notes}))
    wait_until(lambda: scene.states() == ["delivered"])
    links = {"grafana_url": "https://grafana.example.com/team", "runbook_url": "https://wiki.example.com"}
    scene.settings = scene.settings.model_copy(update=links)
    scene.receive("hook", webhook({"annotations": notes, "fingerprint": "b"}))
    wait_until(lambda: scene.states() == ["delivered"] * 2)
    without, linked = (request.json()["message"] for request in service.requests)
    assert [word for word in ("Runbook", "Dashboard") if word in without] == []
    assert "Runbook: https://wiki.example.com/alerts/README.md#cloudcostspike\n" in linked
    assert "Dashboard: https://grafana.example.com/team/d/finops-cloud-cost\n" in linked


def test_a_receiver_that_fails_is_tried_again_until_it_takes_the_message(scene, service, json_to, webhook, wait_until):
    scene.configure({"hook": json_to(service)})
    service.fail(500)
    service.fail(429)
    number, _ = scene.receive("hook", webhook())
    wait_until(lambda: scene.states() == ["delivered"])
    first, second, third = scene.attempts(number)
    assert (first.outcome, first.message) == ("retried", "Failed to send JSON POST notification: Internal server error., error=500.")
    assert (second.outcome, second.message) == ("retried", "Failed to send JSON POST notification: error=429.")
    assert third.outcome == "delivered"
    # 0.1 s and 0.2 s, a fifth less at the least.
    assert second.started_at - first.finished_at >= 80_000
    assert third.started_at - second.finished_at >= 160_000
    assert scene.totals() == {("hook", "delivered"): 1, ("hook", "retried"): 2}


def test_after_the_last_attempt_it_is_given_up_and_says_why_until_a_person_asks_again(
    scene, service, json_to, webhook, told, wait_until, caplog
):
    scene.configure({"hook": json_to(service)})
    service.fail(500, times=3)
    number, _ = scene.receive("hook", webhook())
    later, _ = scene.receive("hook", webhook({"fingerprint": "b"}))
    wait_until(lambda: scene.states() == ["failed", "delivered"])
    failed = scene.one(number)
    assert (failed.attempts, failed.failures, failed.next_attempt_at) == (3, 3, 0)
    assert failed.message == "Failed to send JSON POST notification: Internal server error., error=500."
    assert scene.totals() == {("hook", "retried"): 2, ("hook", "failed"): 1, ("hook", "delivered"): 1}
    assert scene.ledger.write(lambda connection: ask_again(connection, number, actor="on-call", now=5)) == "failed"
    scene.worker.wake()
    wait_until(lambda: scene.states() == ["delivered", "delivered"])
    assert scene.one(number).attempts == 4
    assert len(told(service)) == 5
    with scene.ledger.read() as connection:
        entry = connection.exec_driver_sql("SELECT actor, action, subject, before, after FROM audit").one()
    changed = ('{"state":"failed","failures":3}', '{"state":"queued","failures":0}')
    assert entry == ("on-call", "retry_notification", f"notification {number}", *changed)
    assert scene.ledger.write(lambda connection: ask_again(connection, later, actor="on-call", now=5)) == "delivered"
    assert scene.one(later).state == "delivered"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_a_service_refuses_for_good_does_not_hold_up_those_behind_it(scene, service, json_to, webhook, told, wait_until, status):
    # Ten attempts would take 20 minutes with the waits that ship.
    scene.configure({"hook": json_to(service)}, attempts=10)
    service.fail(status, times=3)
    refused, _ = scene.receive("hook", webhook())
    scene.receive("hook", webhook({"labels": {"alertname": "Next"}, "fingerprint": "b"}))
    wait_until(lambda: scene.states() == ["failed", "delivered"])
    assert [attempt.outcome for attempt in scene.attempts(refused)] == ["retried", "retried", "failed"]
    assert told(service)[-1].split()[1] == "Next:"


def test_what_one_of_two_addressees_refuses_for_good_is_tried_again_for_the_other(scene, service, webhook, wait_until):
    scene.configure({"both": f"mmost://{service.url.removeprefix('http://')}/0123456789abcdef0123456789?to=first,second"}, attempts=10)
    for _ in range(3):
        service.fail(400)
        service.fail(503)
    scene.receive("both", webhook())
    wait_until(lambda: scene.states() == ["delivered"])


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503])
def test_what_may_be_mended_meanwhile_is_tried_as_often_as_configured(scene, service, json_to, webhook, wait_until, status):
    scene.configure({"hook": json_to(service)}, attempts=5)
    service.fail(status, times=4)
    number, _ = scene.receive("hook", webhook())
    wait_until(lambda: scene.states() == ["delivered"])
    assert [attempt.outcome for attempt in scene.attempts(number)] == ["retried"] * 4 + ["delivered"]


def test_the_notifications_of_a_receiver_keep_their_order(scene, service, json_to, webhook, told, wait_until):
    scene.configure({"hook": json_to(service)})
    service.fail(503, times=2)
    for number in range(5):
        scene.receive("hook", webhook({"labels": {"alertname": f"A{number}"}, "fingerprint": str(number)}))
    wait_until(lambda: scene.states() == ["delivered"] * 5)
    names = [title.split()[1].rstrip(":") for title in told(service)]
    assert names == ["A0", "A0", "A0", "A1", "A2", "A3", "A4"]


@pytest.fixture
def stuck():
    """A service that answers nobody before `stuck.release()`."""
    released = threading.Event()

    def hang(_):
        assert released.wait(60)
        return Answer(b"ok")

    with StandIn(hang) as server:
        server.release = released.set
        yield server
        released.set()


def test_a_receiver_that_hangs_holds_up_no_other(scene, stuck, service, json_to, webhook, wait_until):
    scene.configure({"stuck": json_to(stuck), "quick": json_to(service)})
    scene.receive("stuck", webhook())
    wait_until(lambda: stuck.requests)
    for number in range(3):
        scene.receive("quick", webhook({"fingerprint": str(number)}))
    wait_until(lambda: scene.states() == ["queued"] + ["delivered"] * 3)
    stuck.release()
    wait_until(lambda: scene.states() == ["delivered"] * 4)


def test_a_receiver_that_hangs_is_given_up_in_time(scene, stuck, json_to, webhook, wait_until):
    scene.configure({"stuck": json_to(stuck)}, timeout_seconds=1, attempts=2)
    number, _ = scene.receive("stuck", webhook())
    wait_until(lambda: scene.states() == ["failed"])
    one, two = scene.attempts(number)
    assert (one.outcome, two.outcome) == ("retried", "failed")
    # The socket gives up after a second, or the notifier does, a moment later.
    allowed = {"no end within 1 s", "A Connection error occurred sending JSON notification to ***. Read timed out"}
    assert {one.message, two.message} <= allowed


def test_a_service_that_answers_a_drop_at_a_time_is_given_up_and_counts_where_it_ends_well(scene, webhook, wait_until):
    release = threading.Event()
    begun = threading.Semaphore(0)

    class Drips:
        """No socket of it ever waits long; the whole takes for ever."""

        def send(self, text, *, seconds):
            begun.release()
            assert release.wait(60)
            return ""

    scene.configure({"drips": "json://unused"}, timeout_seconds=1, attempts=1)
    scene.worker._channel = lambda _: Drips()
    number, _ = scene.receive("drips", webhook())
    wait_until(lambda: scene.states() == ["failed"])
    assert scene.one(number).message == "no end within 1 s"
    assert begun.acquire(timeout=60)
    release.set()
    # It was delivered after all: that is what the journal says then.
    wait_until(lambda: scene.states() == ["delivered"])
    assert [attempt.outcome for attempt in scene.attempts(number)] == ["delivered"]
    assert scene.totals() == {("drips", "failed"): 1, ("drips", "delivered"): 1}


def test_threads_that_hang_do_not_pile_up(scene, webhook, wait_until):
    release = threading.Event()
    running = []

    class Hangs:
        def send(self, text, *, seconds):
            running.append(threading.current_thread())
            assert release.wait(60)
            return "too late"

    scene.configure({"hangs": "json://unused"}, timeout_seconds=1, attempts=6)
    scene.worker._channel = lambda _: Hangs()
    number, _ = scene.receive("hangs", webhook())
    wait_until(lambda: scene.states() == ["failed"])
    # The last of them may be given up before it has begun.
    wait_until(lambda: len(running) == 4)
    release.set()
    messages = [attempt.message for attempt in scene.attempts(number)]
    assert messages == ["no end within 1 s"] * 4 + ["earlier attempts still hang: no further one is begun beside them"] * 2
    for thread in running:
        thread.join(60)
    assert len(running) == 4


def test_a_receiver_that_is_configured_no_more_is_given_up_at_once(scene, service, json_to, webhook, wait_until):
    scene.configure({"hook": json_to(service)})
    number, _ = scene.receive("gone", webhook(), at=now() - 600_000_000)
    wait_until(lambda: scene.states() == ["failed"])
    assert scene.one(number).message == "no receiver of this name is configured any more"
    assert (scene.one(number).failures, scene.attempts(number)) == (1, [])
    assert service.requests == []


def test_what_another_replica_took_in_waits_for_the_reload_that_knows_its_receiver(scene, service, json_to, webhook, wait_until):
    scene.configure({"hook": json_to(service)}, attempts=100)
    number, _ = scene.receive("new", webhook())
    wait_until(lambda: scene.one(number).failures >= 2)
    assert (scene.states(), scene.one(number).message) == (["retrying"], "no receiver of this name is configured any more")
    scene.configure({"hook": json_to(service), "new": json_to(service)}, attempts=100)
    wait_until(lambda: scene.states() == ["delivered"])
    assert len(service.requests) == 1


def test_a_receiver_that_a_reload_brings_while_the_notifier_looks_is_known(scene, service, json_to, webhook, wait_until, monkeypatch):
    taken_in = []

    def look(connection):
        if not taken_in:
            scene.configure({"hook": json_to(service)})
            taken_in.append(scene.receive("hook", webhook()))
        return first_of_each(connection)

    monkeypatch.setattr(worker, "first_of_each", look)
    wait_until(lambda: scene.states() == ["delivered"])
    ((number, _),) = taken_in
    assert (scene.one(number).failures, scene.one(number).attempts) == (0, 1)


def test_a_receiver_that_is_never_configured_is_given_up_after_the_attempts_whatever_the_clock_says(scene, webhook, wait_until):
    scene.configure({}, attempts=3)
    number, _ = scene.receive("gone", webhook(), at=now() + 90 * DAY)
    wait_until(lambda: scene.states() == ["failed"])
    assert scene.one(number).failures == 3


def test_what_has_waited_for_a_day_behind_others_has_one_attempt_and_a_person_gives_it_all_of_them(
    scene, service, json_to, webhook, wait_until
):
    service.fail(500, times=1 + 3)
    scene.configure({"hook": json_to(service)}, attempts=3)
    number, _ = scene.receive("hook", webhook(), at=now() - DAY)
    wait_until(lambda: scene.states() == ["failed"])
    assert [attempt.outcome for attempt in scene.attempts(number)] == ["failed"]
    scene.ledger.write(lambda connection: ask_again(connection, number, actor="a person", now=now()))
    scene.worker.wake()
    wait_until(lambda: len(scene.attempts(number)) == 1 + 3 and scene.states() == ["failed"])
    assert [attempt.outcome for attempt in scene.attempts(number)] == ["failed", "retried", "retried", "failed"]


def test_a_changed_secret_holds_from_the_next_attempt_on(scene, service, json_to, webhook, wait_until):
    scene.configure({"hook": "json://127.0.0.1:1/"}, attempts=100)
    number, _ = scene.receive("hook", webhook())
    wait_until(lambda: scene.one(number).failures >= 1)
    (scene.folder / "hook.url").write_text(json_to(service))
    wait_until(lambda: scene.states() == ["delivered"])
    assert scene.attempts(number)[0].message.endswith("[Errno 111] Connection refused")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("hunter2hunter2", "is no URL that Apprise understands: its service is unknown, or a part of it is missing or malformed"),
        ("json://a b", "holds white space: one Apprise URL is wanted, with spaces written as %20"),
        ("", "secret file {folder}/hook.url: is missing or empty"),
    ],
)
def test_a_secret_that_is_no_url_is_a_failure_that_says_so_and_not_the_secret(scene, webhook, wait_until, url, why):
    scene.configure({"hook": url}, attempts=1)
    number, _ = scene.receive("hook", webhook())
    wait_until(lambda: scene.states() == ["failed"])
    assert scene.one(number).message == why.format(folder=scene.folder)


def test_no_secret_comes_into_the_log_or_the_journal(scene, service, json_to, webhook, wait_until, caplog):
    caplog.set_level(logging.DEBUG)
    url = f"json://us3r:pa55w0rd@{service.url.removeprefix('http://')}/s3cr3tpath?-key=t0ken&+X-Auth=h3ader"
    scene.configure({"hook": url, "broken": "slack://nearlyasecret/", "refused": "json://us3r:pa55w0rd@127.0.0.1:1/s3cr3tpath"})
    service.fail(500)
    service.cut()
    for receiver in ("hook", "broken", "refused"):
        scene.receive(receiver, webhook())
    wait_until(lambda: sorted(scene.states()) == ["delivered", "failed", "failed"])
    logging.getLogger("urllib3.connectionpool").debug("of others")
    everything = caplog.text + "".join(map(str, scene.all())) + "".join(str(scene.attempts(number)) for number in (1, 2, 3))
    assert [word for word in ("us3r", "pa55w0rd", "s3cr3tpath", "t0ken", "h3ader", "nearlyasecret") if word in everything] == []
    # Only while we send is the HTTP library silent.
    assert "of others" in caplog.text


def test_what_was_delivered_or_given_up_is_forgotten_after_its_days(scene, service, json_to, webhook, wait_until):
    scene.configure({"hook": json_to(service)})
    first, _ = scene.receive("hook", webhook())
    wait_until(lambda: scene.states() == ["delivered"])
    ended = scene.one(first).finished_at
    scene.worker.stop()
    waiting, _ = scene.receive("hook", webhook({"fingerprint": "b"}))
    assert scene.ledger.write(lambda connection: prune(connection, before=ended)) == 0
    assert scene.ledger.write(lambda connection: prune(connection, before=ended + 1000 * DAY)) == 1
    assert [found.notification_id for found in scene.all()] == [waiting]
    assert scene.attempts(first) == []
    # The counters go on.
    assert scene.totals() == {("hook", "delivered"): 1}


def test_the_notifier_forgets_by_itself(scene, service, json_to, webhook, wait_until):
    scene.worker.stop()
    scene.configure({"hook": json_to(service)})
    scene.receive("hook", webhook())
    scene.ledger.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE notifications SET state = 'delivered', finished_at = received_at - 31 * 86400000000"
        )
    )
    scene.worker._prune_at = 0.0
    scene.worker.start()
    wait_until(lambda: scene.all() == [])


def test_a_clock_that_is_set_back_does_not_hold_up_what_waits(scene, service, json_to, webhook, wait_until):
    scene.worker.stop()
    scene.configure({"hook": json_to(service)})
    scene.receive("hook", webhook())
    scene.ledger.write(lambda connection: connection.exec_driver_sql(f"UPDATE notifications SET next_attempt_at = received_at + {DAY}"))
    scene.worker.start()
    wait_until(lambda: scene.states() == ["delivered"])


def test_waits_double_up_to_the_longest_and_are_spread_by_a_fifth():
    retry = RetrySettings(first_wait_seconds=5, longest_wait_seconds=300)
    middle = [wait_seconds(retry, failures, lambda low, high: (low + high) / 2) for failures in range(1, 9)]
    assert middle == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300])
    assert wait_seconds(retry, 10_000, lambda _, high: high) == pytest.approx(300 * 1.2)
    spread = [wait_seconds(retry, 1) for _ in range(200)]
    assert 4 <= min(spread) < max(spread) <= 6
