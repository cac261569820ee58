"""The `budgets` section of `costwarden.yaml`."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator, model_validator

from costwarden.settings import Secret, Settings, Usd

PeriodKind = Literal["hour", "day", "week", "month", "total"]

CUSTOM_TIER = "custom"
"""The tier of a budget whose amount is its own; no tier of the configuration can have this name."""

BudgetName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:=@/-]*$")]

GUARDRAIL_PREFIX = "guardrail:"
"""How the names of those budgets begin that guardrails make; no other budget's may."""

TierName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[a-z0-9][a-z0-9_-]*$")]


def _plain(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a share is a number (1 is 100 %)")
    return repr(value) if isinstance(value, float) else value


def _ratio(value: Decimal) -> Decimal:
    if not value.is_finite() or not 0 < value <= 10:
        raise ValueError("must be above 0 and at most 10 (1 is 100 %)")
    return value


Ratio = Annotated[Decimal, BeforeValidator(_plain), AfterValidator(_ratio)]


class Scope(Settings):
    """What a budget is for. A dimension that is not named matches anything; a scope that names none is the global one."""

    tenant_id: str = ""
    provider: str = ""
    model: str = ""
    operation: str = ""
    report_type: str = ""
    feature: str = ""
    team: str = ""
    user_id: str = ""
    service: str = ""

    @field_validator("*")
    @classmethod
    def _without_nul(cls, name: str) -> str:
        # SQLite's JSON functions end a text there: the ledger would take the name for a shorter one.
        if "\0" in name:
            raise ValueError("a name cannot hold the character U+0000")
        return name

    @model_validator(mode="after")
    def _no_empty_names(self) -> Self:
        # A tenant whose name got lost must not become everybody. What writes out all dimensions, as dumps and examples do, means it.
        for name in sorted(self.model_fields_set):
            if self.model_fields_set != set(type(self).model_fields) and not getattr(self, name):
                raise ValueError(f"`{name}` is empty: give its name, or leave it out, which matches anything")
        return self


class ConfiguredBudget(Settings):
    """A budget that is part of the configuration: it cannot be changed through the API."""

    name: BudgetName
    """Name of the budget: the `budget` label of its series and alerts."""
    scope: Scope = Scope()
    """What it is for; every usage event that matches counts against it."""
    period: PeriodKind = "month"
    """`hour`, `day`, `week` (from Monday), `month` (calendar, in `time_zone`) or `total`."""
    limit_usd: Usd | None = None
    """Hard limit in dollars a period. Required, unless `tier` is given."""
    tier: str = ""
    """Tier that the limit follows, instead of `limit_usd`; for the period `month` only."""
    soft_limit_ratio: Ratio | None = None
    """Share of the limit above which answers carry `X-AI-Budget-Warning`; default is that of the section."""
    action: str = ""
    """Playbook that an alert on this budget names; empty names none."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.limit_usd is None) == (self.tier in ("", CUSTOM_TIER)):
            raise ValueError("give either `limit_usd` or the name of a `tier`")
        if self.tier not in ("", CUSTOM_TIER) and self.period != "month":
            raise ValueError(f"a tier is a limit a month, and the period is `{self.period}`: give `limit_usd`")
        return self


class DefaultBudget(Settings):
    """What a tenant gets that nobody has given a budget."""

    model: str = "claude-3-5-sonnet-20241022"
    """The model that it is for; `*` covers every model."""
    monthly_limit_usd: Usd = Decimal(1000)
    """Its hard limit in dollars a calendar month."""
    tier: str = ""
    """Tier that the limit follows, instead of `monthly_limit_usd`."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.tier and "monthly_limit_usd" in self.model_fields_set:
            raise ValueError("give either `monthly_limit_usd` or `tier`")
        return self


class StatusCacheSettings(Settings):
    """How long the answers of `GET /api/ai-budget/tenant/{id}` are kept. Every change of a tenant's figures drops what is kept of it."""

    seconds: int = Field(default=60, ge=0, le=3600)
    """Most seconds that an answer is given again; 0 keeps none."""
    redis_url: str | None = None
    """`redis://HOST:PORT/DB`, or `rediss://` for TLS, of a Redis 6 or newer that all replicas share. Without it answers are kept in memory,
    and on PostgreSQL, where one replica does not see what another changes, not at all."""
    redis_password: Secret | None = None
    """Password of Redis."""
    redis_prefix: str = Field(default="costwarden", min_length=1, max_length=100, pattern=r"^[A-Za-z0-9:_-]+$")
    """How its keys begin. Two ledgers that share a Redis need two prefixes."""

    @field_validator("redis_url")
    @classmethod
    def _of_redis(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("redis://", "rediss://")):
            raise ValueError("must be `redis://HOST:PORT/DB` or `rediss://HOST:PORT/DB`")
        return url

    @model_validator(mode="after")
    def _with_redis(self) -> Self:
        if self.redis_password is not None and self.redis_url is None:
            raise ValueError("`redis_password` needs `redis_url`")
        return self


GuardrailMetric = Literal["hourly_cost", "daily_cost", "weekly_cost", "monthly_cost"]

ENFORCED_ACTIONS = ("block_requests", "emergency_stop")
"""Actions of a guardrail that costwarden does itself."""

ALERT_ACTIONS = ("alert", "notify")
"""Actions of a guardrail that are Alertmanager's: its alert says no playbook."""


class Guardrail(Settings):
    """A threshold on what AI calls cost in a window, and what happens when it is reached."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the guardrail: the `guardrail` label of its series."""
    metric: GuardrailMetric
    """`hourly_cost`, `daily_cost`, `weekly_cost` (from Monday) or `monthly_cost`: what was spent since the window began."""
    trailing: bool = False
    """`false`: the window is the calendar hour, day, week or month of `time_zone`. `true`: it is the last 60 minutes, 24 hours, 7 or 30
    days."""
    scope: Scope = Scope()
    """Whose cost it is; a scope that names nothing is everybody's."""
    threshold_usd: Usd
    """Dollars in the window from which it is breached."""
    severity: Literal["warning", "high", "critical", "emergency"] = "warning"
    """How bad a breach is: the `severity` label of its series."""
    actions: tuple[str, ...] = Field(default=("alert",), min_length=1)
    """`alert` and `notify` leave it to Alertmanager; `block_requests` refuses what would pass the threshold; `emergency_stop` refuses every
    check until it is lifted; any other is the name of a playbook (`throttle`, `scale_down`, `pause`, …)."""
    cool_down_minutes: int = Field(default=60, ge=0, le=525_600)
    """Minutes after a breach in which this guardrail does not act again."""

    @field_validator("threshold_usd")
    @classmethod
    def _above_nothing(cls, value: Decimal) -> Decimal:
        if value == 0:
            raise ValueError("must be above 0: a guardrail at nothing is always breached")
        return value

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.trailing and "block_requests" in self.actions:
            raise ValueError("`block_requests` is a budget, and a budget's period is a calendar one: leave `trailing` out")
        return self

    @property
    def period(self) -> PeriodKind:
        """The calendar period of the window."""
        return _GUARDRAIL_PERIODS[self.metric]

    @property
    def playbooks(self) -> tuple[str, ...]:
        """The actions that are playbooks, each once."""
        return tuple(dict.fromkeys(name for name in self.actions if name not in (*ENFORCED_ACTIONS, *ALERT_ACTIONS)))

    def budget(self) -> ConfiguredBudget:
        """What `block_requests` comes to: a budget, so that the engine holds the cap."""
        return ConfiguredBudget(name=f"{GUARDRAIL_PREFIX}{self.name}", scope=self.scope, period=self.period, limit_usd=self.threshold_usd)


_GUARDRAIL_PERIODS: dict[str, PeriodKind] = {"hourly_cost": "hour", "daily_cost": "day", "weekly_cost": "week", "monthly_cost": "month"}


class BudgetsSettings(Settings):
    """How budgets behave, and the ones that are configuration."""

    default: DefaultBudget | None = DefaultBudget()
    """Budget of a new tenant, made at its first check; `null` makes none."""
    unbudgeted: Literal["deny", "allow"] = "deny"
    """What a check gets that no budget matches."""
    soft_limit_ratio: Ratio = Decimal("0.8")
    """Share of a limit above which answers carry `X-AI-Budget-Warning: true`."""
    thresholds: tuple[Ratio, ...] = tuple(Decimal(ratio) for ratio in ("0.5", "0.75", "0.8", "0.9", "1"))
    """Shares of a limit that are recorded when spend first reaches them, once a period."""
    reservation_seconds: int = Field(default=600, ge=1, le=86_400)
    """Seconds until a reservation that nobody settled becomes unsettled; it counts against its budgets all the same."""
    assumed_input_tokens: int = Field(default=1_000, ge=0)
    """Input tokens of a call whose check names none, until enough calls like it are recorded."""
    assumed_output_tokens: int = Field(default=1_000, ge=0)
    """Output tokens of a call whose check names none, until enough calls like it are recorded."""
    estimate_percentile: int = Field(default=95, ge=50, le=100)
    """Percent of a tenant's newest 512 calls of a model and operation that are at most as large as one is taken for that names no size.
    """
    estimate_minimum_calls: int = Field(default=20, ge=1, le=512)
    """Calls of a model and operation that must be recorded of a tenant before they say how large its next one is."""
    tiers: dict[TierName, Usd] = {
        "starter": Decimal(500),
        "professional": Decimal(2000),
        "enterprise": Decimal(10_000),
    }
    """Tier -> its limit in dollars a calendar month. A budget that was given a tier follows it when the amount changes here. What
    stands here replaces all three; `custom` is the name of having no tier."""
    configured: tuple[ConfiguredBudget, ...] = ()
    """Budgets that are configuration, of any scope and period."""
    status_cache: StatusCacheSettings = StatusCacheSettings()

    @property
    def default_limit_usd(self) -> Decimal:
        """The hard limit of a new tenant's budget, in dollars a month; 0 where `default` makes none."""
        if self.default is None:
            return Decimal(0)
        return self.tiers[self.default.tier] if self.default.tier else self.default.monthly_limit_usd

    def limit_usd_of(self, configured: ConfiguredBudget) -> Decimal:
        """The hard limit of a configured budget, in dollars a period."""
        return self.tiers[configured.tier] if configured.limit_usd is None else configured.limit_usd

    @model_validator(mode="after")
    def _known_tiers(self) -> Self:
        if CUSTOM_TIER in self.tiers:
            raise ValueError(f"`tiers`: `{CUSTOM_TIER}` is the name of having no tier; choose another")
        named = [("default", self.default.tier)] if self.default is not None else []
        named += [(f"configured: the budget `{budget.name}`", budget.tier) for budget in self.configured if budget.tier != CUSTOM_TIER]
        for where, tier in named:
            if tier and tier not in self.tiers:
                raise ValueError(f"{where} names the tier `{tier}`; known are {', '.join(f'`{name}`' for name in self.tiers)}")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [budget.name for budget in self.configured]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the budget name `{name}` is given twice")
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError("`thresholds` must rise and not repeat")
        return self
