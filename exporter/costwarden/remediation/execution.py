"""One run, from the guard to its last journal entry.

What makes it happen at most once: the plan changes nothing and may be repeated after a crash; `claim` writes `running` durably before
the script gets `--apply`; and an item in `running` is never taken again.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
import structlog

from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.journal import append_journal, latest_detail
from costwarden.ledger.remediation import QueueItem, Run, await_approval, claim, finish, read_item, update_run
from costwarden.model import to_micros
from costwarden.remediation.guard import (
    Admission,
    Approval,
    Refusal,
    admit,
    check_approval,
    check_approved_plan,
    check_plan,
    check_unchanged,
    is_protected,
    kill_switch_is_on,
)
from costwarden.remediation.notes import Notes
from costwarden.remediation.runner import EXIT_REFUSED, ScriptRequest, ScriptResult, TargetLine, run_script, script_environment
from costwarden.remediation.settings import RemediationSettings

# Lines of a plan that its journal entry keeps: enough to see what a plan above the cap was about. And entries that a script may cause
# beyond one a target.
KEPT_LINES = 200

log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """The worker is stopping and nothing was acted on: the item stays queued."""


class _PlanFailed(Exception):
    pass


class Execution:
    """One taken item on its way through."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], RemediationSettings],
        item: QueueItem,
        run: Run,
        *,
        environ: Mapping[str, str],
        now: Callable[[], int],
        is_stopping: Callable[[], bool],
        pause: Callable[[], None],
    ) -> None:
        """`is_stopping` tells that the worker is to end; `pause` waits a moment, or until then."""
        self._ledger = ledger
        self._settings = settings
        self._item = item
        self._run = run
        self._environ = environ
        self._now = now
        self._is_stopping = is_stopping
        self._pause = pause
        self._unwritten: list[tuple[str, Any, int]] = []

    def execute(self) -> None:
        """Run to the end. Raises `Interrupted`, or `LedgerUnavailable` while nothing was acted on: the item is still queued then."""
        try:
            admission = self._admit()
            plan = self._plan(admission)
            targets = self._allowed(admission, plan)
            if not targets:
                self._finish("done", "nothing_to_do", "", {})
            elif admission.mode == "dry-run":
                self._finish("done", "planned", "", {})
            elif admission.mode == "approve" and not self._run.approved_by:
                self._await_approval(admission, targets)
            else:
                self._claim(admission, plan, targets)
                self._act(admission, targets)
        except Refusal as refusal:
            log.info("remediation refused", run_id=self._run.run_id, action=self._item.action, reason=refusal.reason, message=str(refusal))
            self._finish("refused", "refused", refusal.reason, {"message": str(refusal)})
        except _PlanFailed as failure:
            log.error("remediation plan failed", run_id=self._run.run_id, action=self._item.action, error=str(failure))
            self._finish("done", "failed", "plan_failed", {"message": str(failure)})

    # --- guard -----------------------------------------------------------------------------------------------------------------

    def _admit(self) -> Admission:
        settings = self._settings()
        self._ledger.write(lambda connection: self._open(connection, settings))
        with self._ledger.read() as connection:
            admission = admit(connection, settings, self._item, self._run, self._now())
        self._journal("guard_passed", {"mode": admission.mode, "parameters": admission.parameters})
        return admission

    def _open(self, connection: Connection, settings: RemediationSettings) -> None:
        item, run_id = self._item, self._run.run_id
        playbook = settings.playbook(item.action)
        mode = settings.effective_mode(playbook) if playbook else settings.mode
        update_run(connection, run_id, playbook=playbook.name if playbook else "", mode=mode)
        if self._run.mode:
            append_journal(connection, run_id, "resumed", {"approved_by": self._run.approved_by}, self._now())
            return
        alert = {"fingerprint": item.fingerprint, "action": item.action, "labels": item.labels}
        append_journal(connection, run_id, "alert_started", alert, to_micros(datetime.fromisoformat(item.starts_at)))
        append_journal(connection, run_id, "received", {"group_key": item.group_key}, item.received_at)

    # --- plan ------------------------------------------------------------------------------------------------------------------

    def _plan(self, admission: Admission) -> ScriptResult:
        """What the script would do; after an approval nothing that was not approved."""
        playbook = admission.playbook
        approval = self._approval()
        if approval is not None:
            check_approval(approval, admission)
        plan = run_script(
            playbook.argv,
            ScriptRequest(self._run.run_id, None if approval is None else tuple(approval.targets), admission.parameters),
            environment=script_environment(playbook, self._environ),
            timeout_seconds=playbook.timeout_seconds,
            should_stop=lambda: "the worker stops" if self._is_stopping() else self._kill_switch(),
        )
        if plan.ended == "stopped":
            if self._is_stopping():
                raise Interrupted
            raise Refusal("kill_switch", plan.problem)
        self._journal("plan_done", _plan_detail(plan))
        _check_outcome(plan)
        targets = [line.target for line in plan.lines if line.result == "planned"]
        if len(set(targets)) != len(targets):
            raise _PlanFailed("the plan names a target twice")
        if approval is not None:
            check_approved_plan(approval, plan)
        return plan

    def _allowed(self, admission: Admission, plan: ScriptResult) -> tuple[TargetLine, ...]:
        with self._ledger.read() as connection:
            allowed = check_plan(connection, admission.playbook, plan, self._now())
        planned = [line.target for line in plan.lines if line.result == "planned"]
        if spared := [target for target in planned if is_protected(admission.playbook, target)]:
            self._journal("protected", {"targets": spared})
        return allowed

    def _approval(self) -> Approval | None:
        if not self._run.approved_by:
            return None
        with self._ledger.read() as connection:
            return msgspec.convert(latest_detail(connection, self._run.run_id, "awaiting_approval"), Approval)

    def _await_approval(self, admission: Admission, targets: tuple[TargetLine, ...]) -> None:
        approval = Approval(admission.playbook.argv, admission.parameters, {line.target: line.action for line in targets})
        now = self._now()

        def write(connection: Connection) -> None:
            append_journal(connection, self._run.run_id, "awaiting_approval", approval, now)
            await_approval(connection, self._run, targets_count=len(targets), now=now)

        self._ledger.write(write)
        log.info("remediation awaits approval", run_id=self._run.run_id, action=self._item.action, targets=len(targets))

    # --- act -------------------------------------------------------------------------------------------------------------------

    def _claim(self, admission: Admission, plan: ScriptResult, targets: tuple[TargetLine, ...]) -> None:
        records = [{"target": line.target, "state_before": line.state_before, "undo": line.undo} for line in targets]
        detail = {"parameters": admission.parameters, "records": records}
        now = self._now()

        def write(connection: Connection) -> None:
            # A plan may take an hour, and this write may wait for the ledger: the guard is asked again, with the settings of this moment.
            item = read_item(connection, self._item.queue_id)
            current = admit(connection, self._settings(), item, self._run, now)
            check_unchanged(admission, current, is_approved=bool(self._run.approved_by))
            if check_plan(connection, current.playbook, plan, now) != targets:
                raise Refusal("plan_changed", "`protected_targets` changed after the plan was made")
            if not claim(connection, self._run, targets_count=len(targets), now=now):
                raise Refusal("resolved", "the alert resolved while the plan was made")
            append_journal(connection, self._run.run_id, "undo_recorded", detail, now)

        self._ledger.write(write)

    def _act(self, admission: Admission, targets: tuple[TargetLine, ...]) -> None:
        playbook = admission.playbook
        names = tuple(line.target for line in targets)
        log.info("remediation acts", run_id=self._run.run_id, playbook=playbook.name, targets=len(names))
        argv = [*playbook.argv, "--apply"]
        with Notes(self._ledger, self._run.run_id, most=len(targets) + KEPT_LINES) as notes:
            result = run_script(
                argv,
                ScriptRequest(self._run.run_id, names, admission.parameters),
                environment=script_environment(playbook, self._environ),
                timeout_seconds=playbook.timeout_seconds,
                should_stop=self._kill_switch,
                on_start=lambda: notes.add("script_started", {"argv": argv}, self._now()),
                on_line=lambda line: notes.add("target", line, self._now()),
            )
        self._unwritten = notes.unwritten
        outcome, reason = judge(result, names)
        results: dict[str, int] = Counter(line.result for line in result.lines)
        log.info("remediation finished", run_id=self._run.run_id, playbook=playbook.name, outcome=outcome, reason=reason, **results)
        detail = {
            "exit_code": result.exit_code,
            "results": results,
            "lines_left_out": notes.left_out,
            "problem": result.problem,
            "stderr": result.stderr,
        }
        self._finish_for_certain("done", outcome, reason, detail)

    def _kill_switch(self) -> str:
        return "the kill switch is on" if kill_switch_is_on(self._settings().kill_switch_file) else ""

    # --- journal ---------------------------------------------------------------------------------------------------------------

    def _journal(self, step: str, detail: Any) -> None:
        now = self._now()
        self._ledger.write(lambda connection: append_journal(connection, self._run.run_id, step, detail, now))

    def _finish(self, state: str, outcome: str, reason: str, detail: dict[str, Any]) -> None:
        now = self._now()

        def write(connection: Connection) -> None:
            for step, unwritten, at in self._unwritten:
                append_journal(connection, self._run.run_id, step, unwritten, at)
            append_journal(connection, self._run.run_id, "finished", {"outcome": outcome, "reason": reason} | detail, now)
            finish(connection, self._run, state=state, outcome=outcome, reason=reason, now=now)

        self._ledger.write(write)

    def _finish_for_certain(self, state: str, outcome: str, reason: str, detail: dict[str, Any]) -> None:
        while True:
            try:
                self._finish(state, outcome, reason, detail)
                return
            except LedgerUnavailable:
                # Left unfinished, the run would come up as interrupted at the next start.
                if self._is_stopping():
                    log.error("the end of a run could not be journaled", run_id=self._run.run_id, outcome=outcome, detail=detail)
                    return
                self._pause()


def judge(result: ScriptResult, targets: tuple[str, ...]) -> tuple[str, str]:
    """Outcome and reason of an apply: it succeeded where the script says so of each of its targets and of no other."""
    if result.ended == "timed_out":
        return "timed_out", "time_limit"
    if result.ended == "stopped":
        return "stopped", "kill_switch"
    if result.ended != "exited":
        return "failed", result.ended
    if result.exit_code == EXIT_REFUSED:
        return "refused", "script_refused"
    if result.exit_code != 0:
        return "failed", "exit_code"
    if any(line.result not in ("done", "skipped") for line in result.lines):
        return "failed", "target_failed"
    if {line.target for line in result.lines} != set(targets):
        return "failed", "targets_differ"
    return "succeeded", ""


def _check_outcome(plan: ScriptResult) -> None:
    last_words = plan.stderr.strip().rpartition("\n")[2]
    if plan.ended == "exited" and plan.exit_code == EXIT_REFUSED:
        raise Refusal("script_refused", last_words or "the script refused")
    if plan.ended != "exited":
        raise _PlanFailed(plan.problem)
    if plan.exit_code != 0 or any(line.result in ("failed", "done") for line in plan.lines):
        raise _PlanFailed(f"exit code {plan.exit_code}: {last_words or 'no message'}")


def _plan_detail(plan: ScriptResult) -> dict[str, Any]:
    return {
        "planned": sum(line.result == "planned" for line in plan.lines),
        "population": plan.population,
        "exit_code": plan.exit_code,
        "lines": plan.lines[:KEPT_LINES],
        "lines_left_out": max(0, len(plan.lines) - KEPT_LINES),
        "problem": plan.problem,
        "stderr": plan.stderr,
    }
