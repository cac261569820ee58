"""Which days a source is asked for."""

from collections.abc import Collection
from datetime import date, timedelta

import msgspec

ONE_DAY = timedelta(days=1)


class Window(msgspec.Struct, frozen=True):
    """Days (UTC), `first` and `last` included. Those from `reread_from` on are asked for even where they are known already."""

    first: date
    reread_from: date
    last: date

    def days_to_ask(self, known: Collection[date]) -> tuple[date, date] | None:
        """The first and the last day to ask for, where the days `known` are there already; None where there is nothing to ask.

        One range: a gap in the past is asked for with all that came after it, because a request costs more than the days that it spans.
        """
        days = [self.first + ONE_DAY * number for number in range((self.last - self.first).days + 1)]
        wanted = [day for day in days if day >= self.reread_from or day not in known]
        return (wanted[0], wanted[-1]) if wanted else None


def usual_window(today: date, history_days: int, reread_days: int) -> Window:
    """What a refresh on schedule asks for: `history_days` before `today`, the last `reread_days` of them again, and today."""
    first = today - ONE_DAY * max(history_days, reread_days)
    return Window(first, today - ONE_DAY * reread_days, today)
