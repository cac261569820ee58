"""Each guard, on both sides of its boundary."""

import itertools

import msgspec
import pytest

from costwarden.ledger.remediation import QueueItem, Run
from costwarden.ledger.schema import source_state
from costwarden.model import MICROS_PER_SECOND
from costwarden.remediation.guard import Refusal, admit, check_plan, kill_switch_is_on
from costwarden.remediation.runner import ScriptResult, TargetLine
from costwarden.remediation.settings import Playbook, RemediationSettings

NOW = 1_000_000 * MICROS_PER_SECOND

ITEM = QueueItem(
    queue_id=1,
    fingerprint="f",
    starts_at="2026-03-02T11:59:00.000000Z",
    action="p",
    status="firing",
    labels={"tenant_id": "acme"},
    annotations={},
    group_key="",
    received_at=NOW,
    last_received_at=NOW,
    resolved_at=0,
    deliveries=1,
    state="queued",
    run_id="r",
)
RUN = Run("r", 1, "p", "enforce", NOW, 0, 0, 0, "", "", 0, "")


def seconds_ago(seconds):
    return NOW - seconds * MICROS_PER_SECOND


def plan_of(*targets, population=None, skipped=()):
    lines = [TargetLine(target, "stop", "planned") for target in targets] + [TargetLine(target, "stop", "skipped") for target in skipped]
    return ScriptResult("exited", 0, tuple(lines), population, "")


@pytest.fixture
def admitted(ledger):
    """Asks the guard; gives the reason of its refusal, or the admission."""

    def ask(playbook=(), *, item=ITEM, run=RUN, **section):
        playbook = {"name": "p", "script": ["/bin/true"], "mode": "enforce"} | dict(playbook)
        settings = RemediationSettings.model_validate({"mode": "enforce", "playbooks": [playbook]} | section)
        with ledger.read() as connection:
            try:
                return admit(connection, settings, item, run, NOW)
            except Refusal as refusal:
                return refusal.reason

    return ask


@pytest.fixture
def planned(ledger):
    """Asks the guard about a plan; gives the reason of its refusal, or the targets."""

    def ask(plan, **playbook):
        with ledger.read() as connection:
            try:
                lines = check_plan(connection, Playbook.model_validate({"name": "p", "script": ["/bin/true"]} | playbook), plan, NOW)
            except Refusal as refusal:
                return refusal.reason
            return [line.target for line in lines]

    return ask


@pytest.fixture
def acted(ledger):
    """Writes a run of playbook `p` that acted on some targets, some seconds ago, for an alert."""
    numbers = itertools.count(1)

    def write(seconds, *, fingerprint="f", targets=1, mode="enforce"):
        number = next(numbers)
        at = seconds_ago(seconds)

        def insert(connection):
            connection.exec_driver_sql(
                "INSERT INTO remediation_queue (queue_id, fingerprint, starts_at, action, labels, annotations)"
                " VALUES (?, ?, ?, 'p', '{}', '{}')",
                (number, fingerprint, f"{number}"),
            )
            connection.exec_driver_sql(
                "INSERT INTO remediation_runs (run_id, queue_id, playbook, mode, acted_at, targets_count) VALUES (?, ?, 'p', ?, ?, ?)",
                (f"r{number}", number, mode, at, targets),
            )

        ledger.write(insert)

    return write


def test_the_kill_switch_is_the_existence_of_its_file(tmp_path, admitted):
    switch = tmp_path / "stop"
    assert admitted(kill_switch_file=str(switch)).mode == "enforce"
    switch.touch()
    assert admitted(kill_switch_file=str(switch)) == "kill_switch"


def test_a_kill_switch_that_points_nowhere_or_cannot_be_looked_at_is_on(tmp_path):
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    assert kill_switch_is_on(dangling)
    assert kill_switch_is_on(tmp_path / ("n" * 300))
    assert not kill_switch_is_on(tmp_path / "no" / "such" / "folder")
    assert not kill_switch_is_on(None)


def test_an_action_without_a_playbook_is_refused(admitted):
    assert admitted(item=msgspec.structs.replace(ITEM, action="other")) == "no_playbook"


@pytest.mark.parametrize(("section", "playbook"), [("off", "enforce"), ("enforce", "off")])
def test_off_in_either_place_is_off(admitted, section, playbook):
    assert admitted({"mode": playbook}, mode=section) == "mode_off"


def test_an_alert_that_resolved_is_refused(admitted):
    assert admitted(item=msgspec.structs.replace(ITEM, status="resolved")) == "resolved"


@pytest.mark.parametrize(("seconds", "is_refused"), [(3600, False), (3601, True)])
def test_an_alert_not_heard_of_for_too_long_is_refused(admitted, seconds, is_refused):
    item = msgspec.structs.replace(ITEM, last_received_at=seconds_ago(seconds))
    answer = admitted({"alert_expires_after_seconds": 3600}, item=item)
    assert (answer == "alert_expired") is is_refused


def test_an_old_alert_that_a_person_approved_is_admitted(admitted):
    item = msgspec.structs.replace(ITEM, last_received_at=seconds_ago(100_000))
    assert admitted(item=item, run=msgspec.structs.replace(RUN, approved_by="ada")).mode == "enforce"


def test_stale_figures_are_refused(admitted, ledger):
    wanted = {"fresh_sources": ["bills"], "fresh_within_seconds": 600}
    assert admitted(wanted) == "data_stale"
    ledger.write(lambda connection: connection.execute(source_state.insert().values(source="bills", last_success_at=seconds_ago(601))))
    assert admitted(wanted) == "data_stale"
    ledger.write(lambda connection: connection.execute(source_state.update().values(last_success_at=seconds_ago(600))))
    assert admitted(wanted).mode == "enforce"


@pytest.mark.parametrize(
    ("seconds", "past", "is_refused"),
    [
        (899, {}, True),
        (900, {}, False),
        (10, {"fingerprint": "another"}, False),
        (10, {"mode": "restore"}, False),
    ],
)
def test_the_cool_down_is_of_one_alert_and_counts_from_when_it_was_acted_for(admitted, acted, seconds, past, is_refused):
    acted(seconds, **past)
    assert (admitted({"cooldown_seconds": 900}) == "cooldown") is is_refused


def test_parameters_are_the_configured_ones_and_the_labels_named(admitted):
    playbook = {"parameters": {"reason": "over budget", "dry": [1, None]}, "parameters_from_labels": {"tenant": "tenant_id"}}
    assert admitted(playbook).parameters == {"reason": "over budget", "dry": [1, None], "tenant": "acme"}


@pytest.mark.parametrize("value", [None, "", "a\nb", "a\u0000", "a\u202e", "a" * 257])
def test_a_label_that_is_absent_unprintable_or_overlong_is_refused(admitted, value):
    labels = {} if value is None else {"tenant_id": value}
    assert admitted({"parameters_from_labels": {"tenant": "tenant_id"}}, item=msgspec.structs.replace(ITEM, labels=labels)) == "bad_label"


def test_a_label_of_256_characters_is_admitted(admitted):
    item = msgspec.structs.replace(ITEM, labels={"tenant_id": "é" * 256})
    assert admitted({"parameters_from_labels": {"tenant": "tenant_id"}}, item=item).parameters == {"tenant": "é" * 256}


def test_a_plan_at_the_cap_passes_and_one_above_is_refused_whole(planned):
    assert planned(plan_of("a", "b"), max_targets=2) == ["a", "b"]
    assert planned(plan_of("a", "b", "c"), max_targets=2) == "too_many_targets"


def test_what_the_script_skips_does_not_count(planned):
    assert planned(plan_of("a", "b", skipped=("c", "d")), max_targets=2) == ["a", "b"]
    assert planned(plan_of(skipped=("c",))) == []


@pytest.mark.parametrize(
    ("targets", "population", "answer"),
    [
        ("abc", 6, ["a", "b", "c"]),  # 3 / 6 = 0.5
        ("abc", 5, "ratio_exceeded"),  # 3 / 5 = 0.6
        ("a", None, "population_unknown"),
        ("a", 0, "population_unknown"),
        ("", None, []),
    ],
)
def test_the_share_of_the_population_is_capped(planned, targets, population, answer):
    assert planned(plan_of(*targets, population=population), max_targets_ratio=0.5) == answer


def test_protected_targets_are_taken_out_before_they_are_counted(planned):
    assert planned(plan_of("i-1", "i-2", "i-3"), protected_targets=["i-1", "i-3*"], max_targets=1) == ["i-2"]
    assert planned(plan_of("i-1"), protected_targets=["i-?"]) == "protected_targets"


def test_an_hour_of_runs_has_a_cap_of_its_own(planned, acted):
    acted(3601, targets=50)
    acted(3600, targets=6)
    acted(1, targets=2, fingerprint="another")
    acted(1, targets=40, mode="restore")
    # 6 + 2 in the last hour
    assert planned(plan_of("a", "b"), max_targets_per_hour=10) == ["a", "b"]
    assert planned(plan_of("a", "b", "c"), max_targets_per_hour=10) == "hourly_limit"


def test_an_hour_whose_cap_is_reached_admits_nothing_before_a_plan_is_made(admitted, acted):
    acted(3601, targets=50)
    acted(3600, targets=6)
    acted(1, targets=40, mode="restore")
    assert admitted({"max_targets_per_hour": 7}).mode == "enforce"
    assert admitted({"max_targets_per_hour": 6}) == "hourly_limit"
    acted(1, targets=1, fingerprint="another")
    # 6 + 1 in the last hour
    assert admitted({"max_targets_per_hour": 7}) == "hourly_limit"
