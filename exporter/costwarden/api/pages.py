"""What all lists have in common: pages that a cursor goes on from, ranges of time, filters."""

import base64
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import StringConvertor, register_url_convertor

from costwarden.api.problems import Problem
from costwarden.model import DIMENSIONS, from_micros, to_micros

EARLIEST, LATEST = -(1 << 62), 1 << 62
"""Microseconds that are before and after any time that is kept."""

Number = Annotated[int, msgspec.Meta(ge=EARLIEST, le=LATEST)]
"""In a cursor: what a column of the ledger can hold."""

LAST_TIME = to_micros(datetime.max.replace(tzinfo=UTC))
"""The last that can be written in UTC; in another zone the year 9999 goes on."""

T = TypeVar("T")


class Name(StringConvertor):
    """Part of a path that holds any text, slashes too: `org/team`."""

    regex = "(?s:.*)"


class BudgetName(StringConvertor):
    """A budget's name in a path. It ends before the word for what is asked of the budget."""

    regex = "(?s:.*)(?<!/status)(?<!/reset)"


register_url_convertor("name", Name())
register_url_convertor("budget", BudgetName())

Filter = Annotated[str | None, Field(max_length=256)]
Moment = Annotated[str | None, Field(json_schema_extra={"format": "date-time"}, max_length=64)]
"""RFC 3339 with a zone."""
Day = Annotated[str | None, Field(json_schema_extra={"format": "date"}, max_length=10)]


class Query(BaseModel):
    """Parameters of a query: a misspelt filter must not become none."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Range(Query):
    """Parameters that name a range of time."""

    since: Moment = None
    """Nothing earlier, RFC 3339 with a zone."""
    until: Moment = None
    """Nothing at this time or later, RFC 3339 with a zone."""

    @property
    def start(self) -> int:
        """`since` in microseconds. Raises `Problem` 422."""
        return EARLIEST if self.since is None else micros_of("since", self.since)

    @property
    def end(self) -> int:
        """`until` in microseconds. Raises `Problem` 422."""
        return LATEST if self.until is None else micros_of("until", self.until)


class Paging(Query):
    """Parameters of a list."""

    limit: int = Field(default=100, ge=1, le=1000)
    """Most entries of a page."""
    cursor: Annotated[str | None, Field(min_length=1, max_length=2000)] = None
    """`next_cursor` of the page before."""


class DimensionQuery(Query):
    """Filters by the dimensions of usage; empty text stands for usage that names none."""

    tenant_id: Filter = None
    """Only this tenant's."""
    provider: Filter = None
    """Only of this provider, as `anthropic`."""
    model: Filter = None
    """Only of this model."""
    operation: Filter = None
    """Only of this operation, as `chat`."""
    report_type: Filter = None
    """Only for this type of report."""
    feature: Filter = None
    """Only for this feature."""
    team: Filter = None
    """Only this team's."""
    user_id: Filter = None
    """Only this user's; a learner, where users are learners."""
    service: Filter = None
    """Only of this service."""

    @property
    def dimensions(self) -> dict[str, str]:
        """The filters that are given."""
        return {name: value for name in DIMENSIONS if (value := getattr(self, name)) is not None}


async def once(request: Request) -> None:
    """Raises `Problem` 422 where a parameter is given twice: one of two filters would be forgotten.

    And 422 for a parameter, 404 for a path, with the character U+0000: nothing that is kept has it, and PostgreSQL takes no such text.
    """
    if "\0" in request.scope["path"]:
        raise Problem(404, "not_found", "the path names nothing: no name holds the character U+0000")
    for name, value in request.query_params.multi_items():
        if "\0" in name + value:
            raise Problem(422, "invalid_request", f"query.{name}: cannot hold the character U+0000")
    names = [name for name, _ in request.query_params.multi_items() if name != "group_by"]
    for name in names:
        if names.count(name) > 1:
            raise Problem(422, "invalid_request", f"query.{name}: is given twice")


def day_of(name: str, text: str) -> date:
    """A day as 2025-11-01. Raises `Problem` 422."""
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError
        return date.fromisoformat(re.sub("^0000", "0001", text))
    except ValueError:
        raise Problem(422, "invalid_request", f"query.{name}: {text!r} is not a day as 2025-11-01") from None


def micros_of(name: str, text: str) -> int:
    """Microseconds since 1970 UTC of an RFC 3339 time with a zone. Raises `Problem` 422."""
    # A plus sign that nobody encoded has come as a space; years before the first are as good as that one.
    plain = re.sub(r" (?=\d\d:\d\d$)", "+", text).upper()
    plain = re.sub("^0000-", "0001-", plain)
    try:
        if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", plain):
            raise ValueError
        return min(to_micros(datetime.fromisoformat(plain)), LAST_TIME)
    except ValueError:
        raise Problem(
            422, "invalid_request", f"query.{name}: {text!r} is not an RFC 3339 time with a zone, as 2025-11-01T00:00:00Z"
        ) from None


def encode_cursor(place: Any) -> str:
    """Where a page ended, as text that fits a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode_cursor(cursor: str | None, kind: type[T]) -> T | None:
    """The place of a cursor; None where there is no cursor. Raises `Problem` 404 where it is none of this list."""
    if cursor is None:
        return None
    try:
        place = msgspec.json.decode(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True), type=kind)
        if holds_nul(place):
            raise ValueError
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise Problem(404, "unknown_cursor", "there is no page at this cursor: begin without one") from None
    return place


def holds_nul(value: Any) -> bool:
    """Whether a text in `value`, a decoded request, has the character U+0000. What is raw is not looked into."""
    if isinstance(value, msgspec.Struct):
        return any(holds_nul(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return holds_nul(list(value.items()))
    if isinstance(value, list | tuple):
        return any(map(holds_nul, value))
    return isinstance(value, str) and "\0" in value


def page_answer(
    name: str, rows: list[Any], limit: int, place: Callable[[Any], Any], answer: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """`rows`, of which one more than `limit` was read, as a page; `place(row)` is where the next one begins."""
    shown = rows[:limit]
    following = encode_cursor(place(shown[-1])) if len(rows) > limit else None
    return {name: [answer(row) for row in shown], "next_cursor": following}


def time_answer(micros: int) -> str | None:
    """RFC 3339 in UTC; None for 0, which is never."""
    return from_micros(micros).isoformat().replace("+00:00", "Z") if micros else None
