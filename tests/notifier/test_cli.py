"""`costwarden notifications` and `costwarden check-config`, as one types them."""

import json

import pytest
import yaml
from click.testing import CliRunner

from costwarden.cli import cli


@pytest.fixture
def run(scene, service, json_to):
    """`run("list")`: the command on the ledger of the scene, whose receivers are `hook` and `broken`."""
    urls = {"hook": json_to(service, "s3cr3tpath"), "broken": "slack://hunter2"}
    scene.configure(urls)
    receivers = [{"name": name, "url": {"file": f"{name}.url"}} for name in urls]
    config = {"database_url": "sqlite:///ledger.db", "notifier": {"receivers": receivers}}
    (scene.folder / "costwarden.yaml").write_text(yaml.safe_dump(config))

    def invoke(*arguments, group="notifications"):
        return CliRunner().invoke(cli, [group, *arguments, "--config", str(scene.folder / "costwarden.yaml")])

    return invoke


def test_what_was_told_is_listed_and_shown_and_tried_again(scene, service, webhook, run, wait_until):
    service.fail(500, times=3)
    hostile = {"annotations": {"summary": "\x1b]0;owned\x07 \u202e"}}
    number, _ = scene.receive("hook", webhook(hostile))
    wait_until(lambda: scene.states() == ["failed"])
    listed = run("list")
    assert listed.exit_code == 0
    for word in (str(number), "hook", "failed", "[FIRING] CloudCostSpike (warning)", "error=500"):
        assert word in listed.output
    assert "\x1b" not in listed.output
    assert "none" in run("list", "--state", "delivered").output
    (entry,) = json.loads(run("list", "--format", "json", "--receiver", "hook", "--state", "failed").output)
    assert (entry["notification_id"], entry["failures"]) == (number, 3)
    shown = run("show", str(number))
    assert [line.split()[0] for line in shown.output.splitlines() if "error=500" in line] == ["message", "1", "2", "3"]
    journal = json.loads(run("show", str(number), "--format", "json").output)["journal"]
    assert [attempt["outcome"] for attempt in journal] == ["retried", "retried", "failed"]
    # The worker, in this process too, writes its log to the same standard output.
    assert f"{number}: is tried again; it was failed\n" in run("retry", str(number)).stdout
    wait_until(lambda: scene.states() == ["delivered"])
    assert run("retry", str(number)).stderr == f"Error: notification {number} is delivered already\n"
    for command in ("show", "retry"):
        missing = run(command, "99")
        assert (missing.exit_code, missing.stderr) == (1, "Error: there is no notification 99\n")


def test_a_receiver_is_tried_at_once(service, run):
    tried = run("test", "hook")
    assert (tried.exit_code, tried.output) == (0, "hook: delivered\n")
    (request,) = service.requests
    assert request.json()["title"] == "[FIRING] Test (info): costwarden can tell you of alerts"
    service.fail(401)
    refused = run("test", "hook")
    reason = "Failed to send JSON POST notification: Verification Failed., error=401."
    assert (refused.exit_code, refused.output) == (1, f"Error: hook: not delivered: {reason}\n")
    unknown = run("test", "nobody")
    assert (unknown.exit_code, unknown.output) == (1, "Error: no receiver is named `nobody`; configured are `hook`, `broken`\n")


def test_a_receiver_with_a_wrong_url_says_so_without_it(scene, run):
    why = "is no URL that Apprise understands: its service is unknown, or a part of it is missing or malformed"
    assert run("test", "broken").output == f"Error: broken: not delivered: {why}\n"
    checked = run(group="check-config")
    path = scene.folder / "costwarden.yaml"
    assert (checked.exit_code, checked.output) == (1, f"Error: {path}: notifier.receivers `broken`: url: {why}\n")
    (scene.folder / "broken.url").unlink()
    missing = f"secret file {scene.folder}/broken.url: No such file or directory"
    assert run(group="check-config").output == f"Error: {path}: notifier.receivers `broken`: url: {missing}\n"
    effective = run("--effective", group="check-config").output
    assert "hunter2" not in effective
    (scene.folder / "broken.url").write_text("json://127.0.0.1/")
    assert run(group="check-config").exit_code == 0
