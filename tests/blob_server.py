"""Object stores on loopback: S3, Google Cloud Storage and Azure Blob Storage, as far as a reader asks them, over one set of objects.

Shapes: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html and API_GetObject.html;
https://cloud.google.com/storage/docs/json_api/v1/objects/list and objects/get;
https://learn.microsoft.com/en-us/rest/api/storageservices/list-blobs and get-blob.
"""

import gzip
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from stand_in import Answer, Request

PAGE = 3
"""Objects a page, instead of 1,000 or 5,000."""


@dataclass
class Stored:
    data: bytes
    generation: int
    modified: datetime

    @property
    def etag(self) -> str:
        return hashlib.md5(self.data + str(self.generation).encode()).hexdigest()


@dataclass
class Bucket:
    """`bucket["exports/a.csv"] = b"…"`; every write is a minute after the one before."""

    name: str = "bills"
    objects: dict[str, Stored] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """`list`, or names of objects."""
    before_reading: Callable[[str], None] = lambda name: None
    _clock: Any = field(default_factory=lambda: itertools.count(1))

    def __setitem__(self, name: str, data: bytes | str) -> None:
        number = next(self._clock)
        data = data.encode() if isinstance(data, str) else data
        self.objects[name] = Stored(
            gzip.compress(data) if name.endswith(".gz") else data, number, datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=number)
        )

    def __delitem__(self, name: str) -> None:
        del self.objects[name]

    def page(self, prefix: str, after: str) -> tuple[list[tuple[str, Stored]], str]:
        """Some objects in order of their names, and the name to go on after; empty at the end."""
        found = sorted((name, stored) for name, stored in self.objects.items() if name.startswith(prefix) and name > after)
        return found[:PAGE], found[PAGE - 1][0] if len(found) > PAGE else ""


def _range(request: Request, data: bytes, header: str = "range") -> tuple[bytes, int, dict[str, str]]:
    asked = request.headers.get(header) or request.headers.get("range", "")
    if not asked:
        return data, 200, {}
    first, _, last = asked.removeprefix("bytes=").partition("-")
    part = data[int(first) : int(last) + 1 if last else None]
    return part, 206, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"}


def s3(bucket: Bucket) -> Callable[[Request], Answer]:
    """The face of S3, with the bucket in the path."""

    def error(status: int, code: str, message: str) -> Answer:
        return Answer(
            f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), status, {"Content-Type": "application/xml"}
        )

    def answer(request: Request) -> Answer:
        name, _, key = unquote(request.path).lstrip("/").partition("/")
        if name != bucket.name:
            return error(404, "NoSuchBucket", "The specified bucket does not exist")
        if not key:
            if "list" in bucket.denied:
                return error(403, "AccessDenied", "Access Denied")
            found, after = bucket.page(request.first("prefix"), request.first("continuation-token"))
            rows = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{stored.modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
                f"<ETag>&quot;{stored.etag}&quot;</ETag><Size>{len(stored.data)}</Size></Contents>"
                for key, stored in found
            )
            more = f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if after else ""
            return Answer(
                f"<ListBucketResult><IsTruncated>{str(bool(after)).lower()}</IsTruncated>{more}{rows}</ListBucketResult>".encode(),
                headers={"Content-Type": "application/xml"},
            )
        bucket.before_reading(key)
        if key in bucket.denied:
            return error(403, "AccessDenied", "Access Denied")
        if key not in bucket.objects:
            return error(404, "NoSuchKey", "The specified key does not exist.")
        stored = bucket.objects[key]
        if request.headers.get("if-match", "").strip('"') not in ("", stored.etag):
            return error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        data, status, headers = _range(request, stored.data)
        return Answer(data, status, {"ETag": f'"{stored.etag}"', "Content-Type": "binary/octet-stream", **headers})

    return answer


def gcs(bucket: Bucket) -> Callable[[Request], Answer]:
    """The face of the JSON API."""

    def error(status: int, message: str) -> Answer:
        return Answer({"error": {"code": status, "message": message, "errors": [{"message": message}]}}, status)

    def answer(request: Request) -> Answer:
        path = request.path.removeprefix("/download")
        _, _, rest = path.partition("/b/")
        name, _, key = rest.partition("/o")
        if name != bucket.name:
            return error(404, "The specified bucket does not exist.")
        if not key:
            if "list" in bucket.denied:
                return error(403, "x does not have storage.objects.list access to the Google Cloud Storage bucket.")
            found, after = bucket.page(request.first("prefix"), request.first("pageToken"))
            items = [
                {
                    "name": key,
                    "generation": str(stored.generation),
                    "size": str(len(stored.data)),
                    "updated": f"{stored.modified:%Y-%m-%dT%H:%M:%S.000Z}",
                }
                for key, stored in found
            ]
            return Answer({"items": items} | ({"nextPageToken": after} if after else {}))
        key = unquote(key.lstrip("/"))
        bucket.before_reading(key)
        if key in bucket.denied:
            return error(403, "x does not have storage.objects.get access to the Google Cloud Storage object.")
        stored = bucket.objects.get(key)
        if stored is None or request.first("generation") not in ("", str(stored.generation)):
            return error(404, f"No such object: {bucket.name}/{key}")
        data, status, headers = _range(request, stored.data)
        return Answer(data, status, {"Content-Type": "application/octet-stream", "X-Goog-Generation": str(stored.generation), **headers})

    return answer


def azure(bucket: Bucket, account: str = "storage1") -> Callable[[Request], Answer]:
    """The face of the blob service, with the account in the path."""

    def error(status: int, code: str, message: str) -> Answer:
        body = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return Answer(body.encode(), status, {"Content-Type": "application/xml", "x-ms-error-code": code})

    def answer(request: Request) -> Answer:
        found_account, container, key = [*unquote(request.path).lstrip("/").split("/", 2), "", ""][:3]
        if (found_account, container) != (account, bucket.name):
            return error(404, "ContainerNotFound", "The specified container does not exist.")
        if request.first("comp") == "list":
            if "list" in bucket.denied:
                return error(403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation.")
            found, after = bucket.page(request.first("prefix"), request.first("marker"))
            blobs = "".join(
                f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{stored.modified:%a, %d %b %Y %H:%M:%S GMT}</Last-Modified>"
                f"<Etag>0x{stored.etag}</Etag><Content-Length>{len(stored.data)}</Content-Length><BlobType>BlockBlob</BlobType>"
                "</Properties></Blob>"
                for key, stored in found
            )
            body = (
                f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{container}"><Blobs>{blobs}</Blobs>'
                f"<NextMarker>{escape(after)}</NextMarker></EnumerationResults>"
            )
            return Answer(body.encode(), headers={"Content-Type": "application/xml"})
        bucket.before_reading(key)
        if key in bucket.denied:
            return error(403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation.")
        if key not in bucket.objects:
            return error(404, "BlobNotFound", "The specified blob does not exist.")
        stored = bucket.objects[key]
        if request.headers.get("if-match", "").strip('"') not in ("", f"0x{stored.etag}"):
            return error(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
        data, status, headers = _range(request, stored.data, "x-ms-range")
        known = {
            "ETag": f'"0x{stored.etag}"',
            "Last-Modified": f"{stored.modified:%a, %d %b %Y %H:%M:%S GMT}",
            "x-ms-blob-type": "BlockBlob",
        }
        return Answer(data, status, {"Content-Type": "application/octet-stream", **known, **headers})

    return answer
