"""Answers about a tenant's budgets, kept for a minute and dropped at every change: in memory, or in a Redis that all replicas share.

The ledger is what is true. A cache may lose everything at any time, and where it is not sure it is left out: the answer is computed.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from costwarden.budgets.settings import StatusCacheSettings
from costwarden.config import reveal
from costwarden.model import MICROS_PER_SECOND

EVERYBODY = ""
"""Stands among tenant ids for all of them."""

MOST_ANSWERS = 10_000
"""That are kept in memory; above it, the one that was used longest ago goes."""


class Computed(msgspec.Struct, frozen=True):
    """An answer, and the microsecond from which on it is another one though nothing is written: where a period ends."""

    body: bytes
    valid_until: int


Compute = Callable[[], Computed]
"""Reads the ledger, on a thread; what it raises goes to whoever asked."""

Count = Callable[[str], None]
"""Told `hit`, `miss` or `bypass` for every answer, and `error` for every operation on Redis that failed."""


class StatusCache(Protocol):
    """Gives answers again that nothing has changed."""

    async def answer(self, tenant_id: str, compute: Compute) -> bytes:
        """The kept answer, or a computed one."""
        ...

    def touched(self, tenants: Iterable[str]) -> None:
        """Drop what is kept of these tenants. Called from any thread after a commit, before whoever asked for it is told."""
        ...

    async def run(self) -> None:
        """What has to go on beside requests, until cancelled."""
        ...


class NoStatusCache:
    """Computes every answer."""

    async def answer(self, tenant_id: str, compute: Compute) -> bytes:  # noqa: ARG002 (the protocol's)
        """A computed answer."""
        return (await asyncio.to_thread(compute)).body

    def touched(self, tenants: Iterable[str]) -> None:
        """Nothing is kept."""

    async def run(self) -> None:
        """Nothing to do."""


class Flights:
    """Answers that are being computed: one is not to be kept if its tenant changes before it arrives. Thread-safe with `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._under_way: dict[str, set[object]] = {}

    def begin(self, tenant_id: str) -> object:
        """A computation begins, before it reads anything."""
        flight = object()
        with self.lock:
            self._under_way.setdefault(tenant_id, set()).add(flight)
        return flight

    def touched(self, tenants: Iterable[str]) -> None:
        """What is being computed of these tenants may be old; the caller holds `lock`."""
        for tenant_id in tenants:
            if tenant_id == EVERYBODY:
                self._under_way.clear()
            else:
                self._under_way.pop(tenant_id, None)

    def end(self, tenant_id: str, flight: object) -> bool:
        """The computation is over: whether nothing has touched its tenant since it began; the caller holds `lock`."""
        flights = self._under_way.get(tenant_id, set())
        if flight not in flights:
            return False
        flights.remove(flight)
        if not flights:
            del self._under_way[tenant_id]
        return True


class MemoryStatusCache:
    """For a ledger with one owner: it sees every change, those of other programs within a second."""

    def __init__(self, seconds: int, now: Callable[[], int], count: Count, most: int = MOST_ANSWERS) -> None:
        self._micros = seconds * MICROS_PER_SECOND
        self._now = now
        self._count = count
        self._most = most
        self._flights = Flights()
        self._kept: OrderedDict[str, Computed] = OrderedDict()

    async def answer(self, tenant_id: str, compute: Compute) -> bytes:
        """The kept answer, or a computed one."""
        now = self._now()
        with self._flights.lock:
            kept = self._kept.get(tenant_id)
            if kept is not None and now < kept.valid_until:
                self._kept.move_to_end(tenant_id)
                self._count("hit")
                return kept.body
        self._count("miss")
        flight = self._flights.begin(tenant_id)
        try:
            computed = await asyncio.to_thread(compute)
        except BaseException:
            with self._flights.lock:
                self._flights.end(tenant_id, flight)
            raise
        with self._flights.lock:
            if self._flights.end(tenant_id, flight):
                self._kept[tenant_id] = Computed(computed.body, min(computed.valid_until, now + self._micros))
                self._kept.move_to_end(tenant_id)
                if len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return computed.body

    def touched(self, tenants: Iterable[str]) -> None:
        """Drop what is kept of these tenants."""
        with self._flights.lock:
            self._flights.touched(tenants)
            for tenant_id in tenants:
                if tenant_id == EVERYBODY:
                    self._kept.clear()
                else:
                    self._kept.pop(tenant_id, None)

    async def run(self) -> None:
        """Nothing to do."""


def status_cache(settings: StatusCacheSettings, *, shared: bool, now: Callable[[], int], count: Count) -> StatusCache:
    """The cache that fits a ledger; `shared` says that other replicas write to it too: memory could not see that.

    Raises `ConfigError` where the password of Redis cannot be read.
    """
    if settings.seconds == 0 or (shared and settings.redis_url is None):
        return NoStatusCache()
    if settings.redis_url is not None:
        from costwarden.budgets.redis_status_cache import RedisStatusCache

        password = reveal(settings.redis_password) if settings.redis_password is not None else None
        return RedisStatusCache(settings, now, count, password=password)
    return MemoryStatusCache(settings.seconds, now, count)
