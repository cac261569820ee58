"""From tokens, images and operations to money: the price that was in force at the time of the usage, exact, and never a silent zero."""

from costwarden.pricing.price_book import FALLBACK, UNPRICED, Alternative, PriceBook, UnknownPrice
from costwarden.pricing.refresh import PriceRefresh, RefreshError
from costwarden.pricing.settings import PricingSettings, RefreshSettings

__all__ = [
    "FALLBACK",
    "UNPRICED",
    "Alternative",
    "PriceBook",
    "PriceRefresh",
    "PricingSettings",
    "RefreshError",
    "RefreshSettings",
    "UnknownPrice",
]
