"""What a source asks a provider for: counted, paid for beforehand where it costs money, and not asked twice."""

import hashlib
from collections.abc import Callable
from typing import Protocol


class SourceError(Exception):
    """A source could not be read at all; what was read before stays as it is. The message says what failed and where."""


class RequestLimitReached(SourceError):
    """A request would cost more than may be spent on requests today; it was not made."""


class Answers(Protocol):
    """Answers that were paid for, kept where a restart finds them."""

    def find(self, request: str) -> str | None:
        """The answer to `request`, unless it is too old."""

    def keep(self, request: str, body: str) -> None:
        """Keep the answer to `request`."""


def _no_limit(cost: int) -> None:
    """Takes any cost."""


def _any_will_do(body: str) -> None:
    """Takes any answer."""


class Requests:
    """The requests of one source. `pay` is called before each that costs money and raises `RequestLimitReached` to forbid it."""

    def __init__(self, pay: Callable[[int], None] = _no_limit, answers: Answers | None = None) -> None:
        self._pay = pay
        self._answers = answers
        self.made = 0
        """Requests made, answered or not."""
        self.cost = 0
        """Nano-dollars that they have cost."""

    def about_to_ask(self, cost: int = 0) -> None:
        """To be called before every request, a repeated one included; `cost` is in nano-dollars.

        Raises `RequestLimitReached` and `LedgerUnavailable`: then the request must not be made.
        """
        if cost:
            self._pay(cost)
        self.made += 1
        self.cost += cost

    def answer(self, request: str, ask: Callable[[], str], check: Callable[[str], None] = _any_will_do) -> str:
        """The answer to `request`, from the kept ones or else from `ask`, which calls `about_to_ask` itself.

        `request` names all that decides the answer: account, operation, every parameter, the page. No secret must be in it. `check` reads
        an answer and raises `SourceError` where it is none: then it is not kept, and one that was kept is asked for anew.
        """
        key = hashlib.sha256(request.encode()).hexdigest()
        if self._answers is not None and (kept := self._answers.find(key)) is not None and _is_good(kept, check):
            return kept
        body = ask()
        check(body)
        if self._answers is not None:
            self._answers.keep(key, body)
        return body


def _is_good(kept: str, check: Callable[[str], None]) -> bool:
    try:
        check(kept)
    except SourceError:
        return False
    return True
