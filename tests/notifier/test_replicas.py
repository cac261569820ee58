"""Two replicas on one PostgreSQL, each told by an Alertmanager of a pair: every notification is delivered once; and the ledger there."""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import yaml
from processes import Processes, free_port

from costwarden.ledger import Ledger
from costwarden.ledger.notifications import (
    NewNotification,
    begin_attempt,
    first_of_each,
    mark_delivered,
    mark_failed,
    outcome_totals,
    pending_counts,
    prune,
    take_in,
)

HEADERS = {"authorization": "Bearer alertmanager-token"}


@pytest.fixture
def replicas(tmp_path, postgresql_url, json_to, service, wait_until):
    """The database, the URLs and the processes, `0` and `1`, of two servers whose receiver `hook` is `service`."""
    (tmp_path / "hook.url").write_text(json_to(service))
    (tmp_path / "token").write_text("alertmanager-token")
    database_url = postgresql_url()
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with Processes(tmp_path / "logs") as processes:
        for number, url in enumerate(urls):
            config = {
                "database_url": database_url,
                "server": {"port": int(url.rpartition(":")[2])},
                "auth": {"tokens": [{"name": "a", "role": "alertmanager", "secret": {"file": "token"}}]},
                "budgets": {"default": None},
                "notifier": {
                    "receivers": [{"name": "hook", "url": {"file": "hook.url"}}],
                    # A replica that is killed is killed within these seconds, and another one sends again after them.
                    "retry": {"first_wait_seconds": 0.1, "timeout_seconds": 10},
                },
            }
            (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(config))
            processes.launch(str(number), [sys.executable, "-m", "costwarden", "serve", "--config", tmp_path / f"{number}.yaml"])
        for url in urls:
            wait_until(lambda url=url: answers(url))
        yield database_url, urls, processes


def answers(url):
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.stack
def test_what_both_alertmanagers_tell_both_replicas_is_delivered_once(replicas, service, webhook, wait_until):
    database_url, urls, _ = replicas

    def post(number, url):
        answer = tell(url, webhook({"fingerprint": str(number)}))
        return answer.status_code, answer.json()["notification_id"], answer.json()["duplicate"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(post, [number for number in range(20) for _ in range(4)], urls * 40))
    assert {status for status, _, _ in found} == {202}
    assert sum(not duplicate for _, _, duplicate in found) == 20
    await_deliveries(database_url, 20, wait_until)
    assert len(service.requests) == 20


def tell(url, body):
    return httpx.post(f"{url}/api/notifications/hook", json=body, headers=HEADERS, trust_env=False, timeout=60)


def await_deliveries(database_url, count, wait_until):
    ledger = Ledger(database_url)
    try:

        def delivered():
            with ledger.read() as connection:
                return outcome_totals(connection).get(("hook", "delivered"), (0, 0))[0] == count and not pending_counts(connection)

        wait_until(delivered)
    finally:
        ledger.close()


@pytest.mark.stack
def test_where_the_replica_that_delivers_is_killed_another_one_goes_on(replicas, service, webhook, wait_until):
    database_url, urls, processes = replicas
    service.hang()
    leads = "runs the playbooks now"
    leader = wait_until(lambda: next((name for name in "01" if leads in processes.log(name).read_text()), ""))
    other = urls[1 - int(leader)]
    for number in range(3):
        assert tell(other, webhook({"fingerprint": str(number)})).status_code == 202
    wait_until(lambda: len(service.requests) == 1)
    processes.kill(leader)
    await_deliveries(database_url, 3, wait_until)
    # What was under way was sent again, once, and the others in their order.
    assert len(service.requests) == 4


# --- the statements of the ledger, on both databases -------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, tmp_path, empty_ledger):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'costwarden.db'}"
        (tmp_path / "costwarden.db").write_bytes(empty_ledger.read_bytes())
    else:
        url = request.getfixturevalue("postgresql_url")()
    opened = Ledger(url)
    yield opened
    opened.close()


def new(receiver="hook", identity="i"):
    return NewNotification(receiver=receiver, identity=identity, group_key="g", status="firing", alerts=1, subject="s", content="{}")


def test_an_attempt_is_begun_by_one_alone_and_is_interrupted_by_the_next(ledger):
    number, _ = ledger.write(lambda connection: take_in(connection, new(), since=0, now=10))
    with ledger.read() as connection:
        (first,) = first_of_each(connection)
    assert (first.notification_id, first.state, first.attempts) == (number, "queued", 0)
    begun = ledger.write(lambda connection: begin_attempt(connection, first, now=20, until=50))
    assert begun is not None
    assert ledger.write(lambda connection: begin_attempt(connection, first, now=20, until=50)) is None
    with ledger.read() as connection:
        (again,) = first_of_each(connection)
    assert (again.attempts, again.failures, again.next_attempt_at) == (1, 0, 50)
    second = ledger.write(lambda connection: begin_attempt(connection, again, now=60, until=90))
    # A cut-off attempt that comes to a good end after all counts once.
    for attempt in (begun, second):
        ledger.write(lambda connection, attempt=attempt: mark_delivered(connection, number, attempt, now=70))
    with ledger.read() as connection:
        assert outcome_totals(connection) == {("hook", "delivered"): (1, 70)}
        assert first_of_each(connection) == []


def test_the_oldest_of_each_receiver_comes_first_and_what_ended_is_pruned(ledger):
    numbers = [
        ledger.write(lambda connection, receiver=receiver, at=at: take_in(connection, new(receiver, str(at)), since=0, now=at))[0]
        for at, receiver in enumerate(("a", "b", "a", "b"), start=1)
    ]
    with ledger.read() as connection:
        assert {found.notification_id for found in first_of_each(connection)} == set(numbers[:2])
        assert pending_counts(connection) == {("a", "queued"): 2, ("b", "queued"): 2}
    fail = lambda connection, number, again_at: mark_failed(connection, number, None, "why", now=9, again_at=again_at)  # noqa: E731
    ledger.write(lambda connection: fail(connection, numbers[0], 0))
    ledger.write(lambda connection: fail(connection, numbers[1], 99))
    with ledger.read() as connection:
        assert {found.notification_id for found in first_of_each(connection)} == {numbers[2], numbers[1]}
        assert pending_counts(connection) == {("a", "queued"): 1, ("b", "retrying"): 1, ("b", "queued"): 1}
        assert outcome_totals(connection) == {("a", "failed"): (1, 9), ("b", "retried"): (1, 9)}
    assert ledger.write(lambda connection: prune(connection, before=9)) == 0
    assert ledger.write(lambda connection: prune(connection, before=10)) == 1
