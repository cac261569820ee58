"""docs/remediation.md says what the code does."""

import re

import pytest
import yaml

from costwarden.config import Config
from costwarden.ledger.remediation import STATES
from costwarden.remediation.guard import REASONS
from costwarden.remediation.settings import MODES, Playbook, RemediationSettings


@pytest.fixture
def text(project):
    return (project / "docs" / "remediation.md").read_text(encoding="utf-8")


def first_column(text, heading):
    """The code words in the first column of the table under a header that begins with `heading`."""
    table = text.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [name for row in table.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w[\w-]*)`", row.split("|")[1])]


def test_the_example_is_a_valid_configuration(text):
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    settings = Config.model_validate(yaml.safe_load(example)).remediation
    assert [playbook.name for playbook in settings.playbooks] == ["stop_ml_training", "suspend_ai_tenant"]


def test_every_reason_of_a_refusal_is_explained(text):
    assert set(first_column(text, "reason")) == set(REASONS)


def test_every_mode_and_state_is_explained(text):
    assert first_column(text, "mode") == list(MODES)
    (states,) = re.findall(r"An incident's `state`: (.*)\.", text)
    assert re.findall(r"`(\w+)`", states) == list(STATES)


def test_every_step_and_outcome_that_the_code_writes_is_explained(text, project):
    code = "".join(path.read_text(encoding="utf-8") for path in (project / "exporter/costwarden/remediation").glob("*.py"))
    code += (project / "exporter/costwarden/ledger/remediation.py").read_text(encoding="utf-8")
    steps = set(re.findall(r'(?:_journal|notes\.add)\(\s*"(\w+)"', code))
    steps |= set(re.findall(r'append_journal\(\s*connection, [\w.]+, "(\w+)"', code))
    steps |= set(re.findall(r'_record\(\s*connection, \w+, "(\w+)"', code))
    assert set(first_column(text, "step")) == steps
    outcomes = set(re.findall(r'outcome="(\w+)"', code)) | set(re.findall(r'_finish\("\w+", "(\w+)"', code))
    outcomes |= set(re.findall(r'return "(\w+)", (?:"\w*"|result\.ended)', code))
    assert set(first_column(text, "outcome of a run")) == outcomes


def test_every_setting_of_the_guard_table_exists(text):
    table = text.split("| reason |", 1)[1].split("\n\n", 1)[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])}
    assert named <= set(Playbook.model_fields) | set(RemediationSettings.model_fields)
