"""Whose cost the bills are: what is attributed and what is not, and what of a bill is allocated by others."""

from collections.abc import Collection
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, literal_column, select

from costwarden.ledger.schema import charges
from costwarden.model import ALLOCATED

TAGGABLE = ("Usage", "Purchase")
"""Charge categories whose cost somebody decides on. Taxes, credits and adjustments carry no tags of resources: nobody could set them."""


def attributed_costs(
    connection: Connection, basis: str, columns: Collection[str], *, first: date, last: date, provider: str = ""
) -> list[tuple[Any, ...]]:
    """(*columns, exact dollars) of what can be attributed in the days from `first` to `last`, in no order.

    What is allocated by one provider and billed by another (`model.ALLOCATED`) is there only where `provider` names the former: else it
    would count twice.
    """
    keys = [charges.c[name] for name in columns]
    within = charges.c.charge_date.between(first.isoformat(), last.isoformat())
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).where(within).group_by(*keys)
    if provider:
        query = query.where(charges.c.provider_name == provider, charges.c.charge_category.in_((*TAGGABLE, ALLOCATED)))
    else:
        query = query.where(charges.c.charge_category.in_(TAGGABLE))
    return [(*row[:-1], Decimal(row[-1])) for row in connection.execute(query) if row[-1] is not None]


def allocated_by_month(connection: Connection, basis: str) -> list[tuple[str, str, Decimal]]:
    """(provider_name, `YYYY-MM`, exact dollars) of what stands in another provider's bill."""
    month = func.substr(charges.c.charge_date, literal_column("1"), literal_column("7"))
    keys = (charges.c.provider_name, month)
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).where(charges.c.charge_category == ALLOCATED)
    return [(row[0], row[1], Decimal(row[2])) for row in connection.execute(query.group_by(*keys).order_by(*keys))]


def allocated_by_day(
    connection: Connection, basis: str, sources: Collection[str], *, first: date, last: date
) -> dict[tuple[str, str], Decimal]:
    """(source, day) -> exact dollars that `sources` have allocated of other providers' bills."""
    keys = (charges.c.source, charges.c.charge_date)
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).where(
        charges.c.source.in_(sources),
        charges.c.charge_category == ALLOCATED,
        charges.c.charge_date.between(first.isoformat(), last.isoformat()),
    )
    return {(row[0], row[1]): Decimal(row[2]) for row in connection.execute(query.group_by(*keys))}


def billed_by_day(connection: Connection, basis: str, provider: str, *, first: date, last: date) -> dict[str, Decimal]:
    """Day -> exact dollars of a provider's own bill, taxes and credits included."""
    query = select(charges.c.charge_date, func.decimal_sum(charges.c[f"{basis}_usd"])).where(
        charges.c.provider_name == provider,
        charges.c.charge_category != ALLOCATED,
        charges.c.charge_date.between(first.isoformat(), last.isoformat()),
    )
    return {row[0]: Decimal(row[1]) for row in connection.execute(query.group_by(charges.c.charge_date))}
