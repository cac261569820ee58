"""The `budgets` section of `costwarden.yaml`."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from costwarden.settings import Settings, Usd

PeriodKind = Literal["hour", "day", "week", "month", "total"]


def _plain(value: object) -> object:
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


class ConfiguredBudget(Settings):
    """A budget that is part of the configuration: it cannot be changed through the API."""

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:=@/-]*$")
    """Name of the budget: the `budget` label of its series and alerts."""
    scope: Scope = Scope()
    """What it is for; every usage event that matches counts against it."""
    period: PeriodKind = "month"
    """`hour`, `day`, `week` (from Monday), `month` (calendar, in `time_zone`) or `total`."""
    limit_usd: Usd
    """Hard limit in dollars a period."""
    soft_limit_ratio: Ratio | None = None
    """Share of the limit above which answers carry `X-AI-Budget-Warning`; default is that of the section."""
    action: str = ""
    """Playbook that an alert on this budget names; empty names none."""


class DefaultBudget(Settings):
    """What a tenant gets that nobody has given a budget."""

    model: str = "claude-3-5-sonnet-20241022"
    """The model that it is for; `*` covers every model."""
    monthly_limit_usd: Usd = Decimal(1000)
    """Its hard limit in dollars a calendar month."""


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
    """Input tokens that a check assumes when it names none."""
    assumed_output_tokens: int = Field(default=1_000, ge=0)
    """Output tokens that a check assumes when it names none."""
    configured: tuple[ConfiguredBudget, ...] = ()
    """Budgets that are configuration, of any scope and period."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [budget.name for budget in self.configured]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the budget name `{name}` is given twice")
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError("`thresholds` must rise and not repeat")
        return self
