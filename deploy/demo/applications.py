"""Applications that spend AI tokens, simulated: each asks before a call, and tells what it used after it. No model is called."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

import httpx

Post = Callable[[str, dict[str, Any]], httpx.Response]
"""Sends a request to a path of the budget service."""

CONNECTIONS = 16


class Application(NamedTuple):
    """A tenant's use of a model: `calls` calls of at most these tokens; `lowest_use` is the least share of them that a call uses."""

    tenant_id: str
    provider: str
    model: str
    feature: str
    calls: int
    input_tokens: int
    output_tokens: int
    lowest_use: float = 0.3


class Outcome(NamedTuple):
    """What became of a call: its cost where it was made, the problem document where it was refused."""

    application: Application
    cost: Decimal
    refusal: dict[str, Any] | None


def run_applications(post: Post, applications: Sequence[Application]) -> list[Outcome]:
    """Make all calls of all applications, `CONNECTIONS` at a time, mixed. Raises `RuntimeError` for an answer that none expects."""
    # What a call uses is drawn beforehand: the same in every run, in whatever order the threads come.
    draw = Random(20240601)  # noqa: S311 (a sample, not a secret)
    calls = [(app, draw.uniform(app.lowest_use, 1)) for app in applications for _ in range(app.calls)]
    draw.shuffle(calls)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(lambda call: _call_model(post, *call), calls))


def _call_model(post: Post, app: Application, share: float) -> Outcome:
    names = {"tenant_id": app.tenant_id, "provider": app.provider, "model": app.model, "feature": app.feature}
    wish = {"estimated_input_tokens": app.input_tokens, "estimated_output_tokens": app.output_tokens}
    asked = post("/api/ai-budget/check", names | wish)
    if asked.status_code == 429:
        return Outcome(app, Decimal(0), exact_json(asked))
    reservation = {"reservation_id": _checked(asked)["reservation_id"]}
    used = {"input_tokens": round(app.input_tokens * share), "output_tokens": round(app.output_tokens * share)}
    told = post("/api/ai-budget/track", names | reservation | used)
    return Outcome(app, Decimal(_checked(told)["cost_usd"]), None)


def exact_json(answer: httpx.Response) -> Any:
    """The body, with money to the last digit."""
    return json.loads(answer.content, parse_float=Decimal)


def _checked(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.request.url.path}: HTTP {answer.status_code}: {answer.text}")
    return exact_json(answer)
