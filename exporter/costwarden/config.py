"""`costwarden.yaml`: every section, the rules between them, and how it is read.

The keys of a section stand beside the code that they configure; here they become one file. This is the only module that reads the
environment.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator, model_validator

from costwarden.api.settings import LOOPBACK, AuthSettings, Role, Token
from costwarden.budgets.settings import BudgetsSettings, Guardrail
from costwarden.metering.settings import OtlpSettings
from costwarden.metrics.settings import AlertLimits, CloudBudgets, MetricsSettings
from costwarden.notifier.settings import NotifierSettings, url_mistake
from costwarden.presets import PRESETS, with_preset
from costwarden.pricing.settings import PricingSettings
from costwarden.reconciliation.settings import ReconciliationSettings
from costwarden.remediation.settings import RemediationSettings
from costwarden.settings import Secret, Settings
from costwarden.sinks.settings import CloudwatchSettings
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings
from costwarden.strict_yaml import YamlError, read_yaml, sentences

__all__ = [
    "AuthSettings",
    "Config",
    "ConfigError",
    "Role",
    "Token",
    "check_reload",
    "check_secrets",
    "load_config",
    "reveal",
    "source_secret_mistakes",
]

ENVIRONMENT: Mapping[str, str] = os.environ
"""The environment, for what is told by the configuration to pass parts of it on."""

SQLITE = "sqlite:///"
POSTGRESQL = "postgresql://"


class ConfigError(Exception):
    """The configuration is not usable; the message has a line for each mistake: file, key, value, rule."""


class ServerSettings(Settings):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `auth.tokens` or `auth.jwt`."""
    port: int = Field(default=3010, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    """Largest request body in bytes; a larger one is answered with 413."""


class LogSettings(Settings):
    """What the log looks like."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe entry that is written."""
    format: Literal["text", "json"] = "text"
    """`text` for people, `json` (an object a line) for machines."""
    access: bool = False
    """Whether each request is logged, with its id, method, path, status and seconds."""


class Config(Settings):
    """The whole file."""

    preset: str = ""
    """Environment whose defaults hold for what this file leaves out: `development`, `production`, `high-performance` or `cost-optimized`;
    empty for those that stand here."""
    server: ServerSettings = ServerSettings()
    logs: LogSettings = LogSettings()
    database_url: str = "sqlite:///costwarden.db"
    """Where the ledger is kept: `sqlite:///PATH`, a relative path meant from the directory of this file, or, for several replicas,
    `postgresql://USER@HOST:PORT/DATABASE`."""
    database_password: Secret | None = None
    """Password of the user of PostgreSQL, kept out of `database_url`."""
    time_zone: str = "UTC"
    """Zone whose midnight begins a budget's day, week and month, as `Europe/Berlin`."""
    auth: AuthSettings = AuthSettings()
    sources: tuple[SourceSettings, ...] = ()
    """Where cost comes from."""
    attribution: AttributionSettings = AttributionSettings()
    exchange_rates: ExchangeRates = ExchangeRates()
    pricing: PricingSettings = PricingSettings()
    budgets: BudgetsSettings = BudgetsSettings()
    guardrails: tuple[Guardrail, ...] = ()
    """What costwarden does when AI spend in a window reaches a threshold."""
    otlp: OtlpSettings = OtlpSettings()
    reconciliation: ReconciliationSettings = ReconciliationSettings()
    cloudwatch: CloudwatchSettings | None = None
    """AI cost as a metric of CloudWatch; `null` sends nothing."""
    cloud_budgets: CloudBudgets = ()
    """Monthly limits on parts of the bills."""
    metrics: MetricsSettings = MetricsSettings()
    alert_limits: AlertLimits = AlertLimits()
    remediation: RemediationSettings = RemediationSettings()
    notifier: NotifierSettings = NotifierSettings()

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, name: str) -> str:
        if name and name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, n=1)
            hint = f", did you mean `{near[0]}`?" if near else f"; known are {', '.join(f'`{known}`' for known in PRESETS)}"
            raise ValueError(f"is no preset{hint}")
        return name

    @field_validator("database_url")
    @classmethod
    def _where_a_ledger_can_be(cls, url: str) -> str:
        if url.startswith(POSTGRESQL):
            try:
                parts = urlsplit(url)
                named = bool(parts.path.strip("/")) and (parts.port is None or parts.port > 0)
            except ValueError:
                parts, named = urlsplit(""), False
            if not named:
                raise ValueError("must name a database, as `postgresql://USER@HOST:PORT/DATABASE`")
            # Where nobody looks for a password, nobody leaves it out.
            if any("@" in rest for rest in (parts.path, parts.query, parts.fragment)):
                raise ValueError("has an `@` after the address: write those of a password as `%40` and its `/` as `%2F`")
            if any("password" in key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
                raise ValueError("must have no password among its options: use `database_password`")
        elif url.removeprefix(SQLITE) in {url, "", ":memory:"}:
            raise ValueError("must be `sqlite:///PATH` or `postgresql://USER@HOST:PORT/DATABASE`")
        return url

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.database_password is not None:
            if not self.database_url.startswith(POSTGRESQL):
                raise ValueError("`database_password` is for PostgreSQL; a ledger in a file has none")
            parts = urlsplit(self.database_url)
            if parts.password is not None:
                raise ValueError("`database_url` has a password already: leave it out there, or leave out `database_password`")
            if not parts.username:
                raise ValueError("`database_password` needs a user in `database_url`, as `postgresql://USER@HOST:PORT/DATABASE`")
        return self

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        # OSError: `Europe` is a folder of the database.
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is not a time zone of the IANA database, as `Europe/Berlin`") from None
        return name

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.server.host not in LOOPBACK and not self.auth.configured:
            raise ValueError(
                f"`server.host` {self.server.host!r} is open to others: set `auth.tokens` or `auth.jwt`, or listen on 127.0.0.1"
            )
        names = [token.name for token in self.auth.tokens]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`auth.tokens`: the name `{name}` is given twice")
        return self

    @model_validator(mode="after")
    def _distinct_sources(self) -> Self:
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`sources`: the name `{name}` is given twice")
        return self

    @model_validator(mode="after")
    def _known_actions(self) -> Self:
        playbooks = {playbook.name for playbook in self.remediation.playbooks}
        for section, budgets in (("budgets.configured", self.budgets.configured), ("cloud_budgets", self.cloud_budgets)):
            for budget in budgets:
                if budget.action and budget.action not in playbooks:
                    raise ValueError(f"`{section}`: the budget `{budget.name}` names the action `{budget.action}`, which is no playbook")
        for guardrail in self.guardrails:
            for action in guardrail.playbooks:
                if action not in playbooks:
                    raise ValueError(f"`guardrails`: `{guardrail.name}` names the action `{action}`, which is no playbook")
        return self

    @model_validator(mode="after")
    def _distinct_guardrails(self) -> Self:
        names = [guardrail.name for guardrail in self.guardrails]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`guardrails`: the name `{name}` is given twice")
        for budget in self.budgets.configured:
            if budget.name.startswith("guardrail:"):
                raise ValueError(f"`budgets.configured`: `{budget.name}`: names that begin with `guardrail:` belong to guardrails")
        return self

    @model_validator(mode="after")
    def _known_fresh_sources(self) -> Self:
        sources = {source.name for source in self.sources}
        for playbook in self.remediation.playbooks:
            for name in playbook.fresh_sources:
                if name not in sources:
                    raise ValueError(f"`remediation.playbooks`: `{playbook.name}` rests on the source `{name}`, which is not configured")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of budgets."""
        return ZoneInfo(self.time_zone)

    @property
    def enforced_budgets(self) -> BudgetsSettings:
        """The section `budgets`, with those that guardrails block requests by among the configured ones: what the engine enforces."""
        blocking = tuple(guardrail.budget() for guardrail in self.guardrails if "block_requests" in guardrail.actions)
        return self.budgets.model_copy(update={"configured": (*self.budgets.configured, *blocking)})

    def ledger_url(self, environ: Mapping[str, str] = ENVIRONMENT) -> str:
        """`database_url` with its password: never to be printed. Raises `ConfigError` where the password cannot be read."""
        if self.database_password is None:
            return self.database_url
        try:
            password = reveal(self.database_password, environ)
        except ConfigError as error:
            raise ConfigError(f"database_password: {error}") from None
        user, at, rest = self.database_url.removeprefix(POSTGRESQL).partition("@")
        return f"{POSTGRESQL}{user}:{quote(password, safe='')}{at}{rest}"


def load_config(path: Path) -> Config:
    """Read and check `path`. Raises `ConfigError` with a line for each mistake."""
    try:
        data, _ = read_yaml(path)
    except YamlError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: must be a mapping of sections, not {type(data).__name__}")
    # Not resolved: Kubernetes mounts the file as a link into a folder that has another name after every change.
    directory = path.absolute().parent
    try:
        config = Config.model_validate(with_preset(data or {}), context={"directory": directory})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {sentence}" for sentence in sentences(error, Config))) from None
    return config.model_copy(update={"database_url": _absolute_url(config.database_url, directory)})


def reveal(secret: Secret, environ: Mapping[str, str] = ENVIRONMENT) -> str:
    """The secret itself. Raises `ConfigError` where its file or variable is missing or empty."""
    if secret.file is not None:
        try:
            text = secret.file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"secret file {secret.file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"secret file {secret.file}: is not UTF-8 text") from None
        origin = f"secret file {secret.file}"
    else:
        text = environ.get(secret.env or "", "").strip()
        origin = f"environment variable {secret.env}"
    if not text:
        raise ConfigError(f"{origin}: is missing or empty")
    return text


def _jwt_mistakes(auth: AuthSettings, environ: Mapping[str, str]) -> list[str]:
    if auth.jwt is None:
        return []
    if find_spec("jwt") is None:
        return ["auth.jwt: JSON Web Tokens need a library: `pip install 'costwarden[jwt]'`"]
    if auth.jwt.shared_key is None:
        return []
    try:
        length = len(reveal(auth.jwt.shared_key, environ).encode())
    except ConfigError as error:
        return [f"auth.jwt: {error}"]
    least = auth.jwt.least_key_bytes
    return [f"auth.jwt: the shared key is shorter than {least} bytes, and could be guessed (RFC 7518, 3.2)"] if length < least else []


def receiver_mistakes(config: Config, environ: Mapping[str, str] = ENVIRONMENT) -> list[str]:
    """A line for each receiver of the notifier whose URL cannot be read or used. No reason not to start: budgets are checked without
    it, and each notification for that receiver fails, and says why. A reload is refused, for what is in force is better."""
    mistakes = []
    for receiver in config.notifier.receivers:
        try:
            mistake = url_mistake(reveal(receiver.url, environ))
        except ConfigError as error:
            mistake = str(error)
        if mistake:
            mistakes.append(f"notifier.receivers `{receiver.name}`: url: {mistake}")
    return mistakes


def check_secrets(config: Config, environ: Mapping[str, str] = ENVIRONMENT) -> None:
    """Raises `ConfigError` with a line for each secret that cannot be read, or cannot be used."""
    secrets = [(f"auth.tokens `{token.name}`", token.secret) for token in config.auth.tokens]
    secrets += [("database_password", config.database_password)] if config.database_password else []
    cache = config.budgets.status_cache
    secrets += [("budgets.status_cache.redis_password", cache.redis_password)] if cache.redis_password else []
    mistakes = []
    for where, secret in secrets:
        try:
            reveal(secret, environ)
        except ConfigError as error:
            mistakes.append(f"{where}: {error}")
    mistakes += _jwt_mistakes(config.auth, environ)
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def source_secret_mistakes(config: Config, environ: Mapping[str, str] = ENVIRONMENT) -> list[str]:
    """A line for each secret of a source that cannot be read. No reason not to start: the source fails alone, and says so."""
    mistakes = []
    for source in config.sources:
        for where, secret in _secrets_in(source, f"sources `{source.name}`"):
            try:
                reveal(secret, environ)
            except ConfigError as error:
                mistakes.append(f"{where}: {error}")
    return mistakes


def _secrets_in(settings: Settings, where: str) -> Iterator[tuple[str, Secret]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Secret):
                yield f"{where}.{name}", item
            elif isinstance(item, Settings):
                yield from _secrets_in(item, f"{where}.{name}")


FIXED_WHILE_RUNNING = (
    "server",
    "logs",
    "database_url",
    "database_password",
    "time_zone",
    "budgets.status_cache",
    "remediation.concurrency",
)
"""What a reload cannot change: it decides where the server listens, what the figures in memory mean, how many threads there are."""


def check_reload(old: Config, new: Config) -> None:
    """Raises `ConfigError` where `new` changes what needs a restart."""
    changed = [name for name in FIXED_WHILE_RUNNING if attrgetter(name)(old) != attrgetter(name)(new)]
    if changed:
        raise ConfigError(f"{', '.join(f'`{name}`' for name in changed)}: changed; this needs a restart")


def _absolute_url(url: str, directory: Path) -> str:
    if not url.startswith(SQLITE):
        return url
    # An absolute path replaces the directory that it is put after.
    return f"{SQLITE}{directory / url.removeprefix(SQLITE)}"
