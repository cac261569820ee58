"""Prefixes of S3, Google Cloud Storage and Azure Blob Storage, each by its own library.

A listing is one request for every 1,000 (Azure: 5,000) objects. An object is read on condition that it still is what was listed, streamed
to a file, and not read at all where it has not changed. What AWS, Google and Azure take for a request is told beforehand.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from costwarden.model import to_nanos
from costwarden.settings import Secret
from costwarden.sources.aws_session import AwsSession, in_words
from costwarden.sources.azure_client import credential_of
from costwarden.sources.gcp_clients import MISSING_LIBRARY, gcp_credentials
from costwarden.sources.requests import RequestLimitReached, Requests, SourceError
from costwarden.sources.settings import AwsAccess, AzureAccess, GcpAccess
from costwarden.sources.settings.focus import LISTING_USD, READING_USD
from costwarden.sources.stores import CHANGED, LARGEST_MANIFEST, Item, UnreadableItem, below, until_closed

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient
    from google.cloud.storage import Bucket  # type: ignore[import-untyped]

T = TypeVar("T")

CHUNK = 1 << 20
PIECE = 32 << 20
"""Bytes that one request of Google's and Azure's library asks for; they keep them in memory."""
CONNECT_SECONDS, READ_SECONDS = 10, 60
QUOTE = '"'
GONE = "is there no more; the next refresh takes it away"


class ObjectPrefix:
    """What the three have in common: the calls run until `closing` is set."""

    def __init__(self, url: str, requests: Requests, closing: threading.Event) -> None:
        self.place = url
        self.scheme, rest = url.split("://")
        self.bucket, _, prefix = rest.partition("/")
        if self.scheme == "az":
            self.account, (self.bucket, _, prefix) = self.bucket, prefix.partition("/")
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.listing, self.reading = (to_nanos(prices[self.scheme]) for prices in (LISTING_USD, READING_USD))
        self._requests, self._closing = requests, closing

    def list(self) -> Iterator[Item]:
        """See `Store`. Of the directories that some tools make, objects whose name ends in a slash, there is nothing to read."""
        yield from self._call(lambda: [*self._list()])

    def read(self, item: Item) -> bytes:
        """See `Store`."""
        held = _Small()
        self._call(lambda: self._copy(item, held))
        return held.getvalue()

    def fetch(self, item: Item, target: Path) -> None:
        """See `Store`."""
        with target.open("wb") as file:
            self._call(lambda: self._copy(item, file))
            written = file.tell()
        if written != item.size:
            raise UnreadableItem(f"broke off after {written} of {item.size} bytes; the next refresh tries again")

    def is_current(self, item: Item) -> bool:  # noqa: ARG002 (its content was asked for by its version)
        """See `Store`."""
        return True

    def _call(self, call: Callable[[], T]) -> T:
        return until_closed(self._closing, call)

    def _list(self) -> Iterator[Item]:
        raise NotImplementedError

    def _copy(self, item: Item, file: Any) -> None:
        """Write the content of `item`, as long as that is what was listed, as it comes. Raises `UnreadableItem` and `SourceError`."""
        raise NotImplementedError


class _Small(io.BytesIO):
    """A manifest: what is larger is none."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > LARGEST_MANIFEST:
            raise UnreadableItem(f"is larger than {LARGEST_MANIFEST >> 20} MiB")
        return super().write(data)


class S3Prefix(ObjectPrefix):
    """`s3://BUCKET/PREFIX`. Needs s3:ListBucket on the bucket and s3:GetObject on the prefix."""

    def __init__(self, url: str, access: AwsAccess, requests: Requests, closing: threading.Event) -> None:
        super().__init__(url, requests, closing)
        self._access = access
        self._session: AwsSession | None = None

    def _client(self, cost: int) -> Any:
        if self._session is None:
            self._session = AwsSession(self._access, self._requests, section="aws")
        return self._session.client("s3", cost=cost)

    def _list(self) -> Iterator[Item]:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
        asked = {"Bucket": self.bucket, "Prefix": self.prefix}
        while True:
            try:
                page = in_words(lambda: self._client(self.listing).list_objects_v2(**asked), "aws")
            except RequestLimitReached:
                raise
            except SourceError as error:
                hint = f" (needs s3:ListBucket on arn:aws:s3:::{self.bucket})" if "AccessDenied" in str(error) else ""
                raise SourceError(f"{self.place}: {error}{hint}") from None
            for found in page.get("Contents", ()):
                if path := below(self.prefix, found["Key"]):
                    version = f"{found['ETag']}:{found['Size']}:{found['LastModified'].isoformat()}"
                    yield Item(path, version, found["LastModified"], found["Size"])
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _copy(self, item: Item, file: Any) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        etag = item.version.split(":")[0]
        try:
            answer = self._client(self.reading).get_object(Bucket=self.bucket, Key=self.prefix + item.path, IfMatch=etag)
            for chunk in answer["Body"].iter_chunks(CHUNK):
                file.write(chunk)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "?")
            sentence = {"PreconditionFailed": CHANGED, "412": CHANGED, "NoSuchKey": GONE, "404": GONE}.get(code)
            if code in ("AccessDenied", "403"):
                sentence = f"may not be read: needs s3:GetObject on arn:aws:s3:::{self.bucket}/{self.prefix}*, and kms:Decrypt for its key"
            raise UnreadableItem(sentence or f"{code}: {error.response.get('Error', {}).get('Message', '')}") from None
        except BotoCoreError as error:
            raise UnreadableItem(f"broke off: {error}; the next refresh tries again") from None


class GcsPrefix(ObjectPrefix):
    """`gs://BUCKET/PREFIX`. Needs storage.objects.list and storage.objects.get: the role Storage Object Viewer."""

    def __init__(self, url: str, access: GcpAccess, requests: Requests, closing: threading.Event) -> None:
        super().__init__(url, requests, closing)
        self._access = access
        self._opened: Bucket | None = None

    def _open(self) -> Bucket:
        try:
            from google.auth.transport.requests import AuthorizedSession
            from google.cloud import storage
            from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]
        except ImportError:
            raise SourceError(MISSING_LIBRARY) from None
        if self._opened is None:
            self._retry = DEFAULT_RETRY.with_timeout(READ_SECONDS)
            about_to_ask = self._about_to_ask

            class Session(AuthorizedSession):
                def request(self, method: str, url: str, *args: Any, **more: Any) -> Any:  # type: ignore[override]
                    about_to_ask(url)
                    return super().request(method, url, *args, **more)  # type: ignore[no-untyped-call]

            credentials = gcp_credentials(self._access, ["https://www.googleapis.com/auth/devstorage.read_only"], section="gcp")
            options = {"api_endpoint": self._access.endpoint_url} if self._access.endpoint_url else None
            # The library asks for a project and does not send it: a bucket belongs to one.
            session = Session(credentials)  # type: ignore[no-untyped-call]
            client = storage.Client(project="none", credentials=credentials, _http=session, client_options=options)
            # Where OpenTelemetry is installed it would ask for the bucket beside every listing, for a label: with a right of its own.
            client._bucket_metadata_cache = None  # noqa: SLF001
            self._opened = client.bucket(self.bucket)
        return self._opened

    def _about_to_ask(self, url: str) -> None:
        # …/b/BUCKET/o lists; …/b/BUCKET/o/NAME reads.
        self._requests.about_to_ask(self.listing if url.partition("?")[0].endswith("/o") else self.reading)

    def _list(self) -> Iterator[Item]:
        # https://cloud.google.com/storage/docs/json_api/v1/objects/list
        bucket = self._open()
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            fields = "items(name,generation,size,updated),nextPageToken"
            found = bucket.list_blobs(prefix=self.prefix, fields=fields, retry=self._retry, timeout=(CONNECT_SECONDS, READ_SECONDS))
            for blob in found:
                if path := below(self.prefix, blob.name):
                    yield Item(path, str(blob.generation), blob.updated, blob.size)
        except (GoogleAPICallError, RetryError, GoogleAuthError, RequestException) as error:
            hint = " (needs storage.objects.list, as in the role Storage Object Viewer)" if getattr(error, "code", 0) == 403 else ""
            raise SourceError(f"{self.place}: {_first_line(error)}{hint}") from None

    def _copy(self, item: Item, file: Any) -> None:
        bucket = self._open()
        from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            blob = bucket.blob(self.prefix + item.path, generation=int(item.version))
            # As it is stored: an object with `Content-Encoding: gzip` would come unpacked.
            blob.download_to_file(
                file,
                raw_download=True,
                checksum=None,
                retry=self._retry,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                single_shot_download=True,
            )
        except NotFound:
            raise UnreadableItem(CHANGED) from None
        except (GoogleAPICallError, RetryError, GoogleAuthError, RequestException) as error:
            hint = "may not be read: needs storage.objects.get; " if getattr(error, "code", 0) == 403 else ""
            raise UnreadableItem(f"{hint}{_first_line(error)}; the next refresh tries again") from None


class AzureContainer(ObjectPrefix):
    """`az://STORAGE_ACCOUNT/CONTAINER/PREFIX`. Needs the role Storage Blob Data Reader on the container."""

    def __init__(
        self, url: str, access: AzureAccess, reveal: Callable[[Secret], str], requests: Requests, closing: threading.Event
    ) -> None:
        super().__init__(url, requests, closing)
        self._access, self._reveal = access, reveal
        self._opened: ContainerClient | None = None

    def _open(self) -> ContainerClient:
        try:
            from azure.core.pipeline.policies import SansIOHTTPPolicy
            from azure.storage.blob import ContainerClient, ExponentialRetry
        except ImportError:
            raise SourceError("Azure needs a library: `pip install 'costwarden[azure]'`") from None
        if self._opened is not None:
            return self._opened
        outer = self

        class Meter(SansIOHTTPPolicy):  # type: ignore[type-arg]
            def on_request(self, request: Any) -> None:
                outer._requests.about_to_ask(outer.listing if "comp=list" in request.http_request.url else outer.reading)

        endpoint = self._access.endpoint_url
        self._opened = ContainerClient(
            f"{endpoint}/{self.account}" if endpoint else f"https://{self.account}.blob.core.windows.net",
            self.bucket,
            credential=None if endpoint and endpoint.startswith("http://") else credential_of(self._access, self._reveal, section="azure"),
            # After the policy that repeats: every attempt is told.
            _additional_pipeline_policies=[Meter()],
            retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1),
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_single_get_size=PIECE,
            max_chunk_get_size=PIECE,
        )
        return self._opened

    def _list(self) -> Iterator[Item]:
        # https://learn.microsoft.com/en-us/rest/api/storageservices/list-blobs
        container = self._open()
        from azure.core.exceptions import AzureError

        try:
            for blob in container.list_blobs(name_starts_with=self.prefix or None, results_per_page=5000):
                if path := below(self.prefix, blob.name):
                    yield Item(path, f'"{str(blob.etag).strip(QUOTE)}"', blob.last_modified, blob.size)
        except AzureError as error:
            denied = getattr(error, "status_code", 0) in (401, 403)
            hint = " (needs the role Storage Blob Data Reader on the container)" if denied else ""
            raise SourceError(f"{self.place}: {_first_line(error)}{hint}") from None

    def _copy(self, item: Item, file: Any) -> None:
        # https://learn.microsoft.com/en-us/rest/api/storageservices/get-blob
        container = self._open()
        from azure.core import MatchConditions
        from azure.core.exceptions import AzureError, ResourceModifiedError, ResourceNotFoundError

        try:
            blob = container.get_blob_client(self.prefix + item.path)
            blob.download_blob(etag=item.version, match_condition=MatchConditions.IfNotModified).readinto(file)
        except ResourceModifiedError:
            raise UnreadableItem(CHANGED) from None
        except ResourceNotFoundError:
            raise UnreadableItem(GONE) from None
        except AzureError as error:
            denied = getattr(error, "status_code", 0) in (401, 403)
            hint = "may not be read: needs the role Storage Blob Data Reader; " if denied else ""
            raise UnreadableItem(f"{hint}{_first_line(error)}; the next refresh tries again") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
