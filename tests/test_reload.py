"""A running server takes all of a new `costwarden.yaml` or nothing of it, and says which."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

METRICS = ("costwarden_config_last_reload_successful", "cloud_budget_limit_usd")


class Served:
    """`costwarden serve` on a file of ours."""

    def __init__(self, path: Path, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.path = path
        self.process = process
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)

    def configure(self, text: str) -> None:
        self.path.write_text(f"server: {{port: {self.port}}}\n{text}", encoding="utf-8")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.path.with_suffix(".log").read_text(encoding="utf-8")
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def shown(self) -> tuple[str, str]:
        """Whether the last reload succeeded, and the limit of the cloud budget, as the metrics page has them."""
        page = self.http.get("/metrics").text
        found = (re.search(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE) for name in METRICS)
        succeeded, limit = (match[1] if match else "" for match in found)
        return succeeded, limit


def budget(limit: int) -> str:
    return f"cloud_budgets: [{{name: aws, monthly_limit_usd: {limit}}}]\n"


@pytest.fixture
def served(tmp_path: Path, free_port: Callable[[], int], wait_until: Callable[..., Any]) -> Iterator[Served]:
    """A running server whose cloud budget is 100 dollars."""
    port = free_port()
    path = tmp_path / "costwarden.yaml"
    path.write_text(f"server: {{port: {port}}}\n{budget(100)}", encoding="utf-8")
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "costwarden", "serve", "--config", path], env={}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    server = Served(path, port, process)
    try:
        wait_until(server.is_ready, 120)
        yield server
    finally:
        process.kill()
        process.wait()
        server.http.close()


def reload_over_http(server: Served) -> None:
    server.http.post("/-/reload")


def reload_by_signal(server: Served) -> None:
    server.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("reload", [reload_over_http, reload_by_signal])
def test_a_reload_takes_a_good_file_and_keeps_the_last_good_one_on_a_bad_one(served, reload, wait_until):
    wait_until(lambda: served.shown() == ("1.0", "100.0"))
    for text, outcome in (
        (budget(200), ("1.0", "200.0")),
        (budget(-1), ("0.0", "200.0")),
        (budget(300), ("1.0", "300.0")),
        (f"time_zone: Europe/Berlin\n{budget(400)}", ("0.0", "300.0")),
        (budget(450), ("1.0", "450.0")),
        (f"{budget(500)}auth: {{tokens: [{{name: one, role: admin, secret: {{file: not-there}}}}]}}", ("0.0", "450.0")),
        (budget(600), ("1.0", "600.0")),
    ):
        served.configure(text)
        reload(served)
        wait_until(lambda outcome=outcome: served.shown() == outcome)


def test_a_refused_reload_answers_with_each_mistake(served):
    served.configure("metrics: {series_limit: 0}\nlogs: {level: loud}\n")
    answer = served.http.post("/-/reload")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:costwarden:invalid_config")
    assert answer.json()["detail"] == (
        f"{served.path}: `logs.level`: 'loud': input should be 'debug', 'info', 'warning' or 'error'\n"
        f"{served.path}: `metrics.series_limit`: 0: input should be greater than or equal to 1"
    )
