"""Who is calling, and what they may do."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from costwarden.api.problems import Problem
from costwarden.config import AuthSettings, ConfigError, Role, Token, reveal

ALLOWED: dict[str, frozenset[Role]] = {
    "read": frozenset({"viewer", "operator", "admin"}),
    "spend": frozenset({"service", "admin"}),
    "alert": frozenset({"alertmanager"}),
    "operate": frozenset({"operator", "admin"}),
    "administer": frozenset({"admin"}),
}
"""Which roles may do what an endpoint asks for."""

LOCAL_ACTOR = "local"
"""Who acts where no tokens are configured: someone on this machine."""


class Authenticator:
    """Checks bearer tokens. A token's file is read again when it changes, so that a rotation needs neither restart nor reload."""

    def __init__(self, settings: AuthSettings) -> None:
        self.configure(settings)

    def configure(self, settings: AuthSettings) -> None:
        """Use other tokens from the next request on."""
        self._tokens = settings.tokens
        self._known: dict[str, tuple[int, bytes]] = {}

    def authorize(self, permission: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The caller's name, for the audit log. Raises `Problem` 401 or 403.

        Without any token configured everything is allowed (the server is on loopback then) but alerts: what starts a script
        always needs a credential.
        """
        if not self._tokens and permission != "alert":
            return LOCAL_ACTOR
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, credential = given.partition(b" ")
        if scheme.lower() != b"bearer" or not credential:
            detail = "send `Authorization: Bearer TOKEN`"
            if permission == "alert" and not any(token.role == "alertmanager" for token in self._tokens):
                detail = "the webhook needs a token: configure one with the role `alertmanager` under `auth.tokens`"
            raise Problem(401, "unauthenticated", detail, headers=((b"www-authenticate", b"Bearer"),))
        digest = hashlib.sha256(credential.strip()).digest()
        caller: Token | None = None
        for token in self._tokens:
            # Every token is compared, so that the time taken tells nothing about which one was near.
            if hmac.compare_digest(digest, self._digest(token)):
                caller = token
        if caller is None:
            raise Problem(
                401, "unauthenticated", "the bearer token is not known", headers=((b"www-authenticate", b'Bearer error="invalid_token"'),)
            )
        if caller.role not in ALLOWED[permission]:
            needed = " or ".join(f"`{role}`" for role in sorted(ALLOWED[permission]))
            raise Problem(403, "forbidden", f"`{caller.name}` has the role `{caller.role}`; this needs {needed}")
        return caller.name

    def _digest(self, token: Token) -> bytes:
        changed_at = _changed_at(token.secret.file) if token.secret.file else 0
        known = self._known.get(token.name)
        if known is None or known[0] != changed_at:
            try:
                known = (changed_at, hashlib.sha256(reveal(token.secret).encode()).digest())
            except ConfigError:
                # A token whose file is gone lets nobody in; nothing equals a digest of no bytes.
                known = (changed_at, b"")
            self._known[token.name] = known
        return known[1]


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def headers_of(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers of a framework's request as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
