"""Clients of Google Cloud: whose credentials they are, every request counted, an end to waiting, and its errors in words."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from costwarden.sources.requests import Requests, SourceError
from costwarden.sources.settings import GcpAccess

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

T = TypeVar("T")

MISSING_LIBRARY = "Google Cloud needs a library: `pip install 'costwarden[gcp]'`"

REQUEST_SECONDS = 60
"""How long one request may take."""

RETRY_SECONDS = 120
"""How long a request is repeated that met a 429 or a 5xx; the libraries wait a random time between them, doubled each time."""

LONGEST_MESSAGE = 600


def gcp_credentials(access: GcpAccess, scopes: Sequence[str], section: str = "access") -> Credentials:
    """The credentials that `access` describes, good for `scopes`; anonymous ones for an endpoint without TLS.

    `section` is what `access` is called in the configuration, for sentences.
    Nothing is asked for yet, except that without a file Google's library may look for a metadata server. Raises `SourceError` where there
    are none, and for a file that is neither the key of a service account nor a configuration of workload identity federation.
    """
    try:
        import google.auth
        import google.auth.credentials
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        raise SourceError(MISSING_LIBRARY) from None
    if access.endpoint_url is not None and access.endpoint_url.startswith("http://"):
        anonymous: Credentials = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
        return anonymous
    try:
        if access.credentials_file is not None:
            return _from_file(access, scopes, section)
        found: Credentials = google.auth.default(scopes=scopes, quota_project_id=access.quota_project or None)[0]
    except GoogleAuthError as error:
        raise SourceError(
            f"no Google Cloud credentials were found: set `{section}.credentials_file`, run `gcloud auth application-default login`, "
            f"or run as a service account ({_shortened(error)})"
        ) from None
    return found


def _from_file(access: GcpAccess, scopes: Sequence[str], section: str) -> Credentials:
    # Kind by kind: the library's own function for any kind is deprecated, because a file from elsewhere could be of a harmful one.
    from google.auth import aws, identity_pool
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    path = access.credentials_file
    assert path is not None
    try:
        info = json.loads(path.read_bytes())
        kind = info.get("type")
        if kind == "service_account":
            found: Any = service_account.Credentials.from_service_account_info(info, scopes=scopes)  # type: ignore[no-untyped-call]
        elif kind == "external_account":
            # https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds: AWS signs its tokens itself.
            is_aws = info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request"
            found = (aws if is_aws else identity_pool).Credentials.from_info(info, scopes=scopes)
        else:
            raise SourceError(f"{path}: `type` is {kind!r}, not `service_account` or `external_account` (`{section}.credentials_file`)")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror} (`{section}.credentials_file`)") from None
    except (ValueError, AttributeError, GoogleAuthError):
        # Without the text of the error: it may have some of the key.
        raise SourceError(
            f"{path} is no key of a service account and no configuration of federation (`{section}.credentials_file`)"
        ) from None
    credentials: Credentials = found.with_quota_project(access.quota_project) if access.quota_project else found
    return credentials


class Calls:
    """The calls of one source to Google's libraries, one at a time: each can be given up from another thread.

    The libraries wait, repeat and sleep on their own and know no way out, so a call runs in a thread that is left alone when it is given
    up; its next request is then refused.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._closed = threading.Event()
        self._waiting: queue.SimpleQueue[tuple[Any, BaseException | None]] | None = None

    def about_to_ask(self, cost: int = 0) -> None:
        """To be called before every request, a repeated one included; as `Requests.about_to_ask`."""
        if self._closed.is_set():
            raise SourceError("ended while it was being read")
        self._requests.about_to_ask(cost)

    def run(self, what: str, ask: Callable[[], T], remedy: str = "") -> T:
        """What `ask` gives; what the libraries raise becomes a `SourceError` that begins with `what`, and ends with `remedy` where a right
        is missing or nothing was found. Not re-entrant.
        """
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                outcome.put((ask(), None))
            except BaseException as error:  # noqa: BLE001  raised again by whoever waits
                outcome.put((None, error))

        self._waiting = outcome
        # After the line above and not before: `close` either finds the queue or is seen here.
        if self._closed.is_set():
            raise SourceError("ended while it was being read")
        threading.Thread(target=work, name="google-call", daemon=True).start()
        answer, error = outcome.get()
        self._waiting = None
        if error is not None:
            raise in_google_words(what, error, remedy) from None
        found: T = answer
        return found

    def close(self) -> None:
        """Give up the call under way, and let there be no other."""
        self._closed.set()
        if (waiting := self._waiting) is not None:
            waiting.put((None, SourceError("ended while it was being read")))


def in_google_words(what: str, error: BaseException, remedy: str = "") -> BaseException:
    """A `SourceError` for what Google's libraries raise, beginning with `what` was done; everything else as it is."""
    from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, RetryError, Unauthorized
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    if isinstance(error, RetryError) and error.cause is not None:
        return in_google_words(f"{what}, repeated for {RETRY_SECONDS} s", error.cause, remedy)
    if isinstance(error, Unauthorized | GoogleAuthError):
        return SourceError(f"{what}: the credentials were refused: {_shortened(error)}")
    if isinstance(error, Forbidden | NotFound):
        return SourceError(": ".join(filter(None, (what, _shortened(error), remedy))))
    if isinstance(error, GoogleAPICallError | RetryError):
        return SourceError(f"{what}: {_shortened(error)}")
    if isinstance(error, TimeoutError):
        return SourceError(f"{what}: no answer in time")
    if isinstance(error, RequestException | ConnectionError):
        return SourceError(f"{what}: no answer: {_shortened(error)}")
    return error


def _shortened(error: BaseException) -> str:
    # The first of the list is the service's own sentence; the text of the exception has the method and the address before it.
    listed = getattr(error, "errors", None)
    first = listed[0] if isinstance(listed, list) and listed else None
    said = first.get("message") if isinstance(first, dict) else None
    message = " ".join(str(said or error).split()).rstrip(".")
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
