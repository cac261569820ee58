"""What stands between an application and its call: no money, or nobody who could say whether there is any."""

from typing import Any, Self

import msgspec


class BudgetExceeded(Exception):
    """The budget service refused a call: nothing was sent to the provider, and nothing was spent.

    An OpenAI or Anthropic SDK raises its own error in its place (`RateLimitError` for 429): `BudgetExceeded.of(error)` is this one.
    """

    def __init__(self, status: int, problem: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"the budget service answered {status}"))
        self.status = status
        self.problem = problem
        """The service's answer, as docs/budgets.md describes it."""
        self.headers = headers or {}

    @property
    def reason(self) -> str:
        """`budget_exceeded`, `no_budget`, `tenant_suspended`, `unknown_price`, …"""
        return str(self.problem.get("reason") or str(self.problem.get("type", "")).rpartition(":")[2])

    @property
    def denied_by(self) -> dict[str, Any] | None:
        """The budget that refused: name, scope, period, limit and what of it is spent."""
        return self.problem.get("denied_by")

    @property
    def reset_date(self) -> str | None:
        """When that budget begins anew, RFC 3339; `None` where it never does."""
        return self.problem.get("reset_date")

    @property
    def retry_after_seconds(self) -> int | None:
        """Seconds until then."""
        return self.problem.get("retry_after_seconds")

    @property
    def fallback(self) -> dict[str, Any]:
        """What to do instead: `use`, and the cheapest `model` that fits where there is one."""
        return self.problem.get("fallback") or {}

    @classmethod
    def of(cls, error: BaseException) -> Self | None:
        """The refusal behind an SDK's error; `None` where the error is the provider's own."""
        if isinstance(error, cls):
            return error
        response = getattr(error, "response", None)
        if response is None or not str(response.headers.get("content-type", "")).startswith("application/problem+json"):
            return None
        try:
            problem = msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not isinstance(problem, dict) or not str(problem.get("type", "")).startswith("urn:costwarden:"):
            return None
        if response.status_code >= 500:
            return None  # `BudgetUnavailable`: nobody refused
        if isinstance(problem.get("error"), dict):
            problem["error"] = problem["title"]
        return cls(response.status_code, problem, dict(response.headers))


class BudgetUnavailable(Exception):
    """Nobody could say whether the call may be made: the budget service is down, slow, or does not take our token.

    Nothing was sent to the provider. An SDK raises its own error for 503 in its place (`InternalServerError`), and may try again.
    """

    def __init__(self, detail: str, *, asked: bool = False) -> None:
        super().__init__(detail)
        self.asked = asked
        """The service may have taken the question and set money aside."""
        self.problem = {
            "type": "urn:costwarden:budget_service_unavailable",
            "title": "Service Unavailable",
            "status": 503,
            "detail": f"{detail}; the call was not made",
        }


def for_sdk(problem: dict[str, Any], reason: str) -> bytes:
    """The problem as the body of an answer: with an `error` as both providers have it, whose message the SDKs put into their exceptions."""
    error = {"type": reason, "code": reason, "message": problem.get("detail") or problem.get("title"), "param": None}
    return msgspec.json.encode({**problem, "error": error})
