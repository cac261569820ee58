"""JSON Web Tokens (RFC 7519): who signed them is checked by PyJWT, what they say is held against the settings."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_args

import msgspec

from costwarden.api.callers import Caller, unauthenticated
from costwarden.api.jwks import KeySet, changed_at
from costwarden.api.problems import Problem
from costwarden.api.settings import JwtSettings, Role
from costwarden.config import ConfigError, reveal

ROLES = frozenset(get_args(Role))

LONGEST_TOKEN_BYTES = 8192
"""Headers of requests are hardly ever allowed to be longer."""

MOST_KNOWN_TOKENS = 10_000
"""Tokens whose signature is not checked again: some 3 MB."""

LONGEST_NAME = 256


class _Known(msgspec.Struct, frozen=True):
    caller: Caller
    expires_at: float
    generation: int


class JwtVerifier:
    """Verifies tokens and remembers those that were good, by their hash, until they expire or the keys change.

    `clock` gives seconds since 1970 UTC.
    """

    def __init__(self, settings: JwtSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self._clock = clock
        self._keys = None if settings.shared_key is not None else KeySet(settings)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def prepare(self, credential: bytes) -> None:
        """Have the key at hand that `credential` names, where it can be had."""
        if self._keys is not None and _looks_like_one(credential):
            # What is wrong with the token is told where it is asked for.
            with suppress(Problem):
                await self._keys.prepare(None if self._remembered(_hash(credential)) else _header(credential).get("kid", ""))

    def verify(self, credential: bytes) -> Caller | None:
        """The caller that the token names; None where it is no JSON Web Token at all. Raises `Problem` 401, 403 or 503."""
        if not _looks_like_one(credential):
            return None
        digest = _hash(credential)
        known = self._remembered(digest)
        if known is not None:
            return known.caller
        generation = self._generation()
        claims = self._claims(credential)
        caller = self._caller(claims)
        self._known[digest] = _Known(caller, float(claims["exp"]) + self.settings.leeway_seconds, generation)
        if len(self._known) > MOST_KNOWN_TOKENS:
            self._known.popitem(last=False)
        return caller

    def _remembered(self, digest: bytes) -> _Known | None:
        known = self._known.get(digest)
        return known if known is not None and self._clock() < known.expires_at and known.generation == self._generation() else None

    def _generation(self) -> int:
        if self._keys is not None:
            return self._keys.generation
        file = self.settings.shared_key.file if self.settings.shared_key is not None else None
        return changed_at(file) if file is not None else 0

    def _claims(self, credential: bytes) -> dict[str, Any]:
        import jwt

        key, algorithms = self._key(credential)
        settings = self.settings
        try:
            claims: dict[str, Any] = jwt.decode(
                credential,
                key,
                algorithms=list(algorithms),
                issuer=settings.issuer or None,
                audience=list(settings.audience) or None,
                leeway=settings.leeway_seconds,
                options={"require": ["exp", *(["iss"] if settings.issuer else []), *(["aud"] if settings.audience else [])]},
            )
        except jwt.PyJWTError as error:
            raise unauthenticated(f"the token is refused: {_sentence(error)}") from None
        return claims

    def _key(self, credential: bytes) -> tuple[Any, tuple[str, ...]]:
        if self._keys is None:
            assert self.settings.shared_key is not None
            try:
                return reveal(self.settings.shared_key).encode(), self.settings.accepted
            except ConfigError:
                raise _no_keys("the key that tokens are signed with cannot be read") from None
        kid = _header(credential).get("kid", "")
        found = self._keys.find(kid)
        if found is not None:
            return found.key, found.algorithms
        if not self._keys.has_keys:
            raise _no_keys("the keys of the identity provider are not there yet")
        raise unauthenticated("the token is refused: it is signed with a key that the identity provider does not publish")

    def _caller(self, claims: dict[str, Any]) -> Caller:
        settings = self.settings
        name = claims.get(settings.name_claim)
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise Problem(403, "forbidden", f"the token's claim `{settings.name_claim}` names nobody")
        given = claims.get(settings.role_claim)
        named = [role for role in (given if isinstance(given, list) else [given]) if isinstance(role, str) and role in ROLES]
        if len(named) != 1:
            raise Problem(403, "forbidden", f"the token's claim `{settings.role_claim}` must name exactly one role")
        role: Role = named[0]  # type: ignore[assignment]
        tenant_id = claims.get(settings.tenant_claim)
        if tenant_id is None:
            if settings.tenant_claim in claims:
                # Somebody who has no tenant yet, say, is nobody who acts for all of them.
                detail = f"the token is refused: its claim `{settings.tenant_claim}` is null; it names a tenant, or is left out"
                raise unauthenticated(detail)
            if role not in settings.every_tenant:
                detail = f"the token has no claim `{settings.tenant_claim}`, and the role `{role}` is not in `auth.jwt.every_tenant`"
                raise Problem(403, "forbidden", detail)
            return Caller(name, role)
        if not isinstance(tenant_id, str) or not 0 < len(tenant_id) <= LONGEST_NAME or "\0" in tenant_id:
            raise Problem(403, "forbidden", f"the token's claim `{settings.tenant_claim}` names no tenant")
        return Caller(name, role, tenant_id)


def _looks_like_one(credential: bytes) -> bool:
    return credential.count(b".") == 2 and len(credential) <= LONGEST_TOKEN_BYTES


def _hash(credential: bytes) -> bytes:
    return hashlib.sha256(credential).digest()


def _header(credential: bytes) -> dict[str, Any]:
    import jwt

    try:
        header: dict[str, Any] = jwt.get_unverified_header(credential)
    except jwt.PyJWTError as error:
        raise unauthenticated(f"the token is refused: {_sentence(error)}") from None
    return header


def _no_keys(detail: str) -> Problem:
    return Problem(503, "keys_unavailable", detail, headers=((b"retry-after", b"1"),))


def _sentence(error: Exception) -> str:
    """What is wrong, in words of ours: PyJWT's may repeat what the token says."""
    import jwt

    sentences = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidIssuerError: "it is from another issuer",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.MissingRequiredClaimError: "it lacks a claim that it needs (`exp`, and `iss` and `aud` where they are configured)",
        jwt.InvalidAlgorithmError: "its algorithm is not accepted",
        jwt.InvalidSignatureError: "its signature does not fit",
    }
    return next((sentence for kind, sentence in sentences.items() if isinstance(error, kind)), "it cannot be read")
