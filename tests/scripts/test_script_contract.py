"""What every script does with its input, whoever calls it."""

import subprocess
import sys

import pytest

SCRIPT = "suspend_ai_tenant"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"{", "the request on stdin is not JSON"),
        (b"[]", "the request is not a JSON object"),
        ({"target": ["acme"]}, "unknown key `target` in the request"),
        ({"targets": "acme"}, "`targets` is not a list of text"),
        ({"targets": [1]}, "`targets` is not a list of text"),
        ({"run_id": 1}, "`run_id` is not text"),
        ({"parameters": []}, "`parameters` is not an object"),
        ({"parameters": {"tenant": "acme"}}, "unknown parameter `tenant`; known are reason, tenant_id, token_file, url"),
        ({"parameters": {"tenant_id": ["acme"]}}, "parameter `tenant_id` is ['acme']; text is needed"),
        ({"undo": {}}, "`undo` is not a list of objects"),
        ({"targets": ["acme"], "undo": [{"tenant": "acme"}]}, "needs `tenant_id` and `run_id`"),
        (b" " * (8 * 1024 * 1024 + 1), "the request is larger than 8388608 bytes"),
    ],
)
def test_a_request_of_the_wrong_shape_is_bad_usage_and_nothing_is_done(run_script, request_, message):
    ran = run_script(SCRIPT, "--apply", request=request_)
    assert (ran.status, ran.lines) == (2, [])
    assert ran.stderr.startswith(f"{SCRIPT}: ")
    assert message in ran.stderr


def test_an_unknown_flag_is_bad_usage(run_script):
    ran = run_script(SCRIPT, "--aply")
    assert ran.status == 2
    assert "unrecognized arguments: --aply" in ran.stderr


@pytest.mark.parametrize("name", ["stop_ec2_instances", "suspend_ai_tenant"])
def test_help_shows_how_to_plan_apply_and_restore(project, name):
    shown = subprocess.run([sys.executable, project / "scripts/shutdown" / name, "--help"], capture_output=True, text=True, check=True)
    for flag in ("--apply", "--restore", "--target", "--run-id"):
        assert flag in shown.stdout
