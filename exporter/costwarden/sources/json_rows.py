"""The lines of a provider's JSON answers: their texts and counts, or why one cannot be read."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.sources.requests import SourceError

MOST = 10**15
"""The largest count that is believed, of a line and of a day: some thousand times what the largest customers use, and few enough that the
ledger, which holds 2⁶³ - 1, can add up nine thousand such days."""


class UnreadableRow(Exception):
    """A line that is rejected. `reason` is from a closed set, fit for a label; the text is for a person."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def text_of(row: Mapping[str, Any], name: str) -> str:
    """The text under `name`; empty where it is null or not there."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableRow("broken_row", f"`{name}` is {value!r:.80}, not a text")
    return value


def count_of(row: Mapping[str, Any], name: str) -> int:
    """The count under `name`, a number or its digits; 0 where it is null or not there."""
    value = row.get(name)
    if value is None:
        return 0
    count = whole(value)
    if count is None:
        raise UnreadableRow("bad_count", f"`{name}` is {value!r:.80}: a count is a whole number from 0 to {MOST}")
    return count


def whole(value: Any) -> int | None:
    """`value` as a count; None where it is none."""
    if isinstance(value, str):
        value = int(value) if value.isdecimal() and len(value) < 20 else None
    elif isinstance(value, Decimal | float):
        # Not infinite, not NaN, and few enough digits that making an `int` of them is no work.
        value = int(value) if 0 <= value <= MOST and value == int(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def object_of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under `name`; an empty one where it is null or not there."""
    value = row.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UnreadableRow("broken_row", f"`{name}` is {value!r:.80}, not an object")
    return value


def lines_of(body: Any, name: str, what: str) -> list[Any]:
    """The list under `name`. Raises `SourceError` where there is none: then `what` has answered something else than it should."""
    found = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(found, list):
        raise SourceError(f"{what}: the answer has no list `{name}`")
    return found


def next_page(page: Mapping[str, Any], what: str) -> str:
    """The token of the page after `page` where lists end with `has_more` and `next_page`; empty at the end. Raises `SourceError`."""
    if not page.get("has_more"):
        return ""
    token = page.get("next_page")
    if not isinstance(token, str) or not token:
        raise SourceError(f"{what}: the answer says that there is more, but not where (`next_page`)")
    return token


def object_row(row: Any) -> Mapping[str, Any]:
    """`row`, which is an object. Raises `UnreadableRow` where it is not."""
    if not isinstance(row, Mapping):
        raise UnreadableRow("broken_row", "the line is no object")
    return row


def as_text(row: Any) -> str:
    """The line as it came, for people."""
    return msgspec.json.encode(row).decode()
