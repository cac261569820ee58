"""What could not be told yet: kept, delivered once, oldest first, and bounded."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from costwarden_server import Costwarden
from llm_provider import Provider

from costwarden.client import Budget, http_client
from costwarden.client.delivery import Delivery
from costwarden.client.service import BudgetServer
from costwarden.client.spool import Record, Spool, undelivered

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


def record(number: int) -> Record:
    return Record(number, "track", msgspec.Raw(json.dumps({"event_id": f"e{number}"}).encode()))


def adopted(folder: Path) -> list[Any]:
    found: list[Any] = []

    def keep(path: str, body: msgspec.Raw) -> bool:
        found.append((path, json.loads(bytes(body))["event_id"]))
        return True

    with Spool(folder) as spool:
        spool.adopt(keep)
    return found


def test_what_is_delivered_is_not_delivered_again(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for number in (1, 2, 3):
            spool.append(record(number))
        spool.done(2, last=False)
    assert adopted(tmp_path) == [("track", "e1"), ("track", "e3")]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_spool_leaves_no_file(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.append(record(1))
        spool.done(1, last=True)
    assert list(tmp_path.iterdir()) == []


def test_the_spool_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.append(record(1))
        assert adopted(tmp_path) == []
    assert adopted(tmp_path) == [("track", "e1")]


@pytest.mark.parametrize("cut", range(2, 40, 3))
def test_a_line_that_was_cut_short_takes_no_other_along(cut: int) -> None:
    lines = b"".join(msgspec.json.encode(record(number)) + b"\n" for number in (1, 2))
    assert [found.number for found in undelivered(lines[:-cut])] == [1]
    assert [found.number for found in undelivered(lines[:-cut] + b"\n" + msgspec.json.encode(record(3)) + b"\n")] == [1, 3]


def test_what_could_not_be_kept_again_stays_where_it_is(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.append(record(1))
        spool.append(record(2))
    with Spool(tmp_path) as full:
        assert full.adopt(lambda path, body: b"e1" in bytes(body)) == 2
    assert adopted(tmp_path) == [("track", "e1"), ("track", "e2")]


def test_a_forked_child_does_not_hold_its_parents_spool(tmp_path: Path) -> None:
    parent = Spool(tmp_path)
    parent.append(record(1))
    (runs, running), (end, ended) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(ended)
        os.write(running, b"x")
        os.read(end, 1)
        os._exit(0)
    os.read(runs, 1)
    try:
        parent.close()
        assert adopted(tmp_path) == [("track", "e1")]
    finally:
        for file in (runs, running, end, ended):
            os.close(file)
        os.waitpid(child, 0)


class Answers(BudgetServer):
    """A budget service that answers each event as it is told to."""

    def __init__(self, statuses: dict[str, int]) -> None:
        super().__init__("http://127.0.0.1:1", "", 1.0)
        self.statuses = statuses
        self.taken: list[str] = []

    def tell(self, path: str, body: bytes, timeout_seconds: float) -> tuple[int, bytes]:
        event = json.loads(body)["event_id"]
        status = self.statuses.get(event, 200)
        if status == 200:
            self.taken.append(event)
        return status, b"{}"


def test_a_line_for_nobody_is_dropped_and_what_is_behind_it_is_delivered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool(tmp_path) as spool:
        spool.append(Record(1, "../../x", msgspec.Raw(b'{"event_id": "e1"}')))
        spool.append(record(2))
    server = Answers({})
    delivery = Delivery(server, 10, tmp_path, lambda: None, lambda: None)
    assert delivery.flush(60)
    delivery.close()
    assert (server.taken, delivery.refused) == (["e2"], 1)
    assert "../../x" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "refused"), [(404, 0), (429, 0), (410, 1), (431, 1)])
def test_a_settlement_that_is_not_taken_holds_up_none_behind_it(status: int, refused: int, wait_until: Callable[..., Any]) -> None:
    server = Answers({"e1": status})
    delivery = Delivery(server, 10, None, lambda: None, lambda: None)
    for number in (1, 2, 3):
        delivery.put("track", {"event_id": f"e{number}"})
    wait_until(lambda: len(server.taken) == 2)
    wait_until(lambda: (delivery.refused, delivery.pending) == (refused, 1 - refused))
    server.statuses.clear()
    assert delivery.flush(60)
    delivery.close()
    assert sorted(server.taken) == (["e2", "e3"] if refused else ["e1", "e2", "e3"])


def test_whoever_waits_for_a_delivery_that_is_about_to_fail_does_not_wait_for_the_pause_after_it(
    wait_until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("costwarden.client.delivery.RETRY_SECONDS", (3600.0, 3600.0))
    begun, waited_for = threading.Event(), threading.Event()

    class FailsOnce(Answers):
        def tell(self, path: str, body: bytes, timeout_seconds: float) -> tuple[int, bytes]:
            if begun.is_set():
                return super().tell(path, body, timeout_seconds)
            begun.set()
            assert waited_for.wait(60)
            return 503, b"{}"

    server = FailsOnce({})
    delivery = Delivery(server, 10, None, lambda: None, lambda: None)
    delivery.put("track", {"event_id": "e1"})
    assert begun.wait(60)
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(delivery.flush, 60)
        wait_until(lambda: delivery._flushing == 1)
        waited_for.set()
        assert flushed.result(120)
    delivery.close()
    assert server.taken == ["e1"]


def sdk(budget: Budget, provider: Provider) -> openai.OpenAI:
    client = http_client(budget=budget, provider="openai")
    return openai.OpenAI(api_key="none", base_url=f"{provider.url}/v1", http_client=client, max_retries=0)


def call(client: openai.OpenAI, max_tokens: int = 7) -> None:
    client.chat.completions.create(model="plain", messages=MESSAGES, max_tokens=max_tokens)


@pytest.mark.stack
def test_calls_that_were_settled_while_the_service_was_down_are_delivered_once_when_it_is_back(
    own_costwarden: Costwarden, provider: Provider, wait_until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    own_costwarden.set_budget("acme", 1)
    provider.knobs.hold_after_events = 0
    options: dict[str, Any] = {"url": own_costwarden.url, "tenant_id": "acme", "timeout_seconds": 60, "close_seconds": 0.1}
    with Budget(**options) as budget, sdk(budget, provider) as client:
        stream = client.chat.completions.create(model="plain", messages=MESSAGES, max_tokens=7, stream=True)
        own_costwarden.kill()
        provider.knobs.released.set()
        assert len(list(stream)) == 8
        assert not budget.flush(0.1)
        # By then it has lost the connection that it had kept; over that one the next check might seem to have been asked.
        wait_until(lambda: "cannot be told what calls used" in caplog.text)
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as caught:
            call(client)
        assert caught.value.status_code == 503
        assert len(provider.seen) == 1
        assert budget.counts.pending == 1
        own_costwarden.start()
        assert budget.flush(60)
        assert budget.counts.delivered == 1
    state = own_costwarden.budget("acme")
    assert (state["current_usage"], state["reserved"]) == (10, 0)
    assert len(own_costwarden.usage("acme")) == 1


@pytest.mark.stack
def test_open_mode_lets_calls_pass_and_meters_them_later(own_costwarden: Costwarden, provider: Provider, tmp_path: Path) -> None:
    own_costwarden.set_budget("acme", 1)
    own_costwarden.kill()
    options: dict[str, Any] = {"url": own_costwarden.url, "tenant_id": "acme", "on_unavailable": "allow", "close_seconds": 0.1}
    with Budget(**options, spool_folder=tmp_path / "spool", spool_size=3) as budget, sdk(budget, provider) as client:
        for _ in range(5):
            call(client)
        counts = budget.counts
        assert (counts.unchecked, counts.pending, counts.dropped) == (5, 3, 2)
    own_costwarden.start()
    with Budget(**options, spool_folder=tmp_path / "spool") as budget:
        assert budget.flush(60)
    assert own_costwarden.budget("acme")["current_usage"] == 3 * 10
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.stack
def test_a_full_spool_refuses_calls_where_the_budget_is_closed(own_costwarden: Costwarden, provider: Provider) -> None:
    own_costwarden.set_budget("acme", 1)
    provider.knobs.hold_after_events = 0
    options: dict[str, Any] = {"url": own_costwarden.url, "tenant_id": "acme", "timeout_seconds": 60, "close_seconds": 0.1}
    with Budget(**options, spool_size=1) as budget, sdk(budget, provider) as client:
        stream = client.chat.completions.create(model="plain", messages=MESSAGES, max_tokens=7, stream=True)
        own_costwarden.kill()
        provider.knobs.released.set()
        list(stream)
        with pytest.raises(openai.InternalServerError, match="as many as `spool_size` holds"):
            call(client)
        assert budget.counts.dropped == 0


@pytest.mark.stack
def test_a_slow_service_is_unavailable_and_what_it_may_have_set_aside_is_given_back(
    own_costwarden: Costwarden, provider: Provider, wait_until: Callable[..., Any]
) -> None:
    own_costwarden.set_budget("acme", 1)
    with Budget(url=own_costwarden.url, tenant_id="acme", timeout_seconds=0.3) as budget, sdk(budget, provider) as client:
        own_costwarden.freeze()
        with pytest.raises(openai.InternalServerError, match=r"no answer within 0\.3 s; the call was not made"):
            call(client)
        own_costwarden.thaw()
        assert budget.flush(60)
        wait_until(lambda: own_costwarden.budget("acme")["reserved"] == 0)
    assert provider.seen == []


PROGRAM = """
import os, sys, openai
from costwarden.client import Budget, http_client
url, provider, spool = sys.argv[1:]
budget = Budget(url=url, tenant_id="acme", on_unavailable="allow", spool_folder=spool, timeout_seconds=60, close_seconds=60)
client = openai.OpenAI(api_key="none", base_url=provider + "/v1", http_client=http_client(budget=budget, provider="openai"))
for _ in range(3):
    client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "one two three"}], max_tokens=7)
print("called", flush=True)
sys.stdin.read()
"""


@pytest.mark.stack
def test_settlements_survive_a_killed_process_and_the_next_one_delivers_them_once(
    own_costwarden: Costwarden, provider: Provider, tmp_path: Path
) -> None:
    own_costwarden.set_budget("acme", 1)
    own_costwarden.kill()
    argv = [sys.executable, "-c", PROGRAM, own_costwarden.url, provider.url, str(tmp_path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"called\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    own_costwarden.start()
    for _ in range(2):
        with Budget(url=own_costwarden.url, tenant_id="acme", spool_folder=tmp_path) as budget:
            assert budget.flush(60)
    assert [event["output_tokens"] for event in own_costwarden.usage("acme")] == [7, 7, 7]
    assert own_costwarden.budget("acme")["current_usage"] == 3 * 10


@pytest.mark.stack
def test_the_end_of_a_process_delivers_what_is_left(own_costwarden: Costwarden, provider: Provider, tmp_path: Path) -> None:
    own_costwarden.set_budget("acme", 1)
    argv = [sys.executable, "-c", PROGRAM, own_costwarden.url, provider.url, str(tmp_path / "spool")]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == "called\n"
    assert [event["output_tokens"] for event in own_costwarden.usage("acme")] == [7, 7, 7]
    assert list((tmp_path / "spool").iterdir()) == []
