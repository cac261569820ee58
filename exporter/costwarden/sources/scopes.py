"""What one provider answers in several scopes (its costs, its usage, each region), of which one may fail and leave the others alone."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date

from costwarden.sources import Change, Failed, Gone, KnownPart, SourceError, read_of
from costwarden.sources.daily import DailyCosts, KnownDay
from costwarden.sources.windows import ONE_DAY, Window

MOST_NAMED = 10

Scopes = Mapping[str, Callable[[], Iterator[Change]]]
"""Name of a scope -> what reads it."""


def read_scopes(scopes: Scopes, known: Mapping[str, KnownPart], closed: Callable[[], bool]) -> Iterator[Change]:
    """The changes of every scope that can be read whole; a `Failed` named after each that cannot.

    Parts of scopes that there are no more, and the failures of those that work again, are `Gone`. Raises `SourceError` where no scope can
    be read, or `closed` says that there is no one left to read for.
    """
    for part in known:
        if not any(part == scope or part.startswith(f"{scope}/") for scope in scopes):
            yield Gone(part=part)
    failures = []
    for scope, read in scopes.items():
        try:
            # To the end before anything is given: half a scope would be a restatement.
            changes = list(read())
        except SourceError as error:
            if closed():
                raise
            failures.append(str(error))
            yield Failed(part=scope, message=f"{scope}: {error}")
            continue
        if scope in known:
            yield Gone(part=scope)
        yield from changes
    if failures and len(failures) == len(scopes):
        raise SourceError("; ".join(dict.fromkeys(failures)))


def known_days(scope: str, known: Mapping[str, KnownPart]) -> set[date]:
    """The days of `scope` that have been read."""
    prefix = f"{scope}/"
    return {date.fromisoformat(part[len(prefix) :]) for part, found in known.items() if part.startswith(prefix) and found.state == "ok"}


def changed_days(
    costs: DailyCosts, first: date, last: date, known: Mapping[str, KnownPart], only: Collection[date] | None = None
) -> Iterator[Change]:
    """The days from `first` to `last` that have changed, or of those the ones in `only`.

    Raises `SourceError` where the provider has answered for another day.
    """
    wanted = None if only is None else {costs.part(day) for day in only}
    before = {part: KnownDay(found.state, found.fingerprint) for part, found in known.items()}
    try:
        for day in costs.changes(first, last, before):
            if wanted is None or day.part in wanted:
                yield read_of(day)
    except ValueError as error:
        raise SourceError(str(error)) from None


def days_from(first: date, last: date) -> list[date]:
    """From `first` to `last`, both included."""
    return [first + ONE_DAY * number for number in range((last - first).days + 1)]


def days_to_take(window: Window, known: set[date]) -> list[date]:
    """Of the range that `Window.days_to_ask` gives, the days that are missing or to be read again.

    For providers that forget: a day in between that is known may be answered with less than it had.
    """
    asked = window.days_to_ask(known)
    return [] if asked is None else [day for day in days_from(*asked) if day >= window.reread_from or day not in known]


def listed(names: Collection[str]) -> str:
    """`names` in a sentence: the first ten of them, in order."""
    more = len(names) - MOST_NAMED
    return (", ".join(sorted(names)[:MOST_NAMED]) or "none") + (f" and {more} more" if more > 0 else "")
