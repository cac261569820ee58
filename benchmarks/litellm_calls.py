"""What `bench_litellm.py` runs in LiteLLM's own environment: one scenario, from JSON; prints what came of it as JSON.

Used as LiteLLM's documentation says: `Router(provider_budget_config=…)` (docs.litellm.ai/docs/proxy/provider_budget_routing) and
`BudgetManager` (docs.litellm.ai/docs/budget_manager).
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import litellm  # type: ignore[import-not-found]

litellm.suppress_debug_info = True
USER, MESSAGES = "acme", [{"role": "user", "content": "Is it so?"}]

Call = Callable[[], Awaitable[bool]]
"""Makes a call where the budget allows it, and records it; False where it does not."""


def router(url: str, budget: float, model: str, **redis: Any) -> Any:
    deployment = {"model_name": model, "litellm_params": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none"}}
    budgets = {"openai": litellm.types.utils.BudgetConfig(budget_limit=budget, time_period="1d")}
    return litellm.Router(model_list=[deployment], provider_budget_config=budgets, num_retries=0, **redis)


def by_router(url: str, budget: float, model: str, **options: Any) -> Call:
    asked = router(url, budget, model)

    async def call() -> bool:
        try:
            await asked.acompletion(model=model, messages=MESSAGES, **options)
        except Exception as error:
            if "budget" not in str(error).lower():
                raise
            return False
        return True

    return call


def by_manager(url: str, budget: float, model: str, **options: Any) -> Call:
    manager = litellm.BudgetManager(project_name="bench")
    manager.create_budget(total_budget=budget, user=USER)

    async def call() -> bool:
        if manager.get_current_cost(user=USER) > manager.get_total_budget(USER):
            return False
        answer = await litellm.acompletion(
            model=f"openai/{model}", messages=MESSAGES, api_base=f"{url}/v1", api_key="none", max_retries=0, **options
        )
        manager.update_cost(completion_obj=answer, user=USER)
        return True

    return call


CALLERS = {"router": by_router, "manager": by_manager}


async def crowd(kind: str, url: str, budget: float, model: str, callers: int, calls: int, **options: Any) -> dict[str, Any]:
    """`callers` at once, each until it is refused or `calls` are made in all."""
    call = CALLERS[kind](url, budget, model, **options)
    made, refused = 0, 0

    async def caller() -> None:
        nonlocal made, refused
        while made < calls:
            made += 1
            if not await call():
                made -= 1
                refused += 1
                return

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"made": made, "refused": refused, "seconds": time.perf_counter() - started}


async def burst(kind: str, url: str, budget: float, model: str, calls: int, redis_port: int) -> dict[str, Any]:
    """So many calls, one after the other; then tells that they are done, and waits to be killed."""
    if kind == "redis":
        asked = router(url, budget, model, redis_host="127.0.0.1", redis_port=redis_port)
        for _ in range(calls):
            await asked.acompletion(model=model, messages=MESSAGES)
    else:
        call = CALLERS[kind](url, budget, model)
        for _ in range(calls):
            await call()
    print(json.dumps({"made": calls}), flush=True)
    await asyncio.sleep(3600)
    return {}


async def remembered(kind: str, url: str, budget: float, model: str, redis_port: int) -> dict[str, Any]:
    """What a new process finds of what was spent before, in dollars; None where it cannot read what the last one left."""
    if kind == "manager":
        try:
            manager = litellm.BudgetManager(project_name="bench")
        except json.JSONDecodeError:
            return {"spent": None}
        return {"spent": manager.get_current_cost(user=USER) if manager.is_valid_user(USER) else 0.0}
    redis = {"redis_host": "127.0.0.1", "redis_port": redis_port} if kind == "redis" else {}
    budgets = router(url, budget, model, **redis).router_budget_logger
    return {"spent": await budgets._get_current_provider_spend("openai") or 0.0}  # noqa: SLF001 (what its own endpoint shows)


async def unknown(url: str, budget: float, models: list[str], calls: int) -> dict[str, Any]:
    """For each model: what the router's budget has counted of so many calls, in dollars."""
    found = {}
    for model in models:
        asked = router(url, budget, model)
        for _ in range(calls):
            await asked.acompletion(model=model, messages=MESSAGES)
        # Costs are recorded behind the answer.
        deadline = time.monotonic() + 5
        while not (spent := await asked.router_budget_logger._get_current_provider_spend("openai") or 0.0):  # noqa: SLF001 (as above)
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        found[model] = spent
    return found


SCENARIOS: dict[str, Callable[..., Any]] = {"crowd": crowd, "burst": burst, "remembered": remembered, "unknown": unknown}

if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(SCENARIOS[arguments.pop("scenario")](**arguments))), flush=True)
