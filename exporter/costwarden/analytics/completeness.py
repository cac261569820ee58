"""Which days of bills are complete: accounts of one provider are of different age, and a day that one of them lacks is no fallen cost."""

from collections.abc import Collection, Hashable, Mapping
from datetime import date, timedelta
from typing import TypeVar

LATE_DAYS = 3
"""Days that an account is waited for. Later than that it has stopped, or its source is broken, and the others go on without it."""

WEEKS = 4
"""Same weekdays before a day on which an account must have billed to be waited for."""

Account = TypeVar("Account", bound=Hashable)

_ONE_DAY = timedelta(days=1)
_A_WEEK = timedelta(days=7)


def known_up_to(accounts: Mapping[Account, Collection[date]]) -> dict[Account, date]:
    """The last day of which the cost of each account is known, from the days on which the accounts of one provider have billed.

    That is the newest day that any of them has, but for an account that is late: it ends at most `LATE_DAYS` days before, and has billed on
    the weekday of one of the days that it lacks in each of the `WEEKS` weeks before, since it began. It is known up to the day before that.
    So nobody waits for an account that has stopped, that bills once a month, that rests at weekends, or that is younger than a week.
    Accounts without any day are left out.
    """
    found = {account: frozenset(days) for account, days in accounts.items() if days}
    newest = max((max(days) for days in found.values()), default=date.min)
    return {account: _known(days, newest) for account, days in found.items()}


def _known(days: frozenset[date], newest: date) -> date:
    first, last = min(days), max(days)
    if newest - last > _ONE_DAY * LATE_DAYS:
        return newest
    for late in range(1, (newest - last).days + 1):
        day = last + _ONE_DAY * late
        before = [earlier for week in range(1, WEEKS + 1) if (earlier := day - _A_WEEK * week) >= first]
        if before and days.issuperset(before):
            return day - _ONE_DAY
    return newest
