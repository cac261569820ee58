from collections.abc import Callable
from datetime import datetime

import pytest

from costwarden.model import Usage, to_micros
from costwarden.pricing import PriceBook, PricingSettings

UsageMaker = Callable[..., Usage]


@pytest.fixture(scope="session")
def at() -> Callable[[str], int]:
    """Microseconds of an ISO time with its zone."""
    return lambda text: to_micros(datetime.fromisoformat(text))


@pytest.fixture(scope="session")
def usage(at: Callable[[str], int]) -> UsageMaker:
    """A usage with the given fields, at noon of the day on which the guide was written unless said otherwise."""

    def make(timestamp: str = "2025-11-15T12:00:00+00:00", **fields: object) -> Usage:
        return Usage(source="test", event_id="1", timestamp=at(timestamp), **fields)

    return make


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """A price book without any configuration."""
    return PriceBook(PricingSettings())
