"""The remediation queue, its runs and their journal.

A queue item is one incident of one alert: (fingerprint, startsAt, action). Its state:

    queued -> running -> done | interrupted          `running` is written before the script may act
    queued -> awaiting_approval -> queued            and back, once a person approved
    queued | awaiting_approval -> refused | done
    done                                             at once, where it had resolved before it was heard of

An item in `running` is never taken again, whatever happens: that is what makes a run happen at most once.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from costwarden.ledger.bulk import on_postgresql, total_of, upsert
from costwarden.ledger.journal import append_journal
from costwarden.ledger.schema import remediation_queue, remediation_runs, source_state
from costwarden.model import from_micros

STATES = ("queued", "running", "done", "refused", "awaiting_approval", "interrupted")


class QueueItem(msgspec.Struct, frozen=True):
    """An incident. Times are micros UTC, 0 is never; `starts_at` is ISO text in UTC with six decimal places, which sorts as time."""

    queue_id: int
    fingerprint: str
    starts_at: str
    action: str
    status: str
    """`firing` or `resolved`, as the alert last said; resolved is final."""
    labels: dict[str, str]
    annotations: dict[str, str]
    group_key: str
    received_at: int
    last_received_at: int
    resolved_at: int
    deliveries: int
    state: str
    run_id: str


class Run(msgspec.Struct, frozen=True):
    """One execution of a playbook. Times are micros UTC, 0 is not yet; `outcome` is empty while it goes on."""

    run_id: str
    queue_id: int
    playbook: str
    """Empty where the alert's action has no playbook."""
    mode: str
    """Effective mode when it was guarded; `restore` for the undoing of another run."""
    started_at: int
    planned_at: int
    acted_at: int
    """When the right to act was written; 0 where nothing was ever acted on."""
    finished_at: int
    outcome: str
    """`succeeded`, `failed`, `timed_out`, `stopped`, `planned`, `nothing_to_do`, `refused` or `interrupted`; never changed once set."""
    reason: str
    targets_count: int
    approved_by: str


# --- intake --------------------------------------------------------------------------------------------------------------------


class Firing(msgspec.Struct, frozen=True):
    """An incident as a webhook names it."""

    fingerprint: str
    starts_at: str
    action: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Resolved(msgspec.Struct, frozen=True):
    """The end of the incidents of a fingerprint that began in [starts_at, ends_at].

    A range, because Alertmanager moves startsAt back when a second Prometheus saw the same alert earlier.
    """

    fingerprint: str
    starts_at: str
    ends_at: str
    action: str
    """Empty where nothing could ever act on it."""


def enqueue(connection: Connection, incidents: Sequence[Firing], *, group_key: str, now: int) -> int:
    """Queue the incidents that are new, count up the deliveries of the others; how many were new.

    Two statements over all of them: a group of a thousand must not hold up the budget checks that share the writer.
    """
    if not incidents:
        return 0
    # Replicas that hear of the same incidents lock them in one order.
    incidents = sorted(incidents, key=lambda one: (one.fingerprint, one.starts_at, one.action)) if on_postgresql(connection) else incidents
    keys = [{"key_fingerprint": one.fingerprint, "key_starts_at": one.starts_at, "key_action": one.action} for one in incidents]
    connection.execute(
        update(remediation_queue)
        .where(
            remediation_queue.c.fingerprint == bindparam("key_fingerprint"),
            remediation_queue.c.starts_at == bindparam("key_starts_at"),
            remediation_queue.c.action == bindparam("key_action"),
        )
        .values(deliveries=remediation_queue.c.deliveries + 1, last_received_at=now),
        keys,
    )
    rows = [
        {
            "fingerprint": one.fingerprint,
            "starts_at": one.starts_at,
            "action": one.action,
            "status": "firing",
            "labels": _json(one.labels),
            "annotations": _json(one.annotations),
            "group_key": group_key,
            "received_at": now,
            "last_received_at": now,
            "deliveries": 1,
            "state": "queued",
        }
        for one in incidents
    ]
    new = upsert(connection, remediation_queue).on_conflict_do_nothing().returning(remediation_queue.c.queue_id)
    return len(connection.execute(new, rows).all())


def mark_resolved(connection: Connection, ends: Sequence[Resolved], *, now: int) -> None:
    """Mark incidents as resolved; it is final.

    One that is not known is remembered as over: its `firing` may yet come, by a slower Alertmanager or after an answer 503.
    """
    if not ends:
        return
    ends = sorted(ends, key=lambda end: (end.fingerprint, end.starts_at, end.action)) if on_postgresql(connection) else ends
    connection.execute(
        update(remediation_queue)
        .where(
            remediation_queue.c.fingerprint == bindparam("key_fingerprint"),
            remediation_queue.c.starts_at >= bindparam("first"),
            remediation_queue.c.starts_at <= bindparam("last"),
            remediation_queue.c.status == "firing",
        )
        .values(status="resolved", resolved_at=now),
        [{"key_fingerprint": end.fingerprint, "first": end.starts_at, "last": max(end.starts_at, end.ends_at)} for end in ends],
    )
    rows = [
        {
            "fingerprint": end.fingerprint,
            "starts_at": end.starts_at,
            "action": end.action,
            "status": "resolved",
            "labels": "{}",
            "annotations": "{}",
            "received_at": now,
            "last_received_at": now,
            "resolved_at": now,
            "deliveries": 1,
            "state": "done",
        }
        for end in ends
        if end.action
    ]
    if rows:
        connection.execute(upsert(connection, remediation_queue).on_conflict_do_nothing(), rows)


# --- the worker ----------------------------------------------------------------------------------------------------------------


def next_free(connection: Connection, busy: Mapping[int, str]) -> QueueItem | None:
    """The oldest queued item that is free; None where there is none.

    `busy` is what is being worked on, queue id -> action: neither such an item is free, nor another of such an action.
    """
    query = (
        select(remediation_queue)
        .where(
            remediation_queue.c.state == "queued",
            remediation_queue.c.queue_id.not_in(list(busy)),
            remediation_queue.c.action.not_in(set(busy.values())),
        )
        .order_by(remediation_queue.c.queue_id)
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _item(row)


def take(connection: Connection, *, busy: Mapping[int, str], now: int) -> tuple[QueueItem, Run] | None:
    """`next_free` with its run: the one it had before a crash or an approval, else a new one."""
    item = next_free(connection, busy)
    if item is None:
        return None
    if item.run_id:
        return item, read_run(connection, item.run_id)
    run_id = new_run_id(now)
    connection.execute(insert(remediation_runs).values(run_id=run_id, queue_id=item.queue_id, started_at=now))
    connection.execute(update(remediation_queue).where(remediation_queue.c.queue_id == item.queue_id).values(run_id=run_id))
    return msgspec.structs.replace(item, run_id=run_id), read_run(connection, run_id)


def new_run_id(now: int) -> str:
    """An id that sorts by time; its random part keeps the runs of two installations apart on the objects that carry it."""
    return f"{from_micros(now):%Y%m%dt%H%M%S}-{secrets.token_hex(4)}"


def update_run(connection: Connection, run_id: str, **values: str | int) -> None:
    """Set columns of a run."""
    connection.execute(update(remediation_runs).where(remediation_runs.c.run_id == run_id).values(**values))


def claim(connection: Connection, run: Run, *, targets_count: int, now: int) -> bool:
    """Move a run's item from queued to running: the right to act, given once; False where it resolved or was taken meanwhile."""
    if not _leave(connection, run, "queued", "running", remediation_queue.c.status == "firing"):
        return False
    update_run(connection, run.run_id, acted_at=now, targets_count=targets_count)
    return True


def await_approval(connection: Connection, run: Run, *, targets_count: int, now: int) -> None:
    """Pause a run until a person approves its plan."""
    update_run(connection, run.run_id, planned_at=now, targets_count=targets_count)
    move(connection, run.queue_id, "awaiting_approval")


def approve(connection: Connection, run: Run, *, approved_by: str) -> bool:
    """Queue an item that waits for approval again; False where it does not wait, or its alert resolved."""
    if not _leave(connection, run, "awaiting_approval", "queued", remediation_queue.c.status == "firing"):
        return False
    update_run(connection, run.run_id, approved_by=approved_by)
    return True


def refuse_waiting(connection: Connection, run: Run, *, reason: str, now: int) -> bool:
    """End a run that waits for approval; False where it does not wait any more."""
    if not _leave(connection, run, "awaiting_approval", "refused"):
        return False
    update_run(connection, run.run_id, outcome="refused", reason=reason, finished_at=now)
    return True


def close_interrupted(connection: Connection, run: Run) -> bool:
    """Move an interrupted item to done, because a person has looked; its run keeps its outcome. False where it is not interrupted."""
    return _leave(connection, run, "interrupted", "done")


def finish(connection: Connection, run: Run, *, state: str, outcome: str, reason: str, now: int) -> None:
    """End a run and move its item to `state`."""
    update_run(connection, run.run_id, outcome=outcome, reason=reason, finished_at=now)
    move(connection, run.queue_id, state)


def move(connection: Connection, queue_id: int, state: str) -> None:
    """Set the state of an item."""
    connection.execute(update(remediation_queue).where(remediation_queue.c.queue_id == queue_id).values(state=state))


def _leave(connection: Connection, run: Run, state: str, new_state: str, *where: ColumnElement[bool]) -> bool:
    moved = update(remediation_queue).where(
        remediation_queue.c.queue_id == run.queue_id,
        remediation_queue.c.run_id == run.run_id,
        remediation_queue.c.state == state,
        *where,
    )
    return bool(connection.execute(moved.values(state=new_state)).rowcount)


def interrupt_running(connection: Connection, now: int) -> list[str]:
    """At start-up: what was running when the process died is interrupted for good; the runs' ids."""
    runs = connection.execute(
        select(remediation_runs.c.run_id, remediation_runs.c.queue_id).where(
            remediation_runs.c.queue_id == remediation_queue.c.queue_id,
            remediation_runs.c.run_id == remediation_queue.c.run_id,
            remediation_queue.c.state == "running",
        )
    ).all()
    for run_id, queue_id in runs:
        update_run(connection, run_id, outcome="interrupted", reason="process_died", finished_at=now)
        move(connection, queue_id, "interrupted")
        append_journal(connection, run_id, "interrupted", {"reason": "process_died"}, now)
    return [run_id for run_id, _ in runs]


def waiting_for_approval(connection: Connection) -> list[tuple[QueueItem, Run]]:
    """Items that wait for a person, oldest first."""
    query = select(remediation_queue).where(remediation_queue.c.state == "awaiting_approval").order_by(remediation_queue.c.queue_id)
    return [(item, read_run(connection, item.run_id)) for item in map(_item, connection.execute(query))]


# --- what the guard asks -------------------------------------------------------------------------------------------------------


def last_acted_at(connection: Connection, playbook: str, fingerprint: str) -> int:
    """When a playbook last acted for an alert, in micros; 0 is never."""
    query = select(func.max(remediation_runs.c.acted_at)).where(
        remediation_runs.c.playbook == playbook,
        remediation_runs.c.mode != "restore",
        remediation_runs.c.queue_id == remediation_queue.c.queue_id,
        remediation_queue.c.fingerprint == fingerprint,
    )
    return connection.execute(query).scalar() or 0


def targets_acted_on(connection: Connection, playbook: str, since: int) -> int:
    """Targets of the runs of a playbook that acted at or after `since`."""
    query = select(total_of(remediation_runs.c.targets_count)).where(
        remediation_runs.c.playbook == playbook, remediation_runs.c.mode != "restore", remediation_runs.c.acted_at >= max(since, 1)
    )
    total: int = connection.execute(query).scalar_one()
    return total


def last_source_success(connection: Connection, source: str) -> int:
    """When a source was last read successfully, in micros; 0 is never."""
    query = select(source_state.c.last_success_at).where(source_state.c.source == source)
    return connection.execute(query).scalar() or 0


# --- what people and metrics ask -----------------------------------------------------------------------------------------------


def insert_run(connection: Connection, run: Run) -> None:
    """Add a run that does not come from the queue's worker: a restore."""
    connection.execute(insert(remediation_runs).values(**msgspec.structs.asdict(run)))


def read_run(connection: Connection, run_id: str) -> Run:
    """A run. Raises `LookupError` where there is none."""
    row = connection.execute(select(remediation_runs).where(remediation_runs.c.run_id == run_id)).first()
    if row is None:
        raise LookupError(f"there is no run {run_id!r}")
    return Run(**row._mapping)


def read_item(connection: Connection, queue_id: int) -> QueueItem:
    """A queue item. Raises `LookupError` where there is none."""
    row = connection.execute(select(remediation_queue).where(remediation_queue.c.queue_id == queue_id)).first()
    if row is None:
        raise LookupError(f"there is no queue item {queue_id}")
    return _item(row)


def list_runs(connection: Connection, *, limit: int = 50, state: str = "") -> list[tuple[Run, QueueItem]]:
    """The newest runs with their incidents, newest first; `state` keeps those whose item is in that state."""
    query = select(remediation_runs).order_by(remediation_runs.c.started_at.desc(), remediation_runs.c.run_id.desc()).limit(limit)
    if state:
        query = query.where(remediation_runs.c.queue_id == remediation_queue.c.queue_id, remediation_queue.c.state == state)
    runs = [Run(**row._mapping) for row in connection.execute(query)]
    wanted = select(remediation_queue).where(remediation_queue.c.queue_id.in_({run.queue_id for run in runs}))
    items = {item.queue_id: item for item in map(_item, connection.execute(wanted))}
    return [(run, items[run.queue_id]) for run in runs]


def queue_lengths(connection: Connection) -> dict[str, int]:
    """Items by state; every state is there, with 0 where it has none."""
    rows = connection.execute(select(remediation_queue.c.state, func.count().label("length")).group_by(remediation_queue.c.state))
    return dict.fromkeys(STATES, 0) | {row.state: row.length for row in rows}


def run_counts(connection: Connection) -> list[tuple[str, str, int]]:
    """(playbook, outcome, runs) of the runs that have an outcome."""
    return _counts(connection, remediation_runs.c.outcome, remediation_runs.c.outcome != "")


def refusal_counts(connection: Connection) -> list[tuple[str, str, int]]:
    """(playbook, reason, runs) of the refused runs."""
    return _counts(connection, remediation_runs.c.reason, remediation_runs.c.outcome == "refused")


def _counts(connection: Connection, by: ColumnElement[str], where: ColumnElement[bool]) -> list[tuple[str, str, int]]:
    playbook = remediation_runs.c.playbook
    rows = connection.execute(select(playbook, by, func.count()).where(where).group_by(playbook, by).order_by(playbook, by))
    return [(name, value, count) for name, value, count in rows]


def _item(row: Row[Any]) -> QueueItem:
    values = dict(row._mapping)
    labels = msgspec.json.decode(values.pop("labels"), type=dict[str, str])
    annotations = msgspec.json.decode(values.pop("annotations"), type=dict[str, str])
    return QueueItem(labels=labels, annotations=annotations, **values)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
