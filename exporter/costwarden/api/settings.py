"""The `auth` section of `costwarden.yaml`."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from costwarden.settings import ConfigPath, Secret, Settings

Role = Literal["viewer", "service", "tenant-admin", "alertmanager", "operator", "admin"]

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Of RFC 7518 and RFC 8037; `none` is not among them."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Token(Settings):
    """A bearer token and what its bearer may do."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Who bears it: the actor in the audit log."""
    role: Role
    """`viewer` reads, `service` checks and tracks, `tenant-admin` reads and sets the budgets of its tenant, `alertmanager` delivers alerts,
    `operator` suspends and approves, `admin` does all."""
    tenant_id: str = Field(default="", max_length=256)
    """The only tenant that its bearer sees and acts for; empty is every tenant."""
    secret: Secret
    """Where the token stands: `{file: PATH}` or `{env: NAME}`."""

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if self.role == "tenant-admin" and not self.tenant_id:
            raise ValueError("a `tenant-admin` needs a `tenant_id`: it sets the budgets of that tenant")
        if self.role in ("alertmanager", "admin") and self.tenant_id:
            raise ValueError(f"the role `{self.role}` is for the whole server: it takes no `tenant_id`, as `tenant-admin` does")
        return self


def _trustworthy(url: str) -> str:
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and parts.hostname in LOOPBACK
        usable = (parts.scheme == "https" or plain) and bool(parts.hostname) and not parts.username
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an `https://` URL without a user (`http://` on loopback only): who gives the keys decides who may enter")
    return url


class JwtSettings(Settings):
    """JSON Web Tokens of an identity provider. Name one origin of keys: `shared_key`, `jwks_url` or `jwks_file`."""

    shared_key: Secret | None = None
    """Key that the provider and costwarden share, for `HS256` and its kind: at least 32 bytes."""
    jwks_url: Annotated[str, AfterValidator(_trustworthy)] | None = None
    """Where the provider publishes its public keys (JSON Web Key Set). They are fetched at the first token and kept."""
    jwks_file: ConfigPath | None = None
    """File with a JSON Web Key Set; read again when it changes."""
    algorithms: tuple[Algorithm, ...] = ()
    """Signatures that are accepted; default is `HS256` with a shared key, `RS256` and `ES256` with public keys."""
    issuer: str = ""
    """What the claim `iss` must be; empty takes any."""
    audience: tuple[str, ...] = ()
    """The claim `aud` must name one of these; empty takes only tokens without `aud`."""
    role_claim: str = Field(default="role", min_length=1)
    """Claim that holds the role, or a list of which exactly one is a role."""
    tenant_claim: str = Field(default="tenant_id", min_length=1)
    """Claim that holds the tenant."""
    name_claim: str = Field(default="sub", min_length=1)
    """Claim that holds who it is: the actor in the audit log."""
    every_tenant: tuple[Role, ...] = ("alertmanager", "operator", "admin")
    """Roles whose tokens may lack the tenant claim, and then act for every tenant; of the others, such a token is refused."""
    leeway_seconds: int = Field(default=30, ge=0, le=600)
    """How far the clocks of the provider and of this machine may differ."""
    jwks_max_age_seconds: int = Field(default=3600, ge=60)
    """Keys older than this are fetched again, while the old ones go on being used."""
    jwks_refresh_seconds: int = Field(default=30, ge=1)
    """Least time between two fetches, whatever tokens come."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if [self.shared_key, self.jwks_url, self.jwks_file].count(None) != 2:
            raise ValueError("name exactly one origin of keys: `shared_key`, `jwks_url` or `jwks_file`")
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        for algorithm in self.algorithms:
            if algorithm.startswith("HS") != (self.shared_key is not None):
                # A public key that is taken for a shared one lets everybody sign.
                raise ValueError(f"`{algorithm}` does not go with this origin: a shared key signs with `HS…`, public keys with all others")
        if "tenant-admin" in self.every_tenant:
            raise ValueError("`every_tenant`: a `tenant-admin` is that of one tenant")
        return self

    @property
    def accepted(self) -> tuple[Algorithm, ...]:
        """The algorithms in force."""
        return self.algorithms or (("HS256",) if self.shared_key is not None else ("RS256", "ES256"))

    @property
    def least_key_bytes(self) -> int:
        """As long as the hash, RFC 7518 section 3.2."""
        return max(int(re.sub(r"\D", "", algorithm)) // 8 for algorithm in self.accepted)


class AuthSettings(Settings):
    """Who may do what. With neither tokens nor `jwt` everything but the webhook is open, and the server listens on loopback only."""

    tokens: tuple[Token, ...] = ()
    """Bearer tokens."""
    jwt: JwtSettings | None = None
    """Tokens that an identity provider signs; `null` takes none."""

    @property
    def configured(self) -> bool:
        """Whether anybody is asked for credentials."""
        return bool(self.tokens) or self.jwt is not None
