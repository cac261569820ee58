"""A provider on loopback: answers chat completions after a while, with the usage that `POST /configure` asked for, and counts them."""

import asyncio
import sys
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Behaviour(msgspec.Struct):
    """What the next answers are like."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


behaviour = Behaviour()
answered = 0


async def configure(request: Request) -> Response:
    """Answer like this from now on, and count from 0."""
    global behaviour, answered
    behaviour, answered = msgspec.json.decode(await request.body(), type=Behaviour), 0
    return JSONResponse({})


async def count(_: Request) -> Response:
    return JSONResponse({"answered": answered})


async def complete(request: Request) -> Response:
    global answered  # noqa: PLW0603 (as above)
    answered += 1
    body: dict[str, Any] = msgspec.json.decode(await request.body())
    used = behaviour
    if used.seconds:
        await asyncio.sleep(used.seconds)
    return JSONResponse(
        {
            "id": f"chatcmpl-{answered}",
            "object": "chat.completion",
            "created": 1_767_225_600,
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": used.prompt_tokens,
                "completion_tokens": used.completion_tokens,
                "total_tokens": used.prompt_tokens + used.completion_tokens,
            },
        }
    )


routes = [
    Route("/configure", configure, methods=["POST"]),
    Route("/count", count),
    Route("/v1/chat/completions", complete, methods=["POST"]),
]
if __name__ == "__main__":
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
