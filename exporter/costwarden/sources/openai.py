"""OpenAI's own bill and its own count of usage, from the administration API of an organisation.

https://platform.openai.com/docs/api-reference/usage. Read without OpenAI's library, which has these requests too but reads the amounts
as floating point.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from costwarden.model import ReportedUsage
from costwarden.sources import Change, KnownPart, SourceError, Surroundings, Window
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import Cost, DailyCosts
from costwarden.sources.http_json import JsonApi, pages, revealed
from costwarden.sources.json_rows import UnreadableRow, as_text, count_of, lines_of, next_page, object_of, object_row, text_of
from costwarden.sources.scopes import changed_days, known_days, only_owner, read_scopes
from costwarden.sources.settings import AttributionSettings, ExchangeRates, OpenaiSettings
from costwarden.sources.windows import ONE_DAY

URL = "https://api.openai.com"

COSTS, USAGE = "costs", "usage"
"""The scopes: a right to one of them is none to the other."""

MOST_DAYS_OF_COSTS = 180
"""https://platform.openai.com/docs/api-reference/usage/costs: `limit`."""

MOST_DAYS_OF_USAGE = 31
"""https://platform.openai.com/docs/api-reference/usage/completions: `limit` where `bucket_width` is `1d`."""

SECONDS_A_DAY = 86_400


class Endpoint(NamedTuple):
    """A kind of usage. `operation` is as usage events name it."""

    path: str
    operation: str
    group_by: tuple[str, ...] = ("project_id", "model")


# What is no call of a model (vector stores, sessions of the code interpreter, searches) has no count in usage events: it is in the costs.
ENDPOINTS = (
    Endpoint("completions", "chat", ("project_id", "model", "batch", "service_tier")),
    Endpoint("embeddings", "embeddings"),
    Endpoint("moderations", "moderation"),
    Endpoint("images", "image_generation"),
    Endpoint("audio_speeches", "speech"),
    Endpoint("audio_transcriptions", "transcription"),
)

Row = Mapping[str, Any]


class OpenaiSource:
    """One organisation. Scopes are its costs and its usage; a part is a day of one of them."""

    def __init__(
        self, settings: OpenaiSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings
    ) -> None:
        self._settings, self._surroundings = settings, surroundings
        self._attribution, self._rates = Attribution(attribution), Rates(rates)
        self._api = JsonApi(
            "OpenAI",
            settings.endpoint_url or URL,
            self._headers,
            surroundings.requests,
            timeout_seconds=settings.request_timeout_seconds,
            explain=_advice,
        )
        self._organization = ""
        """Whose costs were read; answers of usage do not say."""

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
            rows = [row for _, found in self._days("costs", day, day, 1, ("line_item",)) for row in found]
        finally:
            self._api.release()
        yield f"the admin key may read costs; line items of {day}: {len(rows)}"
        if organizations := sorted({text for row in rows if (text := _organization(row))}):
            yield f"it is a key of {', '.join(organizations)}"

    def close(self) -> None:
        """End a fetch that is under way in another thread."""
        self._api.close()

    def _costs(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        if (asked := window.days_to_ask(known_days(COSTS, known))) is None:
            return
        daily = DailyCosts(self._settings.name, COSTS, self._attribution, self._rates)
        group_by = ("line_item", "project_id", *(("api_key_id",) if self._settings.split_by_api_key else ()))
        answered, organizations = set(), set()
        for day, rows in self._days("costs", *asked, MOST_DAYS_OF_COSTS, group_by):
            answered.add(day)
            for row in rows:
                organizations.add(_organization(row))
                self._add_cost(daily, day, row)
        self._organization = ", ".join(sorted(organizations - {""}))
        # A day that the answer leaves out is left as it is: that is not the same as a day without cost, which is answered with no lines.
        yield from self._changed(daily, asked, known, answered, "cost")

    def _add_cost(self, daily: DailyCosts, day: date, row: Any) -> None:
        content = as_text(row)
        try:
            amount = object_of(object_row(row), "amount")
            value = amount.get("value")
            if not isinstance(value, Decimal | int | str) or isinstance(value, bool):
                raise UnreadableRow("missing_cost", f"`amount.value` is {value!r:.80}, not a number")
            names = {name: text_of(row, name) for name in ("line_item", "project_id", "project_name", "api_key_id", "user_id")}
            cost = Cost(
                day=day,
                provider_name="openai",
                billing_account_id=self._settings.organization or text_of(row, "organization_id"),
                sub_account_id=names["project_id"],
                service_name=names["line_item"] or "OpenAI",
                service_category="AI and Machine Learning",
                charge_category="Credit" if is_negative(value) else "Usage",
                billing_currency=text_of(amount, "currency").upper(),
                tags=names,
                billed_cost=value if isinstance(value, Decimal) else str(value),
            )
        except UnreadableRow as error:
            daily.reject(day, error.reason, str(error), content)
        else:
            daily.add(cost, content)

    def _usage(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        if (asked := window.days_to_ask(known_days(USAGE, known))) is None:
            return
        daily = DailyCosts(self._settings.name, USAGE, self._attribution, self._rates)
        # A day is whole when every kind of usage was answered for it.
        answered: set[date] | None = None
        for endpoint in ENDPOINTS:
            days = set()
            for day, rows in self._days(f"usage/{endpoint.path}", *asked, MOST_DAYS_OF_USAGE, endpoint.group_by):
                days.add(day)
                for row in rows:
                    self._add_usage(daily, day, endpoint, row)
            answered = days if answered is None else answered & days
        yield from self._changed(daily, asked, known, answered or set(), "usage")

    def _changed(
        self, daily: DailyCosts, asked: tuple[date, date], known: Mapping[str, KnownPart], answered: set[date], what: str
    ) -> Iterator[Change]:
        owner = only_owner("OpenAI", self._organization, known)
        accepts_empty = self._settings.accept_empty_answers
        yield from changed_days(daily, *asked, known, answered, accepts_empty=accepts_empty, what=what, owner=owner)

    @staticmethod
    def _add_usage(daily: DailyCosts, day: date, endpoint: Endpoint, row: Any) -> None:
        try:
            daily.add_usage(_usage(day, endpoint.operation, object_row(row)), as_text(row))
        except UnreadableRow as error:
            daily.reject(day, error.reason, f"{endpoint.path}: {error}", as_text(row))

    def _days(self, path: str, first: date, last: date, most: int, group_by: tuple[str, ...]) -> Iterator[tuple[date, list[Any]]]:
        """The days that are answered for, with their lines."""
        limit = min(most, (last - first).days + 1)
        start, end = (int(datetime.combine(day, time(), UTC).timestamp()) for day in (first, last + ONE_DAY))
        parameters = [("start_time", str(start)), ("end_time", str(end)), ("bucket_width", "1d"), ("limit", str(limit))]
        # As OpenAI's own library writes a list.
        parameters += [("group_by[]", name) for name in group_by]

        def ask(page: str) -> dict[str, Any]:
            return self._api.get(f"/v1/organization/{path}", [*parameters, *([("page", page)] if page else [])]).body

        what = f"OpenAI: {path}"
        seen: set[date] = set()
        for page in pages(what, ask, lambda page: next_page(page, what)):
            for bucket in lines_of(page, "data", what):
                seconds = bucket.get("start_time") if isinstance(bucket, Mapping) else None
                if not isinstance(seconds, int) or not 0 <= seconds < 2**36:
                    raise SourceError(f"{what}: a day of the answer has no `start_time`")
                day = datetime.fromtimestamp(seconds, UTC).date()
                if not first <= day <= last:
                    raise SourceError(f"{what}: asked for {first} to {last}, answered for {day}")
                if day in seen:
                    # A page that has shifted while the one before was read.
                    raise SourceError(f"{what}: the day {day} comes twice")
                seen.add(day)
                yield day, lines_of(bucket, "results", what)

    def _headers(self) -> dict[str, str]:
        key = revealed(self._surroundings.reveal, self._settings.admin_key, "admin_key")
        return {"Authorization": f"Bearer {key}"}


def _usage(day: date, operation: str, row: Row) -> ReportedUsage:
    # https://platform.openai.com/docs/api-reference/usage/completions_object: `input_tokens` include those read from the cache and those
    # written to it; `input_audio_tokens` leave the cached ones out since those have a count of their own.
    is_batch = row.get("batch") is True
    tier = text_of(row, "service_tier")
    seconds = count_of(row, "seconds")
    return ReportedUsage(
        source="",
        part="",
        usage_date=day,
        provider="openai",
        account_id=text_of(row, "project_id"),
        model=text_of(row, "model"),
        operation=operation,
        service_tier="batch" if is_batch else "" if tier in {"auto", "default", "standard"} else tier,
        input_tokens=count_of(row, "input_tokens"),
        output_tokens=count_of(row, "output_tokens"),
        cache_read_tokens=count_of(row, "input_cached_tokens"),
        cache_write_tokens=count_of(row, "input_cache_write_tokens"),
        input_audio_tokens=count_of(row, "input_audio_tokens") + count_of(row, "input_cached_audio_tokens"),
        output_audio_tokens=count_of(row, "output_audio_tokens"),
        images=count_of(row, "images"),
        audio_milliseconds=seconds * 1000,
        requests=count_of(row, "num_model_requests"),
    )


def _organization(row: Any) -> str:
    found = row.get("organization_id") if isinstance(row, Mapping) else None
    return found if isinstance(found, str) else ""


def is_negative(amount: Decimal | int | str) -> bool:
    """Whether an amount is money that is given back. A text that is no number is not; it is rejected elsewhere."""
    try:
        return Decimal(amount) < 0
    except InvalidOperation:
        return False


def _advice(status: int) -> str:
    if status not in {401, 403}:
        return ""
    return (
        "`admin_key` must name an admin key of the organisation, not a project's, that may read usage (`api.usage.read`); "
        "an owner makes one at https://platform.openai.com/settings/organization/admin-keys"
    )
