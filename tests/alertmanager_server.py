"""A real Alertmanager on loopback, with a configuration rendered from values."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import yaml

from costwarden.artifacts.alertmanager import alertmanager_yaml
from costwarden.artifacts.rendering import values_tmpl
from costwarden.artifacts.values import Values

TEMPLATES = Path(__file__).resolve().parents[1] / "alertmanager" / "templates"

Alert = dict[str, Any]


def an_alert(name: str, severity: str = "critical", *, age: timedelta = timedelta(), over: bool = False, **labels: str) -> Alert:
    """One of costwarden's alerts, which has fired for `age`; `over` ends it now."""
    now = datetime.now(UTC)
    return {
        "labels": {"alertname": name, "category": "finops", "severity": severity, "team": "finops"} | labels,
        "annotations": {"summary": f"{name} of {labels.get('budget', 'nobody')}", "description": "It stands at 105% of $1000.00."},
        "startsAt": (now - age).isoformat(),
        "generatorURL": "http://prometheus.example.com/graph?g0.expr=up",
        **({"endsAt": now.isoformat()} if over else {}),
    }


def ended(alert: Alert) -> Alert:
    """The same alert, over since now."""
    return alert | {"endsAt": datetime.now(UTC).isoformat()}


class AlertmanagerServer:
    """It runs between `with` and its end; `kill`, `stop` and `start` in between keep what it has stored."""

    def __init__(self, program: Path, folder: Path, port: int, values: dict[str, Any]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(values)

    def configure(self, values: dict[str, Any], edit: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Write the configuration for these values, changed by `edit`."""
        read = Values.model_validate(values)
        templates = self.folder / "templates"
        templates.mkdir(parents=True, exist_ok=True)
        (templates / "costwarden.tmpl").write_text((TEMPLATES / "costwarden.tmpl").read_text(encoding="utf-8"), encoding="utf-8")
        (templates / "values.tmpl").write_text(values_tmpl(read), encoding="utf-8")
        text = alertmanager_yaml(read)
        if edit:
            document = yaml.safe_load(text)
            edit(document)
            text = yaml.safe_dump(document, sort_keys=False)
        (self.folder / "alertmanager.yaml").write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def start(self) -> None:
        command = [
            self._program,
            f"--config.file={self.folder / 'alertmanager.yaml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--cluster.listen-address=",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text(encoding="utf-8"))
            time.sleep(0.02)

    def stop(self, ending: signal.Signals = signal.SIGTERM) -> None:
        """End it, in order or by SIGKILL."""
        assert self._process is not None
        self._process.send_signal(ending)
        self._process.wait(timeout=60)
        self._process = None

    def reload(self) -> None:
        """Read the configuration anew; fails where Alertmanager refuses it."""
        self._request("/-/reload", b"")

    def send(self, *alerts: Alert) -> None:
        """Hand over alerts, as Prometheus does at every evaluation."""
        self._request("/api/v2/alerts", json.dumps(alerts).encode())

    def silence(self, seconds: float = 3600, **labels: str) -> str:
        """Silence what has these labels; the id."""
        now = datetime.now(UTC)
        silence = {
            "matchers": [{"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in labels.items()],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(seconds=seconds)).isoformat(),
            "createdBy": "on call",
            "comment": "seen",
        }
        return str(json.loads(self._request("/api/v2/silences", json.dumps(silence).encode()))["silenceID"])

    def end_silence(self, silence_id: str) -> None:
        """Let a silence be over now."""
        self._request(f"/api/v2/silence/{silence_id}", method="DELETE")

    def held_back(self) -> list[dict[str, str]]:
        """The labels of the alerts that others inhibit."""
        return [alert["labels"] for alert in json.loads(self._request("/api/v2/alerts")) if alert["status"]["inhibitedBy"]]

    def sent(self) -> int:
        """How many messages were sent, and are known to be, since it started."""
        return self._counted("alertmanager_notification_latency_seconds_count")

    def looks(self) -> int:
        """How often it has looked up what was told last: for each receiver of a group that has alerts, at every `group_interval`."""
        return self._counted("alertmanager_nflog_queries_total")

    def _counted(self, family: str) -> int:
        page = self._request("/metrics").decode()
        return sum(int(float(line.rpartition(" ")[2])) for line in page.splitlines() if line.startswith(family))

    def _is_ready(self) -> bool:
        try:
            self._request("/-/ready")
        except OSError:
            return False
        return True

    def _request(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from None
