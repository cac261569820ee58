"""What recorded usage costs by the prices that are known today: the difference as corrections, which are added and never overwrite."""

from collections.abc import Callable, Iterable
from typing import final
from urllib.parse import quote

import msgspec

from costwarden.model import CORRECTION, Priced, Usage
from costwarden.pricing.price_book import FALLBACK, OPERATION, PUBLISHED, UNPRICED

Identity = tuple[str, str]
"""Source and event id, the source quoted as in the event ids of corrections."""


class Rerated(msgspec.Struct, frozen=True):
    """A recorded usage whose cost is not what it would be priced at today."""

    usage: Usage
    cost: int
    """Nano-dollars that it counts with so far, earlier corrections among them."""
    priced_by: str
    """By which price, that of the last correction where there is one."""
    now: Priced
    number: int
    """Which correction of this usage it will be, from 1."""

    @property
    def difference(self) -> int:
        """Nano-dollars that the correction adds; may be negative, and 0 where an unpriced usage turns out to be free."""
        return self.now.cost - self.cost

    def correction(self) -> Usage:
        """The event that is to be recorded: no call and no tokens, the time and dimensions of what it corrects.

        Its event id says whether it priced (`priced`) what had no price or changed one (`rerated`), which correction it is, and of which
        event of which source. So two re-ratings at the same time record one correction, not two.
        """
        kind = "priced" if self.priced_by == UNPRICED else "rerated"
        usage = self.usage
        return Usage(
            source=CORRECTION,
            event_id=f"{kind}:{self.number}:{_identity(usage)[0]}:{usage.event_id}",
            timestamp=usage.timestamp,
            tenant_id=usage.tenant_id,
            provider=usage.provider,
            model=usage.model,
            operation=usage.operation,
            report_type=usage.report_type,
            feature=usage.feature,
            team=usage.team,
            user_id=usage.user_id,
            service=usage.service,
            success=usage.success,
            cost=self.difference,
            priced_by=self.now.priced_by,
            requests=0,
            service_tier=usage.service_tier,
        )


@final
class Rerating:
    """Compares recorded usage with today's prices. `price` is `PriceBook.price`; `corrections` are those recorded so far."""

    def __init__(self, price: Callable[[Usage], Priced], corrections: Iterable[Usage]) -> None:
        self._price = price
        self._corrected: dict[Identity, tuple[int, int, str]] = {}
        for correction in corrections:
            _, _, source, event_id = correction.event_id.split(":", 3)
            number, cost, _ = self._corrected.get((source, event_id), (0, 0, ""))
            self._corrected[source, event_id] = number + 1, cost + correction.cost, correction.priced_by

    def rerate(self, usage: Usage) -> Rerated | None:
        """The change to `usage`; `None` where there is none.

        What the caller or an operator priced stays as they said. A price that nobody knows any more takes nothing back.
        """
        number, corrected, priced_by = self._corrected.get(_identity(usage), (0, 0, usage.priced_by))
        if usage.source == CORRECTION or not _by_the_book(usage.priced_by):
            return None
        now = self._price(usage)
        cost = usage.cost + corrected
        if now.priced_by == UNPRICED or (now.priced_by == FALLBACK and priced_by not in (FALLBACK, UNPRICED)):
            return None
        if now.cost == cost and priced_by != UNPRICED:
            return None
        return Rerated(usage, cost, priced_by, now, number + 1)

    def is_unpriced(self, usage: Usage) -> bool:
        """Whether `usage` counts with no known price, corrections considered."""
        return self._corrected.get(_identity(usage), (0, 0, usage.priced_by))[2] == UNPRICED


def _identity(usage: Usage) -> Identity:
    return quote(usage.source, safe=""), usage.event_id


def _by_the_book(priced_by: str) -> bool:
    return priced_by in (PUBLISHED, OPERATION, FALLBACK, UNPRICED) or priced_by.startswith("override:")
