"""A ledger, a clock that stands still, a script that does as its parameters say, and the webhook that starts it all."""

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.journal import JournalEntry, read_journal
from costwarden.ledger.remediation import QueueItem, Run, list_runs, queue_lengths, read_item
from costwarden.model import MICROS_PER_SECOND, to_micros
from costwarden.remediation.intake import IntakeResult, accept
from costwarden.remediation.settings import RemediationSettings
from costwarden.remediation.worker import Worker

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

ACTOR = '''\
import json, os, sys, time
from pathlib import Path

request = json.load(sys.stdin)
asked = request["parameters"]
phase = "restore" if "--restore" in sys.argv else "apply" if "--apply" in sys.argv else "plan"
call = {"phase": phase, "argv": sys.argv[1:], "request": request, "environ": dict(os.environ), "pid": os.getpid()}
with open(asked["log"], "a") as log:
    log.write(json.dumps(call) + "\\n")


def say(**line):
    print(json.dumps(line), flush=True)


def hold(where):
    """Wait at `where` until the test makes the file that it names."""
    if where in asked.get("hold", {}):
        gate = Path(asked["hold"][where])
        Path(f"{gate}.reached").touch()
        while not gate.exists():
            time.sleep(0.01)


hold(phase)
targets = asked["targets"] if request["targets"] is None else request["targets"]
for number, target in enumerate(targets):
    if number:
        hold(f"{phase} between targets")
    result = "planned" if phase == "plan" else asked.get("results", {}).get(target, "done")
    say(target=target, action="stop", result=result, state_before={"state": "running"}, undo={"id": target})
if phase == "plan" and "population" in asked:
    say(population=asked["population"])
if phase in asked.get("exit", {}):
    print(asked.get("stderr", ""), file=sys.stderr)
    sys.exit(asked["exit"][phase])
'''


class BreakableLedger(Ledger):
    """A real ledger whose disk is full while `is_full`; `refused` counts what it did not take."""

    is_full = False
    refused = 0

    def write(self, operation: Callable[[Connection], Any]) -> Any:
        if self.is_full:
            self.refused += 1
            raise LedgerUnavailable("disk full")
        return super().write(operation)


@pytest.fixture
def ledger(sqlite_url: Callable[..., str]) -> Iterator[BreakableLedger]:
    opened = BreakableLedger(sqlite_url("ledger.db"), owner=True)
    yield opened
    opened.close()


@dataclass
class Clock:
    """Stands still unless moved; its ticks, a microsecond apart, keep the order of what happens."""

    micros: int = to_micros(NOON)

    def __call__(self) -> int:
        self.micros += 1
        return self.micros

    def advance(self, seconds: float) -> None:
        self.micros += int(seconds * MICROS_PER_SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def write_script() -> Callable[[Path, str], Path]:
    """Writes an executable Python program; returns its path."""

    def write(path: Path, body: str) -> Path:
        path.write_text(f"#!{sys.executable}\n{body}", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


@dataclass
class Actor:
    """The script of these tests, and the record of how it was called."""

    program: Path
    log: Path
    folder: Path

    def calls(self, phase: str = "") -> list[dict[str, Any]]:
        """Its calls so far, those of one phase (`plan`, `apply`, `restore`) if named."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if not phase or call["phase"] == phase]

    def playbook(self, name: str = "stop_it", *, mode: str = "enforce", **more: Any) -> dict[str, Any]:
        """A playbook that runs it; its targets, unless told otherwise, are `a` and `b`."""
        parameters = {"log": str(self.log), "targets": ["a", "b"]} | more.pop("parameters", {})
        return {"name": name, "script": [str(self.program)], "mode": mode, "parameters": parameters} | more

    def gate(self, where: str) -> "Gate":
        """A place, say `plan` or `apply between targets`, at which the script waits; put `gate.parameters` into its parameters."""
        return Gate(self.folder / f"gate-{where.replace(' ', '-')}", where)


@dataclass(frozen=True)
class Gate:
    path: Path
    where: str

    @property
    def parameters(self) -> dict[str, Any]:
        return {"hold": {self.where: str(self.path)}}

    def is_reached(self) -> bool:
        return Path(f"{self.path}.reached").exists()

    def open(self) -> None:
        self.path.touch()


@pytest.fixture
def actor(tmp_path: Path, write_script: Callable[[Path, str], Path]) -> Iterator[Actor]:
    made = Actor(write_script(tmp_path / "actor", ACTOR), tmp_path / "calls.jsonl", tmp_path)
    yield made
    # A test may have killed the one who would have ended it; and by now the number of one that has ended may be a stranger's.
    for call in made.calls():
        with suppress(FileNotFoundError, ProcessLookupError):
            if os.fsencode(made.program) in Path(f"/proc/{call['pid']}/cmdline").read_bytes():
                os.killpg(call["pid"], signal.SIGKILL)


@pytest.fixture
def hour_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """`hour_passes(when)`: on the clock of scripts an hour is over once `when()` is true, so that a slow start reaches no time limit."""

    def begin(when: Callable[[], object]) -> None:
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + (3600 if when() else 0), sleep=time.sleep)
        monkeypatch.setattr("costwarden.remediation.runner.time", clock)

    return begin


def alert(
    fingerprint: str = "5ef77f1f8a3ecfb8",
    *,
    action: str | None = "stop_it",
    status: str = "firing",
    starts_at: str = "2026-03-02T11:59:00.123Z",
    ends_at: str = "0001-01-01T00:00:00Z",
    **labels: str,
) -> dict[str, Any]:
    """A member of a webhook's group."""
    more = {} if action is None else {"action": action}
    return {
        "status": status,
        "labels": {"alertname": "AIBudgetExceeded", "severity": "critical"} | more | labels,
        "annotations": {"summary": "over budget"},
        "startsAt": starts_at,
        "endsAt": ends_at,
        "generatorURL": "http://prometheus.example:9090/graph",
        "fingerprint": fingerprint,
    }


def webhook(*alerts: Any, **more: Any) -> bytes:
    """An Alertmanager webhook of version 4 with these members."""
    envelope = {
        "version": "4",
        "groupKey": '{}/{category="finops"}:{alertname="AIBudgetExceeded"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "costwarden",
        "groupLabels": {"alertname": "AIBudgetExceeded"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": list(alerts),
    }
    return json.dumps(envelope | more).encode()


@dataclass
class Scene:
    """A worker on a ledger, driven by hand: `deliver` a webhook, `work` off the queue, look at what became of it."""

    ledger: BreakableLedger
    clock: Clock
    settings: RemediationSettings = field(default_factory=RemediationSettings)
    environ: dict[str, str] = field(default_factory=dict)
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.worker = Worker(self.ledger, lambda: self.settings, environ=self.environ, now=self.clock)

    def configure(self, *playbooks: dict[str, Any], mode: str = "enforce", **more: Any) -> None:
        self.settings = RemediationSettings.model_validate({"mode": mode, "playbooks": playbooks, **more})

    def deliver(self, *alerts: dict[str, Any]) -> IntakeResult:
        return accept(self.ledger, webhook(*alerts), self.clock())

    def work(self) -> None:
        while self.worker.run_next():
            pass

    def runs(self) -> list[Run]:
        """Oldest first."""
        with self.ledger.read() as connection:
            return [run for run, _ in reversed(list_runs(connection))]

    def run(self) -> Run:
        (run,) = self.runs()
        return run

    def item(self, queue_id: int = 1) -> QueueItem:
        with self.ledger.read() as connection:
            return read_item(connection, queue_id)

    def journal(self, run_id: str = "") -> list[JournalEntry]:
        with self.ledger.read() as connection:
            return read_journal(connection, run_id or self.run().run_id)

    def steps(self, run_id: str = "") -> list[str]:
        return [entry.step for entry in self.journal(run_id)]

    def detail(self, step: str, run_id: str = "") -> dict[str, Any]:
        """Detail of the newest entry of a step."""
        return [entry.detail for entry in self.journal(run_id) if entry.step == step][-1]

    def lengths(self) -> dict[str, int]:
        """The states that hold an item."""
        with self.ledger.read() as connection:
            return {state: count for state, count in queue_lengths(connection).items() if count}


@pytest.fixture
def scene(ledger: BreakableLedger, clock: Clock) -> Scene:
    return Scene(ledger, clock)


@pytest.fixture(name="alert")
def alert_fixture() -> Callable[..., dict[str, Any]]:
    return alert


@pytest.fixture(name="webhook")
def webhook_fixture() -> Callable[..., bytes]:
    return webhook
