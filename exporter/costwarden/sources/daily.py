"""Costs that a provider answers with, day by day, to charges: exact, attributed, converted, and rejected aloud.

A part is a day of an account (or of another scope that is asked for as one), named `SCOPE/YYYY-MM-DD`. What a day held before is replaced
by what the provider says now, so a restated day, a credit and a cost that is gone need no code of their own.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import msgspec

from costwarden.model import EXACT, QUANTITIES, Charge, RejectedRow, ReportedUsage
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.json_rows import MOST
from costwarden.sources.requests import SourceError
from costwarden.sources.windows import ONE_DAY

WHOLE_DIGITS = 12
"""Digits of a cost before the point, as in a FOCUS file: what has more is no cost but a broken answer."""

DECIMAL_PLACES = 24
"""As a FOCUS file's costs; what is finer is rounded half to even, and counted."""

_FINEST = Decimal(1).scaleb(-DECIMAL_PLACES)
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN)

MOST_REJECTED_KEPT = 1_000
"""Rejected rows of a refresh that are kept with their text; all are counted."""

LONGEST_CONTENT = 2_000

_USAGE_KEY = ("provider", "account_id", "model", "operation", "service_tier")

# Raised by one where the same answer would be read to other charges than before: then every day in the window replaces the one before.
READER_VERSION = 1


class KnownDay(msgspec.Struct, frozen=True):
    """What `DailyCosts.changes` is told of a part; `sources.KnownPart` has these fields."""

    state: str
    fingerprint: str
    figures: str = ""
    """Empty where the day had nothing that could be lost."""


class NothingLeft(SourceError):
    """Days had figures, and the answer has nothing for any of them now."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an answer. Costs are texts or decimals as the provider wrote them, in `billing_currency`; never floating point.

    `effective_cost`, `list_cost` and `contracted_cost` count as the billed cost where they are None: where the provider tells only one
    figure, it is the best that is known of the others.
    """

    day: date
    provider_name: str
    billing_account_id: str = ""
    sub_account_id: str = ""
    service_name: str = ""
    service_category: str = ""
    region_id: str = ""
    charge_category: str = "Usage"
    """FOCUS's: `Usage`, `Purchase`, `Tax`, `Credit`, `Adjustment`; or `model.ALLOCATED`."""
    billing_currency: str
    tags: Mapping[str, str] = {}
    billed_cost: Decimal | str
    effective_cost: Decimal | str | None = None
    list_cost: Decimal | str | None = None
    contracted_cost: Decimal | str | None = None
    rows: int = 1


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What a day has become: as `sources.Read`."""

    part: str
    fingerprint: str
    figures: str
    rows: int
    rounded: int
    rejected: Mapping[str, int]
    rejected_rows: Sequence[RejectedRow]
    message: str
    charges: Sequence[Charge]
    usage: Sequence[ReportedUsage]


class _Sums(msgspec.Struct):
    costs: list[Decimal]
    rate: Decimal
    rows: int = 0


class DailyCosts:
    """The days of one scope in one refresh: add every line of the answers, then take the days that have changed."""

    def __init__(self, source: str, scope: str, attribution: Attribution, rates: Rates) -> None:
        self._source, self._scope = source, clean(scope)
        self._attribution, self._rates = attribution, rates
        self._sums: dict[date, dict[tuple[str, ...], _Sums]] = {}
        self._rejected: dict[date, Counter[str]] = {}
        self._kept: dict[date, list[RejectedRow]] = {}
        self._kept_count = 0
        self._rounded: Counter[date] = Counter()
        self._usage: dict[date, list[ReportedUsage]] = {}
        self._counted: dict[date, Counter[str]] = {}

    def add(self, cost: Cost, content: str = "") -> None:
        """Add a line. One that cannot be read is rejected and kept; `content` is its text, for people."""
        try:
            costs = self._costs(cost)
        except _Unreadable as reason:
            self.reject(cost.day, reason.args[0], reason.args[1], content)
            return
        rate = self._rates.usd(cost.billing_currency, cost.day)
        if rate is None:
            sentence = f"no rate for {cost.billing_currency!r} on {cost.day}: add one to `exchange_rates`"
            self.reject(cost.day, "no_exchange_rate", sentence, content)
            return
        columns = {
            "provider_name": cost.provider_name,
            "billing_account_id": cost.billing_account_id,
            "sub_account_id": cost.sub_account_id,
            "service_name": cost.service_name,
        }
        tags = {name.strip().lower(): value for name, value in cost.tags.items() if value}
        texts = (
            *columns.values(),
            cost.service_category,
            cost.region_id,
            cost.charge_category,
            cost.billing_currency,
            *self._attribution.attribute(columns, tags),
        )
        # Before the lines are added up: two that differ in nothing else would be two charges of one key.
        key = tuple(map(clean, texts))
        sums = self._sums.setdefault(cost.day, {}).setdefault(key, _Sums([Decimal(0)] * 4, rate))
        sums.costs = [EXACT.add(total, one) for total, one in zip(sums.costs, costs, strict=True)]
        sums.rows += cost.rows

    def add_usage(self, usage: ReportedUsage, content: str = "") -> None:
        """Add what the provider says was used; `source` and `part` are filled in here. Lines of one key are added up.

        A line that takes a count of its day above `json_rows.MOST` is rejected: the ledger adds up whole years of them.
        """
        day = usage.usage_date
        counted = self._counted.setdefault(day, Counter())
        counts = {name: count for name in QUANTITIES if (count := getattr(usage, name))}
        if above := sorted(name for name, count in counts.items() if counted[name] + count > MOST):
            self.reject(day, "bad_count", f"{', '.join(above)}: more than {MOST} on one day", content)
            return
        counted.update(counts)
        texts = {name: clean(getattr(usage, name)) for name in _USAGE_KEY}
        found = msgspec.structs.replace(usage, source=self._source, part=self.part(day), **texts)
        self._usage.setdefault(day, []).append(found)

    def reject(self, day: date, reason: str, sentence: str, content: str) -> None:
        """Count a line of `day` that cannot be read. `reason` is from a closed set, fit for a label."""
        self._rejected.setdefault(day, Counter())[reason] += 1
        if self._kept_count < MOST_REJECTED_KEPT:
            self._kept_count += 1
            row = RejectedRow(
                source=self._source,
                part=self.part(day),
                line=0,
                reason=reason,
                detail=clean(sentence),
                content=clean(content[:LONGEST_CONTENT]),
            )
            self._kept.setdefault(day, []).append(row)

    def part(self, day: date) -> str:
        """The name of a day."""
        return f"{self._scope}/{day}"

    def changes(
        self, first: date, last: date, known: Mapping[str, KnownDay], *, accepts_empty: bool = False, what: str = "cost"
    ) -> Iterator[Day]:
        """The days from `first` to `last` that are not as `known`, those without any cost included.

        Raises `ValueError` where a line was added whose day is outside: the provider has answered something else than was asked.
        Raises `NothingLeft` where no line at all was added and a known day has figures, unless `accepts_empty`: one day without cost is a
        restatement, all of them are a provider that has lost its data, or a right that is gone. `what` was lost stands in its sentence.
        """
        added = self._sums.keys() | self._rejected.keys() | self._usage.keys()
        if outside := sorted(day for day in added if not first <= day <= last):
            raise ValueError(f"{self._scope}: asked for {first} to {last}, answered for {outside[0]}")
        days = [first + ONE_DAY * number for number in range((last - first).days + 1)]
        if not added and not accepts_empty:
            lost = [day for day in days if (part := known.get(self.part(day))) is not None and part.figures]
            if lost:
                raise NothingLeft(
                    f"{self._scope}: had {what} from {lost[0]} to {lost[-1]} and has none at all now; its figures stay "
                    "(`accept_empty_answers: true` takes it)"
                )
        for day in days:
            found = self._day(day)
            before = known.get(found.part)
            if before is None or before.state != "ok" or before.fingerprint != found.fingerprint:
                yield found

    def _day(self, day: date) -> Day:
        part = self.part(day)
        charges = [self._charge(part, day, key, sums) for key, sums in sorted(self._sums.get(day, {}).items())]
        usage = _added_up(self._usage.get(day, []))
        rejected = dict(sorted(self._rejected.get(day, Counter()).items()))
        digest = _fingerprint(READER_VERSION, charges, usage, rejected)
        rounded = self._rounded[day]
        return Day(
            part=part,
            fingerprint=digest,
            figures=digest if charges else "",
            rows=sum(charge.row_count for charge in charges),
            rounded=rounded,
            rejected=rejected,
            rejected_rows=self._kept.get(day, []),
            message=f"{rounded} with a cost finer than {DECIMAL_PLACES} decimal places, rounded" if rounded else "",
            charges=charges,
            usage=usage,
        )

    def _charge(self, part: str, day: date, key: tuple[str, ...], sums: _Sums) -> Charge:
        return Charge(
            source=self._source,
            part=part,
            charge_date=day,
            provider_name=key[0],
            billing_account_id=key[1],
            sub_account_id=key[2],
            service_name=key[3],
            service_category=key[4],
            region_id=key[5],
            charge_category=key[6],
            billing_currency=key[7],
            team=key[8],
            feature=key[9],
            tenant_id=key[10],
            environment=key[11],
            billed_cost=sums.costs[0],
            effective_cost=sums.costs[1],
            list_cost=sums.costs[2],
            contracted_cost=sums.costs[3],
            usd_rate=sums.rate,
            row_count=sums.rows,
        )

    def _costs(self, cost: Cost) -> list[Decimal]:
        if not cost.billing_currency:
            raise _Unreadable("missing_currency", "the answer names no currency")
        given = (cost.billed_cost, cost.effective_cost, cost.list_cost, cost.contracted_cost)
        billed, *others = (None if text is None else _exact(text) for text in given)
        assert billed is not None
        exact = [billed, *(billed if other is None else other for other in others)]
        if not all(fits for _, fits in exact):
            self._rounded[cost.day] += 1
        return [amount for amount, _ in exact]


def clean(text: str) -> str:
    """`text` without what no ledger holds, U+0000 and halves of surrogate pairs: U+FFFD stands in their place."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _fingerprint(version: int, charges: Sequence[Charge], usage: Sequence[ReportedUsage], rejected: Mapping[str, int]) -> str:
    return hashlib.sha256(msgspec.json.encode([version, charges, usage, rejected])).hexdigest()


NOTHING = frozenset({"", *(_fingerprint(version + 1, [], [], {}) for version in range(READER_VERSION))})
"""Fingerprints of days with no line at all, as any version has read them: the only trace that reported usage leaves in a known part."""


class _Unreadable(Exception):
    """Reason and sentence."""


def _exact(text: Decimal | str) -> tuple[Decimal, bool]:
    """The amount, to `DECIMAL_PLACES`, and whether it is exact."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise _Unreadable("bad_cost", f"{text!r} is not a number") from None
    if not amount.is_finite():
        raise _Unreadable("bad_cost", f"{text!r} is not a finite number")
    if amount and amount.adjusted() >= WHOLE_DIGITS:
        raise _Unreadable("cost_out_of_range", f"{text!r} has more than {WHOLE_DIGITS} digits before the point")
    rounded = amount.quantize(_FINEST, context=_ROUNDING)
    # As it was written where it fits: 1.50 stays 1.50.
    return (amount, True) if rounded == amount and -int(amount.as_tuple().exponent) <= DECIMAL_PLACES else (rounded, rounded == amount)


def _added_up(usage: Sequence[ReportedUsage]) -> list[ReportedUsage]:
    sums: dict[tuple[str, ...], ReportedUsage] = {}
    for line in usage:
        key = tuple(getattr(line, name) for name in _USAGE_KEY)
        found = sums.get(key)
        sums[key] = line if found is None else _sum(found, line)
    return [sums[key] for key in sorted(sums)]


def _sum(one: ReportedUsage, other: ReportedUsage) -> ReportedUsage:
    quantities = {name: getattr(one, name) + getattr(other, name) for name in QUANTITIES}
    return msgspec.structs.replace(one, **quantities)
