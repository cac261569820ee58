"""The ASGI middleware in front of a small application, against a real costwarden."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from costwarden_server import Costwarden

from costwarden.client import Budget, BudgetMiddleware

Scope = dict[str, Any]


def tenant_of(scope: Any) -> str:
    return dict(scope["headers"]).get(b"x-tenant", b"").decode()


def application(budget: Budget) -> Any:
    """Makes a call of 10 tokens at each request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if tenant_of(scope):
            async with budget.call(model="plain", estimated_input_tokens=10, estimated_output_tokens=0) as call:
                call.used(input_tokens=10)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"done"})

    return app


def get(budget: Budget, tenant: str, path: str = "/ask", **options: Any) -> httpx.Response:
    settings = {"model": "plain", "estimated_input_tokens": 100, "estimated_output_tokens": 0, "paths": ["/ask"], **options}
    app = BudgetMiddleware(application(budget), budget, tenant=tenant_of, **settings)

    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            answer = await client.get(path, headers={"x-tenant": tenant} if tenant else {})
        await budget.flush_async()
        return answer

    return asyncio.run(request())


def test_a_request_of_a_tenant_with_money_passes_and_its_calls_are_attributed(
    make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str
) -> None:
    answer = get(make_budget(), tenant, attribute=lambda scope: {"feature": scope["path"]})
    assert (answer.status_code, answer.text) == (200, "done")
    assert "x-ai-budget-warning" not in answer.headers
    assert [event["feature"] for event in costwarden.usage(tenant)] == ["/ask"]
    state = costwarden.budget(tenant)
    assert (state["current_usage"], state["reserved"]) == (10, 0)  # the question itself holds nothing back


def test_a_request_of_a_tenant_without_money_is_answered_with_the_budget_service_own_refusal(
    make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str
) -> None:
    costwarden.set_budget(tenant, "0.00009")
    answer = get(make_budget(), tenant)
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["reason"] == "budget_exceeded"
    assert problem["denied_by"]["limit_usd"] == 0.00009
    assert answer.headers["retry-after"] == str(problem["retry_after_seconds"])
    assert costwarden.usage(tenant) == []


def test_the_soft_limit_is_told_in_a_header(make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str) -> None:
    costwarden.set_budget(tenant, "0.00012")
    assert get(make_budget(), tenant).headers["x-ai-budget-warning"] == "true"


@pytest.mark.parametrize(("path", "asks"), [("/ask", True), ("/ask/more", False), ("/health", False)])
def test_only_chosen_paths_are_checked(
    make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str, path: str, asks: bool
) -> None:
    costwarden.set_budget(tenant, "0.00009")
    assert get(make_budget(), tenant, path).status_code == (429 if asks else 200)


def test_a_request_of_nobody_passes(make_budget: Callable[..., Budget]) -> None:
    assert get(make_budget(), "").status_code == 200


def test_while_the_service_is_down_requests_are_refused_or_pass_as_the_budget_says(
    free_port: Callable[[], int], make_budget: Callable[..., Budget]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    answer = get(make_budget(url=url, close_seconds=0.05), "acme")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "cannot be reached" in answer.json()["detail"]
    assert get(make_budget(url=url, on_unavailable="allow", close_seconds=0.05), "acme").status_code == 200


def test_a_middleware_that_asks_about_no_model_is_a_mistake(budget: Budget) -> None:
    with pytest.raises(ValueError, match="name the `model`, the `operation`, or both"):
        BudgetMiddleware(application(budget), budget, tenant=tenant_of)


def test_other_protocols_pass(budget: Budget) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    middleware = BudgetMiddleware(app, budget, tenant=tenant_of, model="plain")
    asyncio.run(middleware({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
