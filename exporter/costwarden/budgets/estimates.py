"""How large a call will be that does not say: as large as 95 % of its tenant's newest calls like it were.

No tenant's calls say anything about another's: what one sends must neither move what others are refused for, nor show in their estimates.
What is learned comes from the ledger alone, so that a restart forgets nothing, replicas agree, and no call counts twice.
"""

from array import array
from collections import OrderedDict
from typing import Protocol, final

from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Connection
from costwarden.ledger.sizes import CallSize, newest_sizes

WINDOW = 512
"""Calls of a kind that are remembered, 4 bytes for each of their two sizes. With the 95th percentile an estimate rises once 26 of them
are larger, and falls once all but 25 are smaller."""

MOST_KINDS = 4096
"""Kinds of calls that are remembered, in 16 MiB. Past it, the oldest go of the tenant whose last call is the longest ago."""

MOST_KINDS_OF_A_TENANT = 256
"""Past it, the one goes whose last call is the longest ago. Names come from callers, and no tenant shall push the others' out with them."""

FIRST_LOOK = 10_000
"""Events that are read at start-up."""

NEXT_LOOK = 2_000
"""Events that are read at most at each later look: a sample of a busy second says as much as all of it."""

Model = tuple[str, str, str]
"""Provider, model and operation."""

Kind = tuple[str, str, str, str]
"""As `Model`, after the tenant. An empty provider or operation stands for every one: a check that does not name it asks for all."""


class Unsized(Protocol):
    """A call that is asked about: what `CheckRequest` has of it."""

    tenant_id: str
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
        self.input_tokens = array("i")
        self.output_tokens = array("i")
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
    """What a tenant's call of a provider, model and operation is taken for that does not say how large it may be.

    `refresh` is called by one thread at a time; everything else may be asked from any thread meanwhile.
    """

    def __init__(self, settings: BudgetsSettings) -> None:
        self._settings = settings
        # By tenant: the one that called last, and its kind that was called last, are at the end.
        self._calls: OrderedDict[str, OrderedDict[Kind, _Newest]] = OrderedDict()
        self._kinds = 0
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
        known = {kind: newest for kinds in self._calls.values() for kind, newest in kinds.items()}
        kept = {kind: found for kind, found in self._estimates.items() if kind in known}
        rule = self._settings.estimate_percentile, self._settings.estimate_minimum_calls
        if rule != self._rule:
            self._rule, changed, kept = rule, set(known), {}
        percentile, least = rule
        self._estimates = kept | {kind: _estimate(known[kind], percentile) for kind in changed if len(known[kind]) >= least}

    def _learn(self, calls: list[CallSize]) -> set[Kind]:
        changed: set[Kind] = set()
        for call in calls:
            kinds = self._calls.setdefault(call.tenant_id, OrderedDict())
            self._calls.move_to_end(call.tenant_id)
            named = call.tenant_id, call.provider, call.model, call.operation
            self._named.add(named)
            tenant, provider, model, operation = named
            # Each once, in an order of its own and not that of hashes: of one call the most exact kind is forgotten first, everywhere.
            for kind in dict.fromkeys((named, (tenant, "", model, operation), (tenant, provider, model, ""), (tenant, "", model, ""))):
                newest = kinds.get(kind)
                if newest is None:
                    newest = kinds[kind] = _Newest()
                    self._kinds += 1
                kinds.move_to_end(kind)
                newest.add(call)
                changed.add(kind)
            while len(kinds) > MOST_KINDS_OF_A_TENANT:
                changed.discard(self._forget(kinds))
            while self._kinds > MOST_KINDS:
                tenant, oldest = next(iter(self._calls.items()))
                changed.discard(self._forget(oldest))
                if not oldest:
                    del self._calls[tenant]
        return changed

    def _forget(self, kinds: OrderedDict[Kind, _Newest]) -> Kind:
        gone, _ = kinds.popitem(last=False)
        self._kinds -= 1
        self._named.discard(gone)
        return gone

    def input_tokens(self, tenant_id: str, provider: str, model: str, operation: str) -> int | None:
        """Input tokens, cached ones included, that a call like this is taken for; None where too few are recorded."""
        found = self._estimates.get((tenant_id, provider, model, operation))
        return None if found is None else found[0]

    def output_tokens(self, tenant_id: str, provider: str, model: str, operation: str) -> int | None:
        """Output tokens, reasoning included, that a call like this is taken for; None where too few are recorded."""
        found = self._estimates.get((tenant_id, provider, model, operation))
        return None if found is None else found[1]

    def sizes(self, request: Unsized) -> tuple[int, int]:
        """Input and output tokens of a call: what it says itself, else what the tenant's calls like it were, else the assumption."""
        learned = self._estimates.get((request.tenant_id, request.provider, request.model, request.operation))
        if learned is None:
            learned = self._settings.assumed_input_tokens, self._settings.assumed_output_tokens
        given = request.estimated_input_tokens, request.estimated_output_tokens
        return learned[0] if given[0] is None else given[0], learned[1] if given[1] is None else given[1]

    def estimated_output_tokens(self) -> dict[Model, int]:
        """The largest estimate that any tenant has, of all providers, models and operations that calls have named."""
        named = self._named.copy()
        largest: dict[Model, int] = {}
        for kind, (_, tokens) in self._estimates.items():
            if kind in named:
                largest[kind[1:]] = max(tokens, largest.get(kind[1:], 0))
        return largest


def _estimate(newest: _Newest, percentile: int) -> tuple[int, int]:
    return _percentile(newest.input_tokens, percentile), _percentile(newest.output_tokens, percentile)


def _percentile(sizes: "array[int]", percentile: int) -> int:
    """By nearest rank: the smallest size that so many percent of the sizes do not pass."""
    return sorted(sizes)[-(-len(sizes) * percentile // 100) - 1]
