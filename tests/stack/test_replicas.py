"""Real servers, one on SQLite or two on one PostgreSQL: what is admitted, spent and counted once, whoever asks which of them, and when."""

import asyncio
import random
import sys
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from itertools import count

import httpx
import psycopg
import pytest
import yaml
from postgresql_server import PostgresqlServer
from processes import Processes, free_port, wait_for

from costwarden.ledger import Ledger
from costwarden.ledger.locks import LEADER_LOCK

pytestmark = pytest.mark.stack

SECONDS = 60.0

# A dollar a million tokens: 50,000 tokens are 5 cents.
CONFIG = {
    "budgets": {"default": None, "unbudgeted": "allow"},
    "pricing": {"overrides": [{"valid_from": "2020-01-01", "model": "plain", "input_usd_mtok": 1, "output_usd_mtok": 1}]},
}
TOKENS = {"0.05": 50_000, "0.01": 10_000}

SUMS = """
SELECT (SELECT coalesce(sum(cost), 0) FROM usage) AS spent, (SELECT count(*) FROM usage) AS events,
  (SELECT coalesce(sum(cost), 0) FROM usage_hourly) AS hourly, (SELECT coalesce(sum(cost), 0) FROM usage_totals) AS totals,
  (SELECT count(*) FROM usage_identities) AS identities
"""


class Replicas:
    """`count` servers on one ledger."""

    def __init__(self, folder, database_url, count, sections):
        self.folder, self.database_url = folder, database_url
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in range(count)]
        self.processes = Processes(folder / "logs")
        # One for all looks: each client of its own would read the certificates of the system first, 30 ms.
        self.http = httpx.Client(trust_env=False, timeout=SECONDS)
        for number, url in enumerate(self.urls):
            config = {"database_url": database_url, "server": {"port": int(url.rpartition(":")[2])}, **CONFIG, **sections}
            (folder / f"{number}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def launch(self, *numbers):
        for number in numbers:
            command = [sys.executable, "-m", "costwarden", "serve", "--config", self.folder / f"{number}.yaml"]
            self.processes.launch(str(number), command)
        for number in numbers:
            self.processes.await_ready(str(number), lambda number=number: self.is_ready(number))

    def is_ready(self, number):
        try:
            return self.http.get(f"{self.urls[number]}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def log(self, number):
        return self.processes.log(str(number)).read_text(encoding="utf-8")

    def query(self, statement):
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def start(tmp_path):
    """`start(database_url, 2, budgets={…})`: that many servers, ready."""
    started = []

    def launch(database_url, count, **sections):
        folder = tmp_path / f"servers {len(started)}"
        folder.mkdir()
        started.append(Replicas(folder, database_url, count, sections))
        started[-1].launch(*range(count))
        return started[-1]

    yield launch
    for replicas in started:
        replicas.processes.__exit__()
        replicas.http.close()


@pytest.fixture(params=["one on SQLite", "two on PostgreSQL"])
def servers(request, start, tmp_path):
    """`servers(budgets={…})`: one on SQLite, or two on PostgreSQL."""
    if request.param == "one on SQLite":
        return lambda **sections: start(f"sqlite:///{tmp_path / 'costwarden.db'}", 1, **sections)
    url = request.getfixturevalue("postgresql_url")()
    return lambda **sections: start(url, 2, **sections)


@pytest.fixture
def two_replicas(start, postgresql_url):
    return lambda **sections: start(postgresql_url(), 2, **sections)


def budgets(*configured, **more):
    return {**CONFIG["budgets"], "configured": list(configured), **more}


class Clients:
    """Applications that ask the servers in turn, each on a connection of its own. Keeps the status of every answer."""

    def __init__(self, replicas, http, connections):
        # The pool of httpx takes time that grows with the square of what waits for it.
        self._free = asyncio.Semaphore(connections)
        self.urls = replicas.urls
        self.http = http
        self.statuses = Counter()
        self._turns = count()

    async def post(self, path, body, number=None):
        url = self.urls[(next(self._turns) if number is None else number) % len(self.urls)]
        async with self._free:
            answer = await self.http.post(f"{url}/api/ai-budget/{path}", json=body)
        self.statuses[path, answer.status_code] += 1
        return answer

    async def check(self, usd="0.05", number=None, **named):
        body = {"tenant_id": "acme", "model": "plain", "estimated_input_tokens": TOKENS[usd], "estimated_output_tokens": 0, **named}
        return await self.post("check", body, number)

    async def track(self, usd, number=None, **named):
        return await self.post("track", {"tenant_id": "acme", "model": "plain", "cost_usd": float(usd), **named}, number)


@asynccontextmanager
async def clients_of(replicas, connections=200):
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS, limits=limits) as http:
        yield Clients(replicas, http, connections)


async def reach(is_reached):
    """Returns once it is; the caller has a deadline for all of it."""
    while not is_reached():  # noqa: ASYNC110 (other processes make it true)
        await asyncio.sleep(0.01)


def nanos(usd):
    return round(float(usd) * 1_000_000_000)


def assert_sums_are_exact(replicas):
    """Hourly sums, totals and identities are those of the events, and what budgets have is what rows say; gives spent and events."""
    ((spent, events, *sums, identities),) = replicas.query(SUMS)
    assert (sums, identities) == ([spent, spent], events)
    scopes = ("tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "user_id", "service")
    matches = " AND ".join(f"(b.{name} = '' OR b.{name} = t.{name})" for name in scopes)
    within = "t.{} >= p.period_start AND t.{} < p.period_end"
    wrong = replicas.query(
        f"""
        SELECT b.budget, p.spent, p.reserved, p.unsettled, u.cost, r.open, r.unsettled
        FROM budget_periods AS p JOIN budgets AS b USING (budget),
        LATERAL (SELECT coalesce(sum(cost), 0) AS cost FROM usage AS t WHERE {matches} AND {within.format("timestamp", "timestamp")}) AS u,
        LATERAL (
          SELECT coalesce(sum(estimate) FILTER (WHERE state = 'open'), 0) AS open,
            coalesce(sum(estimate) FILTER (WHERE state = 'unsettled'), 0) AS unsettled
          FROM reservations AS t WHERE {matches} AND {within.format("created_at", "created_at")}
        ) AS r
        WHERE (p.spent, p.reserved, p.unsettled) <> (u.cost, r.open, r.unsettled)
        """
    )
    assert wrong == []
    return int(spent), events


# --- the cap -------------------------------------------------------------------------------------------------------------------


def test_of_200_clients_at_once_a_dollar_pays_for_exactly_20_calls_of_5_cents(servers):
    replicas = servers(budgets=budgets({"name": "dollar", "limit_usd": 1}))

    async def everybody():
        async with clients_of(replicas) as clients:
            return [answer.status_code for answer in await asyncio.gather(*(clients.check() for _ in range(200)))]

    assert Counter(asyncio.run(everybody())) == {200: 20, 429: 180}  # 1.00 / 0.05


def test_200_clients_that_check_call_and_track_spend_a_dollar_and_not_more(servers):
    replicas = servers(budgets=budgets({"name": "dollar", "limit_usd": 1}))

    async def spend(clients):
        checked = await clients.check()
        if checked.status_code == 200:
            tracked = await clients.track("0.05", reservation_id=checked.json()["reservation_id"])
            assert tracked.status_code == 200
        return checked.status_code

    async def everybody():
        async with clients_of(replicas) as clients:
            statuses = Counter(await asyncio.gather(*(spend(clients) for _ in range(200))))
            return statuses, (await clients.check()).json()["denied_by"]

    statuses, denied_by = asyncio.run(everybody())
    assert statuses == {200: 20, 429: 180}
    assert (denied_by["spent_usd"], denied_by["reserved_usd"]) == (1, 0)


def test_fifty_tenants_under_a_budget_of_everybody_get_no_more_than_theirs_and_no_more_than_all(servers):
    # 50 × 0.10 would be 5.00; all together have 1.00.
    tenants = [f"t{number}" for number in range(50)]
    configured = [{"name": tenant, "scope": {"tenant_id": tenant}, "limit_usd": 0.1} for tenant in tenants]
    replicas = servers(budgets=budgets({"name": "all", "limit_usd": 1}, *configured))

    async def everybody():
        async with clients_of(replicas) as clients:
            asking = random.sample(tenants * 4, 200)
            answers = await asyncio.gather(*(clients.check(tenant_id=tenant) for tenant in asking))
            return Counter(tenant for tenant, answer in zip(asking, answers, strict=True) if answer.status_code == 200)

    admitted = asyncio.run(everybody())
    assert sum(admitted.values()) == 20
    assert max(admitted.values()) <= 2


# --- once ----------------------------------------------------------------------------------------------------------------------


def test_events_that_reach_both_replicas_at_once_in_any_order_count_once(two_replicas):
    replicas = two_replicas(
        budgets=budgets({"name": "all", "limit_usd": 1000}, {"name": "acme", "scope": {"tenant_id": "acme"}, "limit_usd": 900})
    )
    events = [f"e{number}" for number in range(60)]

    async def call(clients, event_id):
        """The check and the usage go to both, twice; the usage may overtake the check."""
        checks = [clients.check("0.01", number=number, event_id=event_id) for number in (0, 1, 0, 1)]
        tracks = [clients.track("0.02", number=number, event_id=event_id) for number in (0, 1, 0, 1)]
        asked = checks + tracks
        random.shuffle(asked)
        await asyncio.gather(*asked)
        # Whoever was not sure that it arrived says it again.
        return await clients.track("0.02", event_id=event_id)

    async def everybody():
        async with clients_of(replicas, 64) as clients:
            again = await asyncio.gather(*(call(clients, event_id) for event_id in events))
            return again, clients.statuses

    again, statuses = asyncio.run(everybody())
    assert all(answer.json()["repeated"] for answer in again)
    # A check that comes after its usage is a conflict.
    assert set(statuses) <= {("check", 200), ("check", 409), ("track", 200)}
    assert assert_sums_are_exact(replicas) == (60 * nanos("0.02"), 60)
    assert replicas.query("SELECT count(*) FROM reservations") == [(0,)]


def test_overlapping_scopes_from_two_replicas_end_in_no_error_and_no_wrong_sum(two_replicas):
    names = {"tenant_id": ["a", "b"], "team": ["x", "y"], "user_id": ["u", "v"], "feature": ["f", "g"]}
    configured = [
        {"name": f"{dimension}-{value}", "scope": {dimension: value}, "limit_usd": 1000}
        for dimension, values in names.items()
        for value in values
    ]
    # Of every name only one period a year begins while this runs; hours may.
    configured += [{"name": "all", "limit_usd": 1000}, {"name": "hour", "period": "hour", "limit_usd": 1000}]
    replicas = two_replicas(budgets=budgets(*configured))
    spent = []

    async def spend(clients, number):
        draw = random.Random(number)
        for turn in range(12):
            named = {dimension: draw.choice([*values, ""]) for dimension, values in names.items()} | {"tenant_id": draw.choice(["a", "b"])}
            anonymous = draw.random() < 0.5
            event = {} if anonymous else {"event_id": f"{number}-{turn}"}
            checked = (await clients.check("0.01", **named, **event)).json()
            # By another replica than the check, and naming more than the check did: other budgets match as well.
            more = {dimension: value or draw.choice(names[dimension]) for dimension, value in named.items()}
            by = {"reservation_id": checked["reservation_id"]} if draw.random() < 0.7 else event
            tracked = (await clients.track("0.02", **more, **by)).json()
            # Usage that names nothing may have settled it before.
            spent.append(0 if tracked["repeated"] else tracked["cost_usd"])

    async def everybody():
        async with clients_of(replicas, 32) as clients:
            await asyncio.gather(*(spend(clients, number) for number in range(32)))
            return clients.statuses

    statuses = asyncio.run(everybody())
    assert statuses == {("check", 200): 384, ("track", 200): 384}
    assert assert_sums_are_exact(replicas) == (nanos(sum(spent)), sum(1 for cost in spent if cost))


# --- changes under load --------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_made_or_lowered_under_load_holds_from_its_first_moment_on_both(two_replicas):
    replicas = two_replicas(budgets=budgets({"name": "all", "limit_usd": 1000}))
    tenants = [f"t{number}" for number in range(8)]
    over = []

    capped = set()
    admitted_before = Counter()

    async def spend(clients, tenant, until):
        while not until.is_set():
            before = tenant not in capped
            checked = await clients.check("0.01", tenant_id=tenant)
            if checked.status_code == 200:
                admitted_before[tenant] += before
                await clients.track("0.01", tenant_id=tenant, reservation_id=checked.json()["reservation_id"])

    async def cap(clients, tenant):
        """Caps at what may be spent anyway, and then below what is spent."""
        for limit in (0.5, 0.05):
            answer = await clients.post("set", {"tenant_id": tenant, "monthly_limit_usd": limit})
            assert answer.status_code == 200
            capped.add(tenant)
            # Whatever is asked after the answer, of either replica, is under the new limit.
            for number in (0, 1):
                checked = await clients.check("0.01", number=number, tenant_id=tenant)
                if checked.status_code == 200:
                    over.append(checked.json()["remaining_usd"] < 0)
                    await clients.track("0.01", tenant_id=tenant, reservation_id=checked.json()["reservation_id"])
                else:
                    over.append(checked.json()["denied_by"]["limit_usd"] != limit)
            await asyncio.sleep(random.random() / 2)

    async def everybody():
        async with clients_of(replicas, 64) as clients:
            until = asyncio.Event()
            spending = [asyncio.create_task(spend(clients, tenant, until)) for tenant in tenants * 2]
            await asyncio.gather(*(cap(clients, tenant) for tenant in tenants))
            until.set()
            await asyncio.gather(*spending)
            return clients.statuses

    statuses = asyncio.run(everybody())
    assert not any(over)
    assert set(statuses) <= {("check", 200), ("check", 429), ("track", 200), ("set", 200)}
    assert_sums_are_exact(replicas)
    # Calls of a cent cannot pass a cap that held from its first moment: what is above it was admitted before that.
    spent = dict(replicas.query("SELECT budget, spent FROM budget_periods WHERE budget LIKE 'tenant_id=%'"))
    most = {f"tenant_id={tenant}/month": max(nanos("0.5"), admitted_before[tenant] * nanos("0.01")) for tenant in tenants}
    assert {budget: min(cost, most[budget]) for budget, cost in spent.items()} == spent
    assert spent.keys() == most.keys()


# --- a database that goes away -------------------------------------------------------------------------------------------------


class Book:
    """What clients were told, and said again until they were told something."""

    def __init__(self):
        self.answers = defaultdict(list)
        self.acknowledged = {}

    async def tell(self, clients, event_id, usd):
        """Says it again and again, to either replica; 503 is no answer."""
        while True:
            answer = await clients.track(usd, tenant_id="acme", event_id=event_id)
            self.answers[answer.status_code].append(answer)
            if answer.status_code == 200:
                self.acknowledged[event_id] = usd
                return
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.05)


async def answered(clients, number):
    """Asks one of them until it has found the database again: what the clients were told may all have come from the other one."""
    while True:
        answer = await clients.check("0.01", number=number)
        if answer.status_code != 503:
            return answer.status_code
        await asyncio.sleep(0.05)


def test_replicas_go_on_without_a_restart_when_postgresql_was_gone(start):
    with PostgresqlServer(settings=("fsync=off", "full_page_writes=off", "max_connections=60")) as server:
        name = server.create()
        Ledger(server.url(name)).close()
        replicas = start(server.url(name), 2, budgets=budgets({"name": "all", "limit_usd": 1000}))
        book = Book()

        async def everybody():
            async with clients_of(replicas, 32) as clients:
                numbers = count()
                until = asyncio.Event()

                async def spend():
                    while not until.is_set():
                        await book.tell(clients, f"e{next(numbers)}", "0.01")

                spending = [asyncio.create_task(spend()) for _ in range(16)]
                for _ in range(2):
                    told = len(book.acknowledged)
                    await reach(lambda told=told: len(book.acknowledged) >= told + 50)
                    await asyncio.to_thread(server.crash)
                    refused = len(book.answers[503])
                    # Never yes while it is gone, and always an answer.
                    for number in (0, 1):
                        answer = await clients.check("0.01", number=number)
                        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                    await reach(lambda refused=refused: len(book.answers[503]) >= refused + 20)
                    told = len(book.acknowledged)
                    await asyncio.to_thread(server.start)
                    await reach(lambda told=told: len(book.acknowledged) >= told + 50)
                until.set()
                await asyncio.gather(*spending)
                return [await answered(clients, number) for number in (0, 1)]

        assert asyncio.run(asyncio.wait_for(everybody(), 240)) == [200, 200]
        recorded = dict(replicas.query("SELECT event_id, cost FROM usage"))
        assert recorded == {event_id: nanos(usd) for event_id, usd in book.acknowledged.items()}
        assert_sums_are_exact(replicas)
        replicas.processes.stop("0", "1")


def test_connections_that_are_cut_at_random_lose_nothing_and_count_nothing_twice(two_replicas):
    replicas = two_replicas(budgets=budgets({"name": "all", "limit_usd": 1000}))
    busy = "datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {busy}"
    book = Book()

    async def everybody():
        async with clients_of(replicas, 32) as clients:
            numbers = count()
            until = asyncio.Event()

            async def spend():
                while not until.is_set():
                    await book.tell(clients, f"e{next(numbers)}", "0.01")

            spending = [asyncio.create_task(spend()) for _ in range(16)]
            hits = 0
            while hits < 40:
                hits += len(await asyncio.to_thread(replicas.query, cut))
                await asyncio.sleep(random.random() / 50)
            until.set()
            await asyncio.gather(*spending)

    asyncio.run(asyncio.wait_for(everybody(), 240))
    recorded = dict(replicas.query("SELECT event_id, cost FROM usage"))
    assert recorded == {event_id: nanos(usd) for event_id, usd in book.acknowledged.items()}
    assert_sums_are_exact(replicas)


# --- duties --------------------------------------------------------------------------------------------------------------------

LEADS = "this replica reads the sources and runs the playbooks now"


def test_one_replica_has_the_duties_and_when_it_is_killed_the_other_takes_them(two_replicas, tmp_path):
    bills = tmp_path / "bills"
    bills.mkdir()
    source = {"type": "focus", "name": "aws", "path": str(bills), "interval_seconds": 1, "jitter_ratio": 0}
    replicas = two_replicas(sources=[source])

    def leaders():
        return [number for number in (0, 1) if LEADS in replicas.log(number)]

    wait_for("a leader", leaders, SECONDS)

    def attempts():
        return replicas.query("SELECT last_attempt_at, refreshes_ok + refreshes_failed FROM source_state WHERE source = 'aws'")

    first = wait_for("a look at the source", attempts, SECONDS)
    wait_for("another look", lambda: attempts() > first, SECONDS)
    (leader,) = leaders()
    follower = 1 - leader
    # Of this lock alone: changes of budgets take one like it for a moment, and other databases of the server have theirs.
    holders = f"""
        SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
        AND classid::bigint << 32 | objid::bigint = {LEADER_LOCK}
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    assert replicas.query(holders) == [(1,)]
    replicas.processes.kill(str(leader))
    wait_for("the other one to take over", lambda: LEADS in replicas.log(follower), SECONDS)
    taken = attempts()
    wait_for("its look at the source", lambda: attempts() > taken, SECONDS)
    # The one that comes back follows.
    replicas.launch(leader)
    before = attempts()
    wait_for("three more looks", lambda: attempts()[0][1] >= before[0][1] + 3, SECONDS)
    assert replicas.log(leader).count(LEADS) == 1
    assert replicas.query(holders) == [(1,)]
