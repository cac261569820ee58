"""The arithmetic of a reconciliation: what a residual settles, which line of a bill is which model, and what a difference means.

Bills are exact decimals of dollars, the ledger has whole nano-dollars. A bill is rounded once (half to even), where it is compared to be
corrected: so what is recorded afterwards is the bill to the nano-dollar, and a second time finds nothing to do.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from urllib.parse import quote

import msgspec

from costwarden.model import EXACT, TOKEN_CLASSES, from_nanos, round_to_nanos

TOLERANCE = Decimal("0.01")
"""Share by which figures of the same calls may differ: provider and meter do not agree to the second when a day ends."""

RECONCILIATION = "reconciliation"
"""The `operation` of corrections by a bill."""


class Split(msgspec.Struct, frozen=True):
    """What becomes of a residual, in nano-dollars: `sum(settled.values()) + correction` is the residual."""

    settled: dict[str, int]
    """By reservation: what it has cost; 0 where it is released."""
    correction: int


def split_residual(residual: int, unsettled: Sequence[tuple[str, int]]) -> Split:
    """Settle `unsettled` (reservation id, estimate) out of a residual of nano-dollars.

    None is settled above its estimate. Where the residual is less than they are together, each gets its share of it, rounded down, and the
    nano-dollars that are left over go to the largest remainders (among equals to the first id). A residual of 0 or less settles none: the
    bill says that nothing more was spent.
    """
    together = sum(estimate for _, estimate in unsettled)
    if residual <= 0:
        return Split({name: 0 for name, _ in unsettled}, residual)
    if residual >= together:
        return Split(dict(unsettled), residual - together)
    settled = {name: residual * estimate // together for name, estimate in unsettled}
    rest = residual - sum(settled.values())
    by_remainder = sorted(unsettled, key=lambda held: (-(residual * held[1] % together), held[0]))
    for name, _ in by_remainder[:rest]:
        settled[name] += 1
    return Split(settled, 0)


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's day (UTC) that its bill has whole."""

    provider: str
    day: date
    billed: Decimal
    """Exact dollars of the charges that are compared."""
    not_compared: Decimal = Decimal(0)
    """Exact dollars of credits, taxes and what else is left out of the comparison."""
    metered: int = 0
    """Nano-dollars of usage, corrections of prices included, corrections by bills left out."""
    corrected: int = 0
    """Nano-dollars that corrections by its bill have added so far; may be negative."""
    corrections: int = 0
    """How many those are."""
    unsettled: tuple[tuple[str, int], ...] = ()
    """Reservations of that day that nobody settled: (id, nano-dollars set aside)."""

    @property
    def recorded(self) -> int:
        """Nano-dollars that budgets and figures of cost have for it now."""
        return self.metered + self.corrected

    @property
    def residual(self) -> Decimal:
        """Exact dollars that the bill has and the ledger has not; negative where the ledger has more."""
        return EXACT.subtract(self.billed, from_nanos(self.recorded))

    @property
    def to_record(self) -> int:
        """The residual in nano-dollars."""
        return round_to_nanos(self.billed) - self.recorded

    @property
    def capture_ratio(self) -> Decimal | None:
        """Metered share of what was billed; None where nothing was billed."""
        return capture_ratio(from_nanos(self.metered), self.billed)


def capture_ratio(metered: Decimal, billed: Decimal) -> Decimal | None:
    """`metered` / `billed` to six decimal places; None where nothing was billed, or a credit is more than the bill."""
    return round(metered / billed, 6) if billed > 0 else None


def correction_id(number: int, provider: str, day: date) -> str:
    """The event id of the `number`th correction (from 1) of that provider and day.

    It has the four parts that a re-rating expects of corrections, and a slash where no source of usage that it quotes can have one.
    """
    return f"billed:{number}:{RECONCILIATION}/{quote(provider, safe='')}:{day.isoformat()}"


# --- models and lines ----------------------------------------------------------------------------------------------------------

# OpenAI's lines read `gpt-4o-2024-08-06, input`, Anthropic's `Claude Sonnet 4 Usage - Input Tokens`, Bedrock's services
# `Claude Haiku 4.5 (Amazon Bedrock Edition)`.
_OF_A_MODEL = re.compile(r",\s|\susage - |\(amazon bedrock edition\)", re.IGNORECASE)
_AFTER_THE_MODEL = re.compile(r"(\s+usage(\s+-.*)?|,\s.*|\s*\(amazon bedrock edition\).*)$", re.IGNORECASE)
_BEFORE_THE_MODEL = re.compile(
    r"^(models/|publishers/[^/]+/models/|arn:.*/)?((us|eu|apac|jp|au|global)\.)?((anthropic|amazon|meta|mistral|cohere)\.)?"
)
_VERSION = re.compile(r"-v[0-9]+(:[0-9]+)?$")
_SNAPSHOT = re.compile(r"([-@]20[0-9]{2}-?[0-9]{2}-?[0-9]{2}|-latest)$")


def model_key(name: str) -> str:
    """What a model is compared by, whether a line of a bill names it or a call: without snapshot, reseller's prefix, and token class.

    `Claude Haiku 3.5 Usage - Input Tokens` and `us.anthropic.claude-3-5-haiku-20241022-v1:0` have the same one.
    """
    key = _BEFORE_THE_MODEL.sub("", _AFTER_THE_MODEL.sub("", name.strip()).lower())
    key = _SNAPSHOT.sub("", _VERSION.sub("", key))
    words = [word for word in re.split(r"[\s._@-]+", key) if word]
    # Anthropic has written the version before and after the family.
    return "-".join(sorted(words) if words[:1] == ["claude"] else words)


def names_a_model(line: str, models: Iterable[str]) -> bool:
    """Whether a line of a bill is about one model: by its form, or because a pattern of `models` matches it."""
    return bool(_OF_A_MODEL.search(line)) or matches(_AFTER_THE_MODEL.sub("", line.strip()), models)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the shell `patterns` matches `name`, in any case."""
    lowered = name.lower()
    return any(fnmatchcase(lowered, pattern.lower()) for pattern in patterns)


class Line(msgspec.Struct, kw_only=True):
    """A model, or a line of a bill that is about no model, over all compared days of a provider."""

    provider: str
    name: str
    """As the meter calls the model; else the provider, else the line of the bill."""
    is_model: bool = True
    billed: Decimal | None = None
    """Exact dollars; None where the bill has no line of it."""
    metered: int = 0
    """Nano-dollars."""
    requests: int = 0
    reported_tokens: dict[str, int] | None = None
    """What the provider reports, by class; None where it reports nothing of this model."""
    metered_tokens: dict[str, int] = {}

    @property
    def residual(self) -> Decimal | None:
        """Exact dollars that the bill has and the meter has not; None where the bill does not tell."""
        return None if self.billed is None else EXACT.subtract(self.billed, from_nanos(self.metered))


def tokens(classes: Mapping[str, int] | None) -> int:
    """All tokens: input has the cached ones, output the reasoning ones."""
    return 0 if classes is None else classes.get("input_tokens", 0) + classes.get("output_tokens", 0)


def finding(line: Line, *, bill_tells_models: bool) -> str:
    """What a difference means, in words of a closed set; empty where nothing can be said.

    `bill_tells_models`: all that the provider has billed stands in lines of models, so that a model without a line was not billed.
    """
    if not line.is_model:
        return "no model"
    billed, metered = line.billed or Decimal(0), from_nanos(line.metered)
    was_metered = bool(line.metered or line.requests or tokens(line.metered_tokens))
    if not was_metered:
        return "never metered" if billed > 0 or tokens(line.reported_tokens) else ""
    if line.reported_tokens is not None:
        for name in TOKEN_CLASSES:
            reported, counted = line.reported_tokens.get(name, 0), line.metered_tokens.get(name, 0)
            if not _close(Decimal(reported), Decimal(counted)):
                return "partly metered" if reported > counted else "metered above the report"
        if line.billed is not None:
            return "agrees" if _close(billed, metered) else "another price"
        return "tokens agree"
    if line.billed is not None:
        return "agrees" if _close(billed, metered) else "differs"
    return "not billed" if bill_tells_models and line.metered else ""


def _close(left: Decimal, right: Decimal) -> bool:
    return abs(left - right) <= TOLERANCE * max(abs(left), abs(right))
