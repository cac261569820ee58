"""The requests of the FinOps guide, word for word but for the host, against a server on a real socket."""

import json
import os
import shlex
import shutil
import subprocess

import httpx
import pytest

HOST = "http://ai-budget:3010"

SET_ENTERPRISE = """\
curl -X POST http://ai-budget:3010/api/ai-budget/set \\
  -H "Content-Type: application/json" \\
  -d '{
    "tenant_id": "tenant-enterprise",
    "model": "claude-3-5-sonnet-20241022",
    "monthly_limit_usd": 5000.00
  }'
"""

STATUS_ENTERPRISE = "curl http://ai-budget:3010/api/ai-budget/tenant/tenant-enterprise"

SET_ACME = """\
curl -X POST http://ai-budget:3010/api/ai-budget/set \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer $ADMIN_TOKEN" \\
  -d '{
    "tenant_id": "tenant-acme-corp",
    "model": "claude-3-5-sonnet-20241022",
    "monthly_limit_usd": 10000.00
  }'
"""

STATUS_TENANT = "curl http://ai-budget:3010/api/ai-budget/tenant/TENANT_ID"

RAISE_TENANT = """\
curl -X POST http://ai-budget:3010/api/ai-budget/set \\
  -H "Content-Type: application/json" \\
  -d '{
    "tenant_id": "TENANT_ID",
    "model": "claude-3-5-sonnet-20241022",
    "monthly_limit_usd": 15000.00
  }'
"""


def run(command, url, token=""):
    """What a shell command answers: run by curl, or where that is not installed, understood here."""
    command = command.replace(HOST, url)
    if shutil.which("curl"):
        environ = {**os.environ, "ADMIN_TOKEN": token}
        done = subprocess.run(
            ["/bin/sh", "-c", command + " --silent --show-error"], env=environ, check=True, capture_output=True, timeout=240
        )
        return json.loads(done.stdout)
    words = iter(shlex.split(command.replace("\\\n", " ").replace("$ADMIN_TOKEN", token))[1:])
    method, headers, body, target = "GET", {}, None, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(":")
            headers[name] = value.strip()
        elif word == "-d":
            body = next(words)
        else:
            target = word
    return httpx.request(method, target, headers=headers, content=body, timeout=240).json()


@pytest.mark.stack
def test_every_request_of_the_guide_works_as_it_is_written(server, serve):
    url = serve(server)
    made = run(SET_ENTERPRISE.rstrip(), url)
    assert (made["tenant_id"], made["model"], made["monthly_limit_usd"]) == ("tenant-enterprise", "claude-3-5-sonnet-20241022", 5000)
    # What the tenant of the example has spent.
    server.post("/api/ai-budget/track", {"tenant_id": "tenant-enterprise", "model": "claude-3-5-sonnet-20241022", "cost_usd": 3250.45})
    status = run(STATUS_ENTERPRISE, url)
    (budget,) = status["budgets"]
    assert {
        name: budget[name] for name in ("model", "monthly_limit_usd", "current_usage_usd", "percentage_used", "reset_date", "status")
    } == {
        "model": "claude-3-5-sonnet-20241022",
        "monthly_limit_usd": 5000.0,
        "current_usage_usd": 3250.45,
        "percentage_used": 65.01,
        "reset_date": "2025-12-01T00:00:00Z",
        "status": "ok",
    }
    assert (budget["soft_limit_notified"], budget["hard_limit_reached"]) == (False, False)
    assert (status["total_usage_usd"], status["total_limit_usd"]) == (3250.45, 5000.0)
    assert run(RAISE_TENANT.rstrip(), url)["monthly_limit_usd"] == 15000
    assert run(STATUS_TENANT, url)["budgets"][0]["monthly_limit_usd"] == 15000


@pytest.mark.stack
def test_the_request_with_a_token_works_where_tokens_are_asked_for(server_of, serve, secret):
    server = server_of(tokens=[{"name": "deployment", "role": "admin", "secret": secret("hunter2")}])
    url = serve(server)
    assert run(SET_ACME.rstrip(), url, "hunter2")["monthly_limit_usd"] == 10000
    assert run(SET_ACME.rstrip(), url, "guessed")["status"] == 401
    assert run(SET_ENTERPRISE.rstrip(), url)["status"] == 401
