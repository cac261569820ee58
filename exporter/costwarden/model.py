"""The records that everything passes, and the arithmetic of money and time.

Money of metering and budgets is an integer number of nano-dollars; money of bills is `Decimal`, because bills carry more than nine
decimal places. Times are integer microseconds since 1970-01-01 UTC; ranges are half-open.
"""

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, localcontext

import msgspec

NANOS_PER_USD = 1_000_000_000
MICROS_PER_SECOND = 1_000_000

# 60 digits hold any product of a 38-digit bill amount and a 20-digit rate without rounding.
EXACT = Context(prec=60, traps=[Inexact])


def to_nanos(amount: Decimal | int | str) -> int:
    """`amount` dollars in nano-dollars, exactly.

    Raises `ValueError` where the amount is not finite or is finer than a nano-dollar.
    """
    value = Decimal(amount)
    if not value.is_finite():
        raise ValueError(f"{amount} is not an amount of money")
    nanos = value.scaleb(9, EXACT)
    if nanos != nanos.to_integral_value():
        raise ValueError(f"{amount} is finer than a nano-dollar (9 decimal places)")
    return int(nanos)


def round_to_nanos(amount: Decimal) -> int:
    """`amount` dollars in nano-dollars, rounded half to even: for the product of a price and a quantity, once an event."""
    return int(amount.scaleb(9, EXACT).to_integral_value(ROUND_HALF_EVEN))


def from_nanos(nanos: int) -> Decimal:
    """The exact dollars of `nanos`, without trailing zeros: 1500000000 -> Decimal('1.5')."""
    whole, rest = divmod(abs(nanos), NANOS_PER_USD)
    # From text, because that is five times as fast as decimal arithmetic, and every answer of the API has several.
    return Decimal(f"{'-' if nanos < 0 else ''}{whole}.{rest:09d}".rstrip("0").rstrip("."))


def dollars(amount: Decimal) -> str:
    """$1,234.50: at least two decimal places, and all that the amount has."""
    places = max(2, -int(amount.as_tuple().exponent)) if amount.is_finite() else 2
    return f"{'-' if amount < 0 else ''}${amount.copy_abs():,.{places}f}"


def exact_sum(amounts: "list[Decimal]") -> Decimal:
    """The sum of `amounts` to the last digit; raises `decimal.Inexact` rather than round."""
    with localcontext(EXACT):
        return sum(amounts, Decimal(0))


def to_micros(when: datetime) -> int:
    """Microseconds since 1970 UTC. Raises `ValueError` for a time without a zone."""
    if when.tzinfo is None:
        raise ValueError(f"{when.isoformat()} has no time zone")
    delta = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * MICROS_PER_SECOND + delta.microseconds


def from_micros(micros: int) -> datetime:
    """The UTC time of `micros`, to the microsecond."""
    seconds, rest = divmod(micros, MICROS_PER_SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A day's sum of the rows of a bill that agree in every dimension below, in FOCUS's own columns.

    `part` is what the source replaces as one: a file, an object, an account's answer. The four costs are in `billing_currency`;
    `usd_rate` is the dollars that one unit of it cost on `charge_date`.
    """

    source: str
    part: str
    charge_date: date
    provider_name: str
    """As the metrics name it: `aws`, `azure`, `gcp`, `kubernetes`, else FOCUS's own name in lower case."""
    billing_account_id: str
    sub_account_id: str
    service_name: str
    service_category: str
    region_id: str
    charge_category: str
    billing_currency: str
    team: str
    feature: str
    tenant_id: str
    environment: str
    billed_cost: Decimal
    effective_cost: Decimal
    list_cost: Decimal
    contracted_cost: Decimal
    usd_rate: Decimal
    row_count: int


ALLOCATED = "Allocated"
"""The `charge_category` of a share of cost that stands in another provider's bill already, as a namespace's share of a node does: it says
whose the cost is, and is left out of sums over providers."""


class ReportedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says was used in a day: the other side of metered `Usage`, never added to it.

    Quantities count as in `Usage`: `input_tokens` includes the cached ones.
    """

    source: str
    part: str
    usage_date: date
    provider: str
    """As usage events name it: `openai`, `anthropic`, `aws.bedrock`, `gcp.vertex_ai`."""
    account_id: str = ""
    """Project or workspace, where the provider tells them apart."""
    model: str = ""
    operation: str = ""
    service_tier: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    images: int = 0
    audio_milliseconds: int = 0
    requests: int = 0


class ProviderFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that a provider states and no bill has: a forecast, the size of a bucket. It becomes a series as it is."""

    source: str
    part: str
    metric: str
    """Its family in the catalogue of metrics."""
    labels: tuple[str, ...]
    """The values of that family's labels, in their order."""
    value: Decimal


class ProviderBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that is kept at a provider, with what it has spent of it so far."""

    source: str
    part: str
    provider_name: str
    account_id: str
    budget: str
    period: str
    """`day`, `month`, `quarter`, `year` or `custom`."""
    limit_usd: Decimal
    spent_usd: Decimal | None
    """None where the provider does not say and the bills do not tell either."""
    forecast_usd: Decimal | None = None


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a bill that could not be read, kept with its reason. `line` counts from 1, header included; 0 is unknown."""

    source: str
    part: str
    line: int
    reason: str
    """From a closed set, fit for a label: `missing_cost`, `bad_date`, …"""
    detail: str
    """The sentence for a person: column, value, rule."""
    content: str


DIMENSIONS = ("tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "user_id", "service")
"""What a usage event is about, and what a budget's scope may name. The order is that of columns and labels."""


class Usage(msgspec.Struct, kw_only=True):
    """One metered AI operation. Its identity is (`source`, `event_id`); an absent dimension is the empty string.

    `input_tokens` includes the cached ones and `output_tokens` the reasoning ones, as OpenTelemetry and OpenAI count;
    Anthropic's `input_tokens` exclude cached ones and are added up before they get here. `cache_write_tokens` includes those kept for
    an hour (`cache_write_1h_tokens`); `images` are images made.
    """

    source: str
    event_id: str
    timestamp: int
    """Microseconds since 1970 UTC; decides the budget period that pays."""
    tenant_id: str = ""
    provider: str = ""
    model: str = ""
    operation: str = ""
    report_type: str = ""
    feature: str = ""
    team: str = ""
    user_id: str = ""
    service: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    images: int = 0
    success: bool = True
    cost: int = 0
    """Nano-dollars."""
    priced_by: str = ""
    """Where the price came from; `unpriced` where there was none."""
    reservation_id: str = ""
    audio_milliseconds: int = 0
    """Length of audio that is sold by time, as transcription is."""
    requests: int = 1
    """How many calls this stands for: 0 for a correction of the price, and for output whose calls are counted with their input; more for
    figures that were summed before they came."""
    service_tier: str = ""
    """`batch`, `flex` or `priority`, which have prices of their own; empty is the provider's standard."""


TOKEN_CLASSES = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)

QUANTITIES = (*TOKEN_CLASSES, "images", "audio_milliseconds", "requests")
"""What a usage event counts, in the order of the ledger's sums."""


CORRECTION = "correction"
"""The `source` of usage that stands for no call (`requests` 0) and adds to the cost of one that is recorded already."""


class Priced(msgspec.Struct, frozen=True):
    """What a quantity costs, in nano-dollars, and by which price.

    `priced_by` is `genai-prices`, `override:2026-01-01`, `operation`, `fallback`, `caller` or `unpriced`.
    """

    cost: int
    priced_by: str
