"""Requests to Azure Resource Manager: exact numbers, patience where Azure asks for it, and an end at once where it is told to end.

The client is Microsoft's own; its models are not used. They read amounts as floating point and know nothing of further pages, and its
retries pass over 429 for a POST and sleep where nothing can wake them.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from queue import SimpleQueue
from typing import Any
from urllib.parse import quote, urlsplit

from costwarden.settings import Secret
from costwarden.sources.requests import Requests, SourceError
from costwarden.sources.settings import AzureAccess, AzureSettings

API_VERSION = "2025-03-01"
"""Of Microsoft.CostManagement: https://learn.microsoft.com/en-us/rest/api/cost-management/query/usage"""

CONNECT_SECONDS = 10

MOST_PAGES = 2_000
"""Ten million rows of 5,000 a page: an answer that goes on after that goes round in circles."""

BROKEN_ATTEMPTS = 3
"""Attempts where the connection breaks off or Azure has a fault of its own."""

THROTTLED_ATTEMPTS = 10

PAUSE_WITHOUT_HINT = 15.0
"""Seconds before the second attempt where a 429 does not say how long, doubled each time; Azure's shortest quota is one of 10 s, its next
of a minute."""

LONGEST_MESSAGE = 500

MOST_BYTES = 64 << 20
"""Of one answer: a page of 5,000 rows is about one MiB."""

Pause = Callable[[float], bool]
"""Waits so many seconds, and says whether the waiting was ended before."""

_ENDED = object()


class Ended(SourceError):
    """The source was closed while it was read."""


class AzureRefused(SourceError):
    """Azure answered with an error. `status` is HTTP's, `message` Azure's own."""

    def __init__(self, sentence: str, status: int, message: str) -> None:
        super().__init__(sentence)
        self.status, self.message = status, message


class AzureClient:
    """Asks Azure. Every attempt is told to `requests` before it leaves; those for a token, which cost and count nothing, are not.

    `pause` is what waits between attempts; None is what really does, until `close`.
    """

    def __init__(
        self,
        settings: AzureSettings,
        reveal: Callable[[Secret], str],
        requests: Requests,
        pause: Pause | None = None,
    ) -> None:
        self._settings, self._reveal, self._requests = settings, reveal, requests
        self._ended = threading.Event()
        self._pause = pause or self._ended.wait
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._client: Any = None

    @property
    def ended(self) -> bool:
        """Whether `close` was called."""
        return self._ended.is_set()

    def close(self) -> None:
        """End what is under way: it raises `Ended`."""
        self._ended.set()
        self._answers.put(_ENDED)
        if self._client is not None:
            self._client.close()

    def post(self, scope: str, operation: str, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """`properties` of each page of an answer; nothing where Azure has no content. Raises `SourceError`.

        A further page is a POST to `nextLink` with the same body: https://github.com/Azure/azure-rest-api-specs/issues/23405.
        """
        for page in self._pages("POST", scope, operation, body):
            properties = page.get("properties")
            if not isinstance(properties, dict):
                raise SourceError(f"{scope}: Azure's answer to `{operation}` has no `properties`")
            yield properties

    def list(self, scope: str, operation: str) -> Iterator[Mapping[str, Any]]:
        """The entries of all pages. Raises `SourceError`."""
        for page in self._pages("GET", scope, operation, None):
            entries = page.get("value")
            if not isinstance(entries, list):
                raise SourceError(f"{scope}: Azure's answer to `{operation}` has no `value`")
            for entry in entries:
                if not isinstance(entry, dict):
                    raise SourceError(f"{scope}: Azure's answer to `{operation}` has {entry!r} for an entry")
                yield entry

    def _pages(self, method: str, scope: str, operation: str, body: Any) -> Iterator[Mapping[str, Any]]:
        path = f"{quote(scope, safe='/:')}/providers/Microsoft.CostManagement/{operation}"
        url = f"{path}?api-version={API_VERSION}"
        seen: set[str] = set()
        while url:
            seen.add(url)
            text = self._ask(scope, method, url, body)
            if text is None:
                return
            page = _parsed(scope, text)
            holder = page.get("properties") if method == "POST" else page
            # Before the page is given: one that comes twice has rows that come twice, and this says why.
            url = self._next(scope, holder.get("nextLink")) if isinstance(holder, dict) else ""
            if url in seen or (url and len(seen) == MOST_PAGES):
                raise SourceError(f"{scope}: the pages of Azure's answer to `{operation}` have no end")
            yield page

    def _next(self, scope: str, link: Any) -> str:
        if not link:
            return ""
        own, given = urlsplit(self._base_url), urlsplit(str(link))
        # The token goes with the request: not to wherever an answer says.
        if (own.scheme, own.netloc.lower()) != (given.scheme, given.netloc.lower()):
            raise SourceError(
                f"{scope}: the next page of Azure's answer is said to be at {given.scheme}://{given.netloc}, not at Azure's own"
            )
        return str(link)

    def _ask(self, scope: str, method: str, url: str, body: Any) -> str | None:
        """The text of an answer, after as many attempts as it takes; None where Azure has no content, as for a month without cost."""
        broken, throttled, waited = 0, 0, 0.0
        while True:
            if self.ended:
                raise Ended("ended while Azure was being read")
            try:
                status, headers, text = self._attempt(method, url, body)
            except _Broken as error:
                broken += 1
                if broken == BROKEN_ATTEMPTS:
                    raise SourceError(f"{scope}: {error}, {broken} times in a row") from None
                self._wait(2.0 ** (broken - 1))
                continue
            if status == 204:
                return None
            if status == 200:
                return text
            if status == 429 and throttled < THROTTLED_ATTEMPTS:
                seconds = seconds_to_wait(headers, throttled)
                if waited + seconds <= self._settings.throttle_wait_seconds:
                    throttled, waited = throttled + 1, waited + seconds
                    self._wait(seconds)
                    continue
                raise SourceError(
                    f"{scope}: Azure takes no more requests for now and wants {seconds:g} s of waiting, after {waited:g} s already, "
                    f"of at most {self._settings.throttle_wait_seconds:g} s (`throttle_wait_seconds`); the next refresh tries again"
                )
            if status >= 500 and (broken := broken + 1) < BROKEN_ATTEMPTS:
                self._wait(max(2.0 ** (broken - 1), _hint(headers) or 0))
                continue
            raise _refused(scope, status, text)

    def _wait(self, seconds: float) -> None:
        if self._pause(seconds) or self.ended:
            raise Ended("ended while Azure was being read")

    def _attempt(self, method: str, url: str, body: Any) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text. In a thread of its own, so that `close` ends the waiting for an answer that never comes."""
        if self._client is None:
            self._client = _client(self._settings, self._reveal, self._requests)
        answers = self._answers = SimpleQueue()
        if self.ended:
            raise Ended("ended while Azure was being read")
        threading.Thread(target=_answer_into, args=(answers, self._client, method, url, body), daemon=True).start()
        found = answers.get()
        if found is _ENDED:
            raise Ended("ended while Azure was being read")
        if isinstance(found, BaseException):
            raise found
        status, headers, text = found
        return status, headers, text

    @property
    def _base_url(self) -> str:
        return self._settings.access.endpoint_url or "https://management.azure.com"


class _Broken(Exception):
    """The connection could not be made, or broke off."""


def _answer_into(answers: SimpleQueue[Any], client: Any, method: str, url: str, body: Any) -> None:
    from azure.core.rest import HttpRequest

    try:
        # Without a body a GET must not carry `null`.
        request = HttpRequest(method, url, json=body) if body is not None else HttpRequest(method, url)
        answers.put(in_words(lambda: _whole(client, request)))
    except BaseException as error:  # noqa: BLE001 - raised again by who asked
        answers.put(error)


def _whole(client: Any, request: Any) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and text."""
    with client.send_request(request, stream=True) as response:
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > MOST_BYTES:
                raise SourceError(
                    f"an answer is larger than {MOST_BYTES >> 20} MiB, and no page of Azure's is: is there something in between "
                    "(`access.endpoint_url`, a proxy)?"
                )
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status_code, headers, content.decode("utf-8-sig", "replace")


def in_words(ask: Callable[[], Any]) -> Any:
    """What `ask` gives; what azure-core raises becomes a sentence."""
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        IncompleteReadError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        return ask()
    except ClientAuthenticationError as error:
        if (broken := _network_failure(error)) is not None:
            raise _Broken(f"Azure's login gives no answer: {_first_line(broken)}") from None
        said = _first_line(error)
        # Its text is a list of all that it has tried.
        found = "no Azure credentials were found" if "DefaultAzureCredential" in said else f"Azure knows no such credentials: {said}"
        raise SourceError(
            f"{found}. Set `access.tenant_id`, `access.client_id` and `access.client_secret`, or log in (`az login`), or run with a "
            "managed or workload identity"
        ) from None
    except (ServiceRequestError, ServiceResponseError, IncompleteReadError) as error:
        raise _Broken(f"no whole answer from Azure: {_first_line(error)}") from None
    except AzureError as error:
        raise SourceError(f"Azure's library: {_first_line(error)}") from None


def _network_failure(error: BaseException) -> BaseException | None:
    """What a failed login is due to, where that is no answer at all: azure-identity calls every failure one of authentication."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from requests import RequestException

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ServiceRequestError | ServiceResponseError | RequestException | ConnectionError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:LONGEST_MESSAGE]


def _client(settings: AzureSettings, reveal: Callable[[Secret], str], requests: Requests) -> Any:
    """Microsoft's client with policies of our own: without retries, redirects, and the registration of resource providers, which writes."""
    try:
        from azure.core.pipeline import policies
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
        from azure.mgmt.costmanagement import CostManagementClient
    except ImportError:
        raise SourceError("Azure needs a library: `pip install 'costwarden[azure]'`") from None

    class Tell(policies.SansIOHTTPPolicy):  # type: ignore[type-arg]
        def on_request(self, request: Any) -> None:  # noqa: ARG002 - the interface's
            requests.about_to_ask()

    access = settings.access
    plain = (access.endpoint_url or "").startswith("http://")
    credential = _NoCredential() if plain else credential_of(access, reveal)
    scope = f"{(access.endpoint_url or 'https://management.azure.com').rstrip('/')}/.default"
    return CostManagementClient(
        credential,  # type: ignore[arg-type]
        base_url=access.endpoint_url or "https://management.azure.com",
        policies=[
            policies.RequestIdPolicy(),
            policies.HeadersPolicy({"ClientType": settings.client_type, "Accept": "application/json"}),
            policies.UserAgentPolicy("costwarden"),
            policies.ProxyPolicy(),
            policies.SansIOHTTPPolicy() if plain else ARMChallengeAuthenticationPolicy(credential, scope),  # type: ignore[arg-type]
            Tell(),
        ],
        connection_timeout=CONNECT_SECONDS,
        read_timeout=settings.request_timeout_seconds,
    )


class _NoCredential:
    """Instead of one, where the endpoint is plain HTTP: a token must not go over that."""

    def get_token(self, *_: str, **__: Any) -> None:
        raise SourceError("a token must not go over plain HTTP")


def credential_of(access: AzureAccess, reveal: Callable[[Secret], str], section: str = "access") -> Any:
    """The credentials that `access` describes. Raises `SourceError` where a part of them is missing.

    `section` is what `access` is called in the configuration, for sentences.
    """
    try:
        from azure.identity import ClientSecretCredential, DefaultAzureCredential
    except ImportError:
        raise SourceError("Azure needs a library: `pip install 'costwarden[azure]'`") from None
    # It logs every way that it has tried; what a person needs of that is in the sentence of `in_words`.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    if access.client_secret is None:
        own = access.client_id or None
        return DefaultAzureCredential(managed_identity_client_id=own, workload_identity_client_id=own)
    if missing := [f"`{section}.{name}`" for name in ("tenant_id", "client_id") if not getattr(access, name)]:
        raise SourceError(f"`{section}.client_secret` is given without {' and '.join(missing)}")
    try:
        secret = reveal(access.client_secret)
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - whoever opens the source brings `reveal`
        raise SourceError(f"`{section}.client_secret`: {error}") from None
    try:
        return ClientSecretCredential(access.tenant_id, access.client_id, secret)
    except ValueError as error:
        raise SourceError(f"`{section}`: {_first_line(error)}") from None


def _hint(headers: Mapping[str, str]) -> float | None:
    found = []
    for name, value in headers.items():
        if name.endswith("retry-after"):
            try:
                found.append(float(value))
            except ValueError:
                # A date, which Azure does not write here; the other headers hold, or the pause without a hint.
                continue
    return max((seconds for seconds in found if 0 <= seconds < float("inf")), default=None)


def seconds_to_wait(headers: Mapping[str, str], attempts: int) -> float:
    """Seconds that a 429 asks for, after `attempts` that were waited for already. Names in lower case.

    Each quota has a header of its own (`x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after`, `-entity-`, `-tenant-`, `-clienttype-`,
    and `retry-after`), and all that are there must have passed:
    https://learn.microsoft.com/en-us/azure/cost-management-billing/costs/manage-automation#response-headers.
    A hint that proved too short once is lengthened; some answers have none.
    """
    hint = _hint(headers)
    if hint is None:
        return PAUSE_WITHOUT_HINT * 2.0**attempts
    return max(hint, 2.0**attempts if attempts else 0)


def _parsed(scope: str, text: str) -> Mapping[str, Any]:
    try:
        page = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError, ArithmeticError):
        raise SourceError(f"{scope}: Azure's answer is not JSON: {text[:80]!r}") from None
    if not isinstance(page, dict):
        raise SourceError(f"{scope}: Azure's answer is not an object")
    return page


_HINTS = {
    401: "the credentials were not accepted: check `access`, and that their tenant is the scope's",
    403: "give the identity the role `Cost Management Reader` at this scope (docs/sources/azure.md has the command)",
    409: "if the subscription does not know the resource provider: `az provider register --namespace Microsoft.CostManagement`",
    404: "there is no such scope, or the identity has no right to see it: check the id in `scopes`",
}


def _refused(scope: str, status: int, text: str) -> AzureRefused:
    try:
        error = json.loads(text)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "without a reason", text[:LONGEST_MESSAGE]
    message = " ".join(message.split())[:LONGEST_MESSAGE]
    hint = f"; {_HINTS[status]}" if status in _HINTS else ""
    return AzureRefused(f"{scope}: Azure answered {status} {code}: {message.rstrip('.')}{hint}", status, message)
