"""Thousands of requests, good and bad, made up from the description of the API by `schemathesis`: the server answers as described."""

import subprocess
import sys
from pathlib import Path

import pytest

from costwarden.pricing import PriceBook, PricingSettings

PROGRAM = Path(sys.executable).parent / "schemathesis"
CONFIG = Path(__file__).parent / "schemathesis.toml"


@pytest.mark.stack
@pytest.mark.timeout(600)
@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
def test_the_server_does_what_its_description_says(server_of, serve, secret, tmp_path, guarded):
    roles = ("admin", "alertmanager") if guarded else ()
    tokens = [{"name": role, "role": role, "secret": secret(f"{role}-token")} for role in roles]
    # Whatever model is made up has a price, so that checks get beyond it.
    prices = PriceBook(PricingSettings(unknown_price="zero"))
    server = server_of(tokens=tokens, prices=prices, unbudgeted="allow", max_body_bytes=1_048_576)
    server.page.render()
    for tenant in ("acme", "org/team"):
        server.set(5, tenant, token="admin-token" if guarded else "")
        server.track(4_500_000, tenant, event_id="tracked", cost_usd=4.5, token="admin-token" if guarded else "")
    command = [PROGRAM, "--config-file", CONFIG, "run", f"{serve(server)}/openapi.json", "--checks=all", "--seed=1", "--no-color"]
    command += ["--phases=examples,coverage,fuzzing", "--max-examples=8", "--workers=1"]
    command += ["--suppress-health-check=too_slow", "--request-timeout=60"]
    command += ["--header=Authorization: Bearer admin-token"] if guarded else []
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
