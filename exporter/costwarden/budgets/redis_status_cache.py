"""Answers about tenants' budgets in a Redis that all replicas share."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from costwarden.budgets.settings import StatusCacheSettings
from costwarden.budgets.status_cache import EVERYBODY, Compute, Computed, Count, Flights
from costwarden.model import MICROS_PER_SECOND

TIMEOUT_SECONDS = 0.025
"""For one answer of Redis. A request waits for two at most, and for none while Redis is known to be away."""

RETRY_SECONDS = 0.5
"""Between two attempts to reach Redis."""

Command = tuple[str | bytes | int, ...]
"""Of Redis, with its arguments."""

log = structlog.get_logger(__name__)


def drop_everything(settings: StatusCacheSettings, password: str | None) -> None:
    """Make everything old that is kept, from a program that runs for a moment. Raises `OSError` where Redis does not confirm it.

    It waits for a Redis that is busy: an answer that nobody makes old is given for a minute.
    """
    import redis

    options = {} if password is None else {"password": password}
    try:
        with redis.Redis.from_url(settings.redis_url or "", socket_timeout=5, socket_connect_timeout=5, **options) as client:
            client.set(f"{settings.redis_prefix}:epoch", secrets.token_hex(8))
    except (redis.RedisError, ValueError) as error:
        raise OSError(_kind_of(error)) from None


class RedisStatusCache:
    """For several replicas: every one drops what it has changed, for all of them.

    An answer is kept together with the *epoch* and the tenant's *version* that stood in Redis before it was computed, and is given again
    only while both still stand there. Both are random, so that none ever comes back: a change sets a new version, and whoever connects
    sets a new epoch, because while it was away changes may have gone untold, or an old copy of Redis may have been restored. Whatever
    arrives late, with an old version, is never looked at. A tenant whose change Redis has not confirmed is not looked up there.
    """

    def __init__(
        self,
        settings: StatusCacheSettings,
        now: Callable[[], int],
        count: Count,
        *,
        password: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._settings = settings
        self._now = now
        self._count = count
        self._password = password
        self._away = True
        self._timeout = timeout_seconds
        self._retry = retry_seconds
        self._flights = Flights()
        self._untold: set[str] = set()
        self._telling: set[str] = set()
        self._connection: Any = None
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beside: set[asyncio.Future[None]] = set()

    # --- requests ----------------------------------------------------------------------------------------------------------

    async def answer(self, tenant_id: str, compute: Compute) -> bytes:
        """The kept answer, or a computed one."""
        if self._unsure(tenant_id):
            self._count("bypass")
            return (await asyncio.to_thread(compute)).body
        now = self._now()
        flight = self._flights.begin(tenant_id)
        try:
            stamp, kept = await self._look_up(tenant_id)
            if kept is not None and now < kept.valid_until and not self._unsure(tenant_id):
                self._count("hit")
                return kept.body
            self._count("bypass" if stamp is None else "miss")
            computed = await asyncio.to_thread(compute)
        finally:
            with self._flights.lock:
                fresh = self._flights.end(tenant_id, flight)
        if fresh and stamp is not None and not self._unsure(tenant_id):
            until = min(computed.valid_until, now + self._settings.seconds * MICROS_PER_SECOND)
            seconds = (until - now) // MICROS_PER_SECOND
            if seconds > 0:
                value = b"%b %d\n%b" % (stamp, until, computed.body)
                # Nobody waits for it.
                write = asyncio.ensure_future(self._keep(self._key("status", tenant_id), value, seconds))
                self._beside.add(write)
                write.add_done_callback(self._beside.discard)
        return computed.body

    def _unsure(self, tenant_id: str) -> bool:
        """Whether Redis is away, or may not know yet what has changed here."""
        if self._connection is None:
            return True
        return any(name in waiting for waiting in (self._untold, self._telling) for name in (tenant_id, EVERYBODY))

    async def _look_up(self, tenant_id: str) -> tuple[bytes | None, Computed | None]:
        """What an answer is to be stamped with, None where Redis does not say; and the kept answer, where there is one in force."""
        version_key = self._key("version", tenant_id)
        found = await self._ask([("MGET", self._key("epoch"), version_key, self._key("status", tenant_id))])
        if found is None:
            return None, None
        [[epoch, version, value]] = found
        if epoch is None:
            # Redis was emptied.
            self._lose(self._connection)
            return None, None
        if version is None:
            made = await self._ask([("SET", version_key, secrets.token_hex(8), "NX", "EX", self._version_seconds), ("GET", version_key)])
            if made is None or made[1] is None:
                return None, None
            return b"%b %b" % (epoch, made[1]), None
        stamp = b"%b %b" % (epoch, version)
        if value is None:
            return stamp, None
        head, _, body = value.partition(b"\n")
        kept_stamp, _, until = head.rpartition(b" ")
        if kept_stamp != stamp:
            return stamp, None
        if not (until.isdigit() and len(until) < 20 and body):
            # Whoever else writes to this Redis, it is none of ours.
            self._count("error")
            return stamp, None
        return stamp, Computed(body, int(until))

    async def _keep(self, key: str, value: bytes, seconds: int) -> None:
        await self._ask([("SET", key, value, "EX", seconds)])

    # --- changes -----------------------------------------------------------------------------------------------------------

    def touched(self, tenants: Iterable[str]) -> None:
        """Give these tenants another version in Redis, as soon as it can be reached; until then they are not looked up there."""
        with self._flights.lock:
            self._flights.touched(tenants)
            self._untold |= set(tenants)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Keep the connection, and tell Redis what has changed, until cancelled."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        self._wake.set()
        try:
            # redis-py swallows a cancellation that comes while it connects.
            while not (task is not None and task.cancelling()):
                await self._wake.wait()
                self._wake.clear()
                with self._flights.lock:
                    self._telling, self._untold = self._untold, set()
                if self._connection is None:
                    # Everything that is kept may be old: this process, or the whole of Redis, was away.
                    self._telling.add(EVERYBODY)
                    await self._connect()
                if self._connection is not None and await self._tell(self._telling):
                    self._telling = set()
                    self._report_away("")
                    continue
                with self._flights.lock:
                    self._untold |= {EVERYBODY} if EVERYBODY in self._telling else self._telling
                self._telling = set()
                await asyncio.sleep(self._retry)
                self._wake.set()
        finally:
            self._lose(self._connection)
            self._loop = None

    async def _tell(self, tenants: set[str]) -> bool:
        """Make everything old that is kept of these tenants; False where Redis did not confirm it."""
        commands: list[Command] = []
        if EVERYBODY in tenants:
            commands.append(("SET", self._key("epoch"), secrets.token_hex(8)))
        else:
            commands += [
                ("SET", self._key("version", tenant_id), secrets.token_hex(8), "EX", self._version_seconds) for tenant_id in tenants
            ]
        # In parts, so that a request does not wait for thousands of them.
        for first in range(0, len(commands), 500):
            if await self._ask(commands[first : first + 500]) is None:
                return False
        return True

    async def _connect(self) -> None:
        from redis.asyncio.connection import Connection, parse_url
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        try:
            options: dict[str, Any] = dict(parse_url(self._settings.redis_url or ""))
            if self._password is not None:
                options["password"] = self._password
            kind = options.pop("connection_class", Connection)
            # Without retries: a connection that is made again in silence would keep the old epoch.
            connection = kind(**options, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1, socket_timeout=1)
            await connection.connect()
        except Exception as error:  # noqa: BLE001 (an address, a name server, a password: whatever it was, there is no cache)
            self._report_away(_kind_of(error))
        else:
            self._connection = connection

    # --- Redis -------------------------------------------------------------------------------------------------------------

    @property
    def _version_seconds(self) -> int:
        # As long as an answer of that version may live, and then some; an expired version only costs a computation.
        return 2 * self._settings.seconds + 60

    def _key(self, kind: str, tenant_id: str = "") -> str:
        return f"{self._settings.redis_prefix}:{kind}:{tenant_id}" if tenant_id else f"{self._settings.redis_prefix}:{kind}"

    async def _ask(self, commands: Sequence[Command]) -> list[Any] | None:
        """The answers to commands, sent together; None where they did not come in time: then the connection is given up."""
        connection = None
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                connection = self._connection
                if connection is None:
                    return None
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await connection.read_response() for _ in commands]
        except asyncio.CancelledError:
            # The answer is still on its way: whoever comes next would take it for theirs.
            self._lose(connection)
            raise
        except Exception as error:  # noqa: BLE001 (a broken cache is no reason to fail)
            self._report_away(_kind_of(error))
            self._lose(connection or self._connection)
            return None

    def _report_away(self, error: str) -> None:
        """Count a failure, and log where one begins or ends; no error: Redis is there."""
        if error:
            self._count("error")
        if bool(error) == self._away:
            return
        self._away = bool(error)
        if error:
            log.warning("the status cache is left out until Redis answers", error=error)
        else:
            log.info("the status cache is in Redis")

    def _lose(self, connection: Any) -> None:
        """Give a connection up; a new one is made by `run`."""
        if connection is None or connection is not self._connection:
            return
        self._connection = None
        self._wake.set()
        closing = asyncio.ensure_future(connection.disconnect(nowait=True))
        self._beside.add(closing)
        closing.add_done_callback(self._beside.discard)


def _kind_of(error: Exception) -> str:
    # Not its text, which may repeat the URL with a password.
    return type(error).__name__
