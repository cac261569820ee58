"""How old the published prices are that usage is priced by."""

from collections.abc import Callable, Iterator

from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import MICROS_PER_SECOND


def price_collector(published_at: Callable[[], int], now: Callable[[], int]) -> Collector:
    """The collector of the age of the price list; both arguments give microseconds since 1970 UTC, `published_at` 0 where it is unknown."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        at = published_at()
        yield FAMILIES["costwarden_price_data_age_seconds"], [((), max(0, now() - at) / MICROS_PER_SECOND)] if at else []

    return Collector("prices", collect)
