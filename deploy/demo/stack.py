"""The real parts, on free loopback ports: costwarden, Prometheus, one Alertmanager or two, and moto where AWS would be.

Each runs on a file that ships, in which only addresses and the paths of credentials are changed: what a person would edit, too.
"""

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx
import yaml
from processes import ENVIRONMENT, Processes, free_port

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
TOOLS = PROJECT / ".tools" / "bin"

REGION = "eu-central-1"
AWS_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_EC2_METADATA_DISABLED": "true"}
"""moto accepts any; what is not set cannot be the real thing by mistake."""

# Its list of machine images takes longer to load than everything else together.
MOTO_SETTINGS = {**AWS_CREDENTIALS, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}

Document = dict[str, Any]
Edit = Callable[[Document], None]
"""Changes a YAML document in place."""


class Sample(NamedTuple):
    """A series at a moment: seconds since 1970."""

    labels: Mapping[str, str]
    at: float
    value: float


class Stack:
    """The parts, running between `with` and its end; `folder` holds their files, data and logs.

    `config` is a whole `costwarden.yaml`; where it says 127.0.0.1:3010 or :5000, the ports of the stack are put in. `interval` is that
    of scrape and evaluation. `edit_rules` and `edit_alertmanager` may change the shipped documents.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        alertmanagers: int = 1,
        moto: bool = True,
        interval: str = "1s",
        edit_rules: Edit | None = None,
        edit_alertmanager: Edit | None = None,
    ) -> None:
        self.folder = folder
        self.processes = Processes(folder / "logs")
        self.http = httpx.Client(trust_env=False, timeout=60)
        self.costwarden = f"http://127.0.0.1:{free_port()}"
        self.prometheus = f"http://127.0.0.1:{free_port()}"
        self.alertmanagers = [f"http://127.0.0.1:{free_port()}" for _ in range(alertmanagers)]
        self.moto = f"http://127.0.0.1:{free_port()}"
        self._with_moto = moto
        self._write_tokens(config)
        self.configure(config)
        self._write_prometheus(interval, edit_rules)
        self._write_alertmanager(edit_alertmanager)

    # --- files -----------------------------------------------------------------------------------------------------------------

    @property
    def config_file(self) -> Path:
        """The `costwarden.yaml` that runs."""
        return self.folder / "costwarden.yaml"

    def configure(self, config: str) -> None:
        """Write `costwarden.yaml`; a running server takes it at its next reload."""
        port = self.costwarden.rpartition(":")[2]
        for shipped, ours in (
            ("port: 3010", f"port: {port}"),
            ("http://127.0.0.1:3010", self.costwarden),
            ("http://127.0.0.1:5000", self.moto),
            ("/run/costwarden/", f"{self.folder}/"),
        ):
            config = config.replace(shipped, ours)
        self.config_file.write_text(config, encoding="utf-8")

    def _write_tokens(self, config: str) -> None:
        folder = self.folder / "tokens"
        folder.mkdir(parents=True, exist_ok=True)
        for token in yaml.safe_load(config)["auth"]["tokens"]:
            path = self.folder / token["secret"]["file"]
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24), encoding="utf-8")

    def token(self, name: str) -> str:
        """The bearer token of a name in `auth.tokens`."""
        return (self.folder / "tokens" / name).read_text(encoding="utf-8")

    def _write_prometheus(self, interval: str, edit_rules: Edit | None) -> None:
        shutil.copytree(PROJECT / "alerts", self.folder / "alerts")
        if edit_rules:
            for rules in (self.folder / "alerts").glob("*.rules.yaml"):
                _edit_yaml(rules, rules, edit_rules)

        def place(document: Document) -> None:
            document["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
            document["scrape_configs"][0]["static_configs"][0]["targets"] = [_address(self.costwarden)]
            document["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [_address(url) for url in self.alertmanagers]

        _edit_yaml(HERE / "prometheus.yaml", self.folder / "prometheus.yaml", place)

    def _write_alertmanager(self, edit: Edit | None) -> None:
        folder = self.folder / "alertmanager"
        shutil.copytree(PROJECT / "alertmanager", folder)

        def place(document: Document) -> None:
            for receiver in document["receivers"]:
                # The receivers of people keep their routes and lose their addresses: a demonstration calls nobody out.
                for kind in set(receiver) - {"name", "webhook_configs"}:
                    del receiver[kind]
                for webhook in receiver.get("webhook_configs", ()):
                    webhook["url"] = webhook["url"].replace("http://127.0.0.1:3010", self.costwarden)
                    webhook["http_config"]["authorization"]["credentials_file"] = str(self.folder / "tokens" / "alertmanager")

        _edit_yaml(folder / "alertmanager.yaml", folder / "alertmanager.yaml", place)
        if edit:
            _edit_yaml(folder / "alertmanager.yaml", folder / "alertmanager.yaml", edit)

    # --- processes -------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.__exit__()
        self.http.close()

    def _start(self) -> None:
        # First and not awaited before the rest: it takes 5 s to discover its target, and the others need half of that to be there.
        self.processes.launch("prometheus", self._prometheus_command())
        if self._with_moto:
            self.processes.launch("moto", [sys.executable, "-m", "moto.server", *_host_and_port(self.moto)], MOTO_SETTINGS)
        for number, url in enumerate(self.alertmanagers, 1):
            self.processes.launch(f"alertmanager-{number}", self._alertmanager_command(number, url))
        self.start_costwarden()
        self._await_answer("prometheus", f"{self.prometheus}/-/ready")
        for number, url in enumerate(self.alertmanagers, 1):
            self._await_answer(f"alertmanager-{number}", f"{url}/-/ready")
        if self._with_moto:
            self._await_answer("moto", f"{self.moto}/moto-api/data.json")

    def _alertmanager_command(self, number: int, url: str) -> list[str | Path]:
        return [
            TOOLS / "alertmanager",
            f"--config.file={self.folder / 'alertmanager' / 'alertmanager.yaml'}",
            f"--storage.path={self.folder / 'data' / f'alertmanager-{number}'}",
            f"--web.listen-address={_address(url)}",
            # No cluster: two that cannot see each other deliver everything twice, which is the worst that a pair can do.
            "--cluster.listen-address=",
        ]

    def _prometheus_command(self) -> list[str | Path]:
        return [
            TOOLS / "prometheus",
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'data' / 'prometheus'}",
            f"--web.listen-address={_address(self.prometheus)}",
        ]

    def start_costwarden(self) -> None:
        """Start the server, also again after `kill_costwarden`; returns when it is ready."""
        self.processes.launch("costwarden", [sys.executable, "-m", "costwarden", "serve", "--config", self.config_file])
        self._await_answer("costwarden", f"{self.costwarden}/readyz")

    def notify(self, receiver: str, labels: Mapping[str, str], summary: str) -> None:
        """A message for a receiver of the notifier, as Alertmanager sends it. Raises `HTTPStatusError` where it is refused."""
        alert = {
            "status": "firing",
            "labels": {"severity": "warning", "category": "finops", **labels},
            "annotations": {"summary": summary},
            "startsAt": datetime.now(UTC).isoformat(),
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "0123456789abcdef",
        }
        message = {"version": "4", "groupKey": receiver, "status": "firing", "externalURL": self.prometheus, "alerts": [alert]}
        self.call("POST", f"/api/notifications/{receiver}", message, bearer="alertmanager").raise_for_status()

    def kill_costwarden(self) -> None:
        """SIGKILL the server."""
        self.processes.kill("costwarden")

    def _await_answer(self, name: str, url: str) -> None:
        def answers() -> bool:
            try:
                return self.http.get(url).status_code == 200
            except httpx.TransportError:
                return False

        self.processes.await_ready(name, answers)

    # --- costwarden ------------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, *, bearer: str = "admin") -> httpx.Response:
        """A request to costwarden as the bearer of the token of that name."""
        headers = {"Authorization": f"Bearer {self.token(bearer)}"}
        return self.http.request(method, f"{self.costwarden}{path}", json=body, headers=headers)

    def cli(self, *arguments: str) -> Any:
        """What a command of the command line prints, as JSON; `--config` and `--format json` are added. Raises on a failure of it."""
        command = [sys.executable, "-m", "costwarden", *arguments, "--config", str(self.config_file), "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"costwarden {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def runs(self) -> list[Document]:
        """The runs of playbooks, oldest first, each with its alert."""
        found: list[Document] = self.call("GET", "/api/remediation/runs", bearer="operator").json()["runs"]
        return found[::-1]

    def finished_runs(self, playbook: str = "") -> list[Document]:
        """The runs that have an outcome, those of one playbook where it is named."""
        return [run for run in self.runs() if run["outcome"] and (not playbook or run["playbook"] == playbook)]

    def log_entries(self) -> list[Document]:
        """What the server has logged; the configuration chooses JSON."""
        # What stands after the last line break is a line that is being written.
        *lines, _ = self.processes.log("costwarden").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.startswith("{")]

    # --- Prometheus and Alertmanager -------------------------------------------------------------------------------------------

    def query(self, expression: str) -> list[Sample]:
        """An instant query of Prometheus; of a range selector every raw sample, with the time of its scrape."""
        answer = self.http.get(f"{self.prometheus}/api/v1/query", params={"query": expression}).json()
        if answer["status"] != "success":
            raise ValueError(f"{expression}: {answer['error']}")
        series = answer["data"]["result"]
        return [
            Sample(found["metric"], float(at), float(value)) for found in series for at, value in found.get("values", [found.get("value")])
        ]

    def firing(self, alertname: str) -> list[Document]:
        """The alerts of a rule that fire in Prometheus."""
        alerts = self.http.get(f"{self.prometheus}/api/v1/alerts").json()["data"]["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"] == alertname and alert["state"] == "firing"]

    def routed(self, alertname: str, number: int = 1) -> list[Document]:
        """The alerts of a rule that an Alertmanager holds."""
        url = f"{self.alertmanagers[number - 1]}/api/v2/alerts"
        found: list[Document] = self.http.get(url, params={"filter": f'alertname="{alertname}"'}).json()
        return found

    def notifications(self, number: int) -> int:
        """Webhooks that an Alertmanager has sent, by its own count."""
        page = self.http.get(f"{self.alertmanagers[number - 1]}/metrics").text
        counts = [line for line in page.splitlines() if line.startswith("alertmanager_notifications_total{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in counts if 'integration="webhook"' in line)

    def versions(self) -> list[str]:
        """Which Prometheus and which Alertmanager run."""
        prometheus = self.http.get(f"{self.prometheus}/api/v1/status/buildinfo").json()["data"]["version"]
        alertmanager = self.http.get(f"{self.alertmanagers[0]}/api/v2/status").json()["versionInfo"]["version"]
        return [f"Prometheus {prometheus}", f"Alertmanager {alertmanager}"]

    # --- AWS -------------------------------------------------------------------------------------------------------------------

    def ec2(self) -> "EC2Client":
        """The real client of EC2, on moto."""
        import boto3

        return boto3.client(
            "ec2",
            region_name=REGION,
            endpoint_url=self.moto,
            aws_access_key_id=AWS_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=AWS_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


def start_instances(ec2: "EC2Client", count: int, tags: Mapping[str, str]) -> list[str]:
    """Start `count` instances with these tags; their ids."""
    answer = ec2.run_instances(
        ImageId="ami-00000000",
        InstanceType="m5.large",
        MinCount=count,
        MaxCount=count,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}],
    )
    return [instance["InstanceId"] for instance in answer["Instances"]]


def instance_states(ec2: "EC2Client") -> dict[str, str]:
    """Every instance with its state: `running`, `stopped` and so on."""
    pages = ec2.get_paginator("describe_instances").paginate()
    reservations = [reservation for page in pages for reservation in page["Reservations"]]
    return {instance["InstanceId"]: instance["State"]["Name"] for found in reservations for instance in found["Instances"]}


def _edit_yaml(source: Path, target: Path, edit: Edit) -> None:
    document = yaml.safe_load(source.read_text(encoding="utf-8"))
    edit(document)
    target.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _address(url: str) -> str:
    return url.removeprefix("http://")


def _host_and_port(url: str) -> list[str]:
    host, port = _address(url).split(":")
    return ["-H", host, "-p", port]
