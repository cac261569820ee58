"""`costwarden.yaml`: every section, the rules between them, and how it is read.

The keys of a section stand beside the code that they configure; here they become one file. This is the only module that reads the
environment.
"""

import difflib
import os
import re
from collections.abc import Mapping
from operator import attrgetter
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

SQLITE = "sqlite:///"

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
    def _in_a_file(cls, url: str) -> str:
        if url.removeprefix(SQLITE) in {url, "", ":memory:"}:
            raise ValueError("must be `sqlite:///PATH`: this version keeps its ledger in a file")
        return url

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
        raise ConfigError(f"{path}: {_one_line(error, text)}") from None
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: must be a mapping of sections, not {type(data).__name__}")
    # Not resolved: Kubernetes mounts the file as a link into a folder that has another name after every change.
    directory = path.absolute().parent
    try:
        config = Config.model_validate(data or {}, context={"directory": directory})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {sentence}" for sentence in _sentences(error))) from None
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


FIXED_WHILE_RUNNING = ("server", "logs", "database_url", "time_zone", "remediation.concurrency")
"""What a reload cannot change: it decides where the server listens, what the figures in memory mean, how many threads there are."""


def check_reload(old: Config, new: Config) -> None:
    """Raises `ConfigError` where `new` changes what needs a restart."""
    changed = [name for name in FIXED_WHILE_RUNNING if attrgetter(name)(old) != attrgetter(name)(new)]
    if changed:
        raise ConfigError(f"{', '.join(f'`{name}`' for name in changed)}: changed; this needs a restart")


_BOOL = "tag:yaml.org,2002:bool"


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys: the second of two limits must not win in silence."""

    # YAML 1.1 also reads off, on, no and yes as booleans: `mode: off` would be False, which is no mode.
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key `{key.value}` stands twice", key.start_mark)
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        # PyYAML lets these through: 2025-02-30 looks like a date and is none.
        except ValueError:
            raise yaml.constructor.ConstructorError(None, None, "looks like a date or a number and is none", node.start_mark) from None


_StrictLoader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))

# A secret may begin with `*` or `!`, and then it is an alias or a tag to YAML.
_GIVEN_NAME = re.compile(r"(alias|anchor|handle|tag) (['\"]).*\2")


def _one_line(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        lines = text[: error.position].split("\n")
        line, column, problem = len(lines), len(lines[-1]) + 1, f"the character {error.character:#x} is not allowed"
    elif isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        problem = _GIVEN_NAME.sub(r"\1", ", ".join(part for part in (error.context, error.problem) if part))
    else:
        return " ".join(str(error).split())
    return f"line {line}, column {column}: {problem}"


# A URL may carry a password; `assumed_input_tokens` are no secret.
_SECRET_KEY = re.compile(r"secret|token(?!s$)|password|key|credential|url", re.IGNORECASE)

_MESSAGES = {
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}
"""Instead of pydantic's, which speak of Python."""


def _sentences(error: ValidationError) -> list[str]:
    items: list[Any] = [dict(item, loc=tuple(part for part in item["loc"] if part != "[key]")) for item in error.errors(include_url=False)]
    # Of a list whose entries are wrong pydantic also says that it is too short.
    wrong_inside = {item["loc"][:length] for item in items for length in range(len(item["loc"]))}
    return [_sentence(item) for item in items if item["type"] != "too_short" or item["loc"] not in wrong_inside]


def _sentence(item: Any) -> str:
    location: tuple[int | str, ...] = item["loc"]
    key = _dotted(location)
    is_secret = location[:1] == ("auth",) or any(isinstance(part, str) and _SECRET_KEY.search(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = _keys_at(Config, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f", did you mean `{near[0]}`?" if near else f"; known here: {', '.join(f'`{name}`' for name in known)}"
        # `secret: {hunter2}` is a mapping with the secret for a key.
        return f"`{_dotted(location[:-1])}`: unknown key{hint}" if is_secret and not near else f"unknown key `{key}`{hint}"
    if item["type"] == "missing":
        return f"`{key}`: is missing"
    message = _MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ")
    if not location:
        return str(message)
    if is_secret or isinstance(item["input"], dict | list):
        return f"`{key}`: {_lower(message)}"
    return f"`{key}`: {item['input']!r}: {_lower(message)}"


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
    # An absolute path replaces the directory that it is put after.
    return f"{SQLITE}{directory / url.removeprefix(SQLITE)}"
