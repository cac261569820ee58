"""A source opened for a ledger: its secrets, its paid requests and its kept answers are the ledger's."""

from collections.abc import Callable
from functools import partial

import msgspec

from costwarden.ledger import Ledger
from costwarden.ledger.reading import find_answer, keep_answer, pay_request
from costwarden.model import MICROS_PER_SECOND, dollars, from_micros, from_nanos, to_nanos
from costwarden.settings import Secret
from costwarden.sources import RequestLimitReached, Requests, Source, Surroundings, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings

ANSWER_AGE_RATIO = 0.9
"""Share of the interval for which a paid answer is as good as a new one. A refresh on schedule comes later than that and asks anew; one
after a restart or a reload comes earlier and is free."""


class Reading(msgspec.Struct, frozen=True):
    """A source, and the requests that it makes."""

    source: Source
    requests: Requests
    paid: list[int]
    """One for each request that was noted in the ledger before it was made."""

    @property
    def free_requests(self) -> int:
        """Requests made so far that the ledger does not know yet."""
        return self.requests.made - len(self.paid)


class _KeptAnswers:
    """The answers to one source, in the ledger. Written and read in transactions of their own."""

    def __init__(self, ledger: Ledger, source: str, max_age: Callable[[], int], now: Callable[[], int], *, keeps: bool = True) -> None:
        self._ledger, self._source, self._max_age, self._now, self._keeps = ledger, source, max_age, now, keeps

    def find(self, request: str) -> str | None:
        with self._ledger.read() as connection:
            return find_answer(connection, self._source, request, self._now() - self._max_age())

    def keep(self, request: str, body: str) -> None:
        if not self._keeps:
            return
        at = self._now()
        self._ledger.write(partial(keep_answer, source=self._source, request=request, body=body, now=at, since=at - self._max_age()))


def open_for_ledger(
    ledger: Ledger,
    settings: SourceSettings,
    attribution: AttributionSettings,
    rates: ExchangeRates,
    *,
    reveal: Callable[[Secret], str],
    now: Callable[[], int],
) -> Reading:
    """The source that `settings` describes; raises what opening it raises."""
    limit = to_nanos(settings.daily_request_limit_usd)
    paid: list[int] = []

    def pay(cost: int) -> None:
        day = from_micros(now()).date().isoformat()
        already = ledger.write(partial(pay_request, source=settings.name, day=day, cost=cost, limit=limit))
        if already is not None:
            raise RequestLimitReached(
                f"the requests of {day} have cost {dollars(from_nanos(already))} of at most {dollars(from_nanos(limit))} "
                f"(`daily_request_limit_usd`), and the next would cost {dollars(from_nanos(cost))}; the figures stay until tomorrow (UTC)"
            )
        paid.append(cost)

    max_age = int(settings.interval_seconds * ANSWER_AGE_RATIO * MICROS_PER_SECOND)
    requests = Requests(pay, _KeptAnswers(ledger, settings.name, lambda: max_age, now))
    return Reading(open_source(settings, attribution, rates, Surroundings(reveal, requests)), requests, paid)


def open_to_compare(
    ledger: Ledger,
    settings: SourceSettings,
    attribution: AttributionSettings,
    rates: ExchangeRates,
    *,
    reveal: Callable[[Secret], str],
    now: Callable[[], int],
) -> Reading:
    """As `open_for_ledger`, but nothing is written and nothing paid: kept answers of any age do, and where there is none, a request that
    costs money raises `RequestLimitReached`."""

    def refuse(cost: int) -> None:
        raise RequestLimitReached(f"no answer is kept that would do, and to ask costs {dollars(from_nanos(cost))} a request")

    requests = Requests(refuse, _KeptAnswers(ledger, settings.name, now, now, keeps=False))
    return Reading(open_source(settings, attribution, rates, Surroundings(reveal, requests)), requests, [])
