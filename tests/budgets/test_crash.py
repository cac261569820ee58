"""kill -9 at any moment: nothing that was acknowledged is missing afterwards, and no dollar that was spent is free again."""

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from costwarden.budgets.engine import named_id
from costwarden.model import to_nanos

ROUNDS = int(os.environ.get("COSTWARDEN_CRASHES", "50"))
"""A database; they take some 20 seconds."""

SUMS = ("usage_hourly", "usage_totals")


class Spender:
    """A process that spends (`spender.py`), and the file into which it writes what it was answered."""

    def __init__(self, zygote, url, now, name, answers):
        self.answers = answers
        zygote.stdin.write(f"{url} {now} {name} {answers}\n")
        zygote.stdin.flush()
        self.pid = int(zygote.stdout.readline())
        self._gone = False

    def is_alive(self):
        # It is gone with its last thread, which may be waiting for the disk: until then it holds its locks. After that a stranger may
        # have its number.
        self._gone = self._gone or not Path(f"/proc/{self.pid}").exists()
        return not self._gone

    def lines(self):
        # What is written whole was acknowledged.
        text = self.answers.read_bytes() if self.answers.exists() else b""
        return [line.split() for line in text.decode().splitlines(keepends=True) if line.endswith("\n")]

    def kill(self):
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def spend(desk, project, tmp_path):
    """`spend()` starts a spender on the ledger of `desk`."""
    errors = tmp_path / "errors"
    numbers = count()
    spenders = []
    with errors.open("wb") as log:
        zygote = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("spender.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"PYTHONPATH": str(project / "exporter")},
        )

    def start():
        name = f"s{next(numbers)}"
        spenders.append(Spender(zygote, desk.url, desk.now, name, tmp_path / name))
        return spenders[-1]

    yield start
    for spender in spenders:
        spender.kill()
    zygote.stdin.close()
    zygote.stdout.close()
    zygote.wait(timeout=60)
    assert errors.read_text() == ""


class Accounts:
    """What all the spenders were told, against what the ledger has."""

    def __init__(self):
        self.told = defaultdict(dict)
        """What happened -> reservation or event id -> amount"""

    def hear(self, spender):
        for what, name, amount in spender.lines():
            self.told[what][name] = int(amount)

    def compare(self, desk):
        """Everything told is there, and all sums are those of the rows; gives what still stands."""
        with desk.ledger.read() as connection:
            read = connection.exec_driver_sql
            events = {
                event_id: (cost, reservation) for event_id, cost, reservation in read("SELECT event_id, cost, reservation_id FROM usage")
            }
            standing = {row[0]: tuple(row[1:]) for row in read("SELECT reservation_id, estimate, settled, kind, state FROM reservations")}
            periods = read("SELECT spent, requests, reserved, unsettled FROM budget_periods").fetchall()
            sums = [read(f"SELECT coalesce(sum(cost), 0), coalesce(sum(requests), 0) FROM {table}").one() for table in SUMS]
            if not desk.ledger.shared:
                assert read("PRAGMA integrity_check").scalar_one() == "ok"
        told = self.told
        assert {key: events.get(key, (None,))[0] for key in told["settled"]} == told["settled"]
        settled = {reservation for _, reservation in events.values()}
        for key, estimate in told["reserved"].items():
            # Set aside still; or settled or given back, although nobody may have heard of that.
            assert standing.get(key) == (estimate, 0, "call", "open") or key in settled or key in told["releasing"]
        for key, granted in told["leased"].items():
            spent = sum(cost for cost, reservation in events.values() if reservation == key)
            assert standing.get(key) == (granted - spent, spent, "lease", "open") or (key not in standing and key in told["releasing"])
        assert not standing.keys() & told["released"].keys()
        assert not {key for key, (*_, kind, _) in standing.items() if kind == "call"} & settled
        spent = sum(cost for cost, _ in events.values())
        held = sum(estimate for estimate, *_ in standing.values())
        # Both budgets cover every call.
        assert [tuple(row) for row in periods] == [(spent, len(events), held, 0)] * 2
        assert [tuple(row) for row in sums] == [(spent, len(events))] * 2
        return standing


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_missing_and_nothing_spent_is_freed(desk, spend, wait_until):
    budgets = [desk.put("1000", tenant_id="acme"), desk.put("1000")]
    shared = desk.ledger.shared
    desk.check("0")
    desk.ledger.close()
    accounts, draw = Accounts(), random.SystemRandom()
    running = [spend() for _ in range(2 if shared else 1)]
    standing = {}
    for _ in range(ROUNDS):
        victim = running.pop(0)
        answers = draw.randint(0, 200)
        wait_until(lambda victim=victim, answers=answers: len(victim.lines()) >= answers or not victim.is_alive())
        assert victim.is_alive()
        victim.kill()
        wait_until(lambda victim=victim: not victim.is_alive())
        accounts.hear(victim)
        # On PostgreSQL the other one goes on spending; what is read is one moment of it.
        desk.open()
        standing = accounts.compare(desk)
        desk.ledger.close()
        running.append(spend())
    for spender in running:
        spender.kill()
        wait_until(lambda spender=spender: not spender.is_alive())
        accounts.hear(spender)
    desk.open()
    standing = accounts.compare(desk)
    assert len(accounts.told["settled"]) > ROUNDS
    # What is left can still be settled, once: here all calls that named no event.
    before = desk.status(budgets[0])
    left = [key for key, (*_, kind, _) in standing.items() if kind == "call" and not key.startswith(named_id("acme", ""))]
    freed = sum(standing[key][0] for key in left)
    for key in left:
        assert not desk.track("0.01", reservation_id=key).repeated
    after = (before[0] + len(left) * to_nanos("0.01"), before[1] - freed, 0)
    assert [desk.status(budget) for budget in budgets] == [after, after]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_next_owner_need_not_wait_for_the_lock_of_one_that_was_killed(desk, spend, wait_until):
    desk.put("1000", tenant_id="acme")
    lock = Path(f"{desk.path}.lock")
    desk.ledger.close()
    spender = spend()
    wait_until(spender.lines)
    spender.kill()
    wait_until(lambda: not spender.is_alive())
    assert lock.exists()
    desk.open()
    assert desk.check("0.01").allowed
