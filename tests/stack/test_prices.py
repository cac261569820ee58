"""Prices of a running server: fetched from their list, and corrected from the command line beside it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from costwarden_server import Costwarden
from price_server import PriceServer, provider

pytestmark = pytest.mark.stack


@pytest.fixture
def prices() -> Iterator[PriceServer]:
    """A list as long as the real one, so that it is none that was cut short: $5 and $2 a million tokens."""
    server = PriceServer()
    server.serve(provider(3_000, 5))
    yield server
    server.close()


@pytest.fixture
def start(tmp_path: Path, free_port: Callable[[], int], prices: PriceServer) -> Iterator[Callable[..., Costwarden]]:
    """`start(overrides)` starts a server that fetches its prices, once."""
    started = []

    def make(overrides: list[dict[str, Any]]) -> Costwarden:
        server = Costwarden(tmp_path / "server", free_port())
        started.append(server)
        path = server.folder / "costwarden.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["pricing"] = {"overrides": overrides, "unknown_price": "zero", "refresh": {"enabled": True, "url": prices.url}}
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


def age(server: Costwarden) -> float:
    """Seconds of `costwarden_price_data_age_seconds`."""
    page = server.http.get("/metrics").text
    return float(next(line for line in page.splitlines() if line.startswith("costwarden_price_data_age_seconds ")).split()[1])


def track(server: Costwarden, model: str) -> dict[str, Any]:
    """A thousand tokens of input."""
    body = {"tenant_id": "acme", "model": model, "input_tokens": 1_000}
    return server.http.post("/api/ai-budget/track", json=body).raise_for_status().json()


def test_a_server_prices_by_the_list_that_it_has_fetched_and_says_how_old_that_is(start, wait_until):
    server = start([])
    # 1,000 tokens at $5 a million; the installed list has no such model.
    wait_until(lambda: track(server, "acme-2999")["cost_usd"] == 0.005)
    # Rendered when the ledger changes, as it just did. The installed list is older than that by days.
    wait_until(lambda: age(server) < 3600)
    # In force first, and then kept.
    wait_until((server.folder / "costwarden-prices.json").is_file)


def test_a_correction_from_the_command_line_reaches_the_budget_of_a_running_server(start, wait_until, tmp_path):
    server = start([])
    server.set_budget("acme", "100")
    assert track(server, "house-model")["cost_usd"] == 0
    override = {"valid_from": "2020-01-01", "model": "house-model", "input_usd_mtok": 7, "output_usd_mtok": 7}
    config = yaml.safe_load((server.folder / "costwarden.yaml").read_text(encoding="utf-8"))
    corrected = server.folder / "corrected.yaml"
    corrected.write_text(yaml.safe_dump({**config, "pricing": {"overrides": [override]}}), encoding="utf-8")
    command = [sys.executable, "-m", "costwarden", "rerate", "--config", corrected, "--since", "2020-01-01", "--apply", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recorded"] == 1
    # 1,000 tokens at $7 a million are 7,000 micro-dollars.
    wait_until(lambda: server.budget("acme")["current_usage"] == 7_000)
    assert [usage["requests"] for usage in server.usage("acme")] == [1, 0]
