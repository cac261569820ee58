"""What a person decides: approve a plan or reject it, close an interrupted run, restore what a run did."""

from collections.abc import Callable, Mapping

from costwarden.ledger import Connection, Ledger
from costwarden.ledger.audit import append_audit
from costwarden.ledger.journal import append_journal, latest_detail
from costwarden.ledger.remediation import (
    Run,
    approve,
    close_interrupted,
    insert_run,
    new_run_id,
    read_item,
    read_run,
    refuse_waiting,
    update_run,
)
from costwarden.remediation.execution import KEPT_LINES, judge
from costwarden.remediation.guard import Reason, kill_switch_is_on
from costwarden.remediation.runner import ScriptRequest, ScriptResult, TargetLine, run_script, script_environment
from costwarden.remediation.settings import RemediationSettings


class DecisionRefused(ValueError):
    """The run is not in a state that allows this; the message says in which it is."""


def approve_run(ledger: Ledger, run_id: str, *, actor: str, now: int) -> None:
    """Let a waiting run act on the targets of its plan, and no others. The worker finds it within a second.

    Raises `LookupError` (no such run), `DecisionRefused` or `LedgerUnavailable`.
    """

    def write(connection: Connection) -> None:
        run = read_run(connection, run_id)
        if not approve(connection, run, approved_by=actor):
            raise DecisionRefused(_why_not(connection, run, "approved"))
        _record(connection, run, "approved", actor, now)

    ledger.write(write)


def reject_run(ledger: Ledger, run_id: str, *, actor: str, now: int) -> None:
    """End a waiting run without acting. Raises as `approve_run`."""

    def write(connection: Connection) -> None:
        run = read_run(connection, run_id)
        if not refuse_waiting(connection, run, reason="rejected", now=now):
            raise DecisionRefused(_why_not(connection, run, "rejected"))
        _record(connection, run, "rejected", actor, now)

    ledger.write(write)


def close_run(ledger: Ledger, run_id: str, *, actor: str, now: int) -> None:
    """Say that a person has looked after an interrupted run: it leaves the queue's `interrupted` count. Raises as `approve_run`."""

    def write(connection: Connection) -> None:
        run = read_run(connection, run_id)
        if not close_interrupted(connection, run):
            raise DecisionRefused(_why_not(connection, run, "closed"))
        _record(connection, run, "closed", actor, now)

    ledger.write(write)


def restore_run(
    ledger: Ledger,
    settings: RemediationSettings,
    run_id: str,
    *,
    apply: bool,
    actor: str,
    environ: Mapping[str, str],
    now: Callable[[], int],
) -> tuple[str, ScriptResult]:
    """Take back what a run did, by the undo record that was written before it acted.

    Without `apply` only the script's plan is returned, with an empty run id; with it, the restore is a run of its own, in the journal
    and the audit log; what still acts is not taken back beside it. Raises as `approve_run`.
    """
    with ledger.read() as connection:
        run = read_run(connection, run_id)
        undo = latest_detail(connection, run_id, "undo_recorded")
    playbook = settings.playbook(run.playbook)
    if undo is None:
        raise DecisionRefused(f"run {run_id} never acted: there is nothing to restore")
    if apply and not run.finished_at:
        raise DecisionRefused(f"run {run_id} is still acting: stop it by the kill switch, or restore it once it has ended")
    if playbook is None:
        raise DecisionRefused(f"run {run_id} was of playbook {run.playbook!r}, which is not configured any more: run its script by hand")
    if kill_switch_is_on(settings.kill_switch_file):
        raise DecisionRefused(f"the kill switch {settings.kill_switch_file} is on")
    # All that the run might have touched: of an interrupted one nobody knows how far it came, so the script looks at each.
    targets = tuple(record["target"] for record in undo["records"])
    records = tuple(record["undo"] for record in undo["records"] if record["undo"] is not None)
    restore_id = _begin_restore(ledger, run, targets, actor, now()) if apply else ""
    reported: list[tuple[TargetLine, int]] = []

    def note(line: TargetLine) -> None:
        if len(reported) < len(targets) + KEPT_LINES:
            reported.append((line, now()))

    result = run_script(
        [*playbook.argv, "--restore", *(["--apply"] if apply else [])],
        ScriptRequest(restore_id or run_id, targets, undo["parameters"], records),
        environment=script_environment(playbook, environ),
        timeout_seconds=playbook.timeout_seconds,
        should_stop=lambda: "the kill switch is on" if kill_switch_is_on(settings.kill_switch_file) else "",
        on_line=note,
    )
    if apply:
        _end_restore(ledger, restore_id, result, judge(result, targets), reported, now())
    return restore_id, result


def _begin_restore(ledger: Ledger, run: Run, targets: tuple[str, ...], actor: str, now: int) -> str:
    restore = Run(new_run_id(now), run.queue_id, run.playbook, "restore", now, 0, now, 0, "", "", len(targets), actor)

    def write(connection: Connection) -> None:
        insert_run(connection, restore)
        _record(connection, restore, "restore_started", actor, now, {"restores": run.run_id, "targets": targets})

    ledger.write(write)
    return restore.run_id


def _end_restore(
    ledger: Ledger, run_id: str, result: ScriptResult, judgement: tuple[str, str], reported: list[tuple[TargetLine, int]], now: int
) -> None:
    outcome, reason = judgement

    def write(connection: Connection) -> None:
        for line, at in reported:
            append_journal(connection, run_id, "target", line, at)
        left_out = len(result.lines) - len(reported)
        detail = {"outcome": outcome, "reason": reason, "lines_left_out": left_out, "problem": result.problem, "stderr": result.stderr}
        append_journal(connection, run_id, "finished", detail, now)
        update_run(connection, run_id, outcome=outcome, reason=reason, finished_at=now)

    ledger.write(write)


def refuse(ledger: Ledger, run: Run, reason: Reason, message: str, now: int) -> None:
    """End a waiting run that nobody needs to decide on any more; nothing happens where it was decided meanwhile."""

    def write(connection: Connection) -> None:
        if refuse_waiting(connection, run, reason=reason, now=now):
            detail = {"outcome": "refused", "reason": reason, "message": message}
            append_journal(connection, run.run_id, "finished", detail, now)

    ledger.write(write)


def _record(connection: Connection, run: Run, step: str, actor: str, now: int, more: Mapping[str, object] | None = None) -> None:
    append_journal(connection, run.run_id, step, {"actor": actor} | dict(more or {}), now)
    append_audit(connection, at=now, actor=actor, action=f"remediation_{step}", subject=run.run_id, after=more)


def _why_not(connection: Connection, run: Run, verb: str) -> str:
    item = read_item(connection, run.queue_id)
    resolved = ", and its alert has resolved" if item.status == "resolved" else ""
    return f"run {run.run_id} cannot be {verb}: it is {item.state}{resolved}"
