"""What a person decides about a run."""

import threading

import pytest

from costwarden.ledger import Ledger
from costwarden.ledger.audit import list_audit
from costwarden.remediation.decisions import DecisionRefused, approve_run, close_run, reject_run, restore_run


@pytest.fixture
def waiting(scene, actor, alert):
    """A run that waits for approval of `a` and `b`."""
    scene.configure(actor.playbook(mode="approve"))
    scene.deliver(alert())
    scene.work()
    assert scene.lengths() == {"awaiting_approval": 1}
    return scene.run().run_id


@pytest.fixture
def restore(scene):
    def call(run_id, *, apply=True):
        return restore_run(scene.ledger, scene.settings, run_id, apply=apply, actor="ada", environ={}, now=scene.clock)

    return call


def audited(scene):
    with scene.ledger.read() as connection:
        return [(entry["actor"], entry["action"], entry["subject"]) for entry in list_audit(connection)]


def test_approve_mode_plans_and_waits(scene, actor, waiting):
    scene.work()
    assert [call["phase"] for call in actor.calls()] == ["plan"]
    asked = scene.detail("awaiting_approval")
    assert (asked["argv"], asked["targets"]) == ([str(actor.program)], {"a": "stop", "b": "stop"})
    assert asked["parameters"] == actor.playbook()["parameters"]
    assert (scene.run().outcome, scene.run().targets_count, scene.run().finished_at) == ("", 2, 0)


def test_an_approved_run_acts_and_says_who_approved_it(scene, actor, waiting):
    approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.work()
    assert (scene.run().outcome, scene.run().approved_by, scene.item().state) == ("succeeded", "ada", "done")
    assert scene.detail("approved") == {"actor": "ada"}
    assert audited(scene) == [("ada", "remediation_approved", waiting)]


def test_an_approval_may_come_from_another_process(scene, actor, waiting, tmp_path):
    beside = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    approve_run(beside, waiting, actor="ada", now=scene.clock())
    beside.close()
    scene.work()
    assert scene.run().outcome == "succeeded"


def test_an_approved_run_acts_on_what_was_approved_and_is_still_there(scene, actor, waiting, write_script):
    # Since the plan `a` has ended by itself; the script, asked about `a` and `b`, plans `b` alone.
    body = """
import json, sys
request = json.load(sys.stdin)
assert request["targets"] == (["b"] if "--apply" in sys.argv else ["a", "b"]), request
print(json.dumps({"target": "b", "action": "stop", "result": "done" if "--apply" in sys.argv else "planned"}))
"""
    write_script(actor.program, body)
    approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.work()
    assert (scene.run().outcome, scene.run().targets_count) == ("succeeded", 1)


@pytest.mark.parametrize(
    ("targets", "action", "message"),
    [
        ("abc", "stop", "the plan would now 'stop' 'c', which was not approved"),
        ("ab", "terminate", "the plan would now 'terminate' 'a', which was not approved"),
    ],
)
def test_a_plan_that_became_another_after_its_approval_is_not_acted_on(scene, actor, waiting, write_script, targets, action, message):
    body = f"""
import json
for target in {targets!r}:
    print(json.dumps({{"target": target, "action": {action!r}, "result": "planned"}}))
"""
    write_script(actor.program, body)
    approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.work()
    assert (scene.run().outcome, scene.run().reason, scene.run().acted_at) == ("refused", "plan_changed", 0)
    assert scene.detail("finished")["message"] == message


@pytest.mark.parametrize("change", ["command", "parameters"])
def test_an_approval_is_not_for_another_command_or_other_parameters(scene, actor, waiting, change):
    changed = actor.playbook(mode="approve", parameters={"region": "eu-west-1"} if change == "parameters" else {})
    if change == "command":
        changed["script"].append("--terminate")
    scene.configure(changed)
    approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.work()
    assert (scene.run().outcome, scene.run().reason) == ("refused", "plan_changed")
    assert len(actor.calls()) == 1, "only the plan that was shown may have run"


def test_an_approval_does_not_overrule_a_mode_that_became_stricter(scene, actor, waiting):
    scene.configure(actor.playbook(mode="approve"), mode="dry-run")
    approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.work()
    assert (scene.run().outcome, actor.calls("apply")) == ("planned", [])


def test_a_rejected_run_is_over(scene, actor, waiting):
    reject_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.work()
    assert (scene.run().outcome, scene.run().reason, scene.item().state) == ("refused", "rejected", "refused")
    assert actor.calls("apply") == []
    with pytest.raises(DecisionRefused, match=f"run {waiting} cannot be approved: it is refused"):
        approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())


def test_what_resolved_before_its_approval_cannot_be_approved_and_is_refused(scene, alert, waiting):
    scene.deliver(alert(status="resolved", ends_at="2026-03-02T12:00:00Z"))
    with pytest.raises(DecisionRefused, match="it is awaiting_approval, and its alert has resolved"):
        approve_run(scene.ledger, waiting, actor="ada", now=scene.clock())
    scene.worker.refuse_lapsed()
    assert (scene.run().outcome, scene.run().reason) == ("refused", "resolved")


def test_an_approval_that_nobody_gave_expires(scene, waiting):
    scene.clock.advance(4 * 3600 - 1)
    scene.worker.refuse_lapsed()
    assert scene.lengths() == {"awaiting_approval": 1}
    scene.clock.advance(1)
    scene.worker.refuse_lapsed()
    assert (scene.run().reason, scene.item().state) == ("approval_expired", "refused")


def test_a_waiting_run_whose_playbook_is_gone_is_refused(scene, waiting):
    scene.configure()
    scene.worker.refuse_lapsed()
    assert scene.run().reason == "no_playbook"


def test_an_unknown_run_is_said_to_be_unknown(scene, restore):
    for decide in (approve_run, reject_run, close_run):
        with pytest.raises(LookupError, match="there is no run 'nope'"):
            decide(scene.ledger, "nope", actor="ada", now=scene.clock())
    with pytest.raises(LookupError, match="there is no run 'nope'"):
        restore("nope")


def test_only_an_interrupted_run_can_be_closed(scene, waiting):
    with pytest.raises(DecisionRefused, match=f"run {waiting} cannot be closed: it is awaiting_approval"):
        close_run(scene.ledger, waiting, actor="ada", now=scene.clock())


def test_restore_hands_the_undo_record_back_to_the_script(scene, actor, alert, restore):
    scene.configure(actor.playbook())
    scene.deliver(alert())
    scene.work()
    (run,) = scene.runs()
    restore_id, result = restore(run.run_id)
    (call,) = actor.calls("restore")
    assert call["argv"] == ["--restore", "--apply"]
    assert (call["request"]["targets"], call["request"]["undo"]) == (["a", "b"], [{"id": "a"}, {"id": "b"}])
    assert [line.result for line in result.lines] == ["done", "done"]
    restored = scene.runs()[-1]
    assert (restored.run_id, restored.mode, restored.outcome, restored.approved_by) == (restore_id, "restore", "succeeded", "ada")
    assert scene.steps(restore_id) == ["restore_started", "target", "target", "finished"]
    assert ("ada", "remediation_restore_started", restore_id) in audited(scene)
    assert scene.item().state == "done"


def test_a_restore_is_planned_first_and_leaves_no_trace_then(scene, actor, alert, restore):
    scene.configure(actor.playbook())
    scene.deliver(alert())
    scene.work()
    restore_id, _ = restore(scene.run().run_id, apply=False)
    assert restore_id == ""
    assert actor.calls("restore")[0]["argv"] == ["--restore"]
    assert len(scene.runs()) == 1


def test_a_run_that_never_acted_has_nothing_to_restore(waiting, restore):
    with pytest.raises(DecisionRefused, match=f"run {waiting} never acted: there is nothing to restore"):
        restore(waiting)


def test_a_run_that_still_acts_is_not_restored_beside_it(scene, actor, alert, restore, wait_until):
    gate = actor.gate("apply between targets")
    scene.configure(actor.playbook(parameters=gate.parameters))
    scene.deliver(alert())
    thread = threading.Thread(target=scene.work)
    thread.start()
    try:
        wait_until(gate.is_reached)
        with pytest.raises(DecisionRefused, match=f"run {scene.run().run_id} is still acting"):
            restore(scene.run().run_id)
    finally:
        gate.open()
        thread.join()
    assert actor.calls("restore") == []
    assert restore(scene.run().run_id)[1].exit_code == 0


def test_a_restore_obeys_the_kill_switch_and_needs_the_playbook(scene, actor, alert, restore, tmp_path):
    scene.configure(actor.playbook())
    scene.deliver(alert())
    scene.work()
    (tmp_path / "stop").touch()
    scene.configure(actor.playbook(), kill_switch_file=str(tmp_path / "stop"))
    with pytest.raises(DecisionRefused, match=r"the kill switch /.* is on"):
        restore(scene.run().run_id)
    scene.configure()
    with pytest.raises(DecisionRefused, match="which is not configured any more: run its script by hand"):
        restore(scene.run().run_id)


def test_two_persons_who_approve_at_once_start_one_run(scene, actor, waiting):
    answers = []

    def decide(name):
        try:
            approve_run(scene.ledger, waiting, actor=name, now=scene.clock())
            answers.append(name)
        except DecisionRefused:
            answers.append("refused")

    threads = [threading.Thread(target=decide, args=(name,)) for name in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scene.work()
    assert sorted(answers) in (["ada", "refused"], ["bob", "refused"])
    assert scene.run().approved_by in answers
    assert len(actor.calls("apply")) == 1
