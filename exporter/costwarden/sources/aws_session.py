"""Sessions of AWS: whose credentials they are, the role that is assumed, and the account that they must belong to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from costwarden.sources.requests import Requests, SourceError
from costwarden.sources.settings import AwsAccess

if TYPE_CHECKING:
    import boto3

T = TypeVar("T")

CONNECT_SECONDS = 10
READ_SECONDS = 60

MOST_ATTEMPTS = 5
"""As botocore counts: the first one included. Its `standard` mode waits up to 20 s between them."""

ENDED = "ended while AWS was asked"

# What a code of AWS means for the one who runs costwarden. `{action}` is the action of IAM that the request needs.
_HINTS = {
    "AccessDenied": "grant `{action}`",
    "AccessDeniedException": "grant `{action}`",
    "UnauthorizedOperation": "grant `{action}`",
    "InvalidClientTokenId": "the access key is wrong or was deleted",
    "UnrecognizedClientException": "the access key is wrong or was deleted",
    "InvalidSignatureException": "the secret access key is wrong, or the clock of this machine is",
    "SignatureDoesNotMatch": "the secret access key is wrong, or the clock of this machine is",
    "ExpiredToken": "the credentials have expired: renew them",
    "ExpiredTokenException": "the credentials have expired: renew them",
    "LimitExceededException": "AWS throttles; it is asked again at the next refresh",
    "ThrottlingException": "AWS throttles; it is asked again at the next refresh",
    "DataUnavailableException": "AWS has no figures of this account yet; the first ones take up to 24 hours",
}

# Where the action is not the operation's own name; the service's prefix is in front of it.
_ACTIONS = {
    "GetCostAndUsage": "ce:GetCostAndUsage",
    "GetCostForecast": "ce:GetCostForecast",
    "DescribeBudgets": "budgets:ViewBudget",
    "ListMetrics": "cloudwatch:ListMetrics",
    "GetMetricData": "cloudwatch:GetMetricData",
    "PutMetricData": "cloudwatch:PutMetricData",
    "GetObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "AssumeRole": "sts:AssumeRole` to these credentials, and let the role's trust policy name them and the same `external_id",
}

_NOT_ENABLED = "User not enabled for cost explorer access"
"""What Cost Explorer answers, as a denied access, where it was never opened, or not for member accounts."""


class Calls:
    """Calls that another thread can end: the one that waits for an answer is let go, the request itself is left to its timeout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[SimpleQueue[Callable[[], Any]]] = set()
        self.ended = False

    def end(self) -> None:
        """Have every call, those to come included, raise `SourceError`."""
        with self._lock:
            self.ended = True
            waiting = list(self._waiting)
        for answers in waiting:
            answers.put(_end)

    def wait_for(self, ask: Callable[[], T]) -> T:
        """What `ask` gives or raises. It runs in a thread of its own: nothing else can be let go of that waits for a socket."""
        answers: SimpleQueue[Callable[[], Any]] = SimpleQueue()

        def run() -> None:
            try:
                found = ask()
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
                answers.put(_raiser(error))
            else:
                answers.put(lambda: found)

        with self._lock:
            if self.ended:
                raise SourceError(ENDED)
            self._waiting.add(answers)
        try:
            threading.Thread(target=run, name="aws-request", daemon=True).start()
            found: T = answers.get()()
            return found
        finally:
            with self._lock:
                self._waiting.discard(answers)


def _end() -> None:
    raise SourceError(ENDED)


def _raiser(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


class AwsSession:
    """The clients of one account. Every attempt of theirs, a repeated one included, is told to `requests` before it leaves.

    `base` is the session that a role is assumed with, where that is not one with the credentials of `access` itself. With `calls` another
    thread can end what is asked with `ask`. `section` is what `access` is called in the configuration, for sentences. Raises `SourceError`
    where there are no credentials, the role cannot be assumed, or the account is another one than `access` says.
    """

    def __init__(
        self,
        access: AwsAccess,
        requests: Requests,
        *,
        base: AwsSession | None = None,
        calls: Calls | None = None,
        section: str = "access",
    ) -> None:
        try:
            import boto3  # noqa: F401 - told here, once, where it is missing
        except ImportError:
            raise SourceError("AWS needs a library: `pip install 'costwarden[aws]'`") from None
        self._access, self._requests = access, requests
        self._calls = calls or Calls()
        self._section = section
        self.boto: Any = base.boto if base else None
        """The session of boto3."""
        if base is None:
            self.boto = in_words(lambda: _new_session(profile_name=access.profile or None, region_name=access.region), section)
        if access.role_arn:
            self.boto = self._assume()
        self.account_id = ""
        if access.account_id and (found := self.identify()) != access.account_id:
            raise SourceError(f"the credentials belong to account {found}, not to {access.account_id} (`account_id`)")

    def identify(self) -> str:
        """The account that the credentials belong to, asked for once."""
        if not self.account_id:
            sts = self.client("sts")
            self.account_id = self.ask(lambda: sts.get_caller_identity()["Account"])
        return self.account_id

    def ask(self, call: Callable[[], T]) -> T:
        """What `call`, a request of one of the clients, gives; as `in_words`, and ended by `calls`."""
        return self._calls.wait_for(lambda: in_words(call, self._section))

    def client(self, service: str, *, region: str = "", cost: int | Callable[[], int] = 0) -> Any:
        """boto3's client of `service`. `cost` is what AWS takes for each of its requests, or for the one that leaves now (nano-dollars)."""
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": MOST_ATTEMPTS},
        )
        client = self.boto.client(
            service,
            region_name=region or self._access.region,
            endpoint_url=self._access.endpoint_url,
            config=config,
        )

        def about_to_send(**_: Any) -> None:
            if self._calls.ended:
                raise SourceError(ENDED)
            self._requests.about_to_ask(cost if isinstance(cost, int) else cost())

        client.meta.events.register("before-send", about_to_send)
        client.meta.events.register("before-parse", _refuse_half)
        return client

    def _assume(self) -> boto3.Session:
        asked: dict[str, Any] = {"RoleArn": self._access.role_arn, "RoleSessionName": "costwarden"}
        if self._access.external_id:
            asked["ExternalId"] = self._access.external_id
        sts = self.client("sts")
        given = self.ask(lambda: sts.assume_role(**asked)["Credentials"])
        return _new_session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            region_name=self._access.region,
        )


def _new_session(**options: Any) -> boto3.Session:
    import boto3
    from botocore.session import get_session

    core = get_session()
    core.register_component("data_loader", _models())
    made = boto3.Session(botocore_session=core, **options)
    core.get_scoped_config()  # raises ProfileNotFound, which botocore does when it makes a loader of its own
    return made


@cache
def _models() -> Any:
    """botocore's descriptions of the services, the same for all sessions.

    Each session would parse some megabytes of JSON anew: 0.2 s, in which no other thread of the server runs.
    """
    from botocore.loaders import Loader

    class Models(Loader):
        @property
        def search_paths(self) -> list[str]:
            # A copy: every session of boto3 appends its own folder, in which there is nothing for clients.
            return list(super().search_paths)

    return Models()


def _refuse_half(operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    # botocore takes an answer of a JSON service that breaks off for one that is empty: no cost, no models, no data points.
    headers, content = response_dict["headers"], response_dict["body"]
    length = str(headers.get("Content-Length", ""))
    whole = not isinstance(content, bytes) or operation_model.http.get("method") == "HEAD" or bool(headers.get("Content-Encoding"))
    if not whole and length.isdecimal() and len(content) != int(length):
        raise SourceError(f"{operation_model.name}: the answer breaks off after {len(content)} of {length} bytes")


def in_words(ask: Callable[[], T], section: str = "access") -> T:
    """What `ask` gives; what botocore raises becomes a `SourceError` that says what is missing.

    `section` is what the credentials are called in the configuration.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ProfileNotFound
    from botocore.parsers import ResponseParserError

    try:
        return ask()
    except NoCredentialsError:
        raise SourceError(
            f"no AWS credentials were found: set `{section}.profile`, the environment of boto3 (AWS_ACCESS_KEY_ID, …), or run with a role"
        ) from None
    except ProfileNotFound as error:
        raise SourceError(f"{error} (`{section}.profile`)") from None
    except ClientError as error:
        raise AwsRefused(error.operation_name, dict(error.response.get("Error", {}))) from None
    except BotoCoreError as error:
        raise SourceError(str(error)) from None
    except ResponseParserError:
        # Its text is the answer, which may hold the keys of an assumed role.
        raise SourceError("an answer of AWS broke off, or came from something else than AWS") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        # What botocore's parsers and their readers make of `null`, of lists where an object should be, and of a thousand brackets.
        raise SourceError(f"an answer of AWS is not as AWS documents it ({type(error).__name__})") from None


class AwsRefused(SourceError):
    """AWS answered a request with an error."""

    def __init__(self, operation: str, answer: dict[str, Any]) -> None:
        self.code = str(answer.get("Code", "?"))
        text = str(answer.get("Message") or answer.get("message") or "no message")
        if text == _NOT_ENABLED:
            hint = (
                "open Cost Explorer once in the console of the management account, and allow member accounts to use it; "
                "its first figures take up to 24 hours"
            )
        else:
            hint = _HINTS.get(self.code, "").format(action=_ACTIONS.get(operation, operation))
        super().__init__(f"{operation}: {self.code}: {text}" + (f" ({hint})" if hint else ""))
