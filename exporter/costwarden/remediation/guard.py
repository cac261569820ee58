"""What holds a playbook back. The order is that of the design: the cheapest and most absolute reason first."""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from costwarden.ledger import Connection
from costwarden.ledger.remediation import QueueItem, Run, last_acted_at, last_source_success, targets_acted_on
from costwarden.model import MICROS_PER_SECOND
from costwarden.remediation.runner import ScriptResult, TargetLine
from costwarden.remediation.settings import Mode, Playbook, RemediationSettings

Reason = Literal[
    "kill_switch",
    "no_playbook",
    "mode_off",
    "resolved",
    "alert_expired",
    "approval_expired",
    "rejected",
    "data_stale",
    "cooldown",
    "bad_label",
    "protected_targets",
    "too_many_targets",
    "ratio_exceeded",
    "population_unknown",
    "hourly_limit",
    "plan_changed",
    "script_refused",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Every reason of a refusal: a closed set, fit for a label."""

LONGEST_VALUE = 256
"""Characters of a label's value that becomes a parameter; AWS tag values and tenant ids are no longer."""

HOUR = 3600 * MICROS_PER_SECOND


class Refusal(Exception):
    """The guard said no: `reason` for a label, the message for a person."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Admission(msgspec.Struct, frozen=True):
    """What an alert may do: its playbook, the mode that holds, the parameters of its script."""

    playbook: Playbook
    mode: Mode
    parameters: dict[str, Any]


class Approval(msgspec.Struct, frozen=True):
    """What a person is asked to approve: the command line without `--apply`, its parameters, and the action on each target."""

    argv: list[str]
    parameters: dict[str, Any]
    targets: dict[str, str]
    """Target -> action."""


def kill_switch_is_on(path: Path | None) -> bool:
    """Whether the file exists; a path that cannot be examined counts as existing."""
    if path is None:
        return False
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def admit(connection: Connection, settings: RemediationSettings, item: QueueItem, run: Run, now: int) -> Admission:
    """Let an alert through to planning. Raises `Refusal`."""
    if kill_switch_is_on(settings.kill_switch_file):
        raise Refusal("kill_switch", f"the kill switch {settings.kill_switch_file} is on")
    playbook = settings.playbook(item.action)
    if playbook is None:
        raise Refusal("no_playbook", f"no playbook is named {item.action!r}")
    mode = settings.effective_mode(playbook)
    if mode == "off":
        raise Refusal("mode_off", f"mode is off: section `{settings.mode}`, playbook `{playbook.mode}`")
    if item.status == "resolved":
        raise Refusal("resolved", "the alert resolved before anything was done")
    # A person who approved a plan has looked at it since.
    silent = (now - item.last_received_at) // MICROS_PER_SECOND
    if not run.approved_by and silent > playbook.alert_expires_after_seconds:
        raise Refusal("alert_expired", f"last heard of {silent} s ago; the limit is {playbook.alert_expires_after_seconds} s")
    for source in playbook.fresh_sources:
        _check_freshness(source, last_source_success(connection, source), playbook, now)
    acted = last_acted_at(connection, playbook.name, item.fingerprint)
    if acted and now - acted < playbook.cooldown_seconds * MICROS_PER_SECOND:
        since = (now - acted) // MICROS_PER_SECOND
        raise Refusal("cooldown", f"acted for this alert {since} s ago; the cool-down is {playbook.cooldown_seconds} s")
    # Before a plan is made: a thousand alerts at once must not start a thousand scripts, to refuse what each of them plans.
    recent = targets_acted_on(connection, playbook.name, now - HOUR)
    if recent >= playbook.max_targets_per_hour:
        limit = f"max_targets_per_hour is {playbook.max_targets_per_hour}"
        raise Refusal("hourly_limit", f"acted on {recent} targets in the last hour; {limit}")
    return Admission(playbook, mode, _parameters(playbook, item.labels))


def check_plan(connection: Connection, playbook: Playbook, plan: ScriptResult, now: int) -> tuple[TargetLine, ...]:
    """The targets of a plan that may be acted on, none where there is nothing to do. Raises `Refusal`: above a cap all are refused."""
    planned = tuple(line for line in plan.lines if line.result == "planned")
    targets = tuple(line for line in planned if not is_protected(playbook, line.target))
    if planned and not targets:
        raise Refusal("protected_targets", f"all {len(planned)} planned targets are protected by the playbook")
    count = len(targets)
    if count > playbook.max_targets:
        raise Refusal("too_many_targets", f"{count} targets are planned; max_targets is {playbook.max_targets}, and none is acted on")
    if count and playbook.max_targets_ratio is not None:
        if not plan.population:
            raise Refusal("population_unknown", "max_targets_ratio is set, and the script does not tell its population")
        if count > playbook.max_targets_ratio * plan.population:
            limit = f"max_targets_ratio {playbook.max_targets_ratio:g} of {plan.population}"
            raise Refusal("ratio_exceeded", f"{count} targets are planned; above {limit}, and none is acted on")
    recent = targets_acted_on(connection, playbook.name, now - HOUR)
    if count and recent + count > playbook.max_targets_per_hour:
        sum_of = f"{recent} targets in the last hour + {count} planned"
        raise Refusal("hourly_limit", f"{sum_of} are above max_targets_per_hour {playbook.max_targets_per_hour}")
    return targets


def check_unchanged(planned: Admission, current: Admission, *, is_approved: bool) -> None:
    """Refuse where a reload since the plan changed what the script is told, or holds it back. Raises `Refusal`."""
    if current.mode == "dry-run" or (current.mode == "approve" and not is_approved):
        raise Refusal("plan_changed", f"the mode became `{current.mode}` after the plan was made")
    if _command(current) != _command(planned):
        raise Refusal("plan_changed", f"playbook `{planned.playbook.name}` was changed after the plan was made")


def check_approval(approval: Approval, admission: Admission) -> None:
    """Refuse where the playbook is not the one whose plan a person approved. Raises `Refusal`."""
    if (approval.argv, approval.parameters) != (admission.playbook.argv, admission.parameters):
        raise Refusal("plan_changed", f"the command or the parameters of playbook `{admission.playbook.name}` are not those approved")


def check_approved_plan(approval: Approval, plan: ScriptResult) -> None:
    """Refuse a plan that would do other than was approved; one that does less is good. Raises `Refusal`."""
    for line in plan.lines:
        if line.result == "planned" and approval.targets.get(line.target) != line.action:
            raise Refusal("plan_changed", f"the plan would now {line.action!r} {line.target!r}, which was not approved")


def is_protected(playbook: Playbook, target: str) -> bool:
    """Whether the playbook's `protected_targets` name a target."""
    return any(fnmatchcase(target, pattern) for pattern in playbook.protected_targets)


def _command(admission: Admission) -> tuple[object, ...]:
    playbook = admission.playbook
    return playbook.script, playbook.environment, playbook.pass_environment, admission.parameters


def _check_freshness(source: str, success: int, playbook: Playbook, now: int) -> None:
    if not success:
        raise Refusal("data_stale", f"source `{source}` was never read")
    age = (now - success) // MICROS_PER_SECOND
    if age > playbook.fresh_within_seconds:
        raise Refusal("data_stale", f"source `{source}` was last read {age} s ago; the limit is {playbook.fresh_within_seconds} s")


def _parameters(playbook: Playbook, labels: dict[str, str]) -> dict[str, Any]:
    parameters: dict[str, Any] = dict(playbook.parameters)
    for parameter, label in playbook.parameters_from_labels.items():
        value = labels.get(label, "")
        if not value:
            raise Refusal("bad_label", f"parameter `{parameter}` comes from label `{label}`, which the alert does not have")
        if len(value) > LONGEST_VALUE or not value.isprintable():
            raise Refusal("bad_label", f"label `{label}` is longer than {LONGEST_VALUE} characters or not printable")
        parameters[parameter] = value
    return parameters
