"""A transport of httpx or httpx2 that asks the budget before a model is called and tells it afterwards what was used."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from costwarden.client.budget import Admission, Budget
from costwarden.client.calls import Call
from costwarden.client.denial import BudgetExceeded, BudgetUnavailable, for_sdk
from costwarden.client.dimensions import in_headers, is_ours
from costwarden.client.endpoints import Wanted, find_endpoint, provider_of, read_request, with_usage
from costwarden.client.meter import Meter, failed_request
from costwarden.client.streams import UsageChunks, stream_class

PROBLEM = "application/problem+json"
NOT_RETRIED = "x-should-retry"
"""Both SDKs obey it where an answer carries it."""


class _Plan(NamedTuple):
    """A request that costs money, before it is sent."""

    call: Call
    wanted: Wanted
    asks_usage: bytes | None
    """The body that asks for the usage of a stream too; None where it does already, or needs not."""


class _Metering:
    """What the two transports share: everything but waiting."""

    def __init__(self, budget: Budget, inner: Any, library: Any, *, provider: str = "", names: Mapping[str, str] | None = None) -> None:
        self.budget = budget
        self._inner = inner
        self._library = library
        self._provider = provider
        self._names = dict(names or {})
        self._without_options: set[str] = set()
        """Origins that refuse `stream_options`."""

    def _plan(self, request: Any, said: Mapping[str, str], body: bytes) -> _Plan:
        path = request.url.path
        endpoint = find_endpoint(request.method, path)
        assert endpoint is not None
        wanted = read_request(endpoint, path, request.headers.get("content-type", ""), body, self.budget.models)
        names = self.budget.attribute(said, self._names)
        call = Call(
            **names,
            provider=self._provider or provider_of(request.url.host),
            model=wanted.model,
            operation=endpoint.operation,
            service_tier=wanted.service_tier,
            estimated_input_tokens=wanted.input_tokens,
            estimated_output_tokens=wanted.output_tokens,
            images=wanted.images,
            audio_seconds=wanted.audio_seconds,
            speaks=wanted.speaks,
        )
        asks_usage = None
        if wanted.stream and endpoint.takes_stream_options and _origin(request) not in self._without_options:
            asks_usage = with_usage(wanted.fields)
        return _Plan(call, wanted, asks_usage)

    def _untouched(self, request: Any) -> Any:
        """A request that costs nothing, as it is sent: without what is said to us."""
        if not any(is_ours(name) for name, _ in request.headers.raw):
            return request
        return self._copy(request, [(name, value) for name, value in request.headers.raw if not is_ours(name)])

    def _forward(self, request: Any, plan: _Plan, *, asks_usage: bool) -> Any:
        """The request as it is sent: asking for an answer that is not compressed, so that it can be read as it passes."""
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding" and not is_ours(name)]
        headers.append((b"accept-encoding", b"identity"))
        if not asks_usage or plan.asks_usage is None:
            return self._copy(request, headers)
        headers = [(name, value) for name, value in headers if name.lower() not in _REPLACED]
        headers.append((b"content-length", b"%d" % len(plan.asks_usage)))
        return self._library.Request(request.method, request.url, headers=headers, content=plan.asks_usage, extensions=request.extensions)

    def _copy(self, request: Any, headers: list[tuple[bytes, bytes]]) -> Any:
        # The client makes the request of a redirect out of the one that it gave us, which has to keep whom the call is for.
        copy = self._library.Request(request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions)
        if hasattr(request, "_content"):
            copy.read()
        return copy

    def _metered(self, response: Any, admission: Admission, plan: _Plan, *, hides_usage: bool, asynchronous: bool) -> Any:
        headers = response.headers
        stream = response.stream
        if response.is_closed:
            # Whole already, so that nobody will read its stream: what was read here, or a transport that keeps answers.
            meter = Meter(admission, plan.wanted, response.status_code, headers.get("content-type", ""))
            meter.feed(response.content)
            meter.finish("complete")
            if admission.warning:
                headers["x-ai-budget-warning"] = "true"
            return response
        if headers.get("content-encoding", "identity") != "identity":
            # Compressed although nobody asked for it: handed on as the client would have unpacked it.
            stream = _decoded(self._library, response, asynchronous=asynchronous)
            response.headers = self._library.Headers([(name, value) for name, value in headers.raw if name.lower() not in _ENCODED])
        meter = Meter(admission, plan.wanted, response.status_code, headers.get("content-type", ""))
        usage = UsageChunks() if hides_usage and response.status_code == 200 else None
        response.stream = stream_class(self._library, asynchronous=asynchronous)(stream, meter, usage)
        if admission.warning:
            response.headers["x-ai-budget-warning"] = "true"
        return response

    def _refused(self, refusal: BudgetExceeded) -> Any:
        # Neither SDK waits for the budget to begin anew: an answer without this header would be retried.
        headers = {"content-type": PROBLEM, NOT_RETRIED: "false"}
        headers |= {name: refusal.headers[name] for name in ("retry-after", "x-ai-budget-warning") if name in refusal.headers}
        return self._made(refusal.status, headers, for_sdk(refusal.problem, refusal.reason))

    def _unavailable(self, error: BudgetUnavailable) -> Any:
        return self._made(503, {"content-type": PROBLEM}, for_sdk(error.problem, "budget_service_unavailable"))

    def _made(self, status: int, headers: Any, body: bytes, extensions: Any = None) -> Any:
        return self._library.Response(status, headers=headers, content=body, extensions=extensions)

    def _tried_without(self, request: Any, status: int) -> None:
        """The server was asked without `stream_options`, which older Azure API versions and some compatible servers do not know.

        It is remembered where that helped: an error may name them only because it echoes the request.
        """
        if status < 300:
            self._without_options.add(_origin(request))

    def _again(self, response: Any, body: bytes) -> Any:
        """A response whose body was read here."""
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _ENCODED]
        return self._made(response.status_code, headers, body, response.extensions)


_REPLACED = {b"content-length", b"transfer-encoding"}
_ENCODED = {b"content-length", b"content-encoding", b"transfer-encoding"}


def _origin(request: Any) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}{request.url.path}"


def _decoded(library: Any, response: Any, *, asynchronous: bool) -> Any:
    shadow = library.Response(response.status_code, headers=response.headers, stream=response.stream)
    return _AsyncDecoded(shadow) if asynchronous else _Decoded(shadow)


class _Decoded:
    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Any:
        return self._response.iter_bytes()

    def close(self) -> None:
        self._response.close()


class _AsyncDecoded:
    def __init__(self, response: Any) -> None:
        self._response = response

    def __aiter__(self) -> Any:
        return self._response.aiter_bytes()

    async def aclose(self) -> None:
        await self._response.aclose()


class MeteredTransport(_Metering):
    """For a synchronous client: `httpx.Client(transport=MeteredTransport(budget, httpx.HTTPTransport(), httpx, tenant_id="acme"))`.

    `inner` sends what is admitted. A refused call is answered with the budget service's own 429, one that nobody could be asked about with
    503. Raises `NoTenant` for a call that names no tenant.
    """

    def handle_request(self, request: Any) -> Any:
        said = in_headers(request.headers)
        if find_endpoint(request.method, request.url.path) is None:
            return self._inner.handle_request(self._untouched(request))
        plan = self._plan(request, said, request.read())
        try:
            admission = self.budget.admit(plan.call)
        except BudgetExceeded as refusal:
            return self._refused(refusal)
        except BudgetUnavailable as error:
            return self._unavailable(error)
        hides_usage = plan.asks_usage is not None
        try:
            response = self._inner.handle_request(self._forward(request, plan, asks_usage=hides_usage))
            if hides_usage and response.status_code in {400, 422}:
                body = response.read()
                response.close()
                if b"stream_options" in body:
                    hides_usage = False
                    response = self._inner.handle_request(self._forward(request, plan, asks_usage=False))
                    self._tried_without(request, response.status_code)
                else:
                    response = self._again(response, body)
        except BaseException as error:
            failed_request(admission, error)
            raise
        return self._metered(response, admission, plan, hides_usage=hides_usage, asynchronous=False)

    def close(self) -> None:
        """Close the inner transport, and wait until the budget service knows of the calls."""
        self._inner.close()
        self.budget.flush()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)
        self.budget.flush()


class AsyncMeteredTransport(_Metering):
    """For an asynchronous client; else as `MeteredTransport`."""

    async def handle_async_request(self, request: Any) -> Any:
        said = in_headers(request.headers)
        if find_endpoint(request.method, request.url.path) is None:
            return await self._inner.handle_async_request(self._untouched(request))
        plan = self._plan(request, said, await request.aread())
        try:
            admission = await self.budget.admit_async(plan.call)
        except BudgetExceeded as refusal:
            return self._refused(refusal)
        except BudgetUnavailable as error:
            return self._unavailable(error)
        hides_usage = plan.asks_usage is not None
        try:
            response = await self._inner.handle_async_request(self._forward(request, plan, asks_usage=hides_usage))
            if hides_usage and response.status_code in {400, 422}:
                body = await response.aread()
                await response.aclose()
                if b"stream_options" in body:
                    hides_usage = False
                    response = await self._inner.handle_async_request(self._forward(request, plan, asks_usage=False))
                    self._tried_without(request, response.status_code)
                else:
                    response = self._again(response, body)
        except BaseException as error:
            failed_request(admission, error)
            raise
        return self._metered(response, admission, plan, hides_usage=hides_usage, asynchronous=True)

    async def aclose(self) -> None:
        """Close the inner transport, and wait until the budget service knows of the calls."""
        await self._inner.aclose()
        await self.budget.flush_async()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)
        await self.budget.flush_async()
