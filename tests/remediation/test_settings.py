"""What a playbook may say, and that mistakes are found when the configuration is loaded."""

import itertools
import sys

import pytest
from pydantic import ValidationError

from costwarden.remediation.settings import MODES, Playbook, RemediationSettings

TRUE = {"name": "p", "script": ["/bin/true"]}


def test_as_shipped_nothing_acts():
    settings = RemediationSettings.model_validate({"playbooks": [TRUE]})
    assert settings.effective_mode(settings.playbooks[0]) == "dry-run"


@pytest.mark.parametrize(("section", "playbook"), list(itertools.product(MODES, MODES)))
def test_the_stricter_mode_holds(section, playbook):
    settings = RemediationSettings.model_validate({"mode": section, "playbooks": [TRUE | {"mode": playbook}]})
    assert settings.effective_mode(settings.playbooks[0]) == MODES[min(MODES.index(section), MODES.index(playbook))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"script": ["/no/such/program"]}, "'/no/such/program': there is no such program; looked for /no/such/program"),
        ({"script": []}, "at least 1 item"),
        ({"name": "rm -rf"}, "should match pattern"),
        ({"name": "p" * 65}, "at most 64 characters"),
        ({"mode": "on"}, "Input should be 'off', 'dry-run', 'approve' or 'enforce'"),
        ({"max_target": 3}, "Extra inputs are not permitted"),
        ({"max_targets": 0}, "greater than or equal to 1"),
        ({"max_targets_ratio": 1.5}, "less than or equal to 1"),
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"environment": {"A=B": "c"}}, "should match pattern"),
        (
            {"parameters": {"tenant": "a"}, "parameters_from_labels": {"tenant": "tenant_id"}},
            "parameter `tenant` is set in `parameters` and in",
        ),
    ],
)
def test_a_mistake_in_a_playbook_is_an_error(change, message):
    with pytest.raises(ValidationError, match=message):
        Playbook.model_validate(TRUE | change)


def test_a_program_that_is_not_executable_is_an_error(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(ValidationError, match=f"{program} is not executable; `chmod \\+x` mends it"):
        Playbook.model_validate(TRUE | {"script": [str(program)]})


def test_two_playbooks_of_one_name_are_an_error():
    with pytest.raises(ValidationError, match="two playbooks are named `p`; an action has one playbook"):
        RemediationSettings.model_validate({"playbooks": [TRUE, TRUE]})


def test_a_relative_program_is_a_shipped_one_and_runs_by_our_interpreter(project):
    playbook = Playbook(name="p", script=("shutdown/suspend_ai_tenant", "--reason", "over budget"))
    assert playbook.argv == [sys.executable, str(project / "scripts/shutdown/suspend_ai_tenant"), "--reason", "over budget"]


def test_a_relative_program_stays_inside_the_shipped_scripts():
    with pytest.raises(ValidationError, match=r"'../exporter/costwarden/config.py': a relative program must stay inside"):
        Playbook(name="p", script=("../exporter/costwarden/config.py",))


def test_an_absolute_program_is_run_as_it_is():
    assert Playbook(name="p", script=("/bin/true", "-x")).argv == ["/bin/true", "-x"]
