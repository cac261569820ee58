"""The public keys of an identity provider (JSON Web Key Set, RFC 7517), fetched when they are first needed, and kept."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from costwarden.api.settings import Algorithm, JwtSettings

TIMEOUT_SECONDS = 5.0
LARGEST_SET_BYTES = 1_000_000

log = structlog.get_logger(__name__)


class PublicKey(msgspec.Struct, frozen=True):
    """A key, and the algorithms that a token which names it may be signed with."""

    key: Any
    algorithms: tuple[Algorithm, ...]


class KeySet:
    """Keys by id. One thread fetches at a time; the set in force stays until a complete new one is there.

    `monotonic` gives seconds; `fetch(url)` the body of an answer, or raises.
    """

    def __init__(
        self, settings: JwtSettings, fetch: Callable[[str], bytes] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._fetch = fetch or fetch_set
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._running: Future[None] | None = None
        self._keys: dict[str, PublicKey] = {}
        self._loaded_at: float | None = None
        self._attempted_at: float | None = None
        self._file_changed_at = -1
        self.generation = 0
        """Rises whenever the keys change."""

    @property
    def has_keys(self) -> bool:
        """Whether there ever were any."""
        return bool(self._keys)

    def find(self, kid: str) -> PublicKey | None:
        """The key of that id; of a set with one key, that one for a token that names none."""
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def prepare(self, kid: str | None) -> None:
        """Have keys at hand: waits where the key `kid` is not known, not where the known ones are old. None asks for no key."""
        missing = kid is not None and self.find(kid) is None
        if not missing and not self._is_old():
            return
        future = self._start()
        if missing and future is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), 2 * TIMEOUT_SECONDS)

    def _is_old(self) -> bool:
        if self._settings.jwks_file is not None:
            return changed_at(self._settings.jwks_file) != self._file_changed_at
        return self._loaded_at is None or self._monotonic() - self._loaded_at >= self._settings.jwks_max_age_seconds

    def _start(self) -> "Future[None] | None":
        with self._lock:
            if self._running is not None:
                return self._running
            now = self._monotonic()
            # Tokens with made-up key ids must not make us hammer the provider.
            if self._attempted_at is not None and now - self._attempted_at < self._settings.jwks_refresh_seconds:
                return None
            self._attempted_at = now
            future: Future[None] = Future()
            self._running = future
        threading.Thread(target=self._load, args=(future,), name="jwks", daemon=True).start()
        return future

    def _load(self, future: "Future[None]") -> None:
        path, url = self._settings.jwks_file, self._settings.jwks_url or ""
        try:
            file_changed_at = -1 if path is None else changed_at(path)
            keys = read_set(self._fetch(url) if path is None else path.read_bytes(), self._settings.accepted)
        except Exception as error:  # noqa: BLE001 (whatever it was, the keys in force stay)
            log.error("keys of the identity provider not loaded", origin=url or str(path), error=str(error), in_force=len(self._keys))
        else:
            if keys != self._keys:
                self._keys = keys
                self.generation += 1
            self._loaded_at, self._file_changed_at = self._monotonic(), file_changed_at
        finally:
            with self._lock:
                self._running = None
            future.set_result(None)


def read_set(body: bytes, accepted: tuple[Algorithm, ...]) -> dict[str, PublicKey]:
    """The keys of a JSON Web Key Set that can verify one of the `accepted` algorithms. Raises `ValueError` where there is none."""
    import jwt

    document = msgspec.json.decode(body)
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("is not a JSON Web Key Set: it has no list `keys`")
    keys = {}
    for member in members:
        # RFC 7517 section 5: keys that are not understood are ignored. A shared key has no place among published ones.
        if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC", "OKP") or member.get("use", "sig") != "sig":
            continue
        algorithms = tuple(name for name in accepted if _fits(name, member))
        try:
            if algorithms:
                keys[str(member.get("kid", ""))] = PublicKey(jwt.PyJWK(member, algorithms[0]).key, algorithms)
        except jwt.PyJWTError:
            continue
    if not keys:
        raise ValueError(f"has no key for {', '.join(accepted)}")
    return keys


_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def _fits(algorithm: Algorithm, member: dict[str, Any]) -> bool:
    if member.get("alg", algorithm) != algorithm:
        return False
    if algorithm.startswith("ES"):
        return member["kty"] == "EC" and member.get("crv") == _CURVES[algorithm]
    return bool(member["kty"] == ("OKP" if algorithm == "EdDSA" else "RSA"))


def fetch_set(url: str) -> bytes:
    """The body at `url`. Raises `httpx.HTTPError`, or `ValueError` where it is too large."""
    import httpx

    body = b""
    with httpx.stream("GET", url, timeout=TIMEOUT_SECONDS, headers={"accept": "application/jwk-set+json, application/json"}) as answer:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > LARGEST_SET_BYTES:
                raise ValueError(f"is larger than {LARGEST_SET_BYTES} bytes")
    return body


def changed_at(path: Path) -> int:
    """When the file was changed, in nanoseconds; -1 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1
