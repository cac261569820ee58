"""What bills say of AI providers' days, and whether they say all of it."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from costwarden.ledger import Connection
from costwarden.ledger.charges import Part, breakdown, read_parts
from costwarden.ledger.figures import source_states
from costwarden.ledger.reconciliation import bill_spans
from costwarden.model import EXACT, from_micros
from costwarden.reconciliation.lines import matches
from costwarden.reconciliation.settings import ReconciledProvider, ReconciliationSettings

_PART_OF_A_DAY = re.compile(r"(.*)/([0-9]{4}-[0-9]{2}-[0-9]{2})", re.DOTALL)
"""How sources that ask day by day name their parts, see `sources.daily`."""

NOT_BILLS = ("usage", "forecast", "budgets", "buckets")
"""Last part of the names of what sources read beside costs: it may fail, or be there alone, and says nothing of the bill."""


class BilledLine(msgspec.Struct, frozen=True):
    """What one line of a bill has cost on a day."""

    provider: str
    day: date
    name: str
    cost: Decimal


class Bills:
    """What bills say of some days, and whether they say all of it."""

    def __init__(
        self, connection: Connection, settings: ReconciliationSettings, providers: Sequence[ReconciledProvider], first: date, last: date
    ) -> None:
        self._lag = timedelta(days=settings.lag_days)
        self._allow_rejected = settings.allow_rejected_rows
        self.compared: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
        self.not_compared: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
        self.lines: list[BilledLine] = []
        self._billed: set[tuple[str, str, date]] = set()
        """(name in the bill, source, day) that has any charge, of whatever service."""
        self._taken: dict[tuple[str, date], dict[tuple[str, str], set[str]]] = defaultdict(lambda: defaultdict(set))
        """By (provider, day): (name in the bill, billing account) -> the sources that have its charges, where no one source was chosen."""
        names = {bill.provider for entry in providers for bill in entry.bills}
        self._spans = bill_spans(connection, names)
        self._sources = {source: _SourceState() for _, source, _, _ in self._spans}
        self._read_sources(connection)
        # One look at the charges for all providers: there is no index by provider.
        columns = ("provider_name", "charge_date", "source", "service_name", "charge_category", "billing_account_id")
        for name, day_text, source, service, category, account, cost in breakdown(
            connection, settings.cost_basis, columns, first=first, last=last
        ):
            day = date.fromisoformat(day_text)
            self._billed.add((name, source, day))
            for entry in providers:
                taken_by = [bill for bill in entry.bills if bill.is_in(source, name) and matches(service, bill.services)]
                if taken_by:
                    self._add(entry.provider, day, service, cost, compared=category not in settings.not_compared)
                if any(not bill.source for bill in taken_by):
                    self._taken[entry.provider, day][name, account].add(source)

    def _add(self, provider: str, day: date, service: str, cost: Decimal, *, compared: bool) -> None:
        sums = self.compared if compared else self.not_compared
        sums[provider, day] = EXACT.add(sums[provider, day], cost)
        if compared:
            self.lines.append(BilledLine(provider, day, service, cost))

    def _read_sources(self, connection: Connection) -> None:
        for row in source_states(connection):
            if (state := self._sources.get(row["source"])) is not None and row["last_success_at"]:
                state.read_on = from_micros(row["last_success_at"]).date()
        for source, state in self._sources.items():
            for _, part in read_parts(connection, source):
                state.add(part)

    def left_out(self, entry: ReconciledProvider, day: date, today: date) -> str:
        """Why the day of a provider is not whole on its bill; empty where it is."""
        if day > today - self._lag:
            return f"is not {self._lag.days} days old yet"
        if reason := _twice(self._taken[entry.provider, day]):
            return reason
        has_bill = False
        for name, source, first, newest in self._spans:
            state = self._sources[source]
            has_part = day.isoformat() in state.days
            if not any(bill.is_in(source, name) for bill in entry.bills) or (day < first and not has_part):
                continue
            if state.read_on < day + self._lag:
                return f"the source `{source}` was not read since it was {self._lag.days} days old"
            if not has_part and (name, source, day) not in self._billed:
                return f"no bill of the source `{source}`" if has_bill else "no bill"
            if not has_part and day == newest:
                return f"is the newest day in the bills of the source `{source}`, which may go on"
            if reason := state.broken(day, self._lag, allow_rejected=self._allow_rejected):
                return f"{reason} (source `{source}`)"
            has_bill = True
        return "" if has_bill else "no bill"


def _twice(taken: Mapping[tuple[str, str], set[str]]) -> str:
    """Which two sources have one bill, as far as the accounts tell; empty where none have."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for (name, _), sources in taken.items():
        by_name[name].update(sources)
    for (name, account), sources in sorted(taken.items()):
        # A bill that names no account may be any account's.
        holders = sorted(sources if account else by_name[name])
        if len(holders) > 1:
            which = f"the account `{account}`" if account else "what may be one account"
            return f"the sources `{holders[0]}` and `{holders[1]}` both have a bill of {which}: choose with `source` in `bills`"
    return ""


class _SourceState:
    """How far a source has been read, and what of it could not be."""

    def __init__(self) -> None:
        self.read_on = date.min
        self.days: dict[str, dict[str, date]] = {}
        """Day -> scope -> when its part of that day came in."""
        self._failed: list[tuple[str, Part]] = []
        """(day, where the part is of one alone; part)."""
        self._rejected: list[tuple[str, Part]] = []

    def add(self, part: Part) -> None:
        """Take a part over."""
        found = _PART_OF_A_DAY.fullmatch(part.part)
        scope, day = (found[1], found[2]) if found else (part.part, "")
        if scope.rpartition("/")[2] in NOT_BILLS:
            return
        if part.state == "failed":
            self._failed.append((day, part))
        elif day:
            self.days.setdefault(day, {})[scope] = from_micros(part.read_at).date()
        if part.rejected:
            self._rejected.append((day, part))

    def broken(self, day: date, lag: timedelta, *, allow_rejected: bool) -> str:
        """Why the source may have less of `day` than the bill; empty where it has all."""
        text = day.isoformat()
        for its_day, part in self._failed:
            if its_day:
                is_hit = its_day == text
            elif part.first_day:
                is_hit = part.first_day <= text <= part.last_day
            else:
                # A scope that fails: what it has of the day is whole if it came in late enough. Of a new file nobody knows the days.
                came = self.days.get(text, {}).get(part.part)
                is_hit = came is None or came < day + lag
            if is_hit:
                return f"`{part.part}` could not be read"
        for its_day, part in () if allow_rejected else self._rejected:
            if its_day == text or (not its_day and (not part.first_day or part.first_day <= text <= part.last_day)):
                return f"{part.rejected} rows of `{part.part}` could not be read: `costwarden rejected` shows them"
        return ""
