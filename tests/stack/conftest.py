"""The whole stack, as `deploy/demo/stack.py` starts it, for a test alone; and a script that only writes down how it was called."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from alertmanager_server import AlertmanagerServer
from inboxes import Inboxes

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo"
sys.path.insert(0, str(DEMO))

from processes import wait_for  # noqa: E402 (the path comes first)
from stack import Stack  # noqa: E402

SECONDS = 60.0
"""Deadline of what takes 1 to 3 s: with two workers on two cores, each with four servers, it may take thrice that."""


@pytest.fixture(autouse=True)
def a_day_that_lasts(today: date) -> date:
    """No test begins in the last minute of a day, or of a month: what budgets do at midnight is not what these are about."""
    return today


@pytest.fixture
def start_stack(tmp_path: Path, tools: object) -> Iterator[Callable[..., Stack]]:
    """`start_stack(sections, **more)` starts a stack whose `costwarden.yaml` has `sections` beside the demo's server and tokens."""
    with ExitStack() as stacks:

        def start(sections: dict[str, Any], *, moto: bool = False, **more: Any) -> Stack:
            shipped = yaml.safe_load((DEMO / "costwarden.yaml").read_text(encoding="utf-8"))
            config = {name: shipped[name] for name in ("server", "auth")} | sections
            stack = Stack(tmp_path / "stack", yaml.safe_dump(config), moto=moto, **more)
            return stacks.enter_context(stack)

        yield start


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually("what", probe)` gives the first true answer of `probe`; the test fails where none comes in time."""

    def wait(what: str, probe: Callable[[], Any]) -> Any:
        return wait_for(what, probe, SECONDS)

    return wait


@pytest.fixture(scope="session")
def runs_of(eventually: Callable[..., Any]) -> Callable[[Stack, int], list[dict[str, Any]]]:
    """`runs_of(stack, count)` waits until that many runs have ended, and gives them, oldest first."""

    def wait(stack: Stack, count: int) -> list[dict[str, Any]]:
        return eventually(f"the end of {count} runs", lambda: found if len(found := stack.finished_runs()) == count else None)

    return wait


@dataclass(frozen=True)
class Clerk:
    """The script `clerk.py` in a folder of its own: what it was asked, and gates that hold it."""

    folder: Path

    def playbook(self, name: str, **more: Any) -> dict[str, Any]:
        """A playbook that runs it on one target: the budget that the alert is about."""
        program = [sys.executable, str(Path(__file__).with_name("clerk.py"))]
        labels = {"target": "budget"} | more.pop("parameters_from_labels", {})
        base = {"name": name, "script": program, "mode": "enforce", "parameters": {"folder": str(self.folder)}}
        return base | {"parameters_from_labels": labels} | more

    def calls(self, phase: str) -> list[dict[str, Any]]:
        """Its calls of a phase, `plan` or `apply`, oldest first."""
        log = self.folder / "calls.jsonl"
        # What stands after the last line break is a line that is being written.
        *lines, _ = log.read_text(encoding="utf-8").split("\n") if log.exists() else [""]
        return [call for call in map(json.loads, lines) if call["phase"] == phase]

    def hold(self, phase: str) -> None:
        """Let it wait at the beginning of a phase, until `release`."""
        (self.folder / f"hold-{phase}").touch()

    def release(self, phase: str) -> None:
        (self.folder / f"hold-{phase}").unlink(missing_ok=True)


@pytest.fixture
def hire(tmp_path: Path) -> Iterator[Callable[[str], Clerk]]:
    """`hire(name)` gives a clerk. One that outlives the server that started it is let go with the test, and ends by itself."""
    hired: list[Clerk] = []

    def make(name: str) -> Clerk:
        folder = tmp_path / name
        folder.mkdir()
        hired.append(Clerk(folder))
        return hired[-1]

    yield make
    for clerk in hired:
        clerk.release("plan")
        clerk.release("apply")


def overspend(stack: Stack, tenant_id: str, cost_usd: float = 0.02) -> None:
    """One call of a tenant that costs this much; the budgets of these tests have a limit of $0.01."""
    call = {"tenant_id": tenant_id, "provider": "openai", "model": "gpt-4o", "cost_usd": cost_usd}
    stack.call("POST", "/api/ai-budget/track", call, bearer="applications").raise_for_status()


@pytest.fixture(name="overspend")
def overspend_fixture() -> Callable[..., None]:
    return overspend


def delivered(stack: Stack, outcome: str) -> float:
    """Alerts with this outcome that the server has counted since it started, by a direct look at its page."""
    prefix = f'costwarden_webhook_alerts_total{{outcome="{outcome}"}} '
    lines = stack.call("GET", "/metrics").text.splitlines()
    return next((float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)), 0.0)


@pytest.fixture(name="delivered")
def delivered_fixture() -> Callable[[Stack, str], float]:
    return delivered


def tenant_budgets(actions: dict[str, str]) -> dict[str, Any]:
    """The section `budgets`: for each tenant a cap of $0.01 a month, with the action of its alert; they are named b0, b1, …"""
    configured = [
        {"name": f"b{number}", "scope": {"tenant_id": tenant}, "limit_usd": 0.01, "action": action}
        for number, (tenant, action) in enumerate(actions.items())
    ]
    return {"default": None, "configured": configured}


@pytest.fixture(name="tenant_budgets")
def tenant_budgets_fixture() -> Callable[[dict[str, str]], dict[str, Any]]:
    return tenant_budgets


@pytest.fixture
def inboxes(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Inboxes]:
    """Those who are told: a mail server, and one that plays Slack, PagerDuty and whoever takes a webhook."""
    with Inboxes(tmp_path / "inboxes", free_port(), free_port()) as servers:
        yield servers


@pytest.fixture
def start_alertmanager(tmp_path: Path, tools: Any, free_port: Callable[[], int]) -> Iterator[Callable[..., AlertmanagerServer]]:
    """`start_alertmanager(values)` starts an Alertmanager with the configuration that these values render to."""
    with ExitStack() as servers:

        def start(values: dict[str, Any]) -> AlertmanagerServer:
            return servers.enter_context(AlertmanagerServer(tools.alertmanager, tmp_path / "alertmanager", free_port(), values))

        yield start
