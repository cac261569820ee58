"""kill -9 at any moment: nothing that was acknowledged is missing afterwards, and no dollar that was spent is free again."""

import os
import random
import signal
import subprocess
import sys

import pytest

from costwarden.budgets.engine import named_id
from costwarden.model import to_nanos

ROUNDS = 10

# Eight applications at once, each of them: check, then track; what is answered goes to the pipe, in one write a line.
SPENDER = """
import asyncio, itertools, os, sys
from zoneinfo import ZoneInfo
from costwarden.budgets.engine import Engine, Reserve, Settle
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Ledger
from costwarden.model import DIMENSIONS, Usage

url, now, start = sys.argv[1], int(sys.argv[2]), sys.argv[3]
engine = Engine(BudgetsSettings(default=None), ZoneInfo("UTC"), lambda: now)
ledger = Ledger(url, owner=True, participant=engine)
dimensions = tuple({"tenant_id": "acme", "model": "m"}.get(name, "") for name in DIMENSIONS)

def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def spend(application):
    for number in itertools.count():
        named = f"{start}-{application}-{number}" if number % 2 else ""
        estimate, cost = 1000 + number, 900 + number
        decision = await ledger.writer.step(engine.reserve, Reserve(dimensions, estimate, now, named))
        assert decision.allowed, decision
        tell("reserved", decision.reservation_id, estimate)
        if number % 5 == 4:
            continue
        usage = Usage(source="api:acme", event_id=named, timestamp=0, tenant_id="acme", model="m", cost=cost)
        settled = await ledger.writer.step(engine.settle, Settle(usage, decision.reservation_id, now))
        assert not settled.repeated
        tell("settled", decision.reservation_id, cost)

async def main():
    await asyncio.gather(*(spend(application) for application in range(8)))

tell("started")
asyncio.run(main())
"""


@pytest.fixture
def spend_until(desk, project):
    """`spend_until(40)`: spends until 40 answers were given, then kill -9; gives all answers that came out."""
    processes = []

    def run(answers):
        process = subprocess.Popen(
            [sys.executable, "-c", SPENDER, f"sqlite:///{desk.path}", str(desk.now), str(len(processes))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": str(project / "exporter")},
        )
        processes.append(process)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) == answers:
                process.send_signal(signal.SIGKILL)
        process.wait()
        errors = process.stderr.read().decode()
        process.stdout.close()
        process.stderr.close()
        assert process.returncode == -signal.SIGKILL, errors
        # The last line may have been cut off by the kill; it was not acknowledged then.
        return [line.decode().split() for line in lines[1:] if line.endswith(b"\n")]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def test_nothing_acknowledged_is_missing_and_nothing_spent_is_freed(desk, spend_until):
    budget = desk.put("1000", tenant_id="acme")
    desk.ledger.close()
    reserved, settled = {}, {}
    for _ in range(ROUNDS):
        for what, reservation_id, amount in spend_until(random.SystemRandom().randint(2, 400)):
            (reserved if what == "reserved" else settled)[reservation_id] = int(amount)
        desk.open()
        with desk.ledger.read() as connection:
            recorded = dict(connection.exec_driver_sql("SELECT reservation_id, cost FROM usage").fetchall())
            standing = dict(connection.exec_driver_sql("SELECT reservation_id, estimate FROM reservations").fetchall())
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert {key: recorded.get(key) for key in settled} == settled
        # One that was set aside is still, or its usage was recorded although nobody heard of it.
        waiting = {key: estimate for key, estimate in reserved.items() if key not in recorded}
        assert {key: standing.get(key) for key in waiting} == waiting
        assert not standing.keys() & recorded.keys()
        assert desk.status(budget) == (sum(recorded.values()), sum(standing.values()), 0)
        desk.ledger.close()
    desk.open()
    # What is left can still be settled, once: here all that named no event.
    for reservation_id in [key for key in reserved if key in standing and not key.startswith(named_id("acme", ""))]:
        assert not desk.track("0.01", reservation_id=reservation_id).repeated
        standing.pop(reservation_id)
        recorded[reservation_id] = to_nanos("0.01")
    assert desk.status(budget) == (sum(recorded.values()), sum(standing.values()), 0)


def test_the_next_owner_need_not_wait_for_the_lock_of_one_that_was_killed(desk, spend_until):
    desk.put("1000", tenant_id="acme")
    desk.ledger.close()
    spend_until(2)
    assert os.path.exists(f"{desk.path}.lock")  # noqa: PTH110
    desk.open()
    assert desk.check("0.01").allowed
