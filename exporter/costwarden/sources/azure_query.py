"""What Cost Management is asked, and how its rows are read: https://learn.microsoft.com/en-us/rest/api/cost-management/query/usage."""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.model import EXACT
from costwarden.sources.azure_client import AzureClient
from costwarden.sources.requests import SourceError
from costwarden.sources.windows import ONE_DAY

DIMENSIONS = {
    "service": "ServiceName",
    "region": "ResourceLocation",
    "subscription": "SubscriptionId",
    "resource_group": "ResourceGroup",
    "charge_type": "ChargeType",
    "pricing_model": "PricingModel",
}
"""Key of `group_by` -> Cost Management's dimension."""

MOST_GROUPS = 2
"""Azure: "Query can have up to 2 group by clauses"."""

MOST_QUERIES = 60
"""For one month of one scope, where keys take a query for each value: as many query units as Azure gives a tenant in a minute."""

SMALLEST_GAP = Decimal("0.01")
GAP_RATIO = Decimal("0.000001")
"""What the parts of a sum may lack or have more, in units of the currency, and as a share: Azure adds up in floating point."""

Values = tuple[str, ...]


class Line(msgspec.Struct, frozen=True):
    """A row of an answer."""

    day: date
    cost: Decimal | str
    """Text where it is no number."""
    currency: str
    values: Mapping[str, str]
    """Key of `group_by` -> value, empty where there is none."""
    content: str


def months(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The days from `first` to `last`, by calendar month.

    Azure answers a daily query of more than a month with the last month alone, and says nothing of the rest. A longer one is not cheaper
    either: the quota is counted in months of data.
    """
    while first <= last:
        end = min(last, first.replace(day=monthrange(first.year, first.month)[1]))
        yield first, end
        first = end + ONE_DAY


def definition(cost_type: str, first: date, last: date, keys: Sequence[str], only: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The body of a query for the days from `first` to `last`, both included. `only` leaves out what has other values."""
    dataset: dict[str, Any] = {
        "granularity": "Daily",
        "aggregation": {"Cost": {"name": "Cost", "function": "Sum"}},
        "grouping": [_group(key) for key in keys],
    }
    filters = [{"dimensions": {"name": DIMENSIONS[key], "operator": "In", "values": [value]}} for key, value in (only or {}).items()]
    if filters:
        dataset["filter"] = filters[0] if len(filters) == 1 else {"and": filters}
    period = {"from": f"{first}T00:00:00Z", "to": f"{last}T23:59:59Z"}
    return {"type": cost_type, "timeframe": "Custom", "timePeriod": period, "dataset": dataset}


def _group(key: str) -> dict[str, str]:
    if key.startswith("tag:"):
        return {"type": "TagKey", "name": key.removeprefix("tag:")}
    return {"type": "Dimension", "name": DIMENSIONS[key]}


def read_costs(client: AzureClient, scope: str, cost_type: str, first: date, last: date, keys: Sequence[str]) -> Iterator[Line]:
    """The costs of a month, told apart by `keys`: none twice and none left out. Raises `SourceError`.

    With more keys than Azure groups by, one query for the values of the late ones is followed by one for each of them; what those add up
    to is compared with the first.
    """
    early, late = keys[:MOST_GROUPS], keys[MOST_GROUPS:]
    if not late:
        yield from read_lines(client, scope, definition(cost_type, first, last, keys), keys)
        return
    wholes, spellings = _sums(read_lines(client, scope, definition(cost_type, first, last, late), late), late)
    if len(spellings) > MOST_QUERIES:
        raise SourceError(
            f"{scope}: {len(spellings)} combinations of {', '.join(late)} in {first:%Y-%m} would take a query each, "
            f"of at most {MOST_QUERIES}: put a key with fewer values last in `group_by`, or leave one out"
        )
    for values, only in sorted(spellings.items()):
        query = definition(cost_type, first, last, early, only if len(spellings) > 1 else None)
        lines = [msgspec.structs.replace(line, values={**line.values, **only}) for line in read_lines(client, scope, query, early)]
        parts, _ = _sums(lines, late)
        for key in sorted(key for key in wholes.keys() | parts.keys() if key[0] == values):
            _compare(scope, only, key[1], wholes.get(key, Decimal(0)), parts.get(key, Decimal(0)))
        yield from lines


def _sums(lines: Iterable[Line], keys: Sequence[str]) -> tuple[dict[tuple[Values, str], Decimal], dict[Values, dict[str, str]]]:
    """(values, currency) -> sum, and values -> as Azure wrote them. Two spellings of a value are one: a filter takes either for both."""
    sums: dict[tuple[Values, str], Decimal] = {}
    spellings: dict[Values, dict[str, str]] = {}
    for line in lines:
        values = tuple(line.values[name].lower() for name in keys)
        spellings.setdefault(values, {name: line.values[name] for name in keys})
        amount = line.cost if isinstance(line.cost, Decimal) else Decimal(0)
        sums[values, line.currency] = EXACT.add(sums.get((values, line.currency), Decimal(0)), amount)
    return sums, spellings


def _compare(scope: str, only: Mapping[str, str], currency: str, whole: Decimal, parts: Decimal) -> None:
    if abs(EXACT.subtract(whole, parts)) > max(SMALLEST_GAP, abs(whole) * GAP_RATIO):
        named = ", ".join(f"{key} {value!r}" for key, value in only.items())
        raise SourceError(
            f"{scope}: of {named} Azure says {whole:f} {currency} as a whole and {parts:f} {currency} in detail: its data are being "
            "renewed, or a row is missing; the next refresh tries again"
        )


def read_lines(client: AzureClient, scope: str, query: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Line]:
    """The rows of all pages of an answer. Raises `SourceError`, also where one comes twice: then a page has shifted while it was read."""
    seen: set[tuple[str, ...]] = set()
    for properties in client.post(scope, "query", query):
        rows = properties.get("rows")
        if not isinstance(rows, list):
            raise SourceError(f"{scope}: Azure's answer has no rows")
        if rows:
            columns = column_positions(scope, properties)
            places = {key: _position(scope, columns, "TagValue" if key.startswith("tag:") else DIMENSIONS[key]) for key in keys}
            day, cost, currency = (_position(scope, columns, name) for name in ("UsageDate", "Cost", "Currency"))
            for row in rows:
                if not isinstance(row, list) or len(row) != len(columns):
                    raise SourceError(f"{scope}: a row of Azure's answer has not the {len(columns)} columns that it names: {text_of(row)}")
                line = Line(
                    day=day_of(scope, row[day]),
                    cost=row[cost] if isinstance(row[cost], Decimal) else _text(row[cost]),
                    currency=_text(row[currency]).upper(),
                    values={key: _text(row[place]) for key, place in places.items()},
                    content=text_of(row),
                )
                # As it was written, by all that is no cost: two spellings of a value are two rows, an empty one and none too.
                if (key := tuple(repr(value) for place, value in enumerate(row) if place != cost)) in seen:
                    raise SourceError(
                        f"{scope}: a row of Azure's answer comes twice: {line.content}; the figures changed between two pages, and the "
                        "next refresh tries again"
                    )
                seen.add(key)
                yield line


def column_positions(scope: str, properties: Mapping[str, Any]) -> dict[str, int]:
    """Column, in lower case -> its position: it is not the same for all scopes. Raises `SourceError`."""
    try:
        return {str(column["name"]).lower(): position for position, column in enumerate(properties["columns"])}
    except (KeyError, TypeError):
        raise SourceError(f"{scope}: Azure's answer does not name its columns") from None


def _position(scope: str, columns: Mapping[str, int], name: str) -> int:
    position = columns.get(name.lower())
    if position is None:
        raise SourceError(f"{scope}: Azure's answer has no column {name}, only {', '.join(columns)}")
    return position


def day_of(scope: str, value: Any) -> date:
    """A day: a number as 20261120, or the text of a time. Raises `SourceError`, because a cost without a day belongs nowhere."""
    text = format(value, "f") if isinstance(value, Decimal) else _text(value)
    try:
        return date.fromisoformat(text[:10] if "-" in text else f"{text[:4]}-{text[4:6]}-{text[6:]}")
    except ValueError:
        raise SourceError(f"{scope}: Azure's answer has {text!r} for a day") from None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def text_of(row: Any) -> str:
    """A row as a text for people."""
    return ", ".join(map(_text, row)) if isinstance(row, list) else _text(row)
