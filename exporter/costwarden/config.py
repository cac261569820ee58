"""`costwarden.yaml`: every section, the rules between them, and how it is read.

The keys of a section stand beside the code that they configure; here they become one file. This is the only module that reads the
environment.
"""

import difflib
import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from costwarden.budgets.settings import BudgetsSettings
from costwarden.metrics.settings import AlertLimits, CloudBudgets, MetricsSettings
from costwarden.pricing.settings import PricingSettings
from costwarden.remediation.settings import RemediationSettings
from costwarden.settings import Secret, Settings
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings

Role = Literal["viewer", "service", "alertmanager", "operator", "admin"]

ENVIRONMENT: Mapping[str, str] = os.environ
"""The environment, for what is told by the configuration to pass parts of it on."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConfigError(Exception):
    """The configuration is not usable; the message has a line for each mistake: file, key, value, rule."""


class ServerSettings(Settings):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `auth.tokens`."""
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


class Token(Settings):
    """A bearer token and what its bearer may do."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Who bears it: the actor in the audit log."""
    role: Role
    """`viewer` reads, `service` checks and tracks, `alertmanager` delivers alerts, `operator` suspends and approves, `admin` does all."""
    secret: Secret
    """Where the token stands: `{file: PATH}` or `{env: NAME}`."""


class AuthSettings(Settings):
    """Who may do what. Without tokens everything but the webhook is open, and the server listens on loopback only."""

    tokens: tuple[Token, ...] = ()
    """Bearer tokens."""


class Config(Settings):
    """The whole file."""

    server: ServerSettings = ServerSettings()
    logs: LogSettings = LogSettings()
    database_url: str = "sqlite:///costwarden.db"
    """Where the ledger is kept: `sqlite:///PATH`; a relative path is meant from the directory of this file."""
    time_zone: str = "UTC"
    """Zone whose midnight begins a budget's day, week and month, as `Europe/Berlin`."""
    auth: AuthSettings = AuthSettings()
    sources: tuple[SourceSettings, ...] = ()
    """Where cost comes from."""
    attribution: AttributionSettings = AttributionSettings()
    exchange_rates: ExchangeRates = ExchangeRates()
    pricing: PricingSettings = PricingSettings()
    budgets: BudgetsSettings = BudgetsSettings()
    cloud_budgets: CloudBudgets = ()
    """Monthly limits on parts of the bills."""
    metrics: MetricsSettings = MetricsSettings()
    alert_limits: AlertLimits = AlertLimits()
    remediation: RemediationSettings = RemediationSettings()

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if not url.removeprefix("sqlite:///") or not url.startswith("sqlite:///") or url.endswith("/:memory:"):
            raise ValueError("must be `sqlite:///PATH`: this version keeps its ledger in a file")
        return url

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("is not a time zone of the IANA database, as `Europe/Berlin`") from None
        return name

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.server.host not in LOOPBACK and not self.auth.tokens:
            raise ValueError(f"`server.host` {self.server.host!r} is open to others: set `auth.tokens`, or listen on 127.0.0.1")
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


def load_config(path: Path) -> Config:
    """Read and check `path`. Raises `ConfigError` with a line for each mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: must be a mapping of sections, not {type(data).__name__}")
    directory = path.resolve().parent
    try:
        config = Config.model_validate(data or {}, context={"directory": directory})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_sentence(item)}" for item in error.errors(include_url=False))) from None
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


def check_secrets(config: Config, environ: Mapping[str, str] = ENVIRONMENT) -> None:
    """Raises `ConfigError` with a line for each secret that cannot be read."""
    mistakes = []
    for token in config.auth.tokens:
        try:
            reveal(token.secret, environ)
        except ConfigError as error:
            mistakes.append(f"auth.tokens `{token.name}`: {error}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


FIXED_WHILE_RUNNING = ("server", "logs", "database_url", "time_zone")
"""Sections that a reload cannot change: they decide where the server listens and what the figures in memory mean."""


def check_reload(old: Config, new: Config) -> None:
    """Raises `ConfigError` where `new` changes what needs a restart."""
    changed = [name for name in FIXED_WHILE_RUNNING if getattr(old, name) != getattr(new, name)]
    if changed:
        raise ConfigError(f"{', '.join(f'`{name}`' for name in changed)}: changed; this needs a restart")


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys: the second of two limits must not win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word, not a list or a mapping", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key `{key}` stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            # What looks like a date and is none, as 2025-02-30.
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    # A password that begins with `!` or `*` is taken for a tag or an alias, and PyYAML would quote it.
    problem = re.sub(r"'[^'<][^']+'", "…", getattr(error, "problem", None) or str(error))
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


_SECRET_KEY = re.compile(r"secret|token|password|key|credential|auth|database_url", re.IGNORECASE)
"""Where these words stand in a key, its value is not repeated in a message."""


def _sentence(item: Any) -> str:
    location: tuple[int | str, ...] = item["loc"]
    key = _dotted(location)
    if item["type"] == "extra_forbidden":
        known = _keys_at(Config, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f", did you mean `{near[0]}`?" if near else f"; known here: {', '.join(f'`{name}`' for name in known)}"
        return f"unknown key `{key}`{hint}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"`{key}`: is missing"
    if not location:
        return str(message)
    value = item["input"]
    if any(isinstance(part, str) and _SECRET_KEY.search(part) for part in location) or isinstance(value, dict | list):
        return f"`{key}`: {_lower(message)}"
    return f"`{key}`: {value!r}: {_lower(message)}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at `location`: walks the models as pydantic did, through lists, options and tagged unions."""
    models = [model]
    for part in location:
        fields = [found.model_fields[part].annotation for found in models if part in found.model_fields] if isinstance(part, str) else []
        if fields:
            models = [inner for annotation in fields for inner in _models_in(annotation)]
    return sorted({name for found in models for name in found.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is not None or isinstance(annotation, UnionType):
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return []


def _absolute_url(url: str, directory: Path) -> str:
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(prefix + "/"):
        return f"{prefix}{directory / url.removeprefix(prefix)}"
    return url
