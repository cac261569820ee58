"""One query of BigQuery: what it will cost is asked for first and paid before it runs; the answer is kept."""

from __future__ import annotations

from decimal import ROUND_CEILING
from typing import TYPE_CHECKING, Any

import msgspec

from costwarden.model import EXACT, dollars, from_nanos
from costwarden.sources.gcp_clients import MISSING_LIBRARY, REQUEST_SECONDS, RETRY_SECONDS, Calls, gcp_credentials
from costwarden.sources.gcp_export import TEXTS, ExportQuery, Line
from costwarden.sources.requests import Requests, SourceError
from costwarden.sources.settings import GcpSettings
from costwarden.sources.settings.gcp import BYTES_PER_TEBIBYTE

if TYPE_CHECKING:
    from google.cloud import bigquery

SCOPES = ("https://www.googleapis.com/auth/bigquery",)

# https://cloud.google.com/bigquery/pricing#on-demand-pricing: "rounded up to the nearest MB, with a minimum 10 MB data processed per table
# referenced by the query, and with a minimum 10 MB data processed per query"; BigQuery's MB has 2²⁰ bytes, and our query names one table.
MEBIBYTE = 1 << 20
LEAST_MEBIBYTES = 10

PAGE_ROWS = 20_000

JOB_SECONDS = 300
"""How long a query may run; one of an export takes seconds. As long may one page of its answer take."""


class Estimate(msgspec.Struct, frozen=True):
    """What a query will cost at most."""

    processed: int
    """Bytes, as the dry run says."""
    billed: int
    """Bytes, rounded as they are billed."""
    nanos: int


class ExportReader:
    """Asks the billing export. Opening it raises `SourceError` where the library or the credentials are missing."""

    def __init__(self, settings: GcpSettings, requests: Requests, calls: Calls) -> None:
        self._settings, self._requests, self._calls = settings, requests, calls
        self._cost_of_next = 0
        self._made: bigquery.Client | None = None

    def lines(self, query: ExportQuery) -> list[Line]:
        """The rows of the answer, all of them or none; a kept answer costs nothing.

        Raises `SourceError` where the query fails, is larger than `maximum_bytes_billed`, or would cost more than may be spent today.
        """
        settings = self._settings
        named = [settings.table, settings.job_project, settings.location, query.sql, query.timestamps, query.texts]

        def ask() -> str:
            return self._calls.run(f"{settings.table}: the query", lambda: msgspec.json.encode(self._ask(query)).decode(), self._remedy)

        found: list[Line] = []

        def check(body: str) -> None:
            found[:] = self._read(body)

        self._requests.answer(msgspec.json.encode(named).decode(), ask, check)
        return found

    def _read(self, body: str) -> list[Line]:
        table = self._settings.table
        try:
            lines = msgspec.json.decode(body, type=list[Line])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SourceError(f"{table}: BigQuery has answered what was not asked: {error}") from None
        keys: set[tuple[object, ...]] = set()
        for line in lines:
            key = (*(getattr(line, name) for name in TEXTS), line.labels, line.budget_labels)
            if key in keys:
                raise SourceError(f"{table}: BigQuery has answered with {line.service!r} on {line.day} twice; the next refresh tries again")
            keys.add(key)
        return lines

    def estimate(self, query: ExportQuery) -> Estimate:
        """What `query` would cost. A dry run: it costs nothing itself, and needs every right that the query does."""
        return self._calls.run(f"{self._settings.table}: the dry run of the query", lambda: self._dry_run(query), self._remedy)

    @property
    def _remedy(self) -> str:
        project, dataset, _ = self._settings.table.rsplit(".", 2)
        where = f"in {self._settings.location}" if self._settings.location else "where `location` is empty, in the dataset's own location"
        return (
            f"the credentials need roles/bigquery.jobUser on project {self._settings.job_project} and roles/bigquery.dataViewer on dataset "
            f"{project}:{dataset}, and the table must be there ({where})"
        )

    def _ask(self, query: ExportQuery) -> list[Line]:
        from google.cloud import bigquery

        estimate = self._dry_run(query)
        limit = self._settings.maximum_bytes_billed
        if estimate.billed > limit:
            raise SourceError(
                f"{self._settings.table}: the query would read {estimate.billed:,} bytes ({dollars(from_nanos(estimate.nanos))}), more "
                f"than `maximum_bytes_billed` allows ({limit:,}); it was not made: raise the limit, or lower `history_days` and "
                "`reread_days`"
            )
        # The request that starts the job bears its price. A repeated one names the same job, which runs once. It may not read more than was
        # paid for: where the table has grown since the dry run, BigQuery refuses it, and the next refresh asks again.
        self._cost_of_next = estimate.nanos
        job = self._client().query(
            query.sql,
            job_config=self._config(query, maximum_bytes_billed=estimate.billed, job_timeout_ms=JOB_SECONDS * 1000),
            location=self._settings.location or None,
            timeout=REQUEST_SECONDS,
            retry=bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS),
            job_retry=None,
        )
        rows = job.result(
            page_size=PAGE_ROWS,
            timeout=JOB_SECONDS,
            retry=bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS),
            job_retry=None,
        )
        try:
            return [query.line(row.values()) for row in rows]
        except msgspec.ValidationError as error:
            raise SourceError(f"{self._settings.table}: BigQuery has answered what was not asked: {error}") from None

    def _dry_run(self, query: ExportQuery) -> Estimate:
        from google.cloud import bigquery

        job = self._client().query(
            query.sql,
            job_config=self._config(query, dry_run=True),
            location=self._settings.location or None,
            timeout=REQUEST_SECONDS,
            retry=bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS),
            job_retry=None,
        )
        processed = job.total_bytes_processed
        if processed is None:
            unknown = "the dry run names no bytes, so that the price of the query is not known; it was not made"
            raise SourceError(f"{self._settings.table}: {unknown}")
        billed = max(LEAST_MEBIBYTES, -(-processed // MEBIBYTE)) * MEBIBYTE
        usd = self._settings.usd_per_tebibyte * billed / BYTES_PER_TEBIBYTE
        return Estimate(processed, billed, int(usd.scaleb(9, EXACT).to_integral_value(ROUND_CEILING)))

    def _config(self, query: ExportQuery, **options: Any) -> bigquery.QueryJobConfig:
        from google.cloud import bigquery

        parameters = [bigquery.ScalarQueryParameter(name, "TIMESTAMP", value) for name, value in query.timestamps.items()]
        parameters += [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in query.texts.items()]
        # Without the cache: a cached answer is free, but would be metered as if it were not, and late rows make it miss anyway.
        return bigquery.QueryJobConfig(query_parameters=parameters, use_legacy_sql=False, use_query_cache=False, **options)

    def _client(self) -> bigquery.Client:
        if self._made is not None:
            return self._made
        try:
            from google.api_core.client_options import ClientOptions
            from google.auth.transport.requests import AuthorizedSession
            from google.cloud import bigquery
        except ImportError:
            raise SourceError(MISSING_LIBRARY) from None
        reader, access = self, self._settings.access

        class Counted(AuthorizedSession):
            def request(self, *args: Any, **options: Any) -> Any:
                cost, reader._cost_of_next = reader._cost_of_next, 0
                reader._calls.about_to_ask(cost)
                return super().request(*args, **options)  # type: ignore[no-untyped-call]

        credentials = gcp_credentials(access, SCOPES)
        options = ClientOptions(api_endpoint=access.endpoint_url) if access.endpoint_url else None
        session = Counted(credentials)  # type: ignore[no-untyped-call]
        self._made = bigquery.Client(project=self._settings.job_project, credentials=credentials, _http=session, client_options=options)
        return self._made

    def close(self) -> None:
        """Close the connections."""
        if self._made is not None:
            self._made.close()  # type: ignore[no-untyped-call]
