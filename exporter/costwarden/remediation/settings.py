"""The `remediation` section of `costwarden.yaml`: which alert may run which script, and what holds it back."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from costwarden.artifacts import ArtifactError, artifact_path
from costwarden.settings import ConfigPath, Settings

Mode = Literal["off", "dry-run", "approve", "enforce"]

MODES: tuple[Mode, ...] = ("off", "dry-run", "approve", "enforce")
"""From the strictest to the freest."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
PlaybookName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]


class Playbook(Settings):
    """What happens when an alert names an action: one script, and the guards that it must pass."""

    name: PlaybookName
    """The value of the alert's `action` label that runs this playbook."""
    script: tuple[str, ...] = Field(min_length=1)
    """Program and its fixed arguments. A relative program is looked up among the shipped scripts (`costwarden artifacts path scripts`).
    Nothing of an alert ever becomes an argument."""
    mode: Mode = "dry-run"
    """`off`, `dry-run` (plan only), `approve` (plan, then wait for a person) or `enforce`; the stricter of this and the section's holds."""
    parameters: dict[Name, JsonValue] = {}
    """Parameters of the script, sent as JSON on its standard input."""
    parameters_from_labels: dict[Name, str] = {}
    """Parameter -> alert label that gives its value; an alert without the label, or with an unprintable or overlong value, is refused."""
    timeout_seconds: float = Field(default=300, gt=0, le=3600)
    """Time limit of the plan and, apart, of the apply; past it the script and every process it started are killed."""
    cooldown_seconds: int = Field(default=900, ge=0)
    """Least time between two runs of this playbook that acted for the same alert (fingerprint)."""
    max_targets: int = Field(default=10, ge=1)
    """Most targets of a run; a plan with more is refused whole, never cut to a part."""
    max_targets_ratio: float | None = Field(default=None, gt=0, le=1)
    """Largest share of the script's population (say, of all running instances) that a run may act on; a script that does not tell its
    population is refused."""
    max_targets_per_hour: int = Field(default=100, ge=1)
    """Most targets of all runs of this playbook in an hour: holds when a wrong price makes every tenant breach at once."""
    protected_targets: tuple[str, ...] = ()
    """Targets that are never acted on, by id or shell pattern (`i-0abc*`); they are taken out of the plan and named in the journal."""
    fresh_sources: tuple[str, ...] = ()
    """Sources whose figures the alert rests on: a run is refused unless each was read successfully within `fresh_within_seconds`."""
    fresh_within_seconds: int = Field(default=86_400, ge=1)
    """See `fresh_sources`."""
    alert_expires_after_seconds: int = Field(default=3600, ge=1)
    """An alert that was last heard of longer ago is refused: after an outage the queue may hold what is over."""
    approval_expires_after_seconds: int = Field(default=14_400, ge=1)
    """A plan that nobody approved within this time is refused."""
    pass_environment: tuple[Name, ...] = ()
    """Variables of costwarden's own environment that the script gets; without this it gets only PATH and LANG."""
    environment: dict[Name, str] = {}
    """Variables set for the script. Not for secrets: name a file that holds them."""

    @field_validator("script")
    @classmethod
    def _program_exists(cls, script: tuple[str, ...]) -> tuple[str, ...]:
        program = resolve_program(script[0])
        if not program.is_file():
            raise ValueError(f"{script[0]!r}: there is no such program; looked for {program}")
        if not _by_our_interpreter(script[0], program) and not os.access(program, os.X_OK):
            raise ValueError(f"{script[0]!r}: {program} is not executable; `chmod +x` mends it")
        return script

    @model_validator(mode="after")
    def _no_parameter_twice(self) -> Self:
        if both := sorted(self.parameters.keys() & self.parameters_from_labels.keys()):
            raise ValueError(f"parameter `{both[0]}` is set in `parameters` and in `parameters_from_labels`; keep one")
        return self

    @property
    def argv(self) -> list[str]:
        """The command line, its program as an absolute path, without `--apply`."""
        program = resolve_program(self.script[0])
        interpreter = [sys.executable] if _by_our_interpreter(self.script[0], program) else []
        return [*interpreter, str(program), *self.script[1:]]


class RemediationSettings(Settings):
    """When alerts may run scripts. As shipped nothing acts: both modes start at `dry-run`."""

    mode: Mode = "dry-run"
    """Mode of all playbooks: `off`, `dry-run`, `approve` or `enforce`; the stricter of this and the playbook's own holds."""
    kill_switch_file: ConfigPath | None = None
    """While this file exists nothing runs, and a script that is running is killed. What is in it does not matter."""
    concurrency: int = Field(default=1, ge=1, le=16)
    """Playbooks that may run at the same time; one playbook never runs twice at once."""
    playbooks: tuple[Playbook, ...] = ()
    """What each action does; an alert whose action has no playbook is refused."""

    @field_validator("playbooks")
    @classmethod
    def _names_are_unique(cls, playbooks: tuple[Playbook, ...]) -> tuple[Playbook, ...]:
        seen: set[str] = set()
        for playbook in playbooks:
            if playbook.name in seen:
                raise ValueError(f"two playbooks are named `{playbook.name}`; an action has one playbook")
            seen.add(playbook.name)
        return playbooks

    def playbook(self, action: str) -> Playbook | None:
        """The playbook of an alert's action."""
        return next((playbook for playbook in self.playbooks if playbook.name == action), None)

    def effective_mode(self, playbook: Playbook) -> Mode:
        """The stricter of the section's mode and the playbook's."""
        return min(self.mode, playbook.mode, key=MODES.index)


def resolve_program(program: str) -> Path:
    """Absolute path of a playbook's program. Raises `ValueError` where a relative one is not inside the shipped scripts."""
    path = Path(program)
    if path.is_absolute():
        return path
    try:
        scripts = artifact_path("scripts").resolve()
    except ArtifactError as error:
        raise ValueError(str(error)) from error
    resolved = (scripts / path).resolve()
    if not resolved.is_relative_to(scripts):
        raise ValueError(f"{program!r}: a relative program must stay inside {scripts}; use an absolute path for your own")
    return resolved


def _by_our_interpreter(named: str, program: Path) -> bool:
    # A shipped Python script needs the libraries that costwarden was installed with, and an installer may drop its executable bit.
    if Path(named).is_absolute():
        return False
    with program.open("rb") as content:
        first_line = content.readline(200)
    return first_line.startswith(b"#!") and b"python" in first_line
