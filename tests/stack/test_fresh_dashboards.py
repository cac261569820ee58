"""The dashboards on the day of their import: a real Prometheus scrapes a costwarden that has read, and been asked, nothing yet."""

from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml
from costwarden_server import Costwarden
from picture_faults import dashboards, no_data
from processes import Processes

pytestmark = pytest.mark.stack

PROJECT = Path(__file__).parents[2]


def answers(url: str) -> bool:
    """Whether anybody does, with success."""
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def prometheus(tools, tmp_path, free_port):
    """The URL of a Prometheus with the rules and of a costwarden without any source, budget or call."""
    for path in (PROJECT / "alerts").glob("*.rules.yaml"):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            group.pop("interval", None)
        (tmp_path / path.name).write_text(yaml.safe_dump(document))
    costwarden, url = Costwarden(tmp_path / "costwarden", free_port()), f"http://127.0.0.1:{free_port()}"
    job = {"job_name": "costwarden", "honor_labels": True, "static_configs": [{"targets": [costwarden.url.removeprefix("http://")]}]}
    often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": often, "rule_files": [str(tmp_path / "*.rules.yaml")], "scrape_configs": [job]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    argv = [tools.prometheus, f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with Processes(tmp_path / "logs") as processes:
        try:
            costwarden.start()
            processes.launch("prometheus", [*argv, f"--web.listen-address={url[7:]}", "--log.level=error"])
            processes.await_ready("prometheus", lambda: answers(f"{url}/-/ready"))
            yield url
        finally:
            costwarden.stop()


@pytest.mark.timeout(300)
def test_a_panel_that_shows_nothing_says_what_it_needs(prometheus, wait_until) -> None:
    shown = dashboards()
    says = {
        (uid, panel["title"]): panel["fieldConfig"]["defaults"].get("noValue")
        for uid, dashboard in shown.items()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }
    without_a_word = {panel for panel, text in says.items() if text is None}

    def empty() -> set[tuple[str, str]]:
        return no_data(prometheus, shown)

    blank: list[tuple[str, str]] = []

    def all_others_have_figures() -> bool:
        blank[:] = sorted(empty() & without_a_word)
        return not blank

    with suppress(AssertionError):
        wait_until(all_others_have_figures, 120)
    assert blank == []
    # And they are empty: costwarden has read no bill, and been asked for nothing.
    assert {("finops-overview", "Cloud, month to date"), ("finops-ai-budget", "Spend by tenant, 30 days")} <= empty()
