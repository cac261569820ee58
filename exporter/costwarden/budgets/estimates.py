"""How large a call will be that does not say: as large as 95 % of the newest calls like it were.

What is learned comes from the ledger alone, so that a restart forgets nothing, replicas agree, and no call counts twice.
"""

from array import array
from collections import OrderedDict
from typing import Protocol, final

from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Connection
from costwarden.ledger.sizes import CallSize, newest_sizes

WINDOW = 512
"""Calls of a kind that are remembered, 8 bytes for each of their two sizes. With the 95th percentile an estimate rises once 26 of them
are larger, and falls once all but 25 are smaller."""

MOST_KINDS = 1024
"""Kinds of calls that are remembered, in 8 MiB; past it the one goes whose last call is the longest ago. Names come from callers."""

FIRST_LOOK = 10_000
"""Events that are read at start-up."""

NEXT_LOOK = 2_000
"""Events that are read at most at each later look: a sample of a busy second says as much as all of it."""

Kind = tuple[str, str, str]
"""Provider, model and operation. An empty provider or operation stands for every one: a check that does not name it asks for all."""


class Unsized(Protocol):
    """A call that is asked about: what `CheckRequest` has of it."""

    provider: str
    model: str
    operation: str
    estimated_input_tokens: int | None
    estimated_output_tokens: int | None


@final
class _Newest:
    """The input and output tokens of the newest calls of a kind, in two rings."""

    __slots__ = ("_next", "input_tokens", "output_tokens")

    def __init__(self) -> None:
        self.input_tokens = array("q")
        self.output_tokens = array("q")
        self._next = 0

    def add(self, call: CallSize) -> None:
        if len(self.input_tokens) < WINDOW:
            self.input_tokens.append(call.input_tokens)
            self.output_tokens.append(call.output_tokens)
        else:
            self.input_tokens[self._next] = call.input_tokens
            self.output_tokens[self._next] = call.output_tokens
            self._next = (self._next + 1) % WINDOW

    def __len__(self) -> int:
        return len(self.input_tokens)


class LearnedSizes:
    """What a call of a provider, model and operation is taken for that does not say how large it may be.

    `refresh` is called by one thread at a time; everything else may be asked from any thread meanwhile.
    """

    def __init__(self, settings: BudgetsSettings) -> None:
        self._settings = settings
        self._calls: OrderedDict[Kind, _Newest] = OrderedDict()
        self._named: set[Kind] = set()
        self._last_usage_id: int | None = None
        self._rule = 0, 0
        # Replaced as a whole, never changed: whoever reads it needs no lock.
        self._estimates: dict[Kind, tuple[int, int]] = {}

    def configure(self, settings: BudgetsSettings) -> None:
        """Use `settings`: the assumptions at once, the percentile and the least number of calls from the next `refresh` on."""
        self._settings = settings

    def refresh(self, connection: Connection) -> None:
        """Learn from what was recorded since the last time, by this process and by others."""
        limit = FIRST_LOOK if self._last_usage_id is None else NEXT_LOOK
        # Replicas commit out of order, and a row below the last id is passed over: a statistic can do without it.
        self._last_usage_id, calls = newest_sizes(connection, self._last_usage_id or 0, limit)
        changed = self._learn(calls)
        kept = {kind: found for kind, found in self._estimates.items() if kind in self._calls}
        rule = self._settings.estimate_percentile, self._settings.estimate_minimum_calls
        if rule != self._rule:
            self._rule, changed, kept = rule, set(self._calls), {}
        percentile, least = rule
        self._estimates = kept | {kind: _estimate(self._calls[kind], percentile) for kind in changed if len(self._calls[kind]) >= least}

    def _learn(self, calls: list[CallSize]) -> set[Kind]:
        changed = set()
        for call in calls:
            named = (call.provider, call.model, call.operation)
            self._named.add(named)
            for kind in {named, ("", call.model, call.operation), (call.provider, call.model, ""), ("", call.model, "")}:
                newest = self._calls.get(kind)
                if newest is None:
                    newest = self._calls[kind] = _Newest()
                self._calls.move_to_end(kind)
                newest.add(call)
                changed.add(kind)
        while len(self._calls) > MOST_KINDS:
            gone, _ = self._calls.popitem(last=False)
            self._named.discard(gone)
            changed.discard(gone)
        return changed

    def input_tokens(self, provider: str, model: str, operation: str) -> int | None:
        """Input tokens, cached ones included, that a call like this is taken for; None where too few are recorded."""
        found = self._estimates.get((provider, model, operation))
        return None if found is None else found[0]

    def output_tokens(self, provider: str, model: str, operation: str) -> int | None:
        """Output tokens, reasoning included, that a call like this is taken for; None where too few are recorded."""
        found = self._estimates.get((provider, model, operation))
        return None if found is None else found[1]

    def sizes(self, request: Unsized) -> tuple[int, int]:
        """Input and output tokens of a call: what it says itself, else what calls like it were, else what the configuration assumes."""
        learned = self._estimates.get((request.provider, request.model, request.operation))
        if learned is None:
            learned = self._settings.assumed_input_tokens, self._settings.assumed_output_tokens
        given = request.estimated_input_tokens, request.estimated_output_tokens
        return learned[0] if given[0] is None else given[0], learned[1] if given[1] is None else given[1]

    def estimated_output_tokens(self) -> dict[Kind, int]:
        """The estimates of all kinds that calls have named, as (provider, model, operation)."""
        named = self._named.copy()
        return {kind: tokens for kind, (_, tokens) in self._estimates.items() if kind in named}


def _estimate(newest: _Newest, percentile: int) -> tuple[int, int]:
    return _percentile(newest.input_tokens, percentile), _percentile(newest.output_tokens, percentile)


def _percentile(sizes: "array[int]", percentile: int) -> int:
    """By nearest rank: the smallest size that so many percent of the sizes do not pass."""
    return sorted(sizes)[-(-len(sizes) * percentile // 100) - 1]
