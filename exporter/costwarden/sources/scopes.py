"""What one provider answers in several scopes (its costs, its usage, each region), of which one may fail and leave the others alone."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date

import msgspec

from costwarden.sources import Change, Failed, Gone, KnownPart, SourceError, read_of
from costwarden.sources.daily import NOTHING, DailyCosts, KnownDay, clean
from costwarden.sources.windows import ONE_DAY, Window

MOST_NAMED = 10

OWNS = "|"
"""Between the owner of a day and the day's own fingerprint, which is hexadecimal."""

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
            yield Failed(part=scope, message=_said_of(scope, str(error)))
            continue
        if scope in known:
            yield Gone(part=scope)
        yield from changes
    if failures and len(failures) == len(scopes):
        raise SourceError("; ".join(dict.fromkeys(failures)))


def _said_of(scope: str, sentence: str) -> str:
    return sentence if sentence.startswith(f"{scope}: ") else f"{scope}: {sentence}"


def known_days(scope: str, known: Mapping[str, KnownPart]) -> set[date]:
    """The days of `scope` that have been read."""
    prefix = f"{scope}/"
    return {date.fromisoformat(part[len(prefix) :]) for part, found in known.items() if part.startswith(prefix) and found.state == "ok"}


def changed_days(
    costs: DailyCosts,
    first: date,
    last: date,
    known: Mapping[str, KnownPart],
    only: Collection[date] | None = None,
    *,
    accepts_empty: bool,
    what: str = "cost",
    owner: str = "",
) -> Iterator[Change]:
    """The days from `first` to `last` that have changed, or of those the ones in `only`.

    `what` is `cost`, or `usage` in a scope that has no cost. `owner` is whose the figures are, and is kept with their fingerprints.
    Raises `SourceError` where the provider has answered for another day, and `NothingLeft`.
    """
    wanted = None if only is None else {costs.part(day) for day in only}
    before = {part: _known_day(found, owner, is_usage=what == "usage") for part, found in known.items() if wanted is None or part in wanted}
    try:
        for day in costs.changes(first, last, before, accepts_empty=accepts_empty, what=what):
            if wanted is None or day.part in wanted:
                read = read_of(day)
                yield msgspec.structs.replace(read, fingerprint=_owned(owner, read.fingerprint))
    except ValueError as error:
        raise SourceError(str(error)) from None


def _known_day(found: KnownPart, owner: str, *, is_usage: bool) -> KnownDay:
    whose, _, fingerprint = found.fingerprint.rpartition(OWNS)
    figures = fingerprint if is_usage and fingerprint not in NOTHING else found.figures
    # A day whose owner was not known is read to a part that names it.
    return KnownDay(found.state, fingerprint if whose == owner else "", figures)


def _owned(owner: str, fingerprint: str) -> str:
    return f"{owner}{OWNS}{fingerprint}" if owner else fingerprint


def only_owner(who: str, found: str, known: Mapping[str, KnownPart]) -> str:
    """Whose the figures are: `found` in the answers, or else whose they were before; empty where neither is known.

    Raises `SourceError` where they were another's: its days would stay beside the new ones.
    """
    found = clean(found)
    owners = {part.fingerprint.rpartition(OWNS)[0] for part in known.values()} - {""}
    if found and owners and found not in owners:
        raise SourceError(
            f"{who}: the key is one of the organisation {found}, but what was read before is of {listed(owners)}, and it stays: give "
            f"{found} a source of its own, with another `name`, or this one a key of {listed(owners)}"
        )
    return found or min(owners, default="")


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
