"""The lock pins what pyproject.toml asks for, and says nothing about where it came from."""

import re
import tomllib
from pathlib import Path

import pytest


@pytest.fixture
def lock(project: Path) -> str:
    return (project / "requirements" / "dev.lock").read_text()


def test_every_dependency_is_locked(project: Path, lock: str) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text())
    extras = [requirement for group in metadata["project"]["optional-dependencies"].values() for requirement in group]
    asked = [*metadata["project"]["dependencies"], *extras, *metadata["dependency-groups"]["dev"]]
    names = {re.split(r"[\[<>=~! ;]", requirement)[0].lower() for requirement in asked}
    assert names - set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)) == set()


def test_every_locked_package_is_pinned_to_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[a-z])", lock.strip())
    assert [entry for entry in entries if not re.match(r"[a-z0-9-]+==\S+( ; .+)? \\\n    --hash=sha256:", entry)] == []


def test_the_lock_names_no_package_index(lock: str) -> None:
    assert re.findall(r"\S*://\S*|^--?(?:i|f|index|extra|find|trusted).*", lock, re.MULTILINE) == []
