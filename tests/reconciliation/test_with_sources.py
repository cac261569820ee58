"""From the providers' answers to the correction: the real sources, read from stand-ins, and what the meter has beside them."""

from datetime import date, timedelta
from decimal import Decimal

import anthropic_admin
import openai_admin
import pytest
from stand_in import StandIn

from costwarden.model import from_nanos
from costwarden.reconciliation.lines import finding
from costwarden.sources.settings import AnthropicSettings, OpenaiSettings

TODAY = date(2026, 11, 20)
DAY = TODAY - timedelta(days=2)
"""The newest day that is old enough."""
BEFORE = DAY - timedelta(days=1)


@pytest.fixture
def books(spending, books_class):
    spending.environ |= {"OPENAI": openai_admin.KEY, "ANTHROPIC": anthropic_admin.KEY}
    made = books_class(f"sqlite:///{spending.ledger.path}", TODAY)
    yield made
    made.ledger.close()


@pytest.fixture
def openai(spending):
    """(organisation, read): what is in the one, `read()` reads as the server does."""
    organization = openai_admin.OpenaiAdmin()
    with StandIn(organization.answer) as server:
        options = {"admin_key": {"env": "OPENAI"}, "endpoint_url": server.url, "history_days": 5, "reread_days": 4}
        settings = OpenaiSettings(type="openai", **options)
        yield organization, lambda: spending.refresh(settings)


@pytest.fixture
def anthropic(spending):
    organization = anthropic_admin.AnthropicAdmin()
    with StandIn(organization.answer) as server:
        options = {"admin_key": {"env": "ANTHROPIC"}, "endpoint_url": server.url, "history_days": 5, "reread_days": 4}
        settings = AnthropicSettings(type="anthropic", **options)
        yield organization, lambda: spending.refresh(settings)


def findings(found):
    return {line.name: finding(line, bill_tells_models=line.provider in found.billed_by_model) for line in found.lines}


def test_an_openai_bill_is_reconciled_and_reconciled_again_when_it_is_restated(books, openai):
    organization, read = openai
    organization.cost(DAY, Decimal("2.50000000000000004"))
    organization.cost(DAY, Decimal(1), "gpt-4o-2024-08-06, output", "proj_b")
    organization.cost(DAY, Decimal(8), "o3-2025-04-16, output")
    organization.cost(DAY, Decimal(-5), "free credit")
    names = {"project_id": "proj_a", "num_model_requests": 1}
    organization.usage["completions"][DAY] = [
        {"input_tokens": 1_000_000, "output_tokens": 100_000, "model": "gpt-4o-2024-08-06", **names},
        {"input_tokens": 0, "output_tokens": 1_000_000, "model": "o3-2025-04-16", **names},
    ]
    assert read().failure == ""
    # An application that names no provider, as the first example of the documents does.
    books.meter("3.5", day=DAY, provider="", input_tokens=1_000_000, output_tokens=100_000)
    books.reserve("1", day=DAY, event_id="a")

    found = books.read(BEFORE, DAY, "openai")
    assert [(day.day, day.billed, day.metered, day.not_compared) for day in found.days] == [
        # The source has asked for it, and there was nothing: that is a bill.
        (BEFORE, 0, 0, 0),
        (DAY, Decimal("11.50000000000000004"), 3_500_000_000, -5),
    ]
    assert findings(found) == {"gpt-4o": "agrees", "o3-2025-04-16": "never metered"}

    # 11.5 - 3.5 = 8: the dollar that nobody settled, and 7 that nobody knows.
    applied = books.apply(day=DAY)
    assert ([from_nanos(cost) for cost in applied.settled.values()], from_nanos(applied.correction)) == ([1], 7)

    organization.cost(DAY, Decimal("0.25"), "web search")
    assert read().failure == ""
    assert from_nanos(books.apply(day=DAY).correction) == Decimal("0.25")
    assert not books.apply(day=DAY).changed
    # The metered usage names no provider; the settled reservation and the corrections do: 1 + 7 + 0.25.
    assert books.recorded(day=DAY) == "8.25"


def test_an_anthropic_bill_in_cents_is_compared_in_dollars(books, anthropic):
    organization, read = anthropic
    organization.cost(DAY, "300.5")
    organization.cost(DAY, "1500", "Claude Sonnet 4 Usage - Output Tokens")
    organization.cost(DAY, "10", "Web Search Usage", model=None, cost_type="web_search")
    usage = {"uncached_input_tokens": 1_000_000, "output_tokens": 1_000_000, "workspace_id": "wrkspc_1", "service_tier": "standard"}
    organization.usage[DAY] = [{"model": "claude-sonnet-4-20250514", **usage}]
    assert read().failure == ""
    books.meter("18.005", day=DAY, provider="anthropic", model="claude-sonnet-4-0", input_tokens=1_000_000, output_tokens=1_000_000)
    books.meter("1", day=DAY, provider="anthropic", model="claude-sonnet-4-20250514", requests=0)
    found = books.read(DAY, DAY, "anthropic")
    (day,) = found.days
    # 3.005 + 15 + 0.10 on the bill, 18.005 + 1 on the meter.
    assert (day.billed, day.residual) == (Decimal("18.105"), Decimal("-0.9"))
    assert findings(found)["Web Search Usage"] == "no model"
    assert from_nanos(books.apply("anthropic", DAY).correction) == Decimal("-0.9")


def test_usage_that_may_not_be_read_does_not_hold_the_bill_up(books, openai):
    organization, read = openai
    organization.cost(DAY, Decimal(2))
    organization.denied = ("usage",)
    assert read().failure == ""
    assert [day.billed for day in books.read(DAY, DAY, "openai").days] == [2]


def test_costs_that_cannot_be_read_do(books, openai, spending):
    organization, read = openai
    organization.cost(BEFORE, Decimal(2))
    organization.cost(DAY, Decimal(3))
    # In the evening of the day: half of it, perhaps.
    spending.today = DAY
    assert read().failure == ""
    spending.today = TODAY
    organization.denied = ("costs",)
    read()
    found = books.read(BEFORE, DAY, "openai")
    # The refresh as a whole has succeeded, by its usage: what is known of costs is as old as it was.
    assert spending.state("openai")["up"] == 1
    assert {(left.day, left.reason) for left in found.left_out} == {
        (day, "`costs` could not be read (source `openai`)") for day in (BEFORE, DAY)
    }
    organization.denied = ()
    read()
    assert [day.billed for day in books.read(BEFORE, DAY, "openai").days] == [2, 3]
