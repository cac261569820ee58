"""The months before what the schedule reads: one after the other, each put in force as soon as it is read, so that an end loses one."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import msgspec

from costwarden.ledger import Ledger
from costwarden.ledger.charges import Refresh
from costwarden.model import from_micros
from costwarden.sources.windows import ONE_DAY, Window
from costwarden.sync.reading import Reading
from costwarden.sync.refresh import refresh

BACKFILL = "backfill"
"""The reader, as the server is one."""


class Month(msgspec.Struct, frozen=True):
    """A month that was read, or could not be."""

    first: date
    last: date
    refresh: Refresh


def months_before(today: date, months: int) -> list[tuple[date, date]]:
    """First and last day of the month of `today` and of those before it, the newest first; the newest ends with `today`."""
    found = []
    last = today
    for _ in range(months):
        found.append((last.replace(day=1), last))
        last = last.replace(day=1) - timedelta(days=1)
    return found


def backfill(
    ledger: Ledger, name: str, open_it: Callable[[], Reading], now: Callable[[], int], *, months: int, again: bool = False
) -> Iterator[Month]:
    """Read the days of the last `months` that are not known yet or had rows rejected, or with `again` all of them, a month at a time.

    Ends at the first month that could not be read; what came before it is in force. Raises what `refresh` raises.
    """
    for first, last in months_before(from_micros(now()).date(), months):
        window = Window(first, first if again else last + ONE_DAY, last)
        reading = open_it()
        try:
            done = refresh(ledger, name, reading, now, window=window, reader=BACKFILL, rejected_again=True)
        finally:
            reading.source.close()
        yield Month(first, last, done)
        if done.failure:
            return
