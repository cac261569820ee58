"""`costwarden rerate` beside a server that has the ledger open: budgets, windows and sums follow, and nothing happens twice."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from costwarden.cli.rerate import Span, changes, record
from costwarden.ledger.audit import list_audit
from costwarden.ledger.corrections import recorded_usage
from costwarden.ledger.usage import spend_between, usage_sums
from costwarden.model import DIMENSIONS, Usage, from_nanos
from costwarden.pricing import PriceBook, PricingSettings

NOON = 1_763_208_000_000_000
HOUR = 3_600_000_000
MONTH = ("--since", "2025-11-01", "--until", "2025-12-01")
OVERRIDE = {"valid_from": "2025-11-01", "model": "house-model", "input_usd_mtok": 2, "output_usd_mtok": 8}


def used(number: int, **fields: Any) -> Usage:
    """A thousand tokens each way of a model that no list has: nothing is known of their price."""
    made = {"tenant_id": "acme", "model": "house-model", "input_tokens": 1_000, "output_tokens": 1_000, "priced_by": "unpriced", **fields}
    return Usage(source="api", event_id=f"evt-{number}", timestamp=NOON + number, **made)


@pytest.fixture
def rerate(desk, costwarden) -> Callable[..., Result]:
    """`rerate("--apply", overrides=[…])`: the command, in November 2025, with these overrides in its configuration."""

    def run(*arguments: str, overrides: list[dict[str, Any]], span: tuple[str, ...] = MONTH) -> Result:
        return costwarden("rerate", *span, *arguments, database_url=desk.url, pricing={"overrides": overrides})

    return run


def ingest(desk, *events: Usage) -> None:
    desk.ledger.writer.step_blocking(desk.engine.ingest, events)


def spent(desk) -> str:
    """Dollars of acme's budget, as memory and ledger agree on them."""
    assert desk.in_memory() == desk.in_ledger()
    return str(from_nanos(next(status.spent for status in desk.statuses().values())))


def test_a_price_that_came_late_is_added_to_budgets_windows_and_sums_and_only_once(desk, rerate):
    desk.put("100", tenant_id="acme")
    ingest(desk, used(1), used(2), used(3, requests=4))
    assert spent(desk) == "0"

    # 1,000 tokens at $2 and 1,000 at $8 a million are a cent.
    plan = rerate(overrides=[OVERRIDE])
    assert plan.exit_code == 0, plan.output
    assert "`--apply` records 3 corrections" in plan.output
    assert spent(desk) == "0"

    applied = rerate("--apply", overrides=[OVERRIDE])
    assert "3 corrections recorded, $0.03 together." in applied.output
    assert spent(desk) == "0.03"
    again = rerate("--apply", overrides=[OVERRIDE])
    assert "0 corrections recorded" in again.output
    assert spent(desk) == "0.03"

    with desk.ledger.read() as connection:
        window = spend_between(connection, ("acme", *[""] * (len(DIMENSIONS) - 1)), NOON - HOUR, NOON + HOUR)
        sums = {row["priced"]: row for row in usage_sums(connection, ["tenant_id"])}
        entries = [entry for entry in list_audit(connection) if entry["action"] == "rerate"]
    # Three events of six requests, 3,000 tokens each way: a correction is no call and has no tokens.
    assert (window.cost, window.requests, window.input_tokens) == (30_000_000, 6, 3_000)
    # What came without a price stays counted as that; its money is money of a known price.
    assert (sums[0]["requests"], sums[0]["cost"]) == (6, 0)
    assert (sums[1]["requests"], sums[1]["cost"]) == (0, 30_000_000)
    assert len(entries) == 1
    assert json.loads(entries[0]["after"])["difference_usd"] == "0.03"


def test_a_wrong_price_is_taken_back(desk, rerate):
    desk.put("100", tenant_id="acme")
    ingest(desk, used(1, cost=90_000_000, priced_by="override:2025-01-01"))
    assert spent(desk) == "0.09"
    answer = json.loads(rerate("--apply", "--format", "json", overrides=[OVERRIDE]).output)
    assert answer["difference_usd"] == -0.08
    assert answer["changes"] == [
        {
            "provider": "",
            "model": "house-model",
            "priced_by": "override:2025-01-01",
            "priced_by_now": "override:2025-11-01",
            "events": 1,
            "cost_usd": 0.09,
            "cost_usd_now": 0.01,
        }
    ]
    assert spent(desk) == "0.01"


def test_usage_is_priced_by_the_price_of_its_own_time(desk, rerate):
    desk.put("100", tenant_id="acme")
    ingest(desk, used(1), used(2))
    # From the 16th on it is dearer; the usage is of the 15th.
    rerate("--apply", overrides=[OVERRIDE, {**OVERRIDE, "valid_from": "2025-11-16", "input_usd_mtok": 200}])
    assert spent(desk) == "0.02"


def test_a_second_correction_counts_the_first(desk, rerate):
    desk.put("100", tenant_id="acme")
    ingest(desk, used(1))
    rerate("--apply", overrides=[OVERRIDE])
    rerate("--apply", overrides=[{**OVERRIDE, "input_usd_mtok": 5}])
    # $5 and $8 a million.
    assert spent(desk) == "0.013"
    rerate("--apply", overrides=[OVERRIDE])
    assert spent(desk) == "0.01"
    desk.restart()
    assert spent(desk) == "0.01"


def test_only_what_is_named_is_rerated(desk, rerate):
    desk.put("100")
    ingest(desk, used(1), used(2, tenant_id="globex"), used(3, model="house-model-2"), used(4, provider="house"))
    wide = [{**OVERRIDE, "model": "house-*"}]
    assert "1 corrections recorded" in rerate("--apply", "--tenant", "globex", overrides=wide).output
    assert "1 corrections recorded" in rerate("--apply", "--model", "house-model-2", overrides=wide).output
    assert "1 corrections recorded" in rerate("--apply", "--provider", "house", overrides=wide).output
    before = ("--since", "2025-11-01", "--until", "2025-11-15T12:00:00+00:00")
    assert "0 corrections recorded" in rerate("--apply", overrides=wide, span=before).output
    assert "1 corrections recorded" in rerate("--apply", overrides=wide).output
    assert spent(desk) == "0.04"


def test_two_reratings_at_the_same_time_record_one_correction(desk):
    desk.put("100", tenant_id="acme")
    ingest(desk, used(1), used(2))
    book = PriceBook(PricingSettings.model_validate({"overrides": [OVERRIDE]}))
    span = Span(NOON, NOON + HOUR, {})
    with desk.ledger.read() as first, desk.ledger.read() as second:
        found = [list(changes(connection, book, span)) for connection in (first, second)]
    assert [record(desk.ledger, desk.engine, each) for each in found] == [2, 0]
    assert spent(desk) == "0.02"


def test_what_still_has_no_price_is_named(desk, rerate):
    ingest(desk, used(1), used(2, model="unheard-of", requests=3), used(3, model="unheard-of", cost=5, priced_by="caller"))
    answer = json.loads(rerate("--format", "json", overrides=[OVERRIDE]).output)
    assert answer["unpriced"] == [{"provider": "", "model": "unheard-of", "requests": 3}]
    assert (answer["examined"], answer["applied"], answer["recorded"]) == (3, False, 0)


def test_many_corrections_are_recorded_some_at_a_time(desk, rerate):
    desk.put("100", tenant_id="acme")
    ingest(desk, *(used(number) for number in range(1_201)))
    assert "1201 corrections recorded, $12.01 together." in rerate("--apply", overrides=[OVERRIDE]).output
    assert spent(desk) == "12.01"


@pytest.mark.parametrize("page_rows", [1, 2, 3, 100])
def test_recorded_usage_is_read_page_by_page_without_losing_one_of_the_same_moment(desk, page_rows):
    events = [Usage(source="api", event_id=str(number), timestamp=NOON + number // 3, cost=number) for number in range(7)]
    ingest(desk, *events, Usage(source="correction", event_id="priced:1:api:0", timestamp=NOON, requests=0, cost=9))
    with desk.ledger.read() as connection:
        pages = list(recorded_usage(connection, NOON, NOON + 2, {}, page_rows=page_rows))
    assert [usage for page in pages for usage in page] == events[:6]
    assert all(len(page) <= page_rows for page in pages)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (("--since", "soon"), "'soon' is no date, as 2026-03-01 or 2026-03-01T12:00:00+01:00"),
        (("--since", "2025-12-01", "--until", "2025-11-01"), "must be before `--until`"),
        ((), "Missing option '--since'"),
    ],
)
def test_a_span_that_is_none_is_an_error(rerate, span, message):
    answer = rerate(overrides=[], span=span)
    assert answer.exit_code == 2
    assert message in answer.output
