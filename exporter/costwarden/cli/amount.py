"""Amounts of money on the command line."""

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from costwarden.model import to_nanos


class Amount(click.ParamType[int]):
    """An amount in dollars, from 0 to a billion; the value is nano-dollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            amount = Decimal(str(value))
            nanos = to_nanos(amount)
        except (InvalidOperation, ValueError):
            self.fail(f"{value!r} is not an amount in dollars with at most 9 decimal places", param, ctx)
        if not 0 <= amount <= 1_000_000_000:
            self.fail(f"{value!r} is not between 0 and 1000000000", param, ctx)
        return nanos
