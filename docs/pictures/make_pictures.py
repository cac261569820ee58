"""Makes docs/pictures/*.png: five weeks of a made-up company, lived through by costwarden's own parts, then two minutes of the real stack.

python docs/pictures/make_pictures.py [--output DIR]
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(PROJECT / "deploy" / "demo")]

import httpx  # noqa: E402 (the paths come first)
import yaml  # noqa: E402
from applications import Application, exact_json, run_applications  # noqa: E402
from company import BUDGETS, CLOUD_BUDGETS, GUARDRAILS  # noqa: E402
from past import PAST_DAYS, STEP_HOURS, live_through  # noqa: E402
from picture import dashboards, write_page  # noqa: E402
from picture_browser import photograph  # noqa: E402
from picture_page import WIDTH, height_of  # noqa: E402
from picture_png import shrink  # noqa: E402
from processes import free_port, wait_for  # noqa: E402
from stack import AWS_CREDENTIALS, TOOLS, Stack, start_instances  # noqa: E402

SECONDS = 240.0
LOOK_BACK = f"{STEP_HOURS * 60 - 1}m"
"""Nearly the step of the past: with the default a sample would be seen for 5 minutes. With all of it a rule would read what has ended
for an hour more, because promtool writes no mark there: at the turn of a month two months would be added up."""
SETTLING = 150.0
"""Seconds of the present: the longest `for` of the alerts that a picture shows, and half the window of a rate."""
OF_THE_PRESENT = {"finops-pipeline": "now-10m", "finops-remediation": "now-10m"}
"""From when on those are shown that tell of what runs now."""

STORAGE = ("--storage.tsdb.retention.time=400d", f"--query.lookback-delta={LOOK_BACK}")

CALLS = (
    Application("acme", "anthropic", "claude-sonnet-4-5", "reports", 4, 1_400, 260),
    Application("globex", "openai", "gpt-4.1", "chat", 6, 600, 70),
    Application("umbrella", "openai", "gpt-4.1", "agents", 2, 1_800, 150),
    Application("hooli", "anthropic", "claude-sonnet-4-5", "batch", 1, 10_000, 2_000),
)
"""Again and again while the present lasts."""
RUNAWAY = CALLS[-1]


class PicturedStack(Stack):
    """The stack of the demo, with a Prometheus that keeps the past."""

    def _prometheus_command(self) -> list[str | Path]:
        return [*super()._prometheus_command(), *STORAGE]

    def start_costwarden(self) -> None:
        """With credentials for the stand-in of AWS."""
        self._await_answer("moto", f"{self.moto}/moto-api/data.json")
        self.processes.launch("costwarden", [sys.executable, "-m", "costwarden", "serve", "--config", self.config_file], AWS_CREDENTIALS)
        self._await_answer("costwarden", f"{self.costwarden}/readyz")

    @property
    def storage(self) -> Path:
        """Where its Prometheus keeps its blocks."""
        return self.folder / "data" / "prometheus"


def configuration() -> str:
    """The configuration of the demo, with the company's budgets."""
    document = yaml.safe_load((PROJECT / "deploy" / "demo" / "costwarden.yaml").read_text(encoding="utf-8"))
    document["cloud_budgets"], document["guardrails"] = CLOUD_BUDGETS, GUARDRAILS
    document["budgets"]["configured"] = BUDGETS
    document["alert_limits"] = {"ai_spend_monthly_limit_usd": 2_500}
    document["cloudwatch"] = {"access": {"endpoint_url": "http://127.0.0.1:5000"}, "interval_seconds": 10}
    document["notifier"] = {"receivers": [{"name": "finance-chat", "url": {"file": "tokens/finance-chat"}}]}
    document["metrics"] = {"usage_labels": ["tenant_id", "provider", "model", "feature", "team", "report_type"]}
    for playbook in document["remediation"]["playbooks"]:
        if playbook["name"] == "stop-dev-ec2":
            playbook["mode"] = "approve"
    return yaml.safe_dump(document, sort_keys=False)


@contextmanager
def prometheus_over(storage: Path) -> Iterator[str]:
    """A Prometheus on blocks alone, by its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    config = storage.parent / "blocks.yaml"
    config.write_text("{}", encoding="utf-8")
    argv: list[str | Path] = [
        TOOLS / "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={storage}",
        f"--web.listen-address={url[7:]}",
    ]
    with subprocess.Popen([*argv, *STORAGE, "--log.level=error"]) as process:
        try:
            wait_for("a Prometheus over the past", lambda: answers(f"{url}/-/ready"), SECONDS)
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Whether anybody does, with success."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def promtool(*arguments: Any) -> None:
    """Raises `RuntimeError` with what it says where it fails."""
    done = subprocess.run([TOOLS / "promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"promtool: {done.stderr.strip()}")


def fill(stack: PicturedStack, until: datetime) -> None:
    """Live through the past, and put it and its recorded series where Prometheus will look."""
    target = {"job": "costwarden", "instance": stack.costwarden.removeprefix("http://")}
    samples, began = stack.folder / "past.om", time.monotonic()
    with samples.open("w", encoding="utf-8") as file:
        live_through(stack.config_file, stack.folder / "bills", until, file, target)
    print(f"{PAST_DAYS} days lived through in {time.monotonic() - began:.0f} s", flush=True)
    create = ("tsdb", "create-blocks-from", "--max-block-duration=744h")
    promtool(*create, "openmetrics", samples, stack.storage)
    begin = until - timedelta(days=PAST_DAYS)
    times = (f"--start={begin.timestamp():.0f}", f"--end={until.timestamp():.0f}", f"--eval-interval={STEP_HOURS}h")
    # All in a file of one name, which promtool takes the second of the hour from: else a rule would read what another recorded an hour ago.
    path = stack.folder / "layer.yaml"
    for rules in _layers(_recording(stack.folder)):
        path.write_text(yaml.safe_dump({"groups": [{"name": "layer", "rules": rules}]}), encoding="utf-8")
        with prometheus_over(stack.storage) as url:
            promtool(*create, "rules", f"--url={url}", *times, f"--output-dir={stack.storage}", path)
    print(f"recorded at {time.monotonic() - began:.0f} s", flush=True)


def _recording(folder: Path) -> list[dict[str, Any]]:
    """All rules that record."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((folder / "alerts").glob("*.rules.yaml"))]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"] if "record" in rule]


def _layers(rules: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rules in turns: each reads only what those of the turns before have recorded. promtool writes what it records at its end."""
    while rules:
        to_come = {rule["record"] for rule in rules}
        ready = [rule for rule in rules if not to_come & set(re.findall(r"[A-Za-z_:][\w:]*", rule["expr"]))]
        if not ready:
            raise ValueError(f"rules read each other in a circle: {to_come}")
        yield ready
        rules = [rule for rule in rules if rule not in ready]


def use_up(stack: Stack, app: Application) -> None:
    """One more call of an application, which costs what its budget has left: the alert about it starts a playbook."""
    names = {"tenant_id": app.tenant_id, "provider": app.provider, "model": app.model, "feature": app.feature}
    asked = stack.call(
        "POST", "/api/ai-budget/check", {**names, "estimated_input_tokens": 1, "estimated_output_tokens": 0}, bearer="applications"
    )
    allowed = exact_json(asked)
    if asked.status_code == 200:
        cost = allowed["estimated_cost_usd"] + allowed["remaining_usd"]
        used = {"reservation_id": allowed["reservation_id"], "input_tokens": 100_000, "cost_usd": str(cost)}
        stack.call("POST", "/api/ai-budget/track", names | used, bearer="applications").raise_for_status()


class Chat(BaseHTTPRequestHandler):
    """Takes every message."""

    def do_POST(self) -> None:
        """Says so."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (as the server calls it)
        """Not."""


@contextmanager
def chat() -> Iterator[str]:
    """Where the notifier delivers to, by its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def make(folder: Path, output: Path) -> None:
    """Everything, with its data in `folder`."""
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    stack = PicturedStack(folder, configuration())
    with chat() as url:
        (folder / "tokens" / "finance-chat").write_text(url.replace("http:", "json:"), encoding="utf-8")
        fill(stack, until)
        live(stack, output)


def live(stack: PicturedStack, output: Path) -> None:
    """The present, and the pictures at its end."""
    with stack:
        for environment, count in (("dev", 2), ("prod", 3)):
            start_instances(stack.ec2(), count, {"environment": environment})
        wait_for("a scrape", lambda: stack.query("up"), SECONDS)
        use_up(stack, RUNAWAY)
        stack.notify("finance-chat", {"alertname": "BudgetExceeded80Percent", "budget": "data"}, "Budget data is above 80 %")
        settled = time.monotonic() + SETTLING

        def is_over() -> bool:
            # A dozen calls a second: as many as the server can answer would spend what guardrails allow for an hour.
            time.sleep(1)
            run_applications(lambda path, body: stack.call("POST", path, body, bearer="applications"), CALLS)
            return time.monotonic() > settled

        wait_for("the present to settle", is_over, SECONDS)
        for uid, dashboard in dashboards().items():
            page = write_page(dashboard, stack.folder, stack.prometheus, start=OF_THE_PRESENT.get(uid))
            picture = output / f"{uid}.png"
            photograph(page, picture, WIDTH, height_of(dashboard))
            shrink(picture)
            print(f"{picture}: {picture.stat().st_size // 1024} KiB")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="the folder of the pictures (default: docs/pictures)")
    parser.add_argument("--keep", action="store_true", help="leave the data where they are")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="costwarden-pictures-"))
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        make(folder, arguments.output)
    finally:
        if arguments.keep:
            print(folder)
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
