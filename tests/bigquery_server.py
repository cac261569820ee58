"""BigQuery on loopback: it runs the query that it is sent, on DuckDB, over tables with the columns of the billing export.

Shapes: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/insert, …/jobs/getQueryResults and …/Job;
columns: https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/standard-usage and …/focus-export.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp
from stand_in import Answer, Request

LABELS = "STRUCT(key VARCHAR, value VARCHAR)[]"

STANDARD = {
    "_PARTITIONTIME": "TIMESTAMP",
    "billing_account_id": "VARCHAR",
    "invoice": "STRUCT(month VARCHAR)",
    "cost_type": "VARCHAR",
    "service": "STRUCT(id VARCHAR, description VARCHAR)",
    "sku": "STRUCT(id VARCHAR, description VARCHAR)",
    "usage_start_time": "TIMESTAMP",
    "usage_end_time": "TIMESTAMP",
    "project": f"STRUCT(id VARCHAR, number VARCHAR, name VARCHAR, labels {LABELS}, ancestry_numbers VARCHAR)",
    "labels": LABELS,
    "system_labels": LABELS,
    "location": "STRUCT(location VARCHAR, country VARCHAR, region VARCHAR, zone VARCHAR)",
    "tags": "STRUCT(key VARCHAR, value VARCHAR, inherited BOOLEAN, namespace VARCHAR)[]",
    "cost": "DOUBLE",
    "cost_at_list": "DOUBLE",
    "currency": "VARCHAR",
    "currency_conversion_rate": "DOUBLE",
    "credits": "STRUCT(id VARCHAR, full_name VARCHAR, type VARCHAR, name VARCHAR, amount DOUBLE)[]",
    "export_time": "TIMESTAMP",
}

FOCUS = {
    "_PARTITIONTIME": "TIMESTAMP",
    "BilledCost": "DECIMAL(38, 9)",
    "EffectiveCost": "DECIMAL(38, 9)",
    "ListCost": "DECIMAL(38, 9)",
    "ContractedCost": "DECIMAL(38, 9)",
    "BillingAccountId": "VARCHAR",
    "BillingCurrency": "VARCHAR",
    "ChargeCategory": "VARCHAR",
    "ChargePeriodStart": "TIMESTAMP",
    "RegionId": "VARCHAR",
    "ServiceName": "VARCHAR",
    "SubAccountId": "VARCHAR",
    "x_ServiceId": "VARCHAR",
    "x_CurrencyConversionRate": "DOUBLE",
    "x_Project": "STRUCT(Id VARCHAR, Number VARCHAR, Name VARCHAR, AncestryNumbers VARCHAR)",
    "x_Labels": "STRUCT(Key VARCHAR, Value VARCHAR)[]",
    "x_ProjectLabels": "STRUCT(Key VARCHAR, Value VARCHAR)[]",
    "x_Tags": "STRUCT(Key VARCHAR, Value VARCHAR, x_Inherited BOOLEAN, x_Namespace VARCHAR)[]",
}

FLOAT_TEXT = """CREATE MACRO float_text(number) AS
    CASE WHEN CAST(printf('%.15g', number) AS DOUBLE) = number THEN printf('%.15g', number) ELSE printf('%.17g', number) END"""
"""How GoogleSQL casts a FLOAT64 to STRING, where DuckDB would write the shortest text that gives the number back."""

TYPES = {"DATE": "DATE", "VARCHAR": "STRING", "BIGINT": "INTEGER", "INTEGER": "INTEGER", "HUGEINT": "INTEGER"}


@dataclass
class Job:
    rows: list[tuple[Any, ...]]
    schema: list[dict[str, str]]
    processed: int
    polls: int
    error: dict[str, Any] | None = None
    location: str = "EU"


@dataclass
class BigQuery:
    """`answer(request)` is the service. Tables are made with `create` and filled with `load`."""

    bytes_per_row: int = 2_000
    """What a row of the partitions that a query reads counts for."""
    page_rows: int = 1_000
    """Most rows of a page, whatever is asked for."""
    polls: int = 0
    """How often a job is still running when its result is asked for."""
    location: str = "EU"
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Permission that is missing -> the message of the refusal: `bigquery.jobs.create` or `bigquery.tables.getData`."""
    on_page: Callable[[int], None] = lambda number: None
    """Called with the number of each page (from 1) before it is answered."""

    on_dry_run: Callable[[int], None] = lambda count: None
    """Called with the number of dry runs so far, after each."""

    def __post_init__(self) -> None:
        self.queries: list[dict[str, Any]] = []
        """The configurations of the jobs that were asked for, dry runs included."""
        self._tables: dict[str, Mapping[str, str]] = {}
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._database = duckdb.connect()
        # Tables have a handful of rows here: a plan is made sooner than it is made better.
        self._database.execute("SET threads = 1; PRAGMA disable_optimizer;" + FLOAT_TEXT)

    def close(self) -> None:
        self._database.close()

    def create(self, name: str, columns: Mapping[str, str] = STANDARD) -> None:
        """An empty table `project.dataset.table`."""
        self._tables[name] = columns
        declared = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        self._database.execute(f'CREATE TABLE "{name}" ({declared})')

    def load(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Append rows; a column that a row has not is NULL, and so is a field."""
        columns = self._tables[name]
        values = ", ".join(f"CAST(? AS {kind})" for kind in columns.values())
        for row in rows:
            assert not row.keys() - columns.keys(), row.keys() - columns.keys()
            self._database.execute(f'INSERT INTO "{name}" VALUES ({values})', [row.get(column) for column in columns])

    def clear(self, name: str) -> None:
        """Drop all rows."""
        self._database.execute(f'DELETE FROM "{name}"')

    def answer(self, request: Request) -> Answer:
        """What BigQuery would."""
        with self._lock:
            parts = request.path.removeprefix("/bigquery/v2/projects/").split("/")
            if request.method == "POST" and parts[1:] == ["jobs"]:
                return self._insert(parts[0], request.json())
            if request.method == "GET" and parts[1] == "queries" and parts[2] in self._jobs:
                return self._results(parts[0], parts[2], request)
            if request.method == "GET" and parts[1] == "jobs" and parts[2] in self._jobs:
                return Answer(self._resource(parts[0], parts[2]))
            return refusal(404, "notFound", f"Not found: {request.path}")

    def _insert(self, project: str, body: Any) -> Answer:
        configuration = body["configuration"]
        self.queries.append(configuration)
        if message := self.refuses.get("bigquery.jobs.create"):
            return refusal(403, "accessDenied", message)
        asked = body["jobReference"].get("location") or self.location
        job_id = body["jobReference"]["jobId"]
        if job_id in self._jobs:
            return refusal(409, "duplicate", f"Already Exists: Job {project}:{asked}.{job_id}")
        query = configuration["query"]
        assert query["useLegacySql"] is False
        try:
            translated = _translated(query["query"])
            processed = self._bytes(translated, values(query), asked)
        except _Refused as reason:
            return refusal(*reason.args)
        except (sqlglot.errors.SqlglotError, duckdb.Error) as error:
            return refusal(400, "invalidQuery", str(error))
        if configuration.get("dryRun"):
            self.on_dry_run(sum(1 for asked_for in self.queries if asked_for.get("dryRun")))
            return Answer(
                {
                    "kind": "bigquery#job",
                    "configuration": configuration,
                    "jobReference": {"projectId": project, "location": asked},
                    "statistics": {
                        "totalBytesProcessed": str(processed),
                        "query": {"totalBytesProcessed": str(processed), "totalBytesBilled": "0"},
                    },
                    "status": {"state": "DONE"},
                }
            )
        limit = int(query.get("maximumBytesBilled") or processed)
        error = None
        if limit < processed:
            error = {
                "reason": "bytesBilledLimitExceeded",
                "message": f"Query exceeded limit for bytes billed: {limit}. {processed} or higher required.",
            }
        try:
            found = self._database.execute(translated.sql, values(query))
            rows, schema = (
                found.fetchall(),
                [{"name": name, "type": TYPES.get(str(kind), "BIGNUMERIC")} for name, kind, *_ in found.description],
            )
        except duckdb.Error as problem:
            return refusal(400, "invalidQuery", str(problem))
        self._jobs[job_id] = Job(rows, schema, processed, self.polls, error, asked)
        return Answer(self._resource(project, job_id, configuration))

    def _bytes(self, query: "Translated", given: Mapping[str, Any], location: str) -> int:
        """What a query reads: the rows that its conditions on the partition let through, whole."""
        if missing := query.parameters - given.keys():
            raise _Refused(400, "invalidQuery", f"Query parameter {min(missing)!r} not found")
        processed = 0
        for name in query.tables:
            if name not in self._tables or location != self.location:
                raise _Refused(404, "notFound", f"Not found: Table {name.replace('.', ':', 1)} was not found in location {location}")
            if message := self.refuses.get("bigquery.tables.getData"):
                raise _Refused(403, "accessDenied", message)
            where = " AND ".join(f"_PARTITIONTIME {sign} ${parameter}" for sign, parameter in query.partitions) or "true"
            bound = {parameter: given[parameter] for _, parameter in query.partitions}
            (count,) = self._database.execute(f'SELECT COUNT(*) FROM "{name}" WHERE {where}', bound or None).fetchone() or (0,)
            processed += count * self.bytes_per_row
        return processed

    def _resource(self, project: str, job_id: str, configuration: Any = None) -> dict[str, Any]:
        job = self._jobs[job_id]
        status: dict[str, Any] = {"state": "RUNNING" if job.polls else "DONE"}
        if job.error and not job.polls:
            status["errorResult"], status["errors"] = job.error, [job.error]
        return {
            "kind": "bigquery#job",
            "configuration": configuration or {"query": {}, "jobType": "QUERY"},
            "jobReference": {"projectId": project, "jobId": job_id, "location": job.location},
            "statistics": {"query": {"totalBytesProcessed": str(job.processed)}},
            "status": status,
        }

    def _results(self, project: str, job_id: str, request: Request) -> Answer:
        job = self._jobs[job_id]
        reference = {"projectId": project, "jobId": job_id, "location": job.location}
        if job.polls:
            job.polls -= 1
            return Answer({"kind": "bigquery#getQueryResultsResponse", "jobReference": reference, "jobComplete": False})
        if job.error:
            return refusal(400, job.error["reason"], job.error["message"])
        begin = int(request.first("pageToken") or request.first("startIndex") or 0)
        asked = request.first("maxResults")
        size = min(int(asked), self.page_rows) if asked else self.page_rows
        body: dict[str, Any] = {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": reference,
            "jobComplete": True,
            "schema": {"fields": job.schema},
            "totalRows": str(len(job.rows)),
            "totalBytesProcessed": str(job.processed),
        }
        if size:
            self.on_page(begin // size + 1)
            body["rows"] = [{"f": [{"v": cell(value)} for value in row]} for row in job.rows[begin : begin + size]]
            if begin + size < len(job.rows):
                body["pageToken"] = str(begin + size)
        return Answer(body)


class _Refused(Exception):
    """Status, reason and message."""


def refusal(status: int, reason: str, message: str) -> Answer:
    """An error of a Google API: https://cloud.google.com/bigquery/docs/error-messages."""
    return Answer(
        {"error": {"code": status, "message": message, "errors": [{"message": message, "domain": "global", "reason": reason}]}}, status
    )


@dataclass(frozen=True)
class Translated:
    """A query in DuckDB's language."""

    sql: str
    tables: tuple[str, ...]
    """One for each time that it stands in the query: BigQuery reads, and bills, each."""
    parameters: frozenset[str]
    partitions: tuple[tuple[str, str], ...]
    """Its conditions on `_PARTITIONTIME`: sign and parameter."""


@lru_cache(maxsize=64)
def _translated(text: str) -> Translated:
    tree = sqlglot.parse_one(text, read="bigquery")
    tables = []
    for table in list(tree.find_all(exp.Table)):
        if isinstance(table.this, exp.Identifier):
            tables.append(".".join(part.name for part in table.parts))
            table.set("this", exp.to_identifier(tables[-1], quoted=True))
            table.set("db", None)
            table.set("catalog", None)
    parameters = frozenset(found.name for found in tree.find_all(exp.Parameter))
    signs = {exp.GTE: ">=", exp.GT: ">", exp.LT: "<", exp.LTE: "<="}
    conditions = [found for found in tree.find_all(*signs) if found.this.name == "_PARTITIONTIME"]
    partitions = tuple((signs[type(found)], found.expression.name) for found in conditions)
    return Translated(tree.transform(_as_bigquery_does).sql(dialect="duckdb"), tuple(tables), parameters, partitions)


def _as_bigquery_does(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Cast | exp.TryCast) and node.to.is_type("bigdecimal"):
        # As wide as DuckDB has it: BIGNUMERIC has 38 digits before the point and 38 behind it.
        node.set("to", exp.DataType.build("DECIMAL(38, 24)", dialect="duckdb"))
    elif isinstance(node, exp.Cast) and node.to.is_type("text"):
        value = node.this.sql("duckdb")
        either = f"CASE WHEN typeof({value}) = 'DOUBLE' THEN float_text(CAST({value} AS DOUBLE)) ELSE CAST({value} AS VARCHAR) END"
        return sqlglot.parse_one(either, read="duckdb")
    return node


def values(query: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a query, by name."""
    found = {}
    for parameter in query.get("queryParameters", ()):
        value = parameter["parameterValue"]["value"]
        kind = parameter["parameterType"]["type"]
        assert kind in {"TIMESTAMP", "STRING"}, kind
        found[parameter["name"]] = datetime.fromisoformat(value).replace(tzinfo=None) if kind == "TIMESTAMP" else value
    return found


def cell(value: Any) -> str | None:
    """A value as the REST API writes it: all are texts, decimals without an exponent and without zeros at their end."""
    if value is None:
        return None
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)
