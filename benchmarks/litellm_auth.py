"""Whom LiteLLM's proxy lets in: every key, each with a budget of one dollar (docs.litellm.ai/docs/proxy/custom_auth)."""

from typing import Any

from litellm.proxy._types import UserAPIKeyAuth  # type: ignore[import-not-found]


async def user_api_key_auth(request: Any, api_key: str) -> Any:  # noqa: ARG001 (LiteLLM's signature)
    return UserAPIKeyAuth(api_key=api_key, token=api_key.removeprefix("sk-"), max_budget=1.0, spend=0.0)
