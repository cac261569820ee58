"""From the queue to the script, with real programs."""

import json
import sqlite3
import threading
from pathlib import Path

import pytest

from costwarden.ledger import LedgerUnavailable, remediation
from costwarden.ledger.remediation import take
from costwarden.model import MICROS_PER_SECOND
from costwarden.remediation.execution import KEPT_LINES
from costwarden.remediation.worker import Worker

HOSTILE = "-oProxyCommand=x; rm -rf / `reboot` $(id) | tee /etc/passwd && \\\"quoted\\\" 'single'"


def test_an_alert_plans_then_acts_on_the_planned_targets_once(scene, actor, alert):
    scene.configure(actor.playbook())
    scene.deliver(alert())
    scene.work()
    run = scene.run()
    assert (run.outcome, run.reason, run.mode, run.playbook, run.targets_count) == ("succeeded", "", "enforce", "stop_it", 2)
    assert scene.item().state == "done"
    plan, apply = actor.calls()
    assert (plan["argv"], plan["request"]["targets"]) == ([], None)
    assert (apply["argv"], apply["request"]["targets"]) == (["--apply"], ["a", "b"])
    assert plan["request"]["run_id"] == apply["request"]["run_id"] == run.run_id


def test_the_journal_is_a_timeline_from_the_alert_to_the_last_target(scene, actor, alert, clock):
    scene.configure(actor.playbook())
    scene.deliver(alert(starts_at="2026-03-02T11:59:00.000250Z"))
    scene.work()
    journal = scene.journal()
    assert [entry.step for entry in journal] == [
        "alert_started",
        "received",
        "guard_passed",
        "plan_done",
        "undo_recorded",
        "script_started",
        "target",
        "target",
        "finished",
    ]
    times = [entry.at for entry in journal]
    assert times == sorted(set(times))
    # the alert began 60 s - 250 µs before noon
    assert times[1] - times[0] == 60 * MICROS_PER_SECOND - 250 + 1


def test_the_undo_record_is_in_the_journal_before_the_script_may_act(scene, actor, alert, wait_until):
    gate = actor.gate("apply")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    try:
        wait_until(gate.is_reached)
        assert scene.item().state == "running"
        records = scene.detail("undo_recorded")["records"]
        assert records == [{"target": target, "state_before": {"state": "running"}, "undo": {"id": target}} for target in "ab"]
    finally:
        gate.open()
        thread.join()


def test_repeats_and_a_second_alertmanager_do_not_run_it_again(scene, actor, alert):
    scene.configure(actor.playbook(cooldown_seconds=0))
    for _ in range(2):
        scene.deliver(alert())
        scene.deliver(alert())
        scene.work()
    assert len(actor.calls("apply")) == 1
    assert scene.item().deliveries == 4


def test_a_group_acts_for_its_firing_members_alone(scene, actor, alert):
    scene.configure(actor.playbook(parameters_from_labels={"tenant": "tenant_id"}))
    scene.deliver(alert("aaaa", tenant_id="a"))
    scene.deliver(
        alert("aaaa", status="resolved", ends_at="2026-03-02T12:00:00Z", tenant_id="a"),
        alert("bbbb", tenant_id="b"),
        alert("cccc", status="resolved", ends_at="2026-03-02T12:00:00Z", tenant_id="c"),
        alert("dddd", action=None, tenant_id="d"),
    )
    scene.work()
    assert [call["request"]["parameters"]["tenant"] for call in actor.calls("apply")] == ["b"]
    assert [(run.outcome, run.reason) for run in scene.runs()] == [("refused", "resolved"), ("succeeded", "")]


def test_a_hostile_label_stays_data_to_the_end(scene, actor, alert):
    scene.configure(actor.playbook(parameters_from_labels={"tenant": "instance"}), actor.playbook("throttle"))
    scene.deliver(alert(instance=HOSTILE), alert("bbbb", action=HOSTILE))
    scene.work()
    assert [(call["argv"], call["request"]["parameters"]["tenant"]) for call in actor.calls()] == [([], HOSTILE), (["--apply"], HOSTILE)]
    assert HOSTILE not in json.dumps([call["environ"] for call in actor.calls()])
    refused = scene.runs()[1]
    # The action of a stranger is not a playbook's name: it must not become the value of a metric's label.
    assert (refused.playbook, refused.outcome, refused.reason) == ("", "refused", "no_playbook")


def test_dry_run_plans_and_leaves_it_at_that(scene, actor, alert):
    scene.configure(actor.playbook(mode="dry-run"))
    scene.deliver(alert())
    scene.work()
    assert (scene.run().outcome, scene.run().acted_at, scene.item().state) == ("planned", 0, "done")
    assert [call["phase"] for call in actor.calls()] == ["plan"]
    assert [line["target"] for line in scene.detail("plan_done")["lines"]] == ["a", "b"]


def test_a_plan_above_the_cap_is_refused_whole_and_shown(scene, actor, alert):
    scene.configure(actor.playbook(max_targets=1))
    scene.deliver(alert())
    scene.work()
    assert (scene.run().outcome, scene.run().reason, scene.item().state) == ("refused", "too_many_targets", "refused")
    assert actor.calls("apply") == []
    assert scene.detail("plan_done")["planned"] == 2
    assert scene.detail("finished")["message"] == "2 targets are planned; max_targets is 1, and none is acted on"


def test_the_population_that_the_script_tells_caps_the_share(scene, actor, alert):
    scene.configure(actor.playbook(max_targets_ratio=0.1, parameters={"population": 19}))
    scene.deliver(alert())
    scene.work()
    # 2 of 19 are more than 10 %
    assert scene.run().reason == "ratio_exceeded"


def test_protected_targets_are_spared_and_named(scene, actor, alert):
    scene.configure(actor.playbook(protected_targets=["a"]))
    scene.deliver(alert())
    scene.work()
    assert actor.calls("apply")[0]["request"]["targets"] == ["b"]
    assert scene.detail("protected") == {"targets": ["a"]}


def test_a_plan_without_targets_is_done(scene, actor, alert):
    scene.configure(actor.playbook(parameters={"targets": []}))
    scene.deliver(alert())
    scene.work()
    assert (scene.run().outcome, scene.item().state, actor.calls("apply")) == ("nothing_to_do", "done", [])


def test_the_cool_down_holds_for_the_same_alert_and_not_for_another(scene, actor, alert):
    scene.configure(actor.playbook(cooldown_seconds=900))
    scene.deliver(alert(), alert("bbbb"))
    scene.work()
    scene.clock.advance(60)
    scene.deliver(alert(starts_at="2026-03-02T12:01:00Z"))
    scene.work()
    scene.clock.advance(900)
    scene.deliver(alert(starts_at="2026-03-02T12:16:00Z"))
    scene.work()
    assert [run.reason or run.outcome for run in scene.runs()] == ["succeeded", "succeeded", "cooldown", "succeeded"]


def test_a_storm_starts_no_script_for_what_the_hourly_cap_will_refuse(scene, actor, alert):
    scene.configure(actor.playbook(max_targets_per_hour=5))
    scene.deliver(*(alert(f"{number:016x}") for number in range(20)))
    scene.work()
    # Two targets a run: 2 + 2 are below 5, the third plan would make 6, and so would each that comes after it.
    assert [call["phase"] for call in actor.calls()].count("apply") == 2
    scene.configure(actor.playbook(max_targets_per_hour=4))
    before = len(actor.calls())
    scene.deliver(*(alert(f"{number:016x}") for number in range(20, 40)))
    scene.work()
    # 4 of 4 are reached: none of these is even planned.
    assert len(actor.calls()) == before
    runs = scene.runs()
    assert [(run.outcome, run.reason) for run in runs] == [("succeeded", "")] * 2 + [("refused", "hourly_limit")] * 38
    assert scene.steps(runs[-1].run_id) == ["alert_started", "received", "finished"]
    assert scene.detail("finished", runs[-1].run_id)["message"] == "acted on 4 targets in the last hour; max_targets_per_hour is 4"


def test_the_kill_switch_refuses_what_waits(scene, actor, alert, tmp_path):
    (tmp_path / "stop").touch()
    scene.configure(actor.playbook(), kill_switch_file=str(tmp_path / "stop"))
    scene.deliver(alert())
    scene.work()
    assert (scene.run().reason, actor.calls()) == ("kill_switch", [])


@pytest.mark.parametrize(
    ("phase", "outcome", "reason"), [("plan", "refused", "kill_switch"), ("apply between targets", "stopped", "kill_switch")]
)
def test_the_kill_switch_ends_a_script_that_runs(scene, actor, alert, tmp_path, wait_until, phase, outcome, reason):
    gate = actor.gate(phase)
    scene.configure(actor.playbook(parameters=gate.parameters), kill_switch_file=str(tmp_path / "stop"))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    wait_until(gate.is_reached)
    (tmp_path / "stop").touch()
    thread.join()
    assert (scene.run().outcome, scene.run().reason) == (outcome, reason)
    acted = [entry.detail["target"] for entry in scene.journal() if entry.step == "target"]
    assert acted == ([] if phase == "plan" else ["a"])


def test_an_alert_that_resolves_while_its_plan_is_made_is_not_acted_on(scene, actor, alert, wait_until):
    gate = actor.gate("plan")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    wait_until(gate.is_reached)
    scene.deliver(alert(status="resolved", ends_at="2026-03-02T12:00:00Z"))
    gate.open()
    thread.join()
    assert (scene.run().outcome, scene.run().reason, scene.run().acted_at) == ("refused", "resolved", 0)
    assert actor.calls("apply") == []


def test_a_slow_script_is_killed_at_its_limit_and_the_next_alert_is_served(scene, actor, alert, hour_passes):
    gate = actor.gate("apply between targets")
    hour_passes(gate.is_reached)
    slow = actor.playbook(parameters=gate.parameters, timeout_seconds=3600)
    scene.configure(slow, actor.playbook("throttle"))
    scene.deliver(alert(), alert(action="throttle"))
    scene.work()
    assert [(run.playbook, run.outcome, run.reason) for run in scene.runs()] == [
        ("stop_it", "timed_out", "time_limit"),
        ("throttle", "succeeded", ""),
    ]
    timed_out = scene.runs()[0].run_id
    assert scene.detail("finished", timed_out)["problem"] == "killed after its time limit of 3600 s"
    assert scene.detail("finished", timed_out)["results"] == {"done": 1}
    assert scene.item(1).state == "done"


@pytest.mark.parametrize(
    ("parameters", "outcome", "reason"),
    [
        ({"exit": {"plan": 1}, "stderr": "no credentials"}, "failed", "plan_failed"),
        ({"exit": {"plan": 3}, "stderr": "an empty selection"}, "refused", "script_refused"),
        ({"targets": ["a", "a"]}, "failed", "plan_failed"),
        ({"exit": {"apply": 1}}, "failed", "exit_code"),
        ({"exit": {"apply": 3}}, "refused", "script_refused"),
        ({"results": {"b": "failed"}}, "failed", "target_failed"),
        ({"results": {"b": "skipped"}}, "succeeded", ""),
    ],
)
def test_the_outcome_is_what_the_script_says(scene, actor, alert, parameters, outcome, reason):
    scene.configure(actor.playbook(parameters=parameters))
    scene.deliver(alert())
    scene.work()
    assert (scene.run().outcome, scene.run().reason) == (outcome, reason)
    if "stderr" in parameters:
        assert parameters["stderr"] in scene.detail("finished")["message"]


def test_a_script_that_answers_for_other_targets_than_asked_has_failed(scene, actor, alert, tmp_path, write_script):
    body = """
import json, sys
request = json.load(sys.stdin)
asked = request["targets"] or ["a", "b"]
for target in asked[:1] if "--apply" in sys.argv else asked:
    print(json.dumps({"target": target, "action": "stop", "result": "done" if "--apply" in sys.argv else "planned"}))
"""
    forgetful = write_script(tmp_path / "forgetful", body)
    scene.configure(actor.playbook() | {"script": [str(forgetful)]})
    scene.deliver(alert())
    scene.work()
    assert (scene.run().outcome, scene.run().reason) == ("failed", "targets_differ")


def test_a_reload_holds_from_the_next_alert_on(scene, actor, alert):
    scene.configure(actor.playbook(), mode="dry-run")
    scene.deliver(alert())
    scene.work()
    scene.configure(actor.playbook(), mode="enforce")
    scene.deliver(alert("bbbb"))
    scene.work()
    assert [run.outcome for run in scene.runs()] == ["planned", "succeeded"]


@pytest.mark.parametrize(
    ("section", "change", "reason"),
    [
        ({"mode": "off"}, {}, "mode_off"),
        ({"mode": "dry-run"}, {}, "plan_changed"),
        ({"mode": "approve"}, {}, "plan_changed"),
        ({}, None, "no_playbook"),
        ({}, {"protected_targets": ["?"]}, "protected_targets"),
        ({}, {"protected_targets": ["a"]}, "plan_changed"),
        ({}, {"max_targets": 1}, "too_many_targets"),
        ({}, {"parameters": {"region": "eu-west-1"}}, "plan_changed"),
        ({}, {"environment": {"REGION": "eu-west-1"}}, "plan_changed"),
        ({}, {"fresh_sources": ["bills"]}, "data_stale"),
    ],
)
def test_a_reload_while_the_plan_is_made_holds_back_what_it_would_do(scene, actor, alert, wait_until, section, change, reason):
    gate = actor.gate("plan")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    wait_until(gate.is_reached)
    if change is None:
        scene.configure(**section)
    else:
        more = {name: value for name, value in change.items() if name != "parameters"}
        scene.configure(actor.playbook(parameters=gate.parameters | change.get("parameters", {}), **more), **section)
    gate.open()
    thread.join()
    assert (scene.run().outcome, scene.run().reason, scene.run().acted_at) == ("refused", reason, 0)
    assert actor.calls("apply") == []


def test_a_locked_ledger_does_not_hold_up_the_kill_switch(scene, actor, alert, tmp_path, wait_until, monkeypatch):
    # So long that whoever waited for the ledger would be seen waiting.
    monkeypatch.setattr("costwarden.ledger.sqlite_transactions.BUSY_TIMEOUT_SECONDS", 600)
    begun, midway = actor.gate("apply"), actor.gate("apply between targets")
    hold = {"hold": begun.parameters["hold"] | midway.parameters["hold"]}
    scene.configure(actor.playbook(parameters=hold), kill_switch_file=str(tmp_path / "stop"))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    wait_until(begun.is_reached)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=60)
    try:
        other.execute("BEGIN IMMEDIATE")
        begun.open()
        wait_until(midway.is_reached)
        (tmp_path / "stop").touch()
        process = Path(f"/proc/{actor.calls('apply')[0]['pid']}")
        wait_until(lambda: not process.exists())
    finally:
        other.close()
        thread.join()
    assert (scene.run().outcome, scene.run().reason) == ("stopped", "kill_switch")
    assert [entry.detail["target"] for entry in scene.journal() if entry.step == "target"] == ["a"]


def test_a_flood_of_good_lines_is_journaled_up_to_a_limit_and_counted(scene, actor, alert, write_script):
    body = """
import sys
applies = "--apply" in sys.argv
for _ in range(20_000 if applies else 1):
    print('{"target": "a", "action": "stop", "result": "%s"}' % ("done" if applies else "planned"))
"""
    write_script(actor.program, body)
    scene.configure(actor.playbook())
    scene.deliver(alert())
    scene.work()
    # script_started has one of the places of 1 target and what may come beyond
    kept = 1 + KEPT_LINES - 1
    assert scene.steps().count("target") == kept
    assert scene.detail("finished")["lines_left_out"] == 20_000 - kept
    assert scene.detail("finished")["results"] == {"done": 20_000}


def test_an_alert_waits_while_the_ledger_cannot_write_and_runs_once_it_can(scene, actor, alert):
    scene.configure(actor.playbook())
    scene.deliver(alert())
    scene.ledger.is_full = True
    with pytest.raises(LedgerUnavailable):
        scene.worker.run_next()
    assert (scene.item().state, actor.calls()) == ("queued", [])
    scene.ledger.is_full = False
    scene.work()
    assert (scene.run().outcome, len(actor.calls("apply"))) == ("succeeded", 1)


def test_a_ledger_that_fails_while_the_script_acts_gets_its_lines_later(scene, actor, alert, wait_until):
    gate = actor.gate("apply")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    wait_until(gate.is_reached)
    wait_until(lambda: scene.steps()[-1] == "script_started")
    scene.ledger.is_full = True
    gate.open()
    # two targets and, after them, the end
    wait_until(lambda: scene.ledger.refused >= 3)
    assert scene.item().state == "running"
    scene.ledger.is_full = False
    thread.join()
    assert (scene.run().outcome, scene.item().state) == ("succeeded", "done")
    assert scene.steps()[-3:] == ["target", "target", "finished"]


def test_a_fault_of_our_own_ends_the_run_and_not_the_worker(scene, actor, alert):
    scene.configure(actor.playbook(), actor.playbook("throttle"))
    scene.deliver(alert(), alert("bbbb", action="throttle"))
    faults = [ZeroDivisionError("a fault")]

    def settings():
        if faults:
            raise faults.pop()
        return scene.settings

    worker = Worker(scene.ledger, settings, environ={}, now=scene.clock)
    while worker.run_next():
        pass
    assert [(run.outcome, run.reason) for run in scene.runs()] == [("failed", "internal_error"), ("succeeded", "")]
    assert scene.detail("finished", scene.runs()[0].run_id)["message"] == "ZeroDivisionError('a fault')"


@pytest.fixture
def started(scene):
    """Starts the scene's worker in threads of its own; ends it with the test."""
    workers = []

    def start():
        worker = Worker(scene.ledger, lambda: scene.settings, environ={}, now=scene.clock)
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        assert worker.stop(60), "a script still acts"


def test_a_started_worker_takes_what_it_is_woken_for(scene, actor, alert, started, wait_until, monkeypatch):
    # It does not look by itself.
    monkeypatch.setattr("costwarden.remediation.worker.POLL_SECONDS", 3600)
    scene.configure(actor.playbook())
    worker = started()
    scene.deliver(alert())
    worker.wake()
    wait_until(lambda: scene.lengths() == {"done": 1})
    assert len(actor.calls("apply")) == 1


def test_two_playbooks_run_at_once_but_never_one_twice(scene, actor, alert, started, wait_until):
    slow = actor.gate("apply")
    scene.configure(actor.playbook(parameters=slow.parameters), actor.playbook("throttle"), concurrency=3)
    scene.deliver(alert("aaaa"), alert("bbbb"), alert("cccc", action="throttle"))
    started()
    wait_until(slow.is_reached)
    wait_until(lambda: scene.item(3).state == "done")
    assert (scene.item(1).state, scene.item(2).state, scene.item(2).run_id) == ("running", "queued", "")
    slow.open()
    wait_until(lambda: scene.lengths() == {"done": 3})
    assert len(actor.calls("apply")) == 3


@pytest.fixture
def taken(ledger):
    """Writes a queue of these actions and takes from it while some are busy: the item and its run."""

    def take_from(actions, busy):
        rows = [(f"{number:06}", action) for number, action in enumerate(actions, 1)]
        insert = "INSERT INTO remediation_queue (fingerprint, action, state, labels, annotations) VALUES (?, ?, 'queued', '{}', '{}')"
        ledger.write(lambda connection: connection.exec_driver_sql(insert, rows))
        return ledger.write(lambda connection: take(connection, busy=busy, now=1))

    return take_from


@pytest.mark.parametrize(
    ("busy", "queue_id"),
    [
        ({}, 1),
        ({1: "a"}, 3),
        ({1: "a", 3: "b"}, 5),
        ({2: "x"}, 1),
        ({1: "a", 3: "b", 5: "c"}, None),
    ],
)
def test_the_oldest_item_that_is_free_is_taken(taken, busy, queue_id):
    found = taken(["a", "a", "b", "a", "c"], busy)
    assert (found and found[0].queue_id) == queue_id


def test_a_poll_reads_one_item_of_the_queue_and_not_all(taken, monkeypatch):
    read = []
    monkeypatch.setattr("costwarden.ledger.remediation._item", lambda row, decode=remediation._item: read.append(row) or decode(row))
    found = taken(["a"] * 1000 + ["b"], {1: "a"})
    assert (found[0].queue_id, len(read)) == (1001, 1)


def test_a_worker_that_finds_nothing_free_does_not_write(scene, actor, alert, started, wait_until):
    gate = actor.gate("plan")
    scene.configure(actor.playbook(parameters=gate.parameters), concurrency=2)
    scene.deliver(alert("aaaa"), alert("bbbb"))
    worker = started()
    wait_until(gate.is_reached)
    scene.ledger.is_full = True
    # The other thread's look at the queue: an item of the playbook that is busy.
    assert not worker.run_next()
    scene.ledger.is_full = False
    gate.open()
    wait_until(lambda: scene.lengths() == {"done": 2})


def test_stopping_gives_up_a_plan_and_leaves_the_alert_queued_for_the_next_start(scene, actor, alert, started, wait_until):
    gate = actor.gate("plan")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    worker = started()
    wait_until(gate.is_reached)
    assert worker.stop(60)
    assert scene.item().state == "queued"
    gate.open()
    started()
    wait_until(lambda: scene.lengths() == {"done": 1})
    assert len(actor.calls("apply")) == 1
    assert scene.steps()[:4] == ["alert_started", "received", "guard_passed", "resumed"]


def test_stopping_waits_for_a_script_that_acts(scene, actor, alert, started, wait_until):
    gate = actor.gate("apply")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    worker = started()
    wait_until(gate.is_reached)
    assert not worker.stop(0.1)
    gate.open()
    assert worker.stop(60)
    assert (scene.run().outcome, scene.item().state) == ("succeeded", "done")
