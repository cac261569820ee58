"""A metrics page of many tenants, as costwarden would write it with every limit on series lifted; and samples of its past."""

import gzip
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.settings import AlertLimits
from costwarden.model import DIMENSIONS

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "claude-haiku-4", "gemini-2.5-pro")
WINDOWS = {"1h": 1, "1d": 24, "7d": 168, "30d": 720}
LIMIT, PERIOD_SECONDS = 1000.0, 30 * 86_400
USED = 0.4
"""Share of the period that is over, and of the budget that an ordinary tenant has spent."""

Sample = tuple[str, dict[str, str], float]


def tenant(number: int) -> str:
    """The name of a tenant."""
    return f"tenant-{number:05}"


def spent(number: int, share: float = USED) -> float:
    """What a tenant has spent when `share` of the period is over. One in a hundred spends twice what it may, one more nine tenths."""
    factor = {0: 2.0, 1: 1.4}.get(number % 100, 0.9)
    return LIMIT * factor * share


def budget_samples(tenants: int, now: float, share: float = USED) -> Iterator[Sample]:
    """The series of one monthly budget a tenant, when `share` of its period is over."""
    start = now - USED * PERIOD_SECONDS
    for number in range(tenants):
        labels = {"budget": f"tenant_id={tenant(number)}/month", "period": "month", "tenant_id": tenant(number)}
        action = {"action": "suspend-ai-tenant"} if number % 100 == 0 else {}
        used = spent(number, share)
        yield "ai_budget_limit_usd", labels | action, LIMIT
        yield "ai_budget_spent_usd", labels, used
        yield "ai_budget_reserved_usd", labels, 1.0
        yield "ai_budget_unsettled_usd", labels, 0.0
        yield "ai_budget_hard_limit_reached", labels, float(used >= LIMIT)
        yield "ai_budget_soft_limit_reached", labels, float(used >= 0.8 * LIMIT)
        yield "ai_budget_soft_limit_ratio", labels, 0.8
        yield "ai_budget_period_start_timestamp_seconds", labels, start
        yield "ai_budget_reset_timestamp_seconds", labels, start + PERIOD_SECONDS
        if used >= 0.5 * LIMIT:
            yield "ai_budget_threshold_ratio", labels | {"threshold": "0.5"}, 0.5
        yield "ai_budget_denied_checks_total", {"budget": labels["budget"], "period": "month"}, 5.0


def usage_samples(tenants: int) -> Iterator[Sample]:
    """The series of usage: `MODELS` a tenant."""
    for number in range(tenants):
        each = spent(number) / len(MODELS)
        yield "ai_cost_expected_hourly_usd", {"tenant_id": tenant(number)}, each / 300
        yield "ai_cost_deviation_hourly_usd", {"tenant_id": tenant(number)}, each / 3000
        yield "http_requests_total", {"tenant_id": tenant(number), "code": "200"}, 1e6
        for model in MODELS:
            who = {"tenant_id": tenant(number), "provider": "openai", "model": model}
            what = who | {"operation": "chat", "service": "assistant"}
            yield "ai_token_usage_cost_usd", what, each * 3
            for kind in ("input", "output"):
                yield "ai_tokens_total", what | {"type": kind}, 1e7
            for outcome in ("success", "failure"):
                yield "ai_requests_total", what | {"outcome": outcome}, 1e4
            for window, hours in WINDOWS.items():
                yield "ai_token_usage_cost_window_usd", who | {"window": window}, each * hours / 288


def limit_samples() -> Iterator[Sample]:
    """The limits that rules compare with, and what there is one of."""
    limits = AlertLimits()
    yield from ((name, {}, float(getattr(limits, name))) for name in AlertLimits.model_fields)
    yield "costwarden_build_info", {"version": "0.1.0"}, 1.0
    yield "ai_spend_monthly_usd", {}, 1e6
    yield "costwarden_ledger_up", {}, 1.0


def page(samples: Iterable[Sample]) -> bytes:
    """The page in the text format, gzipped."""
    by_family: dict[str, list[str]] = {}
    for name, labels, value in samples:
        family = FAMILIES[name]
        assert set(labels) <= {*family.labels, *DIMENSIONS}, (name, labels)
        text = ",".join(f'{label}="{given}"' for label, given in labels.items())
        by_family.setdefault(name, []).append(f"{name}{{{text}}} {value!r}\n")
    parts = (f"# TYPE {name} {FAMILIES[name].kind}\n{''.join(lines)}" for name, lines in by_family.items())
    return gzip.compress("".join(parts).encode(), 1)


def openmetrics(samples: Iterable[tuple[Sample, Iterable[tuple[float, float]]]]) -> Iterator[str]:
    """Lines for `promtool tsdb create-blocks-from openmetrics`: each series, `job` and all, with its (time, value) pairs."""
    for (name, labels, _), points in samples:
        text = ",".join(f'{label}="{value}"' for label, value in labels.items())
        yield from (f"{name}{{{text}}} {value!r} {at:.3f}\n" for at, value in points)
    yield "# EOF\n"


class PageServer:
    """Serves a page that can be exchanged, on a free port of loopback. Use it in `with`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        serve = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(serve.content)))
                self.end_headers()
                self.wfile.write(serve.content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
