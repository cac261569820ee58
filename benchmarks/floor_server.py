"""The floors of `bench_check.py`, on costwarden's own server settings: endpoints that decode the request, and do nothing.

`/starlette` is a Starlette endpoint with msgspec, the fastest that a framework offers; `/bare` goes the way of costwarden's hot
requests, past every framework.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from costwarden.api.app import create_app
from costwarden.api.hot import Answer, Receive, Scope, json_answer, read_body
from costwarden.budgets.requests import CheckRequest
from costwarden.cli.listen import listen, uvicorn_config
from costwarden.metrics.counts import Counts

ANSWER = {
    "allowed": True,
    "reservation_id": "0660bf762f939100015f482165d861e4",
    "estimated_cost_usd": 0.0045,
    "remaining_usd": 999999999.99,
    "warning": False,
    "expires_at": "2026-01-01T00:00:00Z",
}
decoder = msgspec.json.Decoder(CheckRequest)


async def bare(scope: Scope, receive: Receive) -> Answer:
    decoder.decode(await read_body(scope, receive, 1_048_576))
    return json_answer(ANSWER)


async def starlette(request: Request) -> Response:
    decoder.decode(await request.body())
    return Response(msgspec.json.encode(ANSWER), media_type="application/json")


async def ready(_: Request) -> Response:
    return Response("ready")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


api, app = create_app(Counts(), {("POST", "/bare"): bare}, lifespan)
api.router.routes[:0] = [Route("/starlette", starlette, methods=["POST"]), Route("/ready", ready)]
uvicorn.Server(uvicorn_config(app)).run(sockets=[listen("127.0.0.1", int(sys.argv[1]))])
