"""Anthropic's own bill and its own count of usage, from the administration API of an organisation.

https://docs.anthropic.com/en/api/usage-cost-api. Anthropic's library has neither of the two reports.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, DecimalException
from typing import Any

from costwarden.model import EXACT, ReportedUsage
from costwarden.sources import Change, KnownPart, SourceError, Surroundings, Window
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import Cost, DailyCosts
from costwarden.sources.http_json import JsonApi, pages, revealed
from costwarden.sources.json_rows import UnreadableRow, as_text, count_of, lines_of, next_page, object_of, object_row, text_of
from costwarden.sources.scopes import changed_days, known_days, only_owner, read_scopes
from costwarden.sources.settings import AnthropicSettings, AttributionSettings, ExchangeRates
from costwarden.sources.windows import ONE_DAY

URL = "https://api.anthropic.com"

VERSION = "2023-06-01"
"""https://docs.anthropic.com/en/api/versioning."""

COSTS, USAGE = "costs", "usage"

COST_REPORT = "/v1/organizations/cost_report"
USAGE_REPORT = "/v1/organizations/usage_report/messages"

MOST_DAYS = 31
"""Of a page, in days: https://docs.anthropic.com/en/api/admin-api/usage-cost/get-cost-report (`limit`)."""

DEFAULT_WORKSPACE = "default"
"""In place of null, which is the workspace that every organisation has, and which attribution could not name."""


class AnthropicSource:
    """One organisation. Scopes are its costs and its usage; a part is a day of one of them."""

    def __init__(
        self, settings: AnthropicSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings
    ) -> None:
        self._settings, self._surroundings = settings, surroundings
        self._attribution, self._rates = Attribution(attribution), Rates(rates)
        self._organization = ""
        """Whose the answers are."""
        self._api = JsonApi(
            "Anthropic",
            settings.endpoint_url or URL,
            self._headers,
            surroundings.requests,
            timeout_seconds=settings.request_timeout_seconds,
            explain=_advice,
        )

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """The days that have changed. Raises `SourceError` where neither costs nor usage can be read."""
        scopes = {COSTS: lambda: self._costs(known, window), USAGE: lambda: self._usage(known, window)}
        try:
            yield from read_scopes(scopes, known, lambda: self._api.closed)
        finally:
            self._api.release()

    def probe(self) -> Iterator[str]:
        """Ask for the costs of yesterday."""
        day = datetime.now(UTC).date() - ONE_DAY
        try:
            rows = [row for _, found in self._days(COST_REPORT, day, day, ("description",)) for row in found]
        finally:
            self._api.release()
        yield f"the admin key may read costs; lines of {day}: {len(rows)}"
        if self._organization:
            yield f"it is a key of {self._organization}"

    def close(self) -> None:
        """End a fetch that is under way in another thread."""
        self._api.close()

    def _costs(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        if (asked := window.days_to_ask(known_days(COSTS, known))) is None:
            return
        daily = DailyCosts(self._settings.name, COSTS, self._attribution, self._rates)
        answered = set()
        for day, rows in self._days(COST_REPORT, *asked, ("workspace_id", "description")):
            answered.add(day)
            for row in rows:
                self._add_cost(daily, day, row)
        # A day that the answer leaves out is left as it is: that is not the same as a day without cost, which is answered with no lines.
        yield from self._changed(daily, asked, known, answered, "cost")

    def _changed(
        self, daily: DailyCosts, asked: tuple[date, date], known: Mapping[str, KnownPart], answered: set[date], what: str
    ) -> Iterator[Change]:
        owner = only_owner("Anthropic", self._organization, known)
        accepts_empty = self._settings.accept_empty_answers
        yield from changed_days(daily, *asked, known, answered, accepts_empty=accepts_empty, what=what, owner=owner)

    def _add_cost(self, daily: DailyCosts, day: date, row: Any) -> None:
        content = as_text(row)
        try:
            amount = from_cents(object_row(row).get("amount"))
            names = {
                name: text_of(row, name)
                for name in ("cost_type", "token_type", "model", "service_tier", "context_window", "inference_geo", "description")
            }
            workspace = text_of(row, "workspace_id") or DEFAULT_WORKSPACE
            cost = Cost(
                day=day,
                provider_name="anthropic",
                billing_account_id=self._settings.organization or self._organization,
                sub_account_id=workspace,
                service_name=names["description"] or "Anthropic",
                service_category="AI and Machine Learning",
                charge_category="Credit" if amount < 0 else "Usage",
                billing_currency=text_of(row, "currency").upper(),
                tags={**names, "workspace_id": workspace},
                billed_cost=amount,
            )
        except UnreadableRow as error:
            daily.reject(day, error.reason, str(error), content)
        else:
            daily.add(cost, content)

    def _usage(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        if (asked := window.days_to_ask(known_days(USAGE, known))) is None:
            return
        daily = DailyCosts(self._settings.name, USAGE, self._attribution, self._rates)
        answered = set()
        for day, rows in self._days(USAGE_REPORT, *asked, ("workspace_id", "model", "service_tier")):
            answered.add(day)
            for row in rows:
                try:
                    daily.add_usage(_usage(day, object_row(row)), as_text(row))
                except UnreadableRow as error:
                    daily.reject(day, error.reason, str(error), as_text(row))
        yield from self._changed(daily, asked, known, answered, "usage")

    def _days(self, path: str, first: date, last: date, group_by: tuple[str, ...]) -> Iterator[tuple[date, list[Any]]]:
        """The days that are answered for, with their lines."""
        limit = min(MOST_DAYS, (last - first).days + 1)
        parameters = [
            ("starting_at", f"{first}T00:00:00Z"),
            ("ending_at", f"{last + ONE_DAY}T00:00:00Z"),
            ("bucket_width", "1d"),
            ("limit", str(limit)),
            *(("group_by[]", name) for name in group_by),
        ]

        def ask(page: str) -> dict[str, Any]:
            reply = self._api.get(path, [*parameters, *([("page", page)] if page else [])])
            # https://docs.anthropic.com/en/api/overview#response-headers
            self._organization = self._organization or reply.headers.get("anthropic-organization-id", "")
            return reply.body

        what = f"Anthropic: {path}"
        seen: set[date] = set()
        for page in pages(what, ask, lambda page: next_page(page, what)):
            for bucket in lines_of(page, "data", what):
                day = _day(bucket, what)
                if not first <= day <= last:
                    raise SourceError(f"{what}: asked for {first} to {last}, answered for {day}")
                if day in seen:
                    # A page that has shifted while the one before was read.
                    raise SourceError(f"{what}: the day {day} comes twice")
                seen.add(day)
                yield day, lines_of(bucket, "results", what)

    def _headers(self) -> dict[str, str]:
        key = revealed(self._surroundings.reveal, self._settings.admin_key, "admin_key")
        return {"x-api-key": key, "anthropic-version": VERSION}


def from_cents(amount: Any) -> Decimal:
    """The amount of a cost report in whole units: "123.45" is 1.2345, exactly.

    "Cost amount in lowest currency units (e.g. cents) as a decimal string":
    https://docs.anthropic.com/en/api/admin-api/usage-cost/get-cost-report. Raises `UnreadableRow`.
    """
    if amount is None:
        raise UnreadableRow("missing_cost", "`amount` is null")
    try:
        if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
            raise ValueError
        cents = Decimal(amount)
        if not cents.is_finite():
            raise ValueError
        return cents.scaleb(-2, EXACT)
    except (ValueError, DecimalException):
        raise UnreadableRow("bad_cost", f"`amount` is {amount!r:.80}, not a number of cents") from None


def _usage(day: date, row: Mapping[str, Any]) -> ReportedUsage:
    # https://docs.anthropic.com/en/api/admin-api/usage-cost/get-messages-usage-report: three counts of input that do not overlap.
    written = object_of(row, "cache_creation")
    for_an_hour = count_of(written, "ephemeral_1h_input_tokens")
    cache_write = for_an_hour + count_of(written, "ephemeral_5m_input_tokens")
    cache_read = count_of(row, "cache_read_input_tokens")
    tier = text_of(row, "service_tier")
    return ReportedUsage(
        source="",
        part="",
        usage_date=day,
        provider="anthropic",
        account_id=text_of(row, "workspace_id") or DEFAULT_WORKSPACE,
        model=text_of(row, "model"),
        operation="chat",
        service_tier="" if tier == "standard" else tier,
        input_tokens=count_of(row, "uncached_input_tokens") + cache_write + cache_read,
        output_tokens=count_of(row, "output_tokens"),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=for_an_hour,
    )


def _day(bucket: Any, what: str) -> date:
    try:
        return date.fromisoformat(bucket["starting_at"][:10])
    except (KeyError, TypeError, ValueError):
        raise SourceError(f"{what}: a day of the answer has no `starting_at`") from None


def _advice(status: int) -> str:
    if status not in {401, 403}:
        return ""
    return (
        "`admin_key` must name an admin key (`sk-ant-admin…`), not a workspace's (`sk-ant-api…`); an administrator of the organisation "
        "makes one at https://console.anthropic.com/settings/admin-keys. Individual accounts have none"
    )
