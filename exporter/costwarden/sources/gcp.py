"""Google Cloud: cost from the billing export in BigQuery, budgets from Cloud Billing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime

import msgspec

from costwarden.model import dollars, from_nanos
from costwarden.sources import Change, Failed, Gone, KnownPart, SourceError, Stated, Surroundings, Window, read_of
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import DailyCosts, KnownDay
from costwarden.sources.gcp_budgets import Spend, Terms, read_accounts, read_budgets, stated_budgets
from costwarden.sources.gcp_clients import Calls
from costwarden.sources.gcp_export import Line, export_query
from costwarden.sources.gcp_query import ExportReader
from costwarden.sources.settings import AttributionSettings, ExchangeRates, GcpSettings
from costwarden.sources.windows import usual_window

BUDGETS = "budgets"
"""The part that the budgets are stated in. No table has this name: those have dots."""


class GcpSource:
    """One billing export, and the budgets of its account. A day of the export is a part, named `TABLE/YYYY-MM-DD`."""

    def __init__(self, settings: GcpSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings) -> None:
        self._settings = settings
        self._attribution, self._keys = Attribution(attribution), label_keys(attribution)
        self._rates = Rates(rates)
        self._calls = Calls(surroundings.requests)
        self._reader = ExportReader(settings, surroundings.requests, self._calls)

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """The days of the window that have changed, and the budgets. One query, whatever the number of days.

        Budgets are read in refreshes on schedule only: a backfill asks for the past, in which a budget has no present state. Where they
        cannot be read, the part `budgets` fails and the bill is read nevertheless. Raises `SourceError`.
        """
        settings = self._settings
        # A table that is read no more: its days would be counted beside those of the new one.
        yield from (Gone(part=part) for part in known if part != BUDGETS and _day_of(part, settings.table) is None)
        days = window.days_to_ask(_known_days(known, settings.table))
        is_usual = window == usual_window(window.last, settings.history_days, settings.reread_days)
        terms: list[Terms] = []
        problems: list[str] = []
        if settings.budgets and is_usual:
            try:
                terms = read_budgets(settings.access, settings.account, self._calls)
            except SourceError as error:
                problems = [str(error)]
        if days is None:
            return
        first, last = days
        # So that budgets find their whole period, where it lies in the history; one that begins before cannot be known, and costs nothing.
        asked = min([first, *(day for day in (budget.needs_from(last) for budget in terms) if day >= window.first)])
        budget_keys = sorted({budget.label[0] for budget in terms if budget.label is not None})
        lines = self._reader.lines(export_query(settings, asked, last, self._keys, budget_keys))
        yield from self._changes([line for line in lines if line.day >= first], first, last, known)
        if is_usual:
            yield from self._budgets(terms, problems, lines, budget_keys, (asked, last), known)

    def probe(self) -> Iterator[str]:
        """One dry run of the query, which is free, and one request each for accounts and budgets."""
        settings = self._settings
        today = datetime.now(UTC).date()
        window = usual_window(today, settings.history_days, settings.reread_days)
        estimate = self._reader.estimate(export_query(settings, window.first, today, self._keys))
        allowed = "more than" if estimate.billed > settings.maximum_bytes_billed else "at most"
        yield (
            f"{settings.table} ({settings.kind} export) can be read: the first query reads {estimate.processed:,} bytes, for "
            f"{dollars(from_nanos(estimate.nanos))}; {allowed} the {settings.maximum_bytes_billed:,} of `maximum_bytes_billed`."
        )
        if not settings.budgets:
            return
        accounts = {account: (name, is_open) for account, name, is_open in read_accounts(settings.access, self._calls)}
        if settings.account not in accounts:
            others = f"among the {len(accounts)} that they see" if accounts else "nor any other"
            yield f"The credentials do not see billing account {settings.account} {others}: give them roles/billing.viewer on it."
        else:
            name, is_open = accounts[settings.account]
            yield f"Billing account {settings.account} ({name}) is {'open' if is_open else 'closed'}."
        yield f"It has {len(read_budgets(settings.access, settings.account, self._calls))} budgets."

    def close(self) -> None:
        """End a fetch that is under way in another thread."""
        self._calls.close()
        self._reader.close()

    def _changes(self, lines: Sequence[Line], first: date, last: date, known: Mapping[str, KnownPart]) -> Iterator[Change]:
        daily = DailyCosts(self._settings.name, self._settings.table, self._attribution, self._rates)
        for line in lines:
            content = msgspec.json.encode(msgspec.structs.asdict(line)).decode()
            for _ in range(line.unreadable):
                daily.reject(line.day, "missing_cost", "a row of the export has no cost", content)
            if line.lines > line.unreadable:
                daily.add(line.cost(self._keys), content)
        before = {part: KnownDay(found.state, found.fingerprint, found.figures) for part, found in known.items()}
        for day in daily.changes(first, last, before, accepts_empty=self._settings.accept_empty_answers):
            yield read_of(day)

    def _budgets(
        self,
        terms: Sequence[Terms],
        problems: list[str],
        lines: Sequence[Line],
        budget_keys: Sequence[str],
        days: tuple[date, date],
        known: Mapping[str, KnownPart],
    ) -> Iterator[Change]:
        settings = self._settings
        spend = Spend(
            lines=lines, label_keys=budget_keys, first=days[0], today=days[1], rates=self._rates, has_credits=settings.kind != "focus"
        )
        stated, unstated = stated_budgets(terms, spend, settings.name, BUDGETS, settings.account)
        if not problems:
            yield Stated(part=BUDGETS, budgets=stated)
        if found := [*problems, *unstated]:
            yield Failed(part=BUDGETS, message="; ".join(found))
        elif BUDGETS in known:
            yield Gone(part=BUDGETS)


def label_keys(attribution: AttributionSettings) -> tuple[str, ...]:
    """The keys of the labels that the rules read, in lower case: the export is grouped by these, and by no others."""
    origins = (origin for rule in (*attribution.rules, *attribution.defaults) for origin in rule.origins)
    return tuple(sorted({origin.removeprefix("tag:").strip().lower() for origin in origins if origin.startswith("tag:")}))


def _known_days(known: Mapping[str, KnownPart], table: str) -> Collection[date]:
    days = {_day_of(part, table) for part, found in known.items() if found.state == "ok"}
    return {day for day in days if day is not None}


def _day_of(part: str, table: str) -> date | None:
    """The day that a part is; None where it is none of `table`."""
    scope, _, day = part.rpartition("/")
    try:
        return date.fromisoformat(day) if scope == table else None
    except ValueError:
        return None
