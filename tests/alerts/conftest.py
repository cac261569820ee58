"""Promtool, for every test of the rules."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# The workers of pytest share the cores out already, and a run is too short to collect garbage: a third less of processor time.
_ONE_CORE = {**os.environ, "GOMAXPROCS": "1", "GOGC": "800"}


@pytest.fixture
def promtool(tools: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`promtool("check", "rules", …)` runs it and gives what it said; nothing is raised where it refuses."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # It takes 3 s of processor time at most; on a machine that does much else, one run of it took 78 s.
        return subprocess.run([tools.promtool, *arguments], capture_output=True, text=True, check=False, timeout=280, env=_ONE_CORE)

    return run
