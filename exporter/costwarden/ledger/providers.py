"""What providers say of themselves beside their bills: usage, forecasts, budgets."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select

from costwarden.ledger.bulk import storable, total_of
from costwarden.ledger.schema import REPORTED_KEY, provider_budgets, provider_figures, provider_usage
from costwarden.model import QUANTITIES, ProviderBudget, ProviderFigure, ReportedUsage


def add_reported_usage(connection: Connection, usage: Iterable[ReportedUsage]) -> None:
    """Put what a part says of usage in force; `charges.remove_part` has dropped what it said before."""
    rows = [
        {name: storable(value) if isinstance(value, str) else value for name, value in msgspec.structs.asdict(line).items()}
        | {"usage_date": line.usage_date.isoformat()}
        for line in usage
    ]
    if rows:
        connection.execute(insert(provider_usage), rows)


def replace_stated(
    connection: Connection, source: str, part: str, figures: Iterable[ProviderFigure], budgets: Iterable[ProviderBudget]
) -> None:
    """Put what a provider states in force, in place of all that `part` stated before. What it states twice holds as it was stated last."""
    for table in (provider_figures, provider_budgets):
        connection.execute(delete(table).where(table.c.source == source, table.c.part == part))
    values = {(figure.metric, _labels(figure.labels)): format(figure.value, "f") for figure in figures}
    texts = [
        {"source": source, "part": part, "metric": metric, "labels": labels, "value": value} for (metric, labels), value in values.items()
    ]
    if texts:
        connection.execute(insert(provider_figures), texts)
    rows = {}
    for budget in budgets:
        names = {name: storable(getattr(budget, name)) for name in ("provider_name", "account_id", "budget", "period")}
        amounts = {name: _text(getattr(budget, name)) for name in ("limit_usd", "spent_usd", "forecast_usd")}
        rows[tuple(names.values())] = {"source": source, "part": part} | names | amounts
    if rows:
        connection.execute(insert(provider_budgets), [*rows.values()])


def _labels(values: Iterable[str]) -> str:
    return msgspec.json.encode([storable(value) for value in values]).decode()


def _text(amount: Decimal | None) -> str:
    return "" if amount is None else format(amount, "f")


def read_figures(connection: Connection) -> list[ProviderFigure]:
    """All that providers state, of all sources."""
    query = select(provider_figures).order_by(*provider_figures.primary_key.columns)
    return [
        ProviderFigure(
            source=row["source"],
            part=row["part"],
            metric=row["metric"],
            labels=msgspec.json.decode(row["labels"], type=tuple[str, ...]),
            value=Decimal(row["value"]),
        )
        for row in connection.execute(query).mappings()
    ]


def read_provider_budgets(connection: Connection) -> list[ProviderBudget]:
    """All budgets that are kept at providers."""
    query = select(provider_budgets).order_by(*provider_budgets.primary_key.columns)
    amounts = ("limit_usd", "spent_usd", "forecast_usd")
    return [
        ProviderBudget(**{**row, **{name: Decimal(row[name]) if row[name] else None for name in amounts}})
        for row in connection.execute(query).mappings()
    ]


def reported_usage(connection: Connection, by: Iterable[str], *, first: date, last: date) -> list[tuple[Any, ...]]:
    """(*by, *quantities) of the days from `first` to `last`; `by` names columns of `REPORTED_KEY`, quantities are as `QUANTITIES`."""
    names = [*by]
    if unknown := set(names) - set(REPORTED_KEY):
        raise ValueError(f"reported usage has no {sorted(unknown)}")
    keys = [provider_usage.c[name] for name in names]
    query = select(*keys, *(total_of(provider_usage.c[name]) for name in QUANTITIES)).group_by(*keys).order_by(*keys)
    return [tuple(row) for row in connection.execute(query.where(provider_usage.c.usage_date.between(first.isoformat(), last.isoformat())))]
