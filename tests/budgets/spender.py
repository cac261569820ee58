"""Spenders for `test_crash.py`: a process that forks one for each line it reads, so that none has to import anything.

A line is `url now name answers`; the answer is the process id of a spender that writes what it was told into the file `answers`: one
write a line, so that what stands there was acknowledged before the kill.
"""

import asyncio
import ctypes
import itertools
import os
import signal
import sys
from zoneinfo import ZoneInfo

from costwarden.budgets.calls import Release, Reserve, Settle
from costwarden.budgets.engine import Engine
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Ledger
from costwarden.model import DIMENSIONS, Usage

APPLICATIONS = 8
LEASED_CALLS = 3
_PR_SET_PDEATHSIG = 1


class Spender:
    """Eight applications at once; each checks and tracks, draws and returns leases, cancels, or crashes in between."""

    def __init__(self, url: str, now: int, name: str, answers: str) -> None:
        self.now, self.name = now, name
        self.engine = Engine(BudgetsSettings(default=None), ZoneInfo("UTC"), lambda: now)
        self.ledger = Ledger(url, owner=True, participant=self.engine)
        self.file = os.open(answers, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(self, *words: object) -> None:
        os.write(self.file, (" ".join(map(str, words)) + "\n").encode())

    async def reserve(self, estimate: int, event_id: str, *more: object) -> str:
        dimensions = tuple({"tenant_id": "acme", "model": "m"}.get(name, "") for name in DIMENSIONS)
        wish = Reserve(dimensions, estimate, self.now, event_id, *more)
        decision = await self.ledger.writer.step(self.engine.reserve, wish)
        assert decision.allowed, decision
        self.tell("leased" if more else "reserved", decision.reservation_id, estimate)
        return decision.reservation_id

    async def settle(self, reservation_id: str, event_id: str, cost: int) -> None:
        usage = Usage(source="api:acme", event_id=event_id, timestamp=0, tenant_id="acme", model="m", cost=cost)
        settled = await self.ledger.writer.step(self.engine.settle, Settle(usage, reservation_id, self.now))
        assert (settled.repeated, settled.refused) == (False, ""), settled
        self.tell("settled", settled.event_id, cost)

    async def release(self, reservation_id: str) -> None:
        self.tell("releasing", reservation_id, 0)
        released = await self.ledger.writer.step(self.engine.release, Release("acme", reservation_id))
        assert released.found
        self.tell("released", reservation_id, released.released)

    async def spend(self, application: int) -> None:
        for number in itertools.count():
            event_id = f"{self.name}-{application}-{number}"
            estimate, cost = 1000 + number, 900 + number
            if number % 7 == 6:
                lease = await self.reserve(10 * estimate, event_id, "lease", 3600)
                for call in range(LEASED_CALLS):
                    await self.settle(lease, f"{event_id}-{call}", cost)
                await self.release(lease)
                continue
            reservation_id = await self.reserve(estimate, event_id if number % 2 else "")
            if number % 5 == 3:
                await self.release(reservation_id)
            elif number % 5 != 4:
                await self.settle(reservation_id, event_id if number % 2 else "", cost)

    async def run(self) -> None:
        await asyncio.gather(*(self.spend(application) for application in range(APPLICATIONS)))


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        url, now, name, answers = line.split()
        if pid := os.fork():
            print(pid, flush=True)
            continue
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            asyncio.run(Spender(url, int(now), name, answers).run())
        finally:
            # An error is on standard error by now; never back into the loop of the parent.
            sys.excepthook(*sys.exc_info())
            os._exit(1)


if __name__ == "__main__":
    main()
