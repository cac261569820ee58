"""The real Alertmanager, alone and as a pair that does not know of each other, posting to a real costwarden."""

import json
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import yaml
from costwarden_server import Costwarden
from processes import Processes, free_port

pytestmark = pytest.mark.stack

ROUTES = {
    "route": {"receiver": "costwarden", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"},
}


class Pair:
    """Two Alertmanagers, each on its own."""

    def __init__(self, processes, tools, folder, url):
        self.urls = []
        webhook = {
            "url": f"{url}/api/notifications/hook",
            "send_resolved": True,
            "http_config": {"authorization": {"credentials_file": str(folder / "token")}},
        }
        config = {**ROUTES, "receivers": [{"name": "costwarden", "webhook_configs": [webhook]}]}
        (folder / "alertmanager.yaml").write_text(yaml.safe_dump(config))
        for number in range(2):
            port = free_port()
            self.urls.append(f"http://127.0.0.1:{port}")
            arguments = [
                f"--config.file={folder / 'alertmanager.yaml'}",
                f"--storage.path={folder / f'alertmanager{number}'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ]
            processes.launch(f"alertmanager{number}", [tools.alertmanager, *arguments])
            processes.await_ready(f"alertmanager{number}", lambda address=self.urls[-1]: self._is_ready(address))

    @staticmethod
    def _is_ready(url):
        try:
            return httpx.get(f"{url}/-/ready", trust_env=False, timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    def tell(self, *alerts):
        """As a Prometheus does it: the same to both."""
        for url in self.urls:
            httpx.post(f"{url}/api/v2/alerts", json=alerts, trust_env=False, timeout=60).raise_for_status()


def alert(name, start, end=None, **labels):
    times = {"startsAt": start.isoformat(), "endsAt": (end or start + timedelta(hours=1)).isoformat()}
    notes = {"summary": f"{name} is above 80 %", "runbook_url": "https://wiki.example.com/runbook"}
    return {
        "labels": {"alertname": "BudgetExceeded80Percent", "severity": "warning", "budget": name, **labels},
        "annotations": notes,
        **times,
    }


def test_alertmanager_tells_and_each_receiver_hears_once_of_firing_and_resolved(tmp_path, tools, free_port, service, json_to, wait_until):
    (tmp_path / "token").write_text("hunter2")
    (tmp_path / "hook.url").write_text(json_to(service))
    auth = {"tokens": [{"name": "alertmanager", "role": "alertmanager", "secret": {"file": str(tmp_path / "token")}}]}
    notifier = {"receivers": [{"name": "hook", "url": {"file": str(tmp_path / "hook.url")}}]}
    server = Costwarden(tmp_path / "server", free_port(), auth=auth, notifier=notifier)
    try:
        server.start()
        with Processes(tmp_path / "logs") as processes:
            pair = Pair(processes, tools, tmp_path, server.url)

            def receipts():
                command = [sys.executable, "-m", "costwarden", "notifications", "list", "--format", "json", "--config"]
                name = f"list{len(list((tmp_path / 'logs').iterdir()))}"
                processes.launch(name, [*command, tmp_path / "server" / "costwarden.yaml"])
                assert processes.await_end(name) == 0
                return [entry["receipts"] for entry in json.loads(processes.log(name).read_text())]

            def tell(*alerts):
                """Until both have passed it on: one that is slow would say this and the next thing in one message."""
                pair.tell(*alerts)
                told.append(2)
                wait_until(lambda: receipts() == told)

            told = []
            start = datetime.now(UTC) - timedelta(seconds=5)
            tell(alert("aws", start))
            tell(alert("aws", start), alert("gcp", start))
            tell(alert("aws", start, datetime.now(UTC)), alert("gcp", start))
            wait_until(lambda: len(service.requests) == 3)
    finally:
        server.stop()
    titles = [request.json()["title"] for request in service.requests]
    assert titles == [
        "[FIRING] BudgetExceeded80Percent (warning): aws is above 80 %",
        titles[1],
        "[FIRING:1, 1 RESOLVED] BudgetExceeded80Percent (warning): gcp is above 80 %",
    ]
    assert titles[1].startswith("[FIRING:2] BudgetExceeded80Percent (warning): ")
    assert "Resolved: 1\n- WARNING BudgetExceeded80Percent: aws is above 80 %" in service.requests[2].json()["message"]


def test_a_receiver_whose_secret_is_missing_keeps_no_budget_from_being_checked(tmp_path, free_port, service, json_to, webhook, wait_until):
    (tmp_path / "token").write_text("hunter2")
    auth = {"tokens": [{"name": "alertmanager", "role": "alertmanager", "secret": {"file": str(tmp_path / "token")}}]}
    # Most of a minute of attempts: the secret comes in time.
    retry = {"first_wait_seconds": 0.1, "longest_wait_seconds": 0.5, "attempts": 100}
    notifier = {"receivers": [{"name": "hook", "url": {"file": str(tmp_path / "hook.url")}}], "retry": retry}
    server = Costwarden(tmp_path / "server", free_port(), auth=auth, notifier=notifier)
    try:
        server.start()
        log = tmp_path / "server" / "logs" / "costwarden.log"
        missing = f"notifier.receivers `hook`: url: secret file {tmp_path}/hook.url: No such file or directory"
        wait_until(lambda: missing in log.read_text())
        answer = server.http.post("/api/notifications/hook", json=webhook(), headers={"authorization": "Bearer hunter2"})
        assert answer.status_code == 202
        # Put where it belongs, it holds from the next attempt on, without a reload.
        (tmp_path / "hook.url").write_text(json_to(service))
        wait_until(lambda: len(service.requests) == 1)
    finally:
        server.stop()
