"""One account of AWS: what has changed of its costs, and what is stated beside them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, TypeVar

import msgspec
import structlog

from costwarden.model import to_nanos
from costwarden.sources import Change, Failed, Gone, KnownPart, Read, Requests, SourceError, Stated, Window, read_of
from costwarden.sources.attribution import Attribution
from costwarden.sources.aws_buckets import BucketSizes
from costwarden.sources.aws_budgets import BudgetReader, describe_budgets
from costwarden.sources.aws_costs import UNKNOWN_CATEGORY, Answered, CostReader, Month
from costwarden.sources.aws_forecast import month_forecast
from costwarden.sources.aws_session import AwsSession, Calls
from costwarden.sources.currency import Rates
from costwarden.sources.daily import DailyCosts, KnownDay
from costwarden.sources.settings import AwsSettings
from costwarden.sources.settings.aws import COST_EXPLORER_USD

log = structlog.get_logger()

T = TypeVar("T")

REQUEST_NANOS = to_nanos(COST_EXPLORER_USD)

# Raised by one where the same answer would be read to other charges: then the days before the window are read again too.
READER_VERSION = 1

RESULTS = {"get_cost_and_usage": "ResultsByTime", "get_cost_forecast": "ForecastResultsByTime"}
"""What an answer must have."""

STATED = ("forecast", "budgets", "buckets")
"""What is stated beside the costs, each as a part of its own."""


class Shared(msgspec.Struct, frozen=True):
    """What all accounts of a source have in common."""

    settings: AwsSettings
    attribution: Attribution
    rates: Rates
    requests: Requests
    calls: Calls

    @property
    def shape(self) -> str:
        """Digest of what decides how an answer is read: a day that was read with another one is read again."""
        settings = self.settings
        split = settings.split_by and settings.split_by.model_dump()
        return _digest([READER_VERSION, settings.group_by, split, settings.billed_metric, settings.effective_metric])


class AccountReader:
    """One account in one refresh."""

    def __init__(self, shared: Shared, session: AwsSession, known: Mapping[str, KnownPart], window: Window) -> None:
        self._shared, self._session, self.number, self._known = shared, session, session.identify(), known
        self._window, self._today = window, window.last
        self._client: Any = None
        self.members: set[str] = set()
        """Accounts whose cost is in the bill, where they are told apart."""
        days = {day: part for name, part in known.items() if (day := _day_of(name, self.number)) and part.state == "ok"}
        self._known_days = {day for day, part in days.items() if part.fingerprint.startswith(shared.shape)}
        # Of a window in the past, nothing is stated: a forecast and a budget are of today.
        self._is_newest = all(day <= self._today for day in days)
        self._is_first_of_the_day = self._is_newest and self._today not in days

    def changes(self) -> list[Change]:
        """All of them; raises `SourceError` where the costs could not be read."""
        settings, note = self._shared.settings, ""
        asked = self._window.days_to_ask(self._known_days)
        wants_forecast = asked is not None and settings.forecast and self._is_due("forecast")
        if asked is not None and wants_forecast:
            # A longer range costs nothing, and the forecast needs the days of the month before it.
            asked = min(asked[0], self._today.replace(day=1)), asked[1]
        costs = DailyCosts(settings.name, self.number, self._shared.attribution, self._shared.rates)
        answered = Answered(set(), Month({}))
        if asked is not None:
            answered = CostReader(settings, self.number, costs, self._shared.rates).read(self._ask, *asked)
            self.members = answered.members
            note = _note(answered)
        changes: list[Change] = []
        if wants_forecast:
            changes += self._stated("forecast", lambda part: self._forecast(part, answered.month))
        if settings.budgets and self._is_newest:
            changes += self._stated("budgets", lambda part: self._budgets(part, answered.month))
        if settings.bucket_sizes and self._is_due("buckets"):
            changes += self._stated("buckets", self._buckets)
        changes += self._not_wanted()
        if asked is not None:
            changes += self._days(costs, answered, asked, note)
        return changes

    def _ask(self, operation: str, parameters: Mapping[str, Any], again: str, read: Callable[[str], T]) -> T:
        """Ask Cost Explorer, unless the answer was kept; as `Ask`."""
        found: list[T] = []

        def sent() -> str:
            answer = getattr(self._client, operation)(**parameters)
            if RESULTS[operation] not in answer:
                # What botocore makes of an answer that broke off: it must not be kept.
                raise SourceError(f"{operation}: the answer broke off, or is not as AWS documents it")
            return msgspec.json.encode({name: value for name, value in answer.items() if name != "ResponseMetadata"}).decode()

        def send() -> str:
            self._client = self._client or self._session.client("ce", cost=REQUEST_NANOS)
            return self._session.ask(sent)

        def check(body: str) -> None:
            found[:] = [read(body)]

        request = ["aws", self._shared.settings.access.endpoint_url or "", self.number, operation, parameters, again]
        self._shared.requests.answer(json.dumps(request, sort_keys=True), send, check)
        return found[0]

    def _is_due(self, what: str) -> bool:
        """Whether it is the first time today, or failed the last time."""
        before = self._known.get(f"{self.number}/{what}")
        return self._is_first_of_the_day or (self._is_newest and before is not None and before.state == "failed")

    def _stated(self, what: str, read: Callable[[str], tuple[Stated, list[str], str]]) -> list[Change]:
        """What `read` gives: what is stated, sentences of what had to be left out, and a note."""
        part = f"{self.number}/{what}"
        try:
            stated, refused, note = read(part)
        except SourceError as error:
            if self._shared.calls.ended:
                raise
            return [Failed(part=part, message=f"account {self.number}: {what}: {error}")]
        except Exception as error:
            # The costs are another matter, and are there.
            log.exception("what an account states could not be read", source=self._shared.settings.name, part=part)
            return [Failed(part=part, message=f"account {self.number}: {what}: {type(error).__name__}: {error}")]
        if refused:
            return [stated, Failed(part=part, message=f"account {self.number}: {'; '.join(refused)}")]
        if note:
            return [stated, _noted(part, note)]
        return [stated, *([Gone(part=part)] if part in self._known else [])]

    def _forecast(self, part: str, month: Month) -> tuple[Stated, list[str], str]:
        shared = self._shared
        figures = month_forecast(shared.settings, self.number, part, shared.rates, self._ask, self._today, month)
        note = "AWS has no forecast yet: the account has too little history" if figures is None else ""
        return Stated(part=part, figures=figures or ()), [], note

    def _budgets(self, part: str, month: Month) -> tuple[Stated, list[str], str]:
        described = describe_budgets(self._session, self.number)
        reader = BudgetReader(self._shared.settings, self.number, part, self._shared.rates, self._today, month)
        budgets, refused = reader.read(described)
        return Stated(part=part, budgets=budgets), refused, ""

    def _buckets(self, part: str) -> tuple[Stated, list[str], str]:
        sizes = BucketSizes(self._shared.settings, self._session, self.number, part).read(self._today)
        return Stated(part=part, figures=sizes), [], ""

    def _not_wanted(self) -> list[Change]:
        """Takes back what was stated before it was switched off, once a day: there is no other sign of it."""
        settings = self._shared.settings
        wanted = {"forecast": settings.forecast, "budgets": settings.budgets, "buckets": settings.bucket_sizes}
        off = [f"{self.number}/{what}" for what, is_wanted in wanted.items() if not is_wanted]
        taken: list[Change] = [Stated(part=part) for part in off if self._is_first_of_the_day]
        return taken + [Gone(part=part) for part in off if part in self._known]

    def _days(self, costs: DailyCosts, answered: Answered, asked: tuple[date, date], note: str) -> Iterator[Read]:
        def prefix(part: str) -> str:
            return self._shared.shape + (_digest(note) if note and part == costs.part(self._today) else "") + "."

        def without(prefix: str, fingerprint: str) -> str:
            return fingerprint.removeprefix(prefix) if fingerprint.startswith(prefix) else ""

        before = {name: KnownDay(part.state, without(prefix(name), part.fingerprint), part.figures) for name, part in self._known.items()}
        for day in costs.changes(*asked, before, accepts_empty=self._shared.settings.accept_empty_answers):
            # A day that AWS has not answered for stays as it is, and is asked for again.
            if _day_of(day.part, self.number) in answered.days:
                message = "; ".join(filter(None, (day.message, note if day.part == costs.part(self._today) else "")))
                yield read_of(msgspec.structs.replace(day, fingerprint=prefix(day.part) + day.fingerprint, message=message))


def _noted(part: str, note: str) -> Read:
    """A part that holds nothing but a sentence."""
    return Read(part=part, fingerprint="", figures="", rows=0, rounded=0, rejected={}, rejected_rows=(), message=note, charges=())


def _note(answered: Answered) -> str:
    notes = []
    if answered.estimated_since is not None:
        notes.append(f"AWS calls the days since {answered.estimated_since} an estimate")
    if answered.unknown_types:
        names = ", ".join(repr(name) for name in sorted(answered.unknown_types))
        notes.append(f"record types that costwarden does not know count as {UNKNOWN_CATEGORY}: {names}")
    return "; ".join(notes)


def _day_of(part: str, account: str) -> date | None:
    scope, _, name = part.rpartition("/")
    try:
        return date.fromisoformat(name) if scope == account else None
    except ValueError:
        return None


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:12]
