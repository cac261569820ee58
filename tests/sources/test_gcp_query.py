"""What the query of the billing export asks for, what it costs, and what happens when BigQuery is slow, refuses, or breaks off.

Shapes: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs and https://cloud.google.com/bigquery/docs/error-messages
"""

import threading
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from google_cloud import TABLE, GoogleCloud, row, total
from spending import Spending
from stand_in import Answer, Request, StandIn

from costwarden.model import from_nanos
from costwarden.sources import SourceError
from costwarden.sources.windows import Window, usual_window

D = Decimal

LEAST = D("6.25") * 10 * 2**20 / 2**40
"""Dollars for the 10 MiB that the smallest query is billed for."""


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    with GoogleCloud() as made:
        yield made


def real_queries(cloud: GoogleCloud) -> list[Any]:
    return [asked for asked in cloud.bigquery.queries if not asked.get("dryRun")]


def parameters(asked: Any) -> dict[str, str]:
    return {found["name"]: found["parameterValue"]["value"] for found in asked["query"]["queryParameters"]}


def test_one_query_is_asked_for_the_days_that_are_missing_or_read_again(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-09-18", 1.0), row("2026-09-19", 2.0), row("2026-11-20", 4.0))
    spending.refresh(cloud.settings(budgets=False))
    (asked,) = real_queries(cloud)
    wanted = {"first": "2026-09-19", "after": "2026-11-21", "since": "2026-09-18"}
    assert {name: parameters(asked)[name][:10] for name in wanted} == wanted
    assert spending.by("charge_date") == {"2026-09-19": 2, "2026-11-20": 4}

    spending.today = date(2026, 11, 21)
    spending.refresh(cloud.settings(budgets=False))
    wanted = {"first": "2026-10-07", "after": "2026-11-22", "since": "2026-10-06"}
    assert {name: parameters(real_queries(cloud)[1])[name][:10] for name in wanted} == wanted
    assert spending.by("charge_date") == {"2026-09-19": 2, "2026-11-20": 4}


def test_a_backfill_asks_for_its_month_and_states_no_budget(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-02-03", 1.0, _PARTITIONTIME=date(2026, 5, 1)), row("2026-03-01", 2.0))
    window = Window(date(2026, 2, 1), date(2026, 3, 1), date(2026, 2, 28))
    spending.refresh(cloud.settings(), window=window)
    assert spending.by("charge_date") == {"2026-02-03": 1}
    assert len(spending.parts()) == 28
    assert cloud.asked("/budgets") == []
    spending.refresh(cloud.settings(), window=window)
    assert len(real_queries(cloud)) == 1, "all days are known"


def test_a_partition_filter_keeps_what_was_exported_before_out_of_the_price(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.bigquery.bytes_per_row = 2**40
    cloud.add(*(row(f"2026-0{month}-01", 1.0) for month in range(1, 10)), row("2026-11-01", 1.0), row("2026-11-02", 1.0))
    limits = {"maximum_bytes_billed": 2**50, "daily_request_limit_usd": "100"}
    spending.refresh(cloud.settings(**limits))
    assert from_nanos(spending.state("gcp")["request_cost"]) == 2 * D("6.25")
    # A view without the column is read whole.
    spending.refresh(cloud.settings(**limits, name="view", partition_column=""))
    assert from_nanos(spending.state("view")["request_cost"]) == 11 * D("6.25")
    assert spending.charges(source="view", charge_date="2026-11-01")[0]["billed_cost"] == 1


def test_the_smallest_query_is_billed_for_ten_mebibytes_and_others_for_whole_ones(cloud: GoogleCloud, spending: Spending) -> None:
    assert str(LEAST) == "0.000059604644775390625"
    cloud.add(row("2026-11-17", 1.0))
    spending.refresh(cloud.settings())
    assert spending.state("gcp")["request_cost"] == 59_605  # nano-dollars, rounded up
    cloud.bigquery.bytes_per_row = 11 * 2**20 + 1
    spending.refresh(cloud.settings(name="larger"))
    assert spending.state("larger")["request_cost"] == 71_526  # of 12 MiB: 71525.57
    spending.refresh(cloud.settings(name="slots", usd_per_tebibyte=0))
    assert spending.state("slots")["request_cost"] == 0


def test_a_query_that_is_too_large_is_not_made(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.bigquery.bytes_per_row = 3 * 2**30
    cloud.add(*(row("2026-11-17", 1.0) for _ in range(4)))
    read = spending.refresh(cloud.settings())
    assert read.failure.startswith(
        f"{TABLE}: the query would read 12,884,901,888 bytes ($0.073242188), more than `maximum_bytes_billed` allows (10,737,418,240)"
    )
    assert real_queries(cloud) == []
    assert spending.state("gcp")["request_cost"] == 0


def test_bigquery_itself_is_told_the_limit(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 1.0))
    grown = 2**30

    def grow(count: int) -> None:
        cloud.bigquery.bytes_per_row = grown

    # The table grows between the dry run and the query: the service refuses what the first had allowed.
    cloud.bigquery.on_dry_run = grow
    read = spending.refresh(cloud.settings(maximum_bytes_billed=10 * 2**20))
    assert "Query exceeded limit for bytes billed: 10485760" in read.failure
    assert spending.charges() == []


def test_a_query_may_read_no_more_than_was_paid_for(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 1.0), row("2026-11-18", 1.0))
    cloud.bigquery.bytes_per_row = 10 * 2**20 + 1
    assert spending.refresh(cloud.settings(budgets=False)).failure == ""
    (asked,) = real_queries(cloud)
    # Two rows of ten MiB and a byte, in whole MiB.
    assert asked["query"]["maximumBytesBilled"] == str(21 * 2**20)
    assert from_nanos(spending.state("gcp")["request_cost"]) - D("6.25") * 21 * 2**20 / 2**40 < D("1E-9")


def test_a_dry_run_that_names_no_size_is_no_permission(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 1.0))
    answer = cloud.server.answer

    def without_size(request: Request) -> Answer:
        given = answer(request)
        if isinstance(given.body, dict):
            statistics = given.body.get("statistics", {})
            statistics.pop("totalBytesProcessed", None)
            statistics.get("query", {}).pop("totalBytesProcessed", None)
        return given

    cloud.server.answer = without_size
    failed = spending.refresh(cloud.settings(budgets=False)).failure
    assert failed == f"{TABLE}: the dry run names no bytes, so that the price of the query is not known; it was not made"
    assert (real_queries(cloud), spending.state("gcp")["request_cost"]) == ([], 0)


def test_a_row_that_comes_twice_is_refused_and_asked_for_anew(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 1.0), row("2026-11-18", 2.0))
    answer = cloud.server.answer

    def twice(request: Request) -> Answer:
        given = answer(request)
        if isinstance(given.body, dict) and "rows" in given.body:
            given.body["rows"] = [*given.body["rows"], given.body["rows"][0]]
            given.body["totalRows"] = str(len(given.body["rows"]))
        return given

    cloud.server.answer = twice
    failed = spending.refresh(cloud.settings(budgets=False)).failure
    assert failed == f"{TABLE}: BigQuery has answered with 'Compute Engine' on 2026-11-17 twice; the next refresh tries again"
    cloud.server.answer = answer
    assert spending.refresh(cloud.settings(budgets=False)).failure == ""
    assert spending.total() == D(1) + 2


def test_days_with_cost_do_not_all_become_empty_in_silence(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 1.0), row("2026-11-18", 2.0))
    spending.refresh(cloud.settings(budgets=False))
    spending.minutes = 400
    # The table was made anew, or its partitions have expired.
    cloud.bigquery.clear(TABLE)
    failed = spending.refresh(cloud.settings(budgets=False)).failure
    assert failed.startswith(f"{TABLE}: had cost from 2026-11-17 to 2026-11-18 and has none at all now; its figures stay")
    assert spending.total() == D(1) + 2
    spending.minutes = 800
    assert spending.refresh(cloud.settings(budgets=False, accept_empty_answers=True)).failure == ""
    assert spending.charges() == []


def test_an_answer_that_was_paid_for_is_not_paid_for_again(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 0.1, credits=[("PROMOTION", -0.01)]))
    spending.refresh(cloud.settings(budgets=False))
    # The second refresh asks for the days that are read again, and no more for the others: another question.
    spending.refresh(cloud.settings(budgets=False))
    asked, cost = len(cloud.server.requests), spending.state("gcp")["request_cost"]
    assert cost == 2 * 59_605
    spending.minutes = 5
    again = spending.refresh(cloud.settings(budgets=False))
    assert (again.failure, len(cloud.server.requests), spending.state("gcp")["request_cost"]) == ("", asked, cost)
    assert spending.total("billed_cost") == D("0.1") - D("0.01")
    # Past nine tenths of the interval of six hours it is too old.
    spending.minutes = 330
    spending.refresh(cloud.settings(budgets=False))
    assert spending.state("gcp")["request_cost"] == cost + 59_605


def test_the_day_s_limit_stops_the_query_before_it_runs(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", 1.0))
    settings = cloud.settings(daily_request_limit_usd="0.0001", budgets=False)
    assert spending.refresh(settings).failure == ""
    spending.minutes = 600
    read = spending.refresh(settings)
    assert "`daily_request_limit_usd`" in read.failure
    assert len(real_queries(cloud)) == 1
    assert spending.total("billed_cost") == 1


def test_every_request_is_counted(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.bigquery.polls = 1
    cloud.add(row("2026-11-17", 1.0))
    spending.refresh(cloud.settings())
    assert spending.state("gcp")["requests"] == len(cloud.server.requests)


def test_all_pages_are_read(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.bigquery.page_rows = 7
    rows = [row(f"2026-11-{day:02}", day + 0.1, project=f"project-{number}") for day in range(1, 11) for number in range(5)]
    cloud.add(*rows)
    pages: list[int] = []
    cloud.bigquery.on_page = pages.append
    spending.refresh(cloud.settings())
    assert pages == list(range(1, 9))  # 50 rows by 7
    assert len(spending.charges()) == 50
    assert spending.total("billed_cost") == total(rows)


@pytest.mark.parametrize("status", [429, 503])
def test_a_throttled_query_is_repeated_and_paid_once(cloud: GoogleCloud, spending: Spending, status: int) -> None:
    reason = {429: "rateLimitExceeded", 503: "backendError"}[status]
    body = {"error": {"code": status, "message": "Exceeded rate limits", "errors": [{"reason": reason, "message": "Exceeded rate limits"}]}}
    cloud.add(row("2026-11-17", 1.0))
    # The dry run, once; then the job itself.
    cloud.server.fail(status, body)
    cloud.bigquery.on_dry_run = lambda count: cloud.server.fail(status, body)
    assert spending.refresh(cloud.settings(budgets=False)).failure == ""
    assert spending.total("billed_cost") == 1
    assert spending.state("gcp")["request_cost"] == 59_605
    assert spending.state("gcp")["requests"] == len(cloud.server.requests) == 2 + 2 + len(cloud.asked("/queries/"))


def test_a_connection_that_drops_in_the_middle_of_a_page_is_asked_again(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.bigquery.page_rows = 2
    cloud.bigquery.on_page = lambda number: cloud.server.cut(after=100) if number == 1 and len(cloud.asked("/queries/")) == 2 else None
    cloud.add(*(row(f"2026-11-{day:02}", 1.0) for day in range(1, 6)))
    assert spending.refresh(cloud.settings()).failure == ""
    assert spending.total("billed_cost") == 5


def test_half_an_answer_shows_nothing_and_the_old_figures_stay(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(*(row(f"2026-11-{day:02}", 1.0) for day in range(1, 6)))
    spending.refresh(cloud.settings())
    cloud.add(*(row(f"2026-11-{day:02}", 10.0) for day in range(1, 6)))
    spending.minutes = 600
    cloud.bigquery.page_rows = 2
    gone = {"error": {"code": 404, "message": "Not found: Job", "errors": [{"reason": "notFound", "message": "Not found: Job"}]}}

    def break_off(number: int) -> None:
        if number == 2:
            cloud.server.cut(after=100)
            cloud.server.fail(404, gone)

    cloud.bigquery.on_page = break_off
    read = spending.refresh(cloud.settings())
    assert "Not found: Job" in read.failure
    assert spending.total("billed_cost") == 5
    cloud.bigquery.on_page = lambda number: None
    assert spending.refresh(cloud.settings()).failure == ""
    assert spending.total("billed_cost") == 5 + 50


def test_a_hang_ends_when_the_source_is_closed(cloud: GoogleCloud, spending: Spending, wait_until: Callable[..., object]) -> None:
    cloud.server.hang()
    reading = spending.open(cloud.settings(budgets=False))
    ended: list[str] = []

    def fetch() -> None:
        try:
            list(reading.source.fetch({}, usual_window(spending.today, 62, 45)))
        except SourceError as error:
            ended.append(str(error))

    thread = threading.Thread(target=fetch)
    thread.start()
    wait_until(lambda: cloud.server.requests)
    reading.source.close()
    thread.join(60)
    assert ended == ["ended while it was being read"]
    with pytest.raises(SourceError, match="ended"):
        list(reading.source.fetch({}, usual_window(spending.today, 62, 45)))
    # The thread that was left alone ends once its connection does: its next request is refused.
    asked = len(cloud.server.requests)
    cloud.server.__exit__()
    wait_until(lambda: not [found for found in threading.enumerate() if found.name == "google-call"])
    assert len(cloud.server.requests) == asked


@pytest.mark.parametrize(
    ("permission", "message"),
    [
        (
            "bigquery.jobs.create",
            "Access Denied: Project billing-host: User does not have bigquery.jobs.create permission in project billing-host.",
        ),
        ("bigquery.tables.getData", "Access Denied: Table: User does not have permission to query table."),
    ],
)
def test_a_missing_right_is_named_with_the_role_that_gives_it(
    cloud: GoogleCloud, spending: Spending, permission: str, message: str
) -> None:
    cloud.bigquery.refuses = {permission: message}
    failure = spending.refresh(cloud.settings()).failure
    assert failure.startswith(f"{TABLE}: the query: {message.rstrip('.')}: ")
    assert "roles/bigquery.jobUser on project billing-host" in failure
    assert "roles/bigquery.dataViewer on dataset billing-host:billing" in failure


def test_credentials_that_are_refused_are_said(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.server.fail(401, {"error": {"code": 401, "message": "Request had invalid authentication credentials."}})
    assert spending.refresh(cloud.settings(budgets=False)).failure.startswith(f"{TABLE}: the query: the credentials were refused: ")


def test_a_table_that_is_not_there_and_a_wrong_location_are_said(cloud: GoogleCloud, spending: Spending) -> None:
    elsewhere = cloud.settings(table=TABLE.replace("billing.", "biling."))
    assert "Not found: Table billing-host:biling." in spending.refresh(elsewhere).failure
    failure = spending.refresh(cloud.settings(location="US")).failure
    assert "was not found in location US" in failure
    assert "the table must be there (in US)" in failure
    assert spending.refresh(cloud.settings(location="EU")).failure == ""


def test_another_project_may_pay(cloud: GoogleCloud, spending: Spending) -> None:
    spending.refresh(cloud.settings(project="reporting-jobs"))
    assert {request.path.split("/")[4] for request in cloud.asked("/bigquery/")} == {"reporting-jobs"}


def test_the_probe_says_what_it_found_without_paying(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.bigquery.bytes_per_row = 2**30
    reading = spending.open(cloud.settings(partition_column=""))
    cloud.add(row("2026-11-17", 1.0))
    assert list(reading.source.probe()) == [
        (
            f"{TABLE} (standard export) can be read: the first query reads 1,073,741,824 bytes, for $0.006103516; at most the "
            "10,737,418,240 of `maximum_bytes_billed`."
        ),
        "Billing account 010101-F0FFF0-61C528 (Main account) is open.",
        "It has 0 budgets.",
    ]
    assert real_queries(cloud) == []
    assert reading.requests.cost == 0
    assert reading.requests.made == len(cloud.server.requests) == 3


def test_the_probe_says_which_account_is_not_seen(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.accounts = []
    cloud.billing.refused = "The caller does not have permission"
    said = spending.open(cloud.settings()).source.probe()
    next(said)
    assert "do not see billing account 010101-F0FFF0-61C528 nor any other: give them roles/billing.viewer" in next(said)
    with pytest.raises(
        SourceError, match=r"The caller does not have permission: the credentials need roles/billing\.viewer on billing account"
    ):
        next(said)


def test_a_server_that_speaks_no_bigquery_is_a_failure_and_no_crash(cloud: GoogleCloud, spending: Spending) -> None:
    with StandIn(lambda _: Answer(b"<html>", headers={"Content-Type": "text/html"})) as other:
        read = spending.refresh(cloud.settings(access={"endpoint_url": other.url}, budgets=False))
        assert read.failure
    assert spending.charges() == []
