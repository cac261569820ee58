"""The queries of the FinOps guide run as they stand on PostgreSQL, and their figures are those of the ledger."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
import sqlalchemy

from costwarden.ledger.budgets import BudgetRow, put_budget, write_periods
from costwarden.ledger.usage import append_usage
from costwarden.model import DIMENSIONS, Usage, to_micros

DATABASES = ("postgresql",)

USD = 1_000_000_000
NOW = datetime.now(UTC)
"""The queries ask the database for the time."""
DAY = timedelta(days=1)


@pytest.fixture(scope="session")
def queries(project):
    """Every SELECT of the guide, in its order."""
    text = (project / "tests" / "fixtures" / "guide_queries.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```sql\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    found = [block for block in blocks if block.strip().startswith("SELECT")]
    assert len(found) == 3
    return found


def run(ledger, query):
    with ledger.read() as connection:
        return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def add(ledger, *events):
    rows = [
        msgspec.structs.astuple(
            Usage(**{"source": "test", "event_id": str(number), "timestamp": to_micros(NOW), "tenant_id": "TENANT_ID", **event})
        )
        for number, event in enumerate(events)
    ]
    ledger.write(lambda connection: append_usage(connection, rows))


def budget(ledger, tenant_id, model="", *, limit, start=NOW - 9 * DAY, end=NOW + 9 * DAY, period="month", **figures):
    named = {"tenant_id": tenant_id, "model": model, **figures.pop("scope", {})}
    scope = tuple(named.get(name, "") for name in DIMENSIONS)
    name = f"{'/'.join(scope)}/{period}"
    row = BudgetRow(
        budget=name, scope=scope, period=period, limit=limit, soft_limit_ratio="0.8", thresholds=("0.8", "1"), action="", origin="api"
    )
    known = ("spent", "input_tokens", "output_tokens", "requests", "reserved", "unsettled")
    values = (name, to_micros(start), *(figures.get(column, 0) for column in known), to_micros(end), 0)

    def write(connection):
        put_budget(connection, row, to_micros(start), to_micros(end), to_micros(NOW))
        write_periods(connection, [values])

    ledger.write(write)


def budgets_of(ledger):
    return {(row["tenant_id"], row["model"]): row for row in run(ledger, "SELECT * FROM ai_token_budgets")}


# --- usage ---------------------------------------------------------------------------------------------------------------------


def test_the_usage_patterns_of_a_tenant(ledger, queries):
    yesterday, day = NOW - DAY, {"report_type": "monthly"}
    add(
        ledger,
        {**day, "cost": 3, "input_tokens": 100, "output_tokens": 10},
        {**day, "cost": USD // 3, "input_tokens": 1, "output_tokens": 2},
        {**day, "cost": 5, "timestamp": to_micros(yesterday)},
        {"report_type": "draft", "cost": 7},
        {**day, "cost": 11, "timestamp": to_micros(NOW - 31 * DAY)},
        {**day, "cost": 13, "tenant_id": "another"},
    )
    rows = run(ledger, queries[0])
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    found = {(row["date"], row["report_type"]): (row["requests"], row["total_tokens"], row["total_cost"]) for row in rows}
    assert found == {
        # 0.000000003 + 0.333333333
        (midnight, "monthly"): (2, 100 + 10 + 1 + 2, Decimal("0.333333336")),
        (midnight, "draft"): (1, 0, Decimal("0.000000007")),
        (midnight - DAY, "monthly"): (1, 0, Decimal("0.000000005")),
    }
    assert [row["date"] for row in rows] == [midnight, midnight, midnight - DAY]


def test_the_top_drivers_of_the_week(ledger, queries):
    add(
        ledger,
        *({"tenant_id": f"tenant {number:02}", "report_type": "weekly", "cost": number * USD} for number in range(12)),
        {"tenant_id": "tenant 11", "report_type": "weekly", "cost": 1},
        {"tenant_id": "tenant 11", "report_type": "weekly", "cost": 100 * USD, "timestamp": to_micros(NOW - 8 * DAY)},
    )
    rows = run(ledger, queries[2])
    assert [row["tenant_id"] for row in rows] == [f"tenant {number:02}" for number in range(11, 1, -1)]
    assert rows[0] == {
        "tenant_id": "tenant 11",
        "report_type": "weekly",
        "requests": 2,
        "total_cost": Decimal("11.000000001"),
        "avg_cost": Decimal("5.5000000005"),
    }


def test_a_row_of_usage_says_all_that_was_recorded(ledger):
    at = datetime(2038, 1, 19, 3, 14, 7, 999_999, tzinfo=UTC)
    most = (1 << 63) - 1
    add(
        ledger,
        {"timestamp": to_micros(at), "cost": most, "input_tokens": 3, "output_tokens": 4, "success": False, "model": "m", "images": 2},
    )
    (row,) = run(ledger, "SELECT * FROM ai_token_usage")
    assert (row["timestamp"], row["cost_usd"]) == (at, Decimal(most).scaleb(-9))
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"], row["images"]) == (3, 4, 7, 2)
    assert (row["success"], row["tenant_id"], row["model"], row["event_id"], row["requests"]) == (False, "TENANT_ID", "m", "0", 1)


def test_the_time_of_a_query_is_looked_up_in_an_index(ledger, queries):
    def plan(connection):
        times = "SELECT 1700000000000000 + n * 1000000::bigint, 'TENANT_ID' FROM generate_series(1, 200000) AS n"
        connection.exec_driver_sql(f"INSERT INTO usage (timestamp, tenant_id) {times}")
        connection.exec_driver_sql(
            "SELECT brin_summarize_new_values(c.oid) FROM pg_class AS c WHERE c.relname = 'usage_other_to_timestamp_idx'"
        )
        connection.exec_driver_sql("ANALYZE usage_other")
        return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {queries[2]}"))

    assert "Bitmap Index Scan on usage_other_to_timestamp_idx" in ledger.write(plan)


# --- budgets -------------------------------------------------------------------------------------------------------------------


def test_tenants_that_approach_their_budgets(ledger, queries):
    budget(ledger, "nearly", "m", limit=10 * USD, spent=8 * USD)
    budget(ledger, "over", limit=3 * USD, spent=4 * USD)
    budget(ledger, "far", limit=10 * USD, spent=8 * USD - 1)
    budget(ledger, "nothing", limit=0)
    assert run(ledger, queries[1]) == [
        {
            "tenant_id": "over",
            "model": "",
            "monthly_limit_usd": 3,
            "current_usage_usd": 4,
            "percentage_used": Decimal("133.33"),
        },
        {"tenant_id": "nearly", "model": "m", "monthly_limit_usd": 10, "current_usage_usd": 8, "percentage_used": 80},
    ]


def test_a_budget_says_what_the_api_says_of_it(ledger):
    budget(ledger, "acme", "m", limit=10 * USD, spent=8 * USD, input_tokens=5, output_tokens=6, unsettled=2 * USD)
    budget(ledger, "small", limit=7, spent=5, unsettled=1)
    found = budgets_of(ledger)
    row = found["acme", "m"]
    assert (row["monthly_limit_usd"], row["current_usage_usd"]) == (10, 8)
    assert (row["token_count_input"], row["token_count_output"]) == (5, 6)
    assert (row["reset_date"], row["created_at"], row["updated_at"]) == (NOW + 9 * DAY, NOW, NOW)
    assert (row["soft_limit_notified"], row["hard_limit_reached"]) == (True, True)
    # 80 % of 7 are 5.6; what is not settled counts against the hard limit.
    row = found["small", ""]
    assert (row["soft_limit_notified"], row["hard_limit_reached"]) == (False, False)


def test_a_budget_of_nothing_is_spent_and_shows_no_limit_to_divide_by(ledger):
    budget(ledger, "acme", limit=0)
    row = budgets_of(ledger)["acme", ""]
    assert (row["monthly_limit_usd"], row["current_usage_usd"], row["hard_limit_reached"]) == (None, 0, True)


def test_a_month_that_is_over_counts_no_more_and_one_not_begun_not_yet(ledger):
    budget(ledger, "acme", limit=USD, spent=USD, start=NOW - 40 * DAY, end=NOW - 9 * DAY)
    budget(ledger, "early", limit=USD, spent=USD, start=NOW + 9 * DAY, end=NOW + 40 * DAY)
    asked = "SELECT *, now() AS asked_at FROM ai_token_budgets"
    found = {(row["tenant_id"], row["model"]): row for row in run(ledger, asked)}
    assert [found[name, ""]["current_usage_usd"] for name in ("acme", "early")] == [0, 0]
    assert [found[name, ""]["hard_limit_reached"] for name in ("acme", "early")] == [False, False]
    # Of a month in which nothing happened yet only the database's own time zone is known.
    asked_at = found["acme", ""]["asked_at"].astimezone(UTC)
    following = (asked_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + 32 * DAY).replace(day=1)
    assert found["acme", ""]["reset_date"] == following


@pytest.mark.parametrize("hours", [-11, -1, 0, 1, 13])
def test_the_month_of_any_time_zone_is_the_one_that_counts(ledger, hours):
    # A local midnight that is another hour, or another day, in UTC.
    start = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=abs(hours) + 1)
    budget(ledger, "acme", limit=10 * USD, spent=3 * USD, start=start, end=start + 30 * DAY)
    row = budgets_of(ledger)["acme", ""]
    assert (row["current_usage_usd"], row["reset_date"]) == (3, start + 30 * DAY)


def test_only_monthly_budgets_of_a_tenant_or_of_its_model_are_shown(ledger):
    budget(ledger, "acme", limit=USD)
    budget(ledger, "acme", "m", limit=USD)
    budget(ledger, "acme", "day", limit=USD, period="day")
    budget(ledger, "", "m", limit=USD)
    budget(ledger, "acme", "n", limit=USD, scope={"report_type": "draft"})
    assert sorted(budgets_of(ledger)) == [("acme", ""), ("acme", "m")]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ai_token_budgets SET current_usage_usd = 0 WHERE tenant_id = 'TENANT_ID'",
        "INSERT INTO ai_token_budgets (tenant_id, model, monthly_limit_usd) VALUES ('a', 'm', 500.00)",
    ],
)
def test_nobody_writes_through_the_views(ledger, statement):
    with pytest.raises(Exception, match=r"cannot (update|insert into) view"):
        ledger.write(lambda connection: connection.execute(sqlalchemy.text(statement)))
