"""stop_ec2_instances through the real boto3, against a server that answers as EC2 does."""

import boto3
import pytest
from botocore.stub import Stubber

from costwarden.ledger import Ledger
from costwarden.ledger.journal import read_journal
from costwarden.ledger.remediation import list_runs
from costwarden.remediation.decisions import restore_run
from costwarden.remediation.intake import accept
from costwarden.remediation.settings import RemediationSettings
from costwarden.remediation.worker import Worker

RUN_ID = "20260302t120000-0badcafe"
SCRIPT = "stop_ec2_instances"


def stubbed_ec2():
    client = boto3.client("ec2", region_name="eu-central-1", aws_access_key_id="test", aws_secret_access_key="test")
    return client, Stubber(client)


@pytest.fixture
def ec2(run_script, aws):
    """Runs the script with these flags and, if any, this request."""

    def run(*flags, **request):
        return run_script(SCRIPT, *flags, request={"run_id": RUN_ID} | request if request else None, environ=aws)

    return run


def test_a_plan_shows_what_would_be_stopped_and_changes_nothing(ec2, fleet):
    chosen, other = fleet.launch(team="ml", Name="trainer"), fleet.launch(team="web")
    ran = ec2("--tag", "team=ml")
    assert ran.status == 0
    assert ran.results == {chosen: "planned"}
    line = ran.line(chosen)
    assert line["state_before"] == {"state": "running", "instance_type": "m1.small", "name": "trainer"}
    assert line["undo"]["instance_id"] == chosen
    assert {"population": 2} in ran.lines
    assert fleet.states() == {chosen: "running", other: "running"}
    assert fleet.tags(chosen) == {"team": "ml", "Name": "trainer"}


def test_apply_stops_the_selection_with_the_undo_record_on_each_instance(ec2, fleet):
    chosen, other = fleet.launch(team="ml"), fleet.launch(team="web")
    ran = ec2("--tag", "team=ml", "--run-id", RUN_ID, "--apply")
    assert (ran.status, ran.results) == (0, {chosen: "done"})
    assert ran.line(chosen)["undo"] == {"instance_id": chosen, "run_id": RUN_ID}
    assert fleet.states() == {chosen: "stopped", other: "running"}
    assert fleet.tags(chosen)["costwarden:run-id"] == RUN_ID
    assert fleet.tags(chosen)["costwarden:stopped-at"].endswith("Z")


def test_a_request_on_stdin_does_what_flags_do(ec2, fleet):
    chosen = fleet.launch(team="ml", environment="staging")
    fleet.launch(team="ml", environment="production")
    ran = ec2("--apply", targets=[chosen], parameters={"tags": {"team": "ml", "environment": ["staging", "test"]}})
    assert (ran.status, ran.results) == (0, {chosen: "done"})


def test_different_tags_must_all_match_and_values_of_one_tag_are_alternatives(ec2, fleet):
    staging = fleet.launch(team="ml", environment="staging")
    testing = fleet.launch(team="ml", environment="test")
    fleet.launch(team="ml", environment="production")
    fleet.launch(environment="staging")
    ran = ec2("--tag", "team=ml", "--tag", "environment=staging", "--tag", "environment=test")
    assert ran.results == {staging: "planned", testing: "planned"}


def test_no_more_is_stopped_than_the_targets_named(ec2, fleet):
    first, second = fleet.launch(team="ml"), fleet.launch(team="ml")
    ran = ec2("--apply", targets=[first], parameters={"tags": {"team": "ml"}})
    assert ran.results == {first: "done"}
    assert fleet.states()[second] == "running"


def test_a_target_outside_the_selection_is_skipped(ec2, fleet):
    fleet.launch(team="ml")
    other = fleet.launch(team="web")
    ran = ec2("--apply", targets=[other, "i-00000000000000000"], parameters={"tags": {"team": "ml"}})
    assert (ran.status, ran.results) == (0, {other: "skipped", "i-00000000000000000": "skipped"})
    assert ran.line(other)["message"] == "is not running, or no longer has the tags of the selection"
    assert fleet.states()[other] == "running"


def test_an_empty_list_of_targets_is_none_and_not_all(ec2, fleet):
    instance = fleet.launch(team="ml")
    assert ec2("--apply", targets=[], parameters={"tags": {"team": "ml"}}).results == {}
    assert fleet.states() == {instance: "running"}


@pytest.mark.parametrize("value", ["true", "True"])
def test_a_protected_instance_is_left_alone(ec2, fleet, value):
    protected = fleet.launch(team="ml", costwarden__protected=value)
    unprotected = fleet.launch(team="ml", costwarden__protected="false")
    ran = ec2("--tag", "team=ml", "--apply")
    assert ran.results == {protected: "skipped", unprotected: "done"}
    assert ran.line(protected)["message"] == f"is protected by its tag costwarden:protected={value}"
    assert fleet.states()[protected] == "running"


def test_another_protected_tag_protects_besides_the_default_one(ec2, fleet):
    by_default, by_flag = fleet.launch(team="ml", costwarden__protected="true"), fleet.launch(team="ml", tier="critical")
    assert ec2("--tag", "team=ml", "--protected-tag", "tier=critical").results == {by_default: "skipped", by_flag: "skipped"}
    request = {"parameters": {"tags": {"team": "ml"}, "protected_tags": ["tier=critical"]}}
    assert ec2(**request).results == {by_default: "skipped", by_flag: "skipped"}


def test_a_member_of_an_auto_scaling_group_is_left_alone(ec2, fleet, client):
    groups = client("autoscaling")
    groups.create_launch_configuration(LaunchConfigurationName="l", ImageId="ami-12c6146b", InstanceType="t3.micro")
    groups.create_auto_scaling_group(
        AutoScalingGroupName="workers",
        LaunchConfigurationName="l",
        MinSize=1,
        MaxSize=1,
        AvailabilityZones=["eu-central-1a"],
        Tags=[{"Key": "team", "Value": "ml", "PropagateAtLaunch": True}],
    )
    (member,) = fleet.states()
    ran = ec2("--tag", "team=ml", "--apply")
    assert ran.results == {member: "skipped"}
    assert ran.line(member)["message"] == "belongs to the Auto Scaling group workers, which would replace it: scale the group instead"


def test_an_instance_without_an_ebs_root_is_left_alone(load_script):
    why_not = load_script(SCRIPT).why_not
    assert why_not({"RootDeviceType": "instance-store"}, set()) == "has an instance store as its root: it can only be terminated"
    assert why_not({"RootDeviceType": "ebs"}, set()) == ""


def test_every_page_is_read_before_anything_is_stopped(ec2, fleet):
    # One more than a page holds; stopping the first page's instances would take them out of what the second page follows.
    wanted = {fleet.launch(team="ml") for _ in range(100 + 1)}
    assert ec2("--tag", "team=ml", "--apply").results == dict.fromkeys(wanted, "done")
    assert set(fleet.states().values()) == {"stopped"}


def test_an_instance_that_does_not_take_the_undo_record_is_not_stopped_and_the_others_are(ec2, fleet):
    # EC2 allows 50 tags a resource.
    full = fleet.launch(team="ml", **{f"tag{number}": "x" for number in range(49)})
    good = fleet.launch(team="ml")
    ran = ec2("--tag", "team=ml", "--apply")
    assert (ran.status, ran.results) == (1, {full: "failed", good: "done"})
    assert "its undo record could not be written on it" in ran.line(full)["message"]
    assert fleet.states() == {full: "running", good: "stopped"}


def test_an_instance_that_ec2_refuses_to_stop_keeps_no_marks(load_script):
    """With botocore's own stub: moto stops whatever it is asked to."""
    client, stubber = stubbed_ec2()
    stubber.add_response("create_tags", {})
    stubber.add_client_error("stop_instances", "OperationNotPermitted", "stop protection is on")
    stubber.add_response("delete_tags", {})
    with stubber:
        assert "stop protection is on" in load_script(SCRIPT).stop_one(client, "i-1", RUN_ID)
    stubber.assert_no_pending_responses()


def test_restore_starts_exactly_what_the_run_stopped_and_removes_its_marks(ec2, fleet):
    ours, theirs = fleet.launch(team="ml"), fleet.launch(team="ml")
    fleet.ec2.stop_instances(InstanceIds=[theirs])
    ec2("--tag", "team=ml", "--run-id", RUN_ID, "--apply")
    assert ec2("--restore", "--run-id", RUN_ID).results == {ours: "planned"}
    assert fleet.states() == {ours: "stopped", theirs: "stopped"}
    ran = ec2("--restore", "--run-id", RUN_ID, "--apply")
    assert (ran.status, ran.results) == (0, {ours: "done"})
    assert fleet.states() == {ours: "running", theirs: "stopped"}
    assert fleet.tags(ours) == {"team": "ml"}


def test_restore_by_undo_records_leaves_alone_what_another_run_has_stopped_since(ec2, fleet):
    first, second, gone = fleet.launch(team="ml"), fleet.launch(team="ml"), "i-00000000000000000"
    ec2("--tag", "team=ml", "--run-id", "run-1", "--apply")
    fleet.ec2.start_instances(InstanceIds=[second])
    ec2("--tag", "team=ml", "--run-id", "run-2", "--apply")
    undo = [{"instance_id": instance, "run_id": "run-1"} for instance in (first, second, gone)]
    ran = ec2("--restore", "--apply", targets=[first, second, gone], undo=undo)
    assert ran.results == {first: "done", second: "skipped", gone: "skipped"}
    assert ran.line(second)["message"] == "was stopped again by run run-2"
    assert fleet.states() == {first: "running", second: "stopped"}


def test_restore_of_an_instance_that_runs_already_only_removes_its_marks(ec2, fleet):
    instance = fleet.launch(team="ml")
    ec2("--tag", "team=ml", "--run-id", RUN_ID, "--apply")
    fleet.ec2.start_instances(InstanceIds=[instance])
    ran = ec2("--restore", "--run-id", RUN_ID, "--apply")
    assert (ran.results, ran.line(instance)["message"]) == ({instance: "skipped"}, "is running")
    assert fleet.tags(instance) == {"team": "ml"}


def test_restore_by_tag_starts_what_costwarden_stopped_among_the_tagged(ec2, fleet):
    ours, other = fleet.launch(team="ml"), fleet.launch(team="web")
    ec2("--tag", "team=ml", "--apply")
    ec2("--tag", "team=web", "--apply")
    assert ec2("--restore", "--tag", "team=ml", "--apply").results == {ours: "done"}
    assert fleet.states()[other] == "stopped"


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--apply"], 3, "no tag is given: an empty selection would be every instance of the region"),
        (["--apply", "--target", "i-1"], 3, "no tag is given"),
        (["--restore", "--apply"], 3, "nothing says what to restore: give --run-id, a tag, or an undo record"),
        (["--tag", "team"], 2, "tag 'team' is not KEY=VALUE"),
        (["--tag", "team="], 2, "tag 'team=' is not KEY=VALUE"),
        (["--tag", "team=*"], 2, "tag 'team': * ? and \\ are not allowed in a value"),
        (["--restore", "--run-id", "*"], 2, "* ? and \\ are not allowed in a run id"),
        (["--protected-tag", "x", "--tag", "a=b"], 2, "tag 'x' is not KEY=VALUE"),
        (["--app"], 2, "unrecognized arguments: --app"),
    ],
)
def test_flags_that_select_everything_or_nothing_sensible_are_refused(ec2, fleet, flags, status, message):
    instance = fleet.launch(team="ml")
    ran = ec2(*flags)
    assert (ran.status, ran.lines) == (status, [])
    assert message in ran.stderr
    assert fleet.states() == {instance: "running"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tag": {"team": "ml"}}, "unknown parameter `tag`; known are endpoint_url, protected_tags, region, tags"),
        ({"tags": "team=ml"}, "parameter `tags` is not an object"),
        ({"tags": {"team": []}}, "tag 'team' needs a name and one or more values that are text"),
        ({"tags": {"team": [None]}}, "tag 'team' needs a name and one or more values that are text"),
        ({"tags": {"": "ml"}}, "tag '' needs a name and one or more values that are text"),
        ({"tags": {"team": "ml"}, "region": 7}, "parameter `region` is 7; text is needed"),
        ({"tags": {"team": "ml"}, "protected_tags": "a=b"}, "parameter `protected_tags` is not a list of KEY=VALUE"),
    ],
)
def test_a_parameter_of_the_wrong_shape_is_bad_usage(ec2, parameters, message):
    ran = ec2("--apply", parameters=parameters)
    assert (ran.status, ran.lines) == (2, [])
    assert message in ran.stderr


def test_a_missing_region_is_bad_usage(run_script, aws):
    del aws["AWS_REGION"]
    ran = run_script(SCRIPT, "--tag", "team=ml", environ=aws)
    assert (ran.status, ran.stderr) == (2, f"{SCRIPT}: no region: give --region, the parameter `region`, or AWS_REGION\n")


def test_an_endpoint_that_does_not_answer_is_a_sentence(run_script, aws, free_port):
    dead = aws | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}
    ran = run_script(SCRIPT, "--tag", "team=ml", environ=dead)
    assert (ran.status, ran.lines) == (1, [])
    assert ran.stderr.startswith(f"{SCRIPT}: EC2 did not answer: Could not connect to the endpoint URL")


def test_an_alert_stops_tagged_instances_and_a_person_restores_them(aws, fleet, project, tmp_path):
    """The whole way: webhook, queue, guard, plan, cap, undo record, boto3; then back."""
    chosen, other = fleet.launch(team="ml"), fleet.launch(team="web")
    settings = RemediationSettings.model_validate(
        {
            "mode": "enforce",
            "playbooks": [
                {
                    "name": "stop_ml",
                    "script": ["shutdown/stop_ec2_instances"],
                    "mode": "enforce",
                    "parameters": {"region": aws["AWS_REGION"]},
                    "max_targets": 1,
                    "max_targets_ratio": 0.5,
                    "pass_environment": list(aws),
                }
            ],
        }
    )
    payload = b"""{"version": "4", "alerts": [{"status": "firing", "fingerprint": "f", "startsAt": "2026-03-02T12:00:00Z",
        "labels": {"action": "stop_ml", "team": "ml"}}]}"""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", owner=True)
    now = iter(range(1_772_452_800_000_000, 1_772_452_900_000_000)).__next__

    def work(parameters):
        playbook = settings.playbooks[0].model_copy(update={"parameters": settings.playbooks[0].parameters | parameters})
        changed = settings.model_copy(update={"playbooks": (playbook,)})
        accept(ledger, payload.replace(b'"f"', b'"%d"' % now()), now())
        worker = Worker(ledger, lambda: changed, environ=aws, now=now)
        while worker.run_next():
            pass
        with ledger.read() as connection:
            return list_runs(connection)[0][0]

    try:
        # A playbook that forgot its tags would mean every instance: the script refuses, the run says so.
        assert (work({}).outcome, fleet.states()[chosen]) == ("refused", "running")
        run = work({"tags": {"team": "ml"}})
        assert (run.outcome, run.targets_count) == ("succeeded", 1)
        assert fleet.states() == {chosen: "stopped", other: "running"}
        assert fleet.tags(chosen)["costwarden:run-id"] == run.run_id
        with ledger.read() as connection:
            undo = next(entry.detail for entry in read_journal(connection, run.run_id) if entry.step == "undo_recorded")
        assert undo["records"][0]["undo"] == {"instance_id": chosen, "run_id": run.run_id}
        _, result = restore_run(ledger, settings, run.run_id, apply=True, actor="ada", environ=aws, now=now)
        assert [(line.target, line.result) for line in result.lines] == [(chosen, "done")]
        assert fleet.states()[chosen] == "running"
    finally:
        ledger.close()
