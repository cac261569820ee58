"""A real costwarden in a process of its own, and what its ledger says."""

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy" / "demo"))

from processes import Processes

# A dollar a million tokens, in and out, so that a test shows its sums: a token is a millionth of a dollar, a micro-dollar.
CONFIG: dict[str, Any] = {
    "database_url": "sqlite:///ledger.db",
    "logs": {"level": "warning"},
    "budgets": {"default": None},
    "pricing": {
        "overrides": [
            {"valid_from": "2020-01-01", "model": "plain*", "input_usd_mtok": 1, "output_usd_mtok": 1, "cache_read_usd_mtok": 1},
            {"valid_from": "2020-01-01", "model": "painter", "usd_per_image": "0.01"},
        ],
    },
}


class Costwarden:
    """`costwarden serve` on a free port; `sections` are added to its configuration, `environment` to its environment."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str] | None = None, **sections: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._environment = environment
        self.url = f"http://127.0.0.1:{port}"
        self._config = folder / "costwarden.yaml"
        self._config.write_text(yaml.safe_dump({**CONFIG, **sections, "server": {"port": port}}), encoding="utf-8")
        self._processes = Processes(folder / "logs")
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        """A client of the server: for paths."""

    def start(self) -> None:
        """Start it, also again after `kill`; returns when it is ready."""
        self._processes.launch("costwarden", [sys.executable, "-m", "costwarden", "serve", "--config", self._config], self._environment)
        self._processes.await_ready("costwarden", self._answers)

    def _answers(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        self._processes.kill("costwarden")

    def freeze(self) -> None:
        """Let it answer nobody, though it takes connections."""
        self._processes.freeze("costwarden")

    def thaw(self) -> None:
        self._processes.thaw("costwarden")

    def stop(self) -> None:
        self._processes.__exit__()
        self.http.close()

    def set_budget(self, tenant_id: str, limit_usd: float | str) -> None:
        """A monthly budget of the tenant for all its models."""
        body = {"tenant_id": tenant_id, "monthly_limit_usd": float(limit_usd)}
        self.http.post("/api/ai-budget/set", json=body).raise_for_status()

    def suspend(self, tenant_id: str) -> None:
        self.http.post(f"/api/ai-budget/tenant/{tenant_id}/suspend", json={"reason": "test"}).raise_for_status()

    def budget(self, tenant_id: str) -> dict[str, Any]:
        """The tenant's budget as the API gives it; amounts in micro-dollars, which are the tokens of the model `plain`."""
        answer = self.http.get(f"/api/ai-budget/tenant/{tenant_id}")
        answer.raise_for_status()
        (budget,) = answer.json()["budgets"]
        amounts = ("current_usage_usd", "reserved_usd", "unsettled_usd")
        return {**budget, **{name.removesuffix("_usd"): round(Decimal(str(budget[name])) * 1_000_000) for name in amounts}}

    def usage(self, tenant_id: str) -> list[dict[str, Any]]:
        """The tenant's usage events, out of the ledger's file; of the same moment in the order in which they were written."""
        with closing(sqlite3.connect(f"file:{self.folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            statement = "SELECT * FROM usage WHERE tenant_id = ? ORDER BY timestamp, usage_id"
            return [dict(row) for row in connection.execute(statement, (tenant_id,))]
