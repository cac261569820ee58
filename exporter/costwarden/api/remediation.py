"""`/api/remediation/`: runs of playbooks, and the word that lets one act."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from costwarden.api.callers import Caller
from costwarden.api.pages import Query, time_answer
from costwarden.api.problems import Problem
from costwarden.ledger import Ledger
from costwarden.ledger.journal import JournalEntry, read_journal
from costwarden.ledger.remediation import QueueItem, Run, list_runs, read_run
from costwarden.remediation.decisions import DecisionRefused


class RunsQuery(Query):
    """Parameters of `GET /api/remediation/runs`."""

    state: Literal["", "queued", "running", "done", "refused", "awaiting_approval", "interrupted"] = ""
    """State of the incident that the run is for; empty is any."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    """Most runs."""


class RemediationApi:
    """The endpoints of remediation. `approve(run_id, actor)` raises `LookupError` or `DecisionRefused`."""

    def __init__(self, ledger: Ledger, approve: Callable[[str, str], None]) -> None:
        self._ledger = ledger
        self._approve = approve

    def runs(self, query: RunsQuery) -> dict[str, Any]:
        """`GET /api/remediation/runs`."""
        with self._ledger.read() as connection:
            found = list_runs(connection, limit=query.limit, state=query.state)
        return {"runs": [run_answer(run, item) for run, item in found]}

    def run(self, run_id: str) -> dict[str, Any]:
        """`GET /api/remediation/runs/{run_id}`. Raises `Problem` 404."""
        with self._ledger.read() as connection:
            try:
                found = read_run(connection, run_id)
            except LookupError as error:
                raise Problem(404, "unknown_run", str(error)) from None
            journal = read_journal(connection, run_id)
        return {**run_answer(found, None), "journal": [journal_answer(entry) for entry in journal]}

    def approve(self, caller: Caller, run_id: str) -> dict[str, Any]:
        """`POST /api/remediation/runs/{run_id}/approve`. Raises `Problem` 404 or 409."""
        try:
            self._approve(run_id, caller.name)
        except LookupError as error:
            raise Problem(404, "unknown_run", str(error)) from None
        except DecisionRefused as error:
            raise Problem(409, "not_waiting", str(error)) from None
        return {"run_id": run_id, "approved_by": caller.name}


def run_answer(run: Run, item: QueueItem | None) -> dict[str, Any]:
    """A run, with the incident that it is for where that is known, as the API and the command line print it."""
    answer: dict[str, Any] = {
        "run_id": run.run_id,
        "playbook": run.playbook,
        "mode": run.mode,
        "outcome": run.outcome or None,
        "reason": run.reason or None,
        "targets_count": run.targets_count,
        "started_at": time_answer(run.started_at),
        "acted_at": time_answer(run.acted_at),
        "finished_at": time_answer(run.finished_at),
        "approved_by": run.approved_by or None,
    }
    if item is not None:
        answer["alert"] = {
            "state": item.state,
            "fingerprint": item.fingerprint,
            "starts_at": item.starts_at,
            "action": item.action,
            "labels": item.labels,
        }
    return answer


def journal_answer(entry: JournalEntry) -> dict[str, Any]:
    """A step of a run as the API and the command line print it."""
    return {"at": time_answer(entry.at), "step": entry.step, "detail": entry.detail}
