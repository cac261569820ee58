"""Prices of operations that are sold by the piece and not by the token."""

from collections.abc import Mapping
from decimal import Decimal

from costwarden.pricing.rates import CompiledPrice, Rates

# The operation cost table of the requirements ("Set Up Cost Monitoring Alerts", `OPERATION_COSTS`): USD for each image that is made.
_USD: Mapping[str, Mapping[str, str]] = {
    "replicate": {
        "generateImage": "0.0052",
        "upscaleImage": "0.0104",
        "styleTransfer": "0.0156",
        "outpaint": "0.0208",
        "inpaint": "0.0156",
    },
    "stability": {
        "generateImage": "0.0020",
        "upscaleImage": "0.0060",
        "styleTransfer": "0.0080",
        "outpaint": "0.0100",
        "inpaint": "0.0080",
    },
    "gemini": {
        "generateImage": "0.0025",
    },
}

_PRICES = {
    (provider, operation.lower()): CompiledPrice([(-1, Rates(image=Decimal(usd)))])
    for provider, prices in _USD.items()
    for operation, usd in prices.items()
}


def operation_price(provider: str, operation: str) -> CompiledPrice | None:
    """The price of an image of `operation` at `provider`, case aside; `None` where the table has no such operation."""
    return _PRICES.get((provider.lower(), operation.lower()))
