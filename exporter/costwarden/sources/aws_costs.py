"""Costs of an account as Cost Explorer tells them, day by day.

Shapes: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_GetCostAndUsage.html
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec

from costwarden.model import EXACT
from costwarden.sources.aws_session import AwsRefused
from costwarden.sources.currency import Rates
from costwarden.sources.daily import Cost, DailyCosts
from costwarden.sources.requests import SourceError
from costwarden.sources.settings.aws import RECORD_TYPE, AwsSettings
from costwarden.sources.windows import ONE_DAY

T = TypeVar("T")


class Ask(Protocol):
    """Asks AWS for what costs money."""

    def __call__(self, operation: str, parameters: Mapping[str, Any], again: str, read: Callable[[str], T]) -> T:
        """What `read` makes of the answer, or of the kept one. Another `again` asks past what was kept before.

        `read` takes the JSON of boto3's answer and raises `SourceError` where it is none that can be used: then it is not kept.
        """
        ...


USAGE_TYPES = ("Usage", "DiscountedUsage", "SavingsPlanCoveredUsage")
"""Record types that are usage. Cost Explorer takes values that an account does not have; all that is not one of these is asked for with
`Not`, so that a type that nobody has heard of is there too."""

# Record types as the Cost and Usage Report names them, and as Cost Explorer's console does, in small letters without what is between them.
# https://docs.aws.amazon.com/cur/latest/userguide/Lineitem-columns.html (lineItem/LineItemType) to
# https://focus.finops.org/focus-specification/ (ChargeCategory): a refund and a discount change what was billed, a credit is a present.
_CATEGORIES = {
    "usage": "Usage",
    "discountedusage": "Usage",
    "reservationappliedusage": "Usage",
    "savingsplancoveredusage": "Usage",
    "fee": "Purchase",
    "rifee": "Purchase",
    "recurring": "Purchase",
    "recurringreservationfee": "Purchase",
    "upfront": "Purchase",
    "upfrontreservationfee": "Purchase",
    "savingsplanrecurringfee": "Purchase",
    "savingsplanupfrontfee": "Purchase",
    "support": "Purchase",
    "supportfee": "Purchase",
    "other": "Purchase",
    "otheroutofcyclecharges": "Purchase",
    "tax": "Tax",
    "credit": "Credit",
    "refund": "Adjustment",
    "savingsplannegation": "Adjustment",
    "discount": "Adjustment",
    "bundleddiscount": "Adjustment",
    "edpdiscount": "Adjustment",
    "enterprisediscountprogramdiscount": "Adjustment",
    "privateratediscount": "Adjustment",
    "rivolumediscount": "Adjustment",
    "solutionproviderprogramdiscount": "Adjustment",
    "sppdiscount": "Adjustment",
}
UNKNOWN_CATEGORY = "Adjustment"

_COLUMNS = {"SERVICE": "service_name", "REGION": "region_id", "LINKED_ACCOUNT": "sub_account_id"}

NO_REGION = "NoRegion"
"""What Cost Explorer calls the region of a cost that has none."""


class Query(msgspec.Struct, frozen=True):
    """A request: its groups, its filter, and the values that hold for all of its answer by their key."""

    group_by: tuple[str, ...]
    filter: Mapping[str, Any] | None
    fixed: Mapping[str, str]


class Metric(msgspec.Struct, frozen=True, rename="pascal"):
    """A cost, as the API's `MetricValue`."""

    amount: str
    unit: str


class Group(msgspec.Struct, frozen=True, rename="pascal"):
    """The costs of a day that agree in all keys."""

    keys: tuple[str, ...]
    metrics: Mapping[str, Metric]


class Period(msgspec.Struct, frozen=True, rename="pascal"):
    """Days; the end is left out."""

    start: date


class Result(msgspec.Struct, frozen=True, rename="pascal"):
    """What an answer has of a day; a page may end in the middle of it."""

    time_period: Period
    groups: tuple[Group, ...]
    estimated: bool = False


class Page(msgspec.Struct, frozen=True, rename="pascal"):
    """A page of an answer to `GetCostAndUsage`."""

    results_by_time: tuple[Result, ...]
    next_page_token: str | None = None


class Month(msgspec.Struct):
    """What the days have cost, for the forecast and the budgets."""

    days: dict[date, Decimal]
    """Dollars, as billed."""
    complete: bool = True
    """False where a cost had to be left out, as it could not be read or converted."""

    def between(self, first: date, end: date) -> Decimal | None:
        """Dollars of the days from `first` to the one before `end`; None where they are not known."""
        wanted = [first + ONE_DAY * number for number in range((end - first).days)]
        if not self.complete or any(day not in self.days for day in wanted):
            return None
        total = Decimal(0)
        for day in wanted:
            total = EXACT.add(total, self.days[day])
        return total


class Answered(msgspec.Struct):
    """What the answers of an account were, beside the costs."""

    days: set[date]
    """Days that every answer had."""
    month: Month
    estimated_since: date | None = None
    unknown_types: set[str] = msgspec.field(default_factory=set)
    members: set[str] = msgspec.field(default_factory=set)
    """Accounts whose cost is in the bill, where they are told apart."""


def queries(settings: AwsSettings) -> list[Query]:
    """The requests of an account and refresh. Their filters divide the bill: every cost is in the answer to one, and to one only."""
    if not settings.separates_record_types:
        types: list[tuple[tuple[str, ...], Mapping[str, Any] | None]] = [(tuple(dict.fromkeys((*settings.group_by, RECORD_TYPE))), None)]
        rest = []
    else:
        usage = {"Dimensions": {"Key": RECORD_TYPE, "Values": [*USAGE_TYPES]}}
        types = [(settings.group_by, usage)]
        rest = [Query((RECORD_TYPE, settings.group_by[0]), {"Not": usage}, {})]
    split = settings.split_by
    if split is None:
        return [Query(groups, where, {}) for groups, where in types] + rest
    found = []
    for groups, where in types:
        found += [Query(groups, _both(where, _filter(split.key, [value])), {split.key: value}) for value in split.values]
        found.append(Query(groups, _both(where, {"Not": _filter(split.key, split.values)}), {}))
    return found + rest


def _both(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> Mapping[str, Any]:
    return other if one is None else {"And": [one, other]}


def _filter(key: str, values: Sequence[str]) -> dict[str, Any]:
    kind, name = _kind(key)
    field = {"DIMENSION": "Dimensions", "TAG": "Tags", "COST_CATEGORY": "CostCategories"}[kind]
    return {field: {"Key": name, "Values": [*values]}}


def _kind(key: str) -> tuple[str, str]:
    kind, separator, name = key.partition(":")
    return (kind, name) if separator else ("DIMENSION", key)


class CostReader:
    """Reads the costs of one account into `costs`."""

    def __init__(self, settings: AwsSettings, account: str, costs: DailyCosts, rates: Rates) -> None:
        self._settings, self._account, self._costs, self._rates = settings, account, costs, rates

    def read(self, ask: Ask, first: date, last: date) -> Answered:
        """Ask for the days from `first` to `last`, in all queries. Raises `SourceError`."""
        answered = Answered({first + ONE_DAY * number for number in range((last - first).days + 1)}, Month({}))
        for query in queries(self._settings):
            days = set()
            for page in self._pages(ask, query, first, last):
                for result in page.results_by_time:
                    days.add(self._result(query, result, answered))
            answered.days &= days
        return answered

    def _pages(self, ask: Ask, query: Query, first: date, last: date) -> list[Page]:
        """All pages, before any of them is used: a token that has run out starts anew."""
        request: dict[str, Any] = {
            "TimePeriod": {"Start": first.isoformat(), "End": (last + ONE_DAY).isoformat()},
            "Granularity": "DAILY",
            "Metrics": [self._settings.billed_metric, self._settings.effective_metric],
            "GroupBy": [dict(zip(("Type", "Key"), _kind(key), strict=True)) for key in query.group_by],
        }
        if query.filter is not None:
            request["Filter"] = query.filter
        try:
            return _all_pages(ask, request, "", _PageReader(query, first, last))
        except AwsRefused as error:
            # The first page was kept before a restart, and the token in it is too old to go on with.
            if error.code not in ("InvalidNextTokenException", "RequestChangedException"):
                raise
            return _all_pages(ask, request, "again", _PageReader(query, first, last))

    def _result(self, query: Query, result: Result, answered: Answered) -> date:
        day = result.time_period.start
        answered.month.days.setdefault(day, Decimal(0))
        if result.estimated and day < (answered.estimated_since or date.max):
            answered.estimated_since = day
        for group in result.groups:
            self._group(query, day, group, answered)
        return day

    def _group(self, query: Query, day: date, group: Group, answered: Answered) -> None:
        content = msgspec.json.encode(group).decode()
        values = dict(query.fixed)
        for key, text in zip(query.group_by, group.keys, strict=True):
            # The group of a tag is `key$value`, that of no tag `key$`; a `$` that comes later is the value's.
            values[key] = text if ":" not in key else text.partition("$")[2]
        billed, effective = (group.metrics.get(name) for name in (self._settings.billed_metric, self._settings.effective_metric))
        if billed is None or effective is None:
            answered.month.complete = False
            self._costs.reject(day, "missing_cost", "the group lacks a metric that was asked for", content)
            return
        if billed.unit != effective.unit:
            answered.month.complete = False
            self._costs.reject(day, "mixed_currency", f"one cost is in {billed.unit!r}, the other in {effective.unit!r}", content)
            return
        record_type = values.pop(RECORD_TYPE, USAGE_TYPES[0])
        category = _CATEGORIES.get("".join(filter(str.isalnum, record_type.lower())))
        if category is None:
            answered.unknown_types.add(record_type)
        columns = {column: values.pop(key, "") for key, column in _COLUMNS.items()}
        if columns["sub_account_id"]:
            answered.members.add(columns["sub_account_id"])
        cost = Cost(
            day=day,
            provider_name="aws",
            billing_account_id=self._account,
            charge_category=category or UNKNOWN_CATEGORY,
            billing_currency=billed.unit,
            tags={key.partition(":")[2] or key.lower(): value for key, value in values.items()},
            billed_cost=billed.amount,
            effective_cost=effective.amount,
            service_name=columns["service_name"],
            sub_account_id=columns["sub_account_id"],
            region_id="" if columns["region_id"] == NO_REGION else columns["region_id"],
        )
        self._costs.add(cost, content)
        self._add_to_month(answered.month, cost)

    def _add_to_month(self, month: Month, cost: Cost) -> None:
        rate = self._rates.usd(cost.billing_currency, cost.day)
        try:
            amount = Decimal(cost.billed_cost)
            if rate is not None and amount.is_finite():
                month.days[cost.day] = EXACT.add(month.days[cost.day], EXACT.multiply(amount, rate))
                return
        except ArithmeticError:
            # No number, or one that `DailyCosts` rounds.
            pass
        month.complete = False


class _PageReader:
    """Reads the pages of one query, and refuses what cannot be the answer to it."""

    def __init__(self, query: Query, first: date, last: date) -> None:
        self._query, self._first, self._last = query, first, last
        self._seen: set[tuple[date, tuple[str, ...]]] = set()

    def read(self, body: str) -> Page:
        try:
            page = msgspec.json.decode(body, type=Page)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SourceError(f"GetCostAndUsage: the answer is not as AWS documents it: {error}") from None
        found: set[tuple[date, tuple[str, ...]]] = set()
        for result in page.results_by_time:
            day = result.time_period.start
            if not self._first <= day <= self._last:
                raise SourceError(f"GetCostAndUsage: asked for {self._first} to {self._last}, answered for {day}")
            for group in result.groups:
                if len(group.keys) != len(self._query.group_by):
                    raise SourceError(f"GetCostAndUsage: asked for {', '.join(self._query.group_by)}, answered for {', '.join(group.keys)}")
                if (key := (day, group.keys)) in found or key in self._seen:
                    named = ", ".join(group.keys)
                    why = "the figures changed between two pages"
                    raise SourceError(f"GetCostAndUsage: {named} comes twice on {day}: {why}; the next refresh tries again")
                found.add(key)
        self._seen |= found
        return page


def _all_pages(ask: Ask, request: Mapping[str, Any], again: str, reader: _PageReader) -> list[Page]:
    pages: list[Page] = []
    tokens: set[str] = set()
    token = ""
    while True:
        pages.append(ask("get_cost_and_usage", {**request, **({"NextPageToken": token} if token else {})}, again, reader.read))
        token = pages[-1].next_page_token or ""
        if not token:
            return pages
        if token in tokens:
            raise SourceError("GetCostAndUsage: a page names itself as the next one")
        tokens.add(token)
