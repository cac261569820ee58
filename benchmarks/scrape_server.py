"""The server of `bench_scrape.py`: the metrics page as the API serves it, and the same bytes as files, by the same application."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from scrape_samples import page_of
from starlette.responses import FileResponse

from costwarden.api.app import create_app
from costwarden.api.hot import Answer, Receive, Scope, Send
from costwarden.cli.listen import listen, uvicorn_config
from costwarden.metrics.counts import Counts

page = page_of(int(sys.argv[2]))
page.render()
folder = Path(sys.argv[3])
ready = page.answer("application/openmetrics-text", "gzip")
assert ready is not None
HEADERS = ready.headers
(folder / "page.gz").write_bytes(ready.body)


async def metrics(scope: Scope, _: Receive) -> Answer:
    headers = dict(scope["headers"])
    found = page.answer(headers.get(b"accept", b"").decode("latin-1"), headers.get(b"accept-encoding", b"").decode("latin-1"))
    assert found is not None
    return 200, found.body, found.headers


async def file(_: Scope, __: Receive) -> Answer:
    return 200, (folder / "page.gz").read_bytes(), HEADERS


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


_, app = create_app(Counts(), {("GET", "/metrics"): metrics, ("GET", "/file"): file}, lifespan)


async def with_files(scope: Scope, receive: Receive, send: Send) -> None:
    if scope.get("path") == "/static":
        await FileResponse(folder / "page.gz", headers={"content-encoding": "gzip"})(scope, receive, send)
    else:
        await app(scope, receive, send)


uvicorn.Server(uvicorn_config(with_files)).run(sockets=[listen("127.0.0.1", int(sys.argv[1]))])
