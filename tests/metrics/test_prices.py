"""The age of the price list on the page."""

import pytest

from costwarden.metrics.prices import price_collector

NOON = 1_763_208_000_000_000


@pytest.mark.parametrize(
    ("published_at", "samples"),
    [(NOON - 90_000_000, [((), 90.0)]), (NOON + 5_000_000, [((), 0.0)]), (0, [])],
    ids=["a_minute_and_a_half", "a_clock_that_went_back", "unknown"],
)
def test_the_age_is_the_time_since_the_list_was_known_to_be_the_newest(published_at, samples):
    ((family, found),) = price_collector(lambda: published_at, lambda: NOON).collect()
    assert (family.name, list(found)) == ("costwarden_price_data_age_seconds", samples)
