"""The bill and the usage of an Anthropic organisation, against a stand-in that answers from the request."""

from datetime import date, timedelta
from decimal import Decimal

import anthropic
import msgspec
import pytest
from anthropic_admin import KEY, ORGANIZATION, AnthropicAdmin
from hypothesis import given
from hypothesis import strategies as st
from stand_in import Answer, StandIn

from costwarden.model import EXACT, exact_sum
from costwarden.sources.anthropic import from_cents
from costwarden.sources.http_json import Retries
from costwarden.sources.settings import AnthropicSettings
from costwarden.sources.windows import Window

TODAY = date(2026, 11, 20)
YESTERDAY = TODAY - timedelta(days=1)
NAMES = {"workspace_id": "wrkspc_1", "model": "claude-sonnet-4-20250514", "service_tier": "standard"}


@pytest.fixture
def organization():
    return AnthropicAdmin()


@pytest.fixture
def server(organization):
    with StandIn(organization.answer) as made:
        yield made


@pytest.fixture
def settings(server, spending):
    spending.environ["ANTHROPIC_ADMIN_KEY"] = KEY

    def make(**options):
        key = {"env": "ANTHROPIC_ADMIN_KEY"}
        return AnthropicSettings(
            type="anthropic", admin_key=key, endpoint_url=server.url, **{"history_days": 5, "reread_days": 2, **options}
        )

    return make


def asked(server, path):
    """(first day, day after the last) of each request for `path` that is no further page."""
    return [
        tuple(date.fromisoformat(request.first(name)[:10]) for name in ("starting_at", "ending_at"))
        for request in server.requests
        if request.path.endswith(path) and "page" not in request.query
    ]


# --- the bill --------------------------------------------------------------------------------------------------------------------


def test_costs_become_series(spending, organization, settings, golden) -> None:
    organization.cost(YESTERDAY, "12345")
    organization.cost(TODAY, "50.5", "Claude Sonnet 4 Usage - Output Tokens", workspace_id=None)
    organization.cost(TODAY, "-100", "Credit", cost_type=None, model=None)
    assert spending.refresh(settings()).failure == ""
    golden("anthropic.prom", spending.exposition())


@pytest.mark.parametrize(
    ("cents", "dollars"),
    [
        ("123.45", "1.2345"),
        ("100", "1"),
        ("0.000000000000001", "0.00000000000000001"),
        ("123456789.123456789012345", "1234567.89123456789012345"),
        (250, "2.5"),
    ],
)
def test_amounts_are_cents(spending, organization, settings, cents, dollars) -> None:
    organization.cost(TODAY, cents)
    spending.refresh(settings())
    assert spending.total() == Decimal(dollars)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=20))
def test_a_hundred_times_what_is_read_is_what_was_written(cents) -> None:
    assert EXACT.multiply(from_cents(format(cents, "f")), 100) == cents


def test_the_sum_of_the_charges_is_the_sum_of_the_bill_over_all_pages(spending, organization, server, settings) -> None:
    for number in range(100):
        day = TODAY - timedelta(days=number)
        organization.cost(day, f"{number}.00000000000000{number % 9 + 1}")
        organization.cost(day, "-0.7", "Credit")
    assert spending.refresh(settings(history_days=99)).failure == ""
    assert exact_sum([charge["billed_cost"] for charge in spending.charges()]) == organization.dollars()
    # 100 days = 31 + 31 + 31 + 7
    pages = [request.first("page") for request in server.requests if request.path.endswith("cost_report")]
    assert pages == ["", "page_31", "page_62", "page_93"]


def test_a_charge_names_organisation_workspace_and_description(spending, organization, settings) -> None:
    organization.cost(TODAY, "100", "Web Search Usage", workspace_id=None)
    spending.refresh(settings())
    (charge,) = spending.charges()
    names = ("provider_name", "billing_account_id", "sub_account_id", "service_name", "service_category")
    assert [charge[name] for name in names] == ["anthropic", ORGANIZATION, "default", "Web Search Usage", "AI and Machine Learning"]


def test_rules_attribute_by_workspace_and_model(spending, organization, settings) -> None:
    organization.cost(TODAY, "100")
    organization.cost(TODAY, "200", workspace_id=None, model="claude-haiku-4-5")
    rules = [
        {"target": "team", "origins": ["sub_account_id"], "values": {"wrkspc_1": "search", "default": "platform"}},
        {"target": "feature", "origins": ["tag:model"], "values": {"claude-haiku*": "summaries"}},
    ]
    spending.refresh(settings(), rules=rules)
    assert spending.by("team", "feature") == {("search", ""): 1, ("platform", "summaries"): 2}


def test_a_day_is_restated_and_a_cost_that_is_gone_goes(spending, organization, settings) -> None:
    organization.cost(YESTERDAY, "1000")
    organization.cost(YESTERDAY, "300", "Code Execution Usage")
    spending.refresh(settings())
    organization.costs[YESTERDAY] = []
    organization.cost(YESTERDAY, "950")
    spending.refresh(settings())
    assert spending.by("service_name") == {"Claude Sonnet 4 Usage - Input Tokens": Decimal("9.5")}


def test_a_credit_lowers_the_total(spending, organization, settings) -> None:
    organization.cost(TODAY, "1000")
    organization.cost(TODAY, "-400", "Credit")
    spending.refresh(settings())
    assert spending.by("charge_category") == {"Usage": 10, "Credit": -4}


def test_an_empty_bill_is_no_failure(spending, settings) -> None:
    assert spending.refresh(settings()).failure == ""
    assert (spending.charges(), len(spending.parts())) == ([], 6 + 6)


def test_another_currency_is_converted_at_the_rate_of_its_day_or_rejected(spending, organization, settings) -> None:
    organization.cost(TODAY, "10000", currency="EUR")
    organization.cost(TODAY, "100")
    spending.refresh(settings())
    assert (spending.total(), spending.rejected()) == (1, {"no_exchange_rate": 1})
    spending.refresh(settings(), currencies={"EUR": [{"valid_from": "2026-01-01", "usd": "1.08"}]})
    assert (spending.total(), spending.rejected()) == (109, {})  # 100 × 1.08 + 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"cents": None}, "missing_cost"),
        ({"cents": "free"}, "bad_cost"),
        ({"cents": "Infinity"}, "bad_cost"),
        # More digits than can be divided by a hundred exactly: never taken for dollars.
        ({"cents": "1" * 70}, "bad_cost"),
        ({"cents": "1e30"}, "cost_out_of_range"),
        ({"cents": ["1"]}, "bad_cost"),
        ({"cents": "1", "currency": None}, "missing_currency"),
        ({"cents": "1", "model": {}}, "broken_row"),
    ],
)
def test_a_line_that_cannot_be_read_is_rejected_aloud_and_the_others_count(spending, organization, settings, line, reason) -> None:
    organization.cost(TODAY, "200")
    organization.cost(TODAY, **line)
    assert spending.refresh(settings()).failure == ""
    assert (spending.total(), spending.rejected()) == (2, {reason: 1})


# --- usage -----------------------------------------------------------------------------------------------------------------------


def test_usage_counts_as_usage_events_do(spending, organization, settings) -> None:
    organization.usage[TODAY] = [
        {"uncached_input_tokens": 100, "5m": 20, "1h": 30, "cache_read_input_tokens": 800, "output_tokens": 50, **NAMES},
        {"uncached_input_tokens": 7, "output_tokens": 1, **NAMES, "service_tier": "batch"},
        {"uncached_input_tokens": 9, "output_tokens": 2, **NAMES, "workspace_id": None},
    ]
    spending.refresh(settings())
    common = {"source": "anthropic", "part": "usage/2026-11-20", "usage_date": "2026-11-20", "provider": "anthropic"}
    common |= {"model": "claude-sonnet-4-20250514", "operation": "chat"}
    standard = {
        "account_id": "wrkspc_1",
        "input_tokens": 950,  # 100 + 20 + 30 + 800
        "output_tokens": 50,
        "cache_read_tokens": 800,
        "cache_write_tokens": 50,  # 20 + 30
        "cache_write_1h_tokens": 30,
    }
    assert spending.reported() == [
        common | {"account_id": "default", "input_tokens": 9, "output_tokens": 2},
        common | standard,
        common | {"account_id": "wrkspc_1", "service_tier": "batch", "input_tokens": 7, "output_tokens": 1},
    ]


def test_usage_is_read_in_pages_of_31_days(spending, organization, server, settings) -> None:
    for number in range(63):
        organization.usage[TODAY - timedelta(days=number)] = [{"uncached_input_tokens": 2, **NAMES}]
    spending.refresh(settings(history_days=62))
    pages = [request.first("page") for request in server.requests if request.path.endswith("/messages")]
    assert pages == ["", "page_31", "page_62"]
    assert sum(line["input_tokens"] for line in spending.reported()) == 63 * 2


def test_a_count_that_is_none_is_rejected(spending, organization, settings) -> None:
    organization.usage[TODAY] = [{"uncached_input_tokens": -3, **NAMES}, {"uncached_input_tokens": 5, **NAMES}]
    spending.refresh(settings())
    assert (spending.rejected(), [line["input_tokens"] for line in spending.reported()]) == ({"bad_count": 1}, [5])


# --- what is asked for -----------------------------------------------------------------------------------------------------------


def test_only_missing_days_and_those_to_be_read_again_are_asked_for(spending, server, settings) -> None:
    spending.refresh(settings())
    spending.refresh(settings())
    first, second = [(TODAY - timedelta(days=days), TODAY + timedelta(days=1)) for days in (5, 2)]
    assert asked(server, "cost_report") == [first, second]
    assert asked(server, "messages") == [first, second]


def test_requests_are_counted_and_cost_nothing(spending, server, settings) -> None:
    server.fail(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Retry_After="0")
    spending.refresh(settings())
    state = spending.state("anthropic")
    assert (state["requests"], state["request_cost"]) == (1 + 2, 0)  # one that failed, costs, usage


def test_anthropics_own_library_has_neither_report() -> None:
    """When it has, this test says so: its amounts may then be read with it."""
    with anthropic.Anthropic(api_key="none") as client:
        assert not hasattr(client.organization, "cost_report")
        assert not hasattr(client.organization, "usage_report")


# --- when it goes wrong ----------------------------------------------------------------------------------------------------------


def test_a_throttled_request_is_made_again_when_the_server_says(spending, organization, server, settings) -> None:
    organization.cost(TODAY, "100")
    server.fail(429, times=2, Retry_After="0")
    assert spending.refresh(settings()).failure == ""
    assert spending.total() == 1


def test_a_workspaces_key_is_told_from_an_admin_key(spending, settings) -> None:
    spending.environ["ANTHROPIC_ADMIN_KEY"] = "sk-ant-api03-secret"
    failure = spending.refresh(settings()).failure
    assert "HTTP 401: invalid x-api-key; `admin_key` must name an admin key (`sk-ant-admin…`), not a workspace's" in failure
    assert "secret" not in failure


def test_a_missing_key_is_named(spending, settings) -> None:
    spending.environ.clear()
    assert spending.refresh(settings()).failure == "environment variable ANTHROPIC_ADMIN_KEY: is missing or empty (`admin_key`)"


def test_usage_that_may_not_be_read_leaves_the_costs_alone(spending, organization, settings) -> None:
    organization.cost(TODAY, "100")
    organization.denied = ("usage_report/messages",)
    assert spending.refresh(settings()).failure == ""
    assert spending.total() == 1
    assert "does not have permission" in spending.parts()["usage"].message
    organization.denied = ()
    spending.refresh(settings())
    assert "usage" not in spending.parts()


def test_half_a_bill_is_never_shown(spending, organization, server, settings) -> None:
    for number in range(40):
        organization.cost(TODAY - timedelta(days=number), "200")
    again = settings(history_days=39, reread_days=39)
    assert spending.refresh(again).failure == ""
    before = spending.charges()
    for day in organization.costs:
        organization.costs[day] = []
        organization.cost(day, "300")
    # The first page of 31 days is answered whole; every attempt at the second breaks off.
    server.delay(0)
    server.cut(times=Retries().attempts)
    spending.refresh(again)
    assert spending.charges() == before
    assert "no whole answer" in spending.parts()["costs"].message
    spending.refresh(again)
    assert spending.total() == 40 * 3


def test_a_day_that_the_answer_leaves_out_is_left_as_it_was(spending, organization, settings) -> None:
    organization.cost(YESTERDAY, "500")
    organization.cost(TODAY, "100")
    spending.refresh(settings())
    organization.left_out = {YESTERDAY}
    organization.cost(TODAY, "100")
    assert spending.refresh(settings()).failure == ""
    assert spending.by("charge_date") == {"2026-11-19": 5, "2026-11-20": 2}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "is no JSON object"),
        ({"type": "message"}, "has no list `data`"),
        ({"data": [{"starting_at": "soon", "results": []}]}, "has no `starting_at`"),
        ({"data": [{"starting_at": "2020-01-01T00:00:00Z", "results": []}]}, "answered for 2020-01-01"),
        ({"data": [7]}, "has no `starting_at`"),
        ({"data": [], "has_more": True}, "there is more, but not where"),
    ],
)
def test_an_answer_that_is_none_fails_the_refresh_and_the_figures_stay(spending, organization, server, settings, body, sentence) -> None:
    organization.cost(TODAY, "100")
    spending.refresh(settings())
    server.answer = lambda _: Answer(body)
    assert sentence in spending.refresh(settings()).failure
    assert spending.total() == 1


def test_close_ends_a_request_that_hangs(spending, server, settings, ends_on_close) -> None:
    server.hang()
    source = spending.open(settings()).source
    assert ends_on_close(source, lambda: list(source.fetch({}, Window(TODAY, TODAY, TODAY))), server) == "ended while it was being read"


# --- what would lose or double figures -------------------------------------------------------------------------------------------


def test_an_answer_without_any_cost_does_not_wipe_the_window(spending, organization, settings) -> None:
    for number in range(6):
        organization.cost(TODAY - timedelta(days=number), "1000")
    organization.usage[TODAY] = [{"uncached_input_tokens": 5, "model": "m"}]
    spending.refresh(settings(reread_days=5))
    organization.costs.clear()
    assert spending.refresh(settings(reread_days=5)).failure == ""
    assert spending.total() == 6 * 10
    assert spending.parts()["costs"].message == (
        "costs: had cost from 2026-11-15 to 2026-11-20 and has none at all now; its figures stay (`accept_empty_answers: true` takes it)"
    )
    assert [line["input_tokens"] for line in spending.reported()] == [5]
    assert spending.refresh(settings(reread_days=5, accept_empty_answers=True)).failure == ""
    assert (spending.charges(), "costs" in spending.parts()) == ([], False)


def test_an_answer_without_any_usage_does_not_wipe_the_window(spending, organization, settings) -> None:
    organization.cost(TODAY, "1000")
    organization.usage[YESTERDAY] = [{"uncached_input_tokens": 5, "model": "m"}]
    spending.refresh(settings())
    organization.usage.clear()
    assert spending.refresh(settings()).failure == ""
    assert spending.parts()["usage"].message.startswith("usage: had usage from 2026-11-19 to 2026-11-19 and has none at all now")
    assert [line["input_tokens"] for line in spending.reported()] == [5]
    assert spending.refresh(settings(accept_empty_answers=True)).failure == ""
    assert spending.reported() == []


def test_reading_all_again_does_not_wipe_the_window_either(spending, organization, settings) -> None:
    organization.cost(TODAY - timedelta(days=4), "1000")
    spending.refresh(settings())
    organization.costs.clear()
    spending.refresh(settings(), window=Window(TODAY - timedelta(days=5), TODAY - timedelta(days=5), TODAY))
    assert spending.total() == 10


def test_a_day_that_comes_twice_is_not_counted_twice(spending, organization, server, settings) -> None:
    organization.cost(YESTERDAY, "1000")
    organization.usage[YESTERDAY] = [{"uncached_input_tokens": 5, "model": "m"}]
    spending.refresh(settings())

    def shifted(request):
        body = msgspec.json.decode(organization.answer(request).content)
        return Answer(body | {"data": [*body["data"], *(day for day in body["data"] if day["results"])]})

    server.answer = shifted
    failure = spending.refresh(settings()).failure
    report = "Anthropic: /v1/organizations"
    twice = "the day 2026-11-19 comes twice"
    assert failure == f"{report}/cost_report: {twice}; {report}/usage_report/messages: {twice}"
    assert (spending.total(), [line["input_tokens"] for line in spending.reported()]) == (10, [5])


def test_a_key_of_another_organisation_is_refused(spending, organization, server, settings) -> None:
    organization.cost(YESTERDAY, "1000")
    organization.usage[YESTERDAY] = [{"uncached_input_tokens": 5, "model": "m"}]
    spending.refresh(settings(organization="acme"))
    organization.costs[YESTERDAY] = []
    organization.cost(YESTERDAY, "100")
    other = {"anthropic-organization-id": "org-b"}
    server.answer = lambda request: Answer(organization.answer(request).content, headers=other)
    failure = spending.refresh(settings(organization="acme")).failure
    assert f"the key is one of the organisation org-b, but what was read before is of {ORGANIZATION}, and it stays" in failure
    assert spending.by("billing_account_id") == {"acme": 10}


def test_an_answer_that_does_not_say_whose_it_is_is_taken(spending, organization, server, settings) -> None:
    organization.cost(YESTERDAY, "1000")
    spending.refresh(settings())
    organization.cost(YESTERDAY, "100")
    server.answer = lambda request: Answer(organization.answer(request).content)
    assert spending.refresh(settings()).failure == ""
    assert spending.total() == 10 + 1


# --- source test -----------------------------------------------------------------------------------------------------------------


def test_source_test_makes_one_request_and_says_what_it_found(spending, organization, server, settings, today) -> None:
    yesterday = today - timedelta(days=1)
    organization.cost(yesterday, "100")
    said = list(spending.open(settings()).source.probe())
    assert said == [f"the admin key may read costs; lines of {yesterday}: 1", f"it is a key of {ORGANIZATION}"]
    assert len(server.requests) == 1
