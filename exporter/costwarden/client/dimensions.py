"""Whom a call is for: given to the client, for a stretch of code, or with a single request."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from costwarden.model import DIMENSIONS

NAMES = tuple(name for name in DIMENSIONS if name not in {"provider", "model", "operation"})
"""What an application says of its calls; the other dimensions are read from the request."""

HEADERS = {
    f"x-costwarden-{name.removesuffix('_id').replace('_', '-')}": name  # X-Costwarden-Tenant, -Report-Type, -User, …
    for name in NAMES
}
"""Header of a single request -> the dimension that it sets."""

_NOBODY: Mapping[str, str] = {}
_current: ContextVar[Mapping[str, str]] = ContextVar("costwarden_attribution")


class NoTenant(ValueError):
    """A call names no tenant: costwarden cannot know which budgets it is to be held against."""

    def __init__(self) -> None:
        super().__init__(
            "this call names no tenant: give `tenant_id` to http_client(), to attribution(), or in the header X-Costwarden-Tenant"
        )


def checked(names: Mapping[str, str]) -> dict[str, str]:
    """`names` without the empty ones. Raises `TypeError` for a name that is not in `NAMES`."""
    for name in names:
        if name not in NAMES:
            raise TypeError(f"{name!r} is no attribution; there are {', '.join(NAMES)}")
    return {name: str(value) for name, value in names.items() if value}


@contextmanager
def attribution(**names: str) -> Iterator[None]:
    """Calls made inside are for these: `with attribution(tenant_id="acme", feature="search"): …`.

    It holds for the current thread or task and the tasks that it starts, adds to what an outer `attribution` said, and comes before what
    the client was made with. Raises `TypeError` for a name that is not in `NAMES`.
    """
    token = _current.set({**current(), **checked(names)})
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Mapping[str, str]:
    """What holds here."""
    return _current.get(_NOBODY)


def in_headers(headers: Any) -> dict[str, str]:
    """What the headers of a request say, httpx's or httpx2's."""
    if not any(is_ours(name) for name, _ in headers.raw):
        return {}
    return {name: value for header, name in HEADERS.items() if (value := headers.get(header))}


def is_ours(header: bytes) -> bool:
    """Whether a header is for costwarden, and none of the provider's business."""
    return header.lower() in _RAW_HEADERS


_RAW_HEADERS = {header.encode() for header in HEADERS}
