"""Who is calling, and what they may do."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from costwarden.api.callers import Caller, permit, unauthenticated
from costwarden.api.jwks import changed_at
from costwarden.config import AuthSettings, ConfigError, Token, reveal

if TYPE_CHECKING:
    from costwarden.api.jwt_tokens import JwtVerifier

LOCAL = Caller("local", "admin")
"""Who acts where no credentials are configured: someone on this machine."""


class Authenticator:
    """Checks bearer tokens. A token's file is read again when it changes, so that a rotation needs neither restart nor reload.

    `prepare` comes first, and may wait; `authorize` never does. `clock` gives seconds since 1970 UTC.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._jwt: JwtVerifier | None = None
        self.configure(settings)

    def configure(self, settings: AuthSettings) -> None:
        """Use other tokens from the next request on."""
        verifier = None
        if settings.jwt is not None:
            from costwarden.api.jwt_tokens import JwtVerifier

            same = self._jwt is not None and self._jwt.settings == settings.jwt
            verifier = self._jwt if same else JwtVerifier(settings.jwt, self._clock)
        self._open = not settings.configured
        self._has_alertmanager = settings.jwt is not None or any(token.role == "alertmanager" for token in settings.tokens)
        self._tokens = [(token, Caller(token.name, token.role, token.tenant_id)) for token in settings.tokens]
        self._known: dict[str, tuple[int, bytes]] = {}
        self._jwt = verifier

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for credentials, but Alertmanager."""
        return self._open

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has anything to do."""
        return self._jwt is not None

    async def prepare(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Fetch what it takes to check the credentials in `headers`, where that is not at hand."""
        if self._jwt is not None and (credential := _credential(headers)):
            await self._jwt.prepare(credential)

    def authorize(self, permission: str, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller, who has `permission`. Raises `Problem` 401 or 403, and 503 where the identity provider's keys cannot be had.

        Without any credentials configured everything is allowed (the server is on loopback then) but alerts: what starts a script
        always needs a credential.
        """
        if self._open and permission != "alert":
            return LOCAL
        credential = _credential(headers)
        if not credential:
            detail = "send `Authorization: Bearer TOKEN`"
            if permission == "alert" and not self._has_alertmanager:
                detail = "the webhook needs a token: configure one with the role `alertmanager` under `auth.tokens`"
            raise unauthenticated(detail, "Bearer")
        caller = self._bearer(credential)
        if caller is None and self._jwt is not None:
            caller = self._jwt.verify(credential)
        if caller is None:
            raise unauthenticated("the bearer token is not known")
        permit(permission, caller)
        return caller

    def _bearer(self, credential: bytes) -> Caller | None:
        digest = hashlib.sha256(credential).digest()
        found = None
        for token, caller in self._tokens:
            # Every token is compared, so that the time taken tells nothing about which one was near.
            if hmac.compare_digest(digest, self._digest(token)):
                found = caller
        return found

    def _digest(self, token: Token) -> bytes:
        written_at = changed_at(token.secret.file) if token.secret.file else 0
        known = self._known.get(token.name)
        if known is None or known[0] != written_at:
            try:
                known = (written_at, hashlib.sha256(reveal(token.secret).encode()).digest())
            except ConfigError:
                # A token whose file is gone lets nobody in; nothing equals a digest of no bytes.
                known = (written_at, b"")
            self._known[token.name] = known
        return known[1]


def _credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bearer token in `headers`; empty where there is none."""
    given = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, credential = given.partition(b" ")
    return credential.strip() if scheme.lower() == b"bearer" else b""


def headers_of(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers of a framework's request as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
