"""The bill and the usage of an OpenAI organisation, against a stand-in that answers from the request."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import openai
import pytest
from openai_admin import KEY, NOT_ALLOWED, OpenaiAdmin
from spending import Spending
from stand_in import Answer, StandIn

from costwarden.ledger.providers import reported_usage
from costwarden.model import exact_sum
from costwarden.sources import SourceError
from costwarden.sources.http_json import Retries
from costwarden.sources.settings import OpenaiSettings
from costwarden.sources.windows import Window

TODAY = date(2026, 11, 20)
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def organization():
    return OpenaiAdmin()


@pytest.fixture
def server(organization):
    with StandIn(organization.answer) as made:
        yield made


@pytest.fixture
def settings(server, spending):
    spending.environ["OPENAI_ADMIN_KEY"] = KEY

    def make(**options):
        return OpenaiSettings(
            type="openai",
            admin_key={"env": "OPENAI_ADMIN_KEY"},
            endpoint_url=server.url,
            **{"history_days": 5, "reread_days": 2, **options},
        )

    return make


def asked(server, path):
    """(first day, last day) of each request for `path` that is no further page."""
    return [
        tuple(datetime.fromtimestamp(int(request.first(name)), UTC).date() for name in ("start_time", "end_time"))
        for request in server.requests
        if request.path.endswith(path) and "page" not in request.query
    ]


# --- the bill --------------------------------------------------------------------------------------------------------------------


def test_costs_and_usage_become_series(spending: Spending, organization, settings, golden) -> None:
    organization.cost(YESTERDAY, Decimal("1.25"))
    organization.cost(YESTERDAY, Decimal("0.75"), "gpt-4o-2024-08-06, output")
    organization.cost(TODAY, Decimal("0.06"), project="proj_b")
    organization.cost(TODAY, Decimal("-0.01"), "credit")
    assert spending.refresh(settings(organization="org-acme")).failure == ""
    golden("openai.prom", spending.exposition())


def test_the_sum_of_the_charges_is_the_sum_of_the_bill_over_all_pages(spending, organization, server, settings) -> None:
    for number in range(401):
        day = TODAY - timedelta(days=number)
        # Seventeen decimal places, as the API writes binary fractions.
        organization.cost(day, Decimal(f"0.{number + 1:03d}38340307526001"))
        organization.cost(day, Decimal("-0.00000000000000007"), "credit", "proj_b")
    organization.denied = ("usage",)
    assert spending.refresh(settings(history_days=400)).failure == ""
    assert exact_sum([charge["billed_cost"] for charge in spending.charges()]) == organization.total()
    # 401 days = 180 + 180 + 41
    assert [request.first("page") for request in server.requests if request.path.endswith("/costs")] == ["", "page_180", "page_360"]


def test_an_amount_is_read_to_the_last_digit(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal("0.1"))
    organization.cost(TODAY, Decimal("0.2"))
    organization.cost(TODAY, Decimal("1E-7"))
    organization.cost(TODAY, "0.30000000000000004", "as text")
    organization.cost(TODAY, 7, "whole")
    spending.refresh(settings())
    assert spending.by("service_name") == {
        "gpt-4o-2024-08-06, input": Decimal("0.3000001"),  # 0.1 + 0.2 + 0.0000001
        "as text": Decimal("0.30000000000000004"),
        "whole": Decimal(7),
    }


def test_a_charge_names_organisation_project_and_line_item(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal(1), "web search", "proj_x", extra={"organization_id": "org-1"})
    spending.refresh(settings())
    (charge,) = spending.charges()
    names = ("provider_name", "billing_account_id", "sub_account_id", "service_name", "service_category", "charge_category")
    assert [charge[name] for name in names] == ["openai", "org-1", "proj_x", "web search", "AI and Machine Learning", "Usage"]


def test_rules_attribute_by_project_and_by_key(spending, organization, server, settings) -> None:
    organization.cost(TODAY, Decimal(1), project="proj_search", api_key_id="key_1")
    organization.cost(TODAY, Decimal(2), project="proj_chat", api_key_id="key_2")
    rules = [
        {"target": "team", "origins": ["sub_account_id"], "values": {"proj_search": "search"}},
        {"target": "feature", "origins": ["tag:api_key_id"], "values": {"key_2": "assistant"}},
    ]
    spending.refresh(settings(), rules=rules)
    assert spending.by("team", "feature") == {("search", ""): 1, ("", ""): 2}
    spending.refresh(settings(split_by_api_key=True), rules=rules)
    assert spending.by("team", "feature") == {("search", ""): 1, ("", "assistant"): 2}


def test_a_day_is_restated_and_a_cost_that_is_gone_goes(spending, organization, settings) -> None:
    organization.cost(YESTERDAY, Decimal(10))
    organization.cost(YESTERDAY, Decimal(3), "images")
    spending.refresh(settings())
    organization.costs[YESTERDAY] = []
    organization.cost(YESTERDAY, Decimal("9.5"))
    spending.refresh(settings())
    assert spending.by("service_name") == {"gpt-4o-2024-08-06, input": Decimal("9.5")}


def test_a_credit_lowers_the_total(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal(10))
    organization.cost(TODAY, Decimal(-4))
    spending.refresh(settings())
    assert spending.by("charge_category") == {"Usage": 10, "Credit": -4}
    assert spending.total() == 6


def test_an_empty_bill_is_no_failure(spending, settings) -> None:
    assert spending.refresh(settings()).failure == ""
    assert spending.charges() == []
    # Six days of costs, six of usage: known, so that they are not asked for again.
    assert {part.state for part in spending.parts().values()} == {"ok"}
    assert len(spending.parts()) == 6 + 6


def test_another_currency_is_converted_at_the_rate_of_its_day_or_rejected(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal(100), currency="eur")
    organization.cost(TODAY, Decimal(1))
    spending.refresh(settings())
    assert (spending.total(), spending.rejected()) == (1, {"no_exchange_rate": 1})
    spending.refresh(settings(), currencies={"EUR": [{"valid_from": "2026-01-01", "usd": "1.08"}]})
    assert (spending.total(), spending.rejected()) == (109, {})  # 100 × 1.08 + 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"value": None}, "missing_cost"),
        ({"value": True}, "missing_cost"),
        ({"value": "a lot"}, "bad_cost"),
        ({"value": "NaN"}, "bad_cost"),
        ({"value": 1, "currency": None}, "missing_currency"),
        ({"value": 1, "line_item": 7}, "broken_row"),
        ({"value": Decimal("1e30")}, "cost_out_of_range"),
    ],
)
def test_a_line_that_cannot_be_read_is_rejected_aloud_and_the_others_count(spending, organization, settings, line, reason) -> None:
    organization.cost(TODAY, Decimal(2))
    organization.cost(TODAY, **{"amount": line.pop("value"), **line})
    assert spending.refresh(settings()).failure == ""
    assert (spending.total(), spending.rejected()) == (2, {reason: 1})


# --- usage -----------------------------------------------------------------------------------------------------------------------


def test_usage_counts_as_usage_events_do(spending, organization, settings) -> None:
    names = {"project_id": "proj_a", "model": "gpt-4o"}
    organization.usage["completions"][TODAY] = [
        # The cached tokens are among the input tokens, and stay there.
        {"input_tokens": 1000, "input_cached_tokens": 800, "output_tokens": 50, "num_model_requests": 5, **names, "batch": False},
        {"input_tokens": 300, "output_tokens": 20, "num_model_requests": 2, **names, "batch": True},
        {"input_tokens": 7, "num_model_requests": 1, **names, "service_tier": "priority"},
        {
            "input_tokens": 90,
            "input_audio_tokens": 40,
            "input_cached_audio_tokens": 10,
            "output_audio_tokens": 30,
            "output_tokens": 35,
            "input_cache_write_tokens": 12,
            "num_model_requests": 1,
            **names,
            "service_tier": "default",
        },
    ]
    organization.usage["embeddings"][TODAY] = [{"input_tokens": 44, "num_model_requests": 4, **names}]
    organization.usage["images"][TODAY] = [{"images": 3, "num_model_requests": 2, **names}]
    organization.usage["audio_speeches"][TODAY] = [{"characters": 900, "num_model_requests": 1, **names}]
    organization.usage["audio_transcriptions"][TODAY] = [{"seconds": 61, "num_model_requests": 1, **names}]
    organization.usage["moderations"][TODAY] = [{"input_tokens": 5, "num_model_requests": 1, **names}]
    spending.refresh(settings())
    common = {"source": "openai", "part": "usage/2026-11-20", "usage_date": "2026-11-20", "provider": "openai"}
    common |= {"account_id": "proj_a", "model": "gpt-4o"}
    found = {(line["operation"], line.get("service_tier", "")): line for line in spending.reported()}
    for (operation, tier), counts in {
        # 1000 + 90, 50 + 35, 5 + 1, 40 + 10
        ("chat", ""): {
            "input_tokens": 1090,
            "cache_read_tokens": 800,
            "cache_write_tokens": 12,
            "output_tokens": 85,
            "input_audio_tokens": 50,
            "output_audio_tokens": 30,
            "requests": 6,
        },
        ("chat", "batch"): {"input_tokens": 300, "output_tokens": 20, "requests": 2},
        ("chat", "priority"): {"input_tokens": 7, "requests": 1},
        ("embeddings", ""): {"input_tokens": 44, "requests": 4},
        ("image_generation", ""): {"images": 3, "requests": 2},
        ("speech", ""): {"requests": 1},
        ("transcription", ""): {"audio_milliseconds": 61_000, "requests": 1},
        ("moderation", ""): {"input_tokens": 5, "requests": 1},
    }.items():
        names = {"operation": operation} | ({"service_tier": tier} if tier else {})
        assert found.pop((operation, tier)) == common | names | counts
    assert found == {}


def test_usage_is_read_in_pages_of_31_days(spending, organization, server, settings) -> None:
    for number in range(63):
        line = {"input_tokens": 2, "num_model_requests": 1, "model": "gpt-4o", "project_id": "p"}
        organization.usage["completions"][TODAY - timedelta(days=number)] = [line]
    spending.refresh(settings(history_days=62))
    pages = [request.first("page") for request in server.requests if request.path.endswith("/completions")]
    assert pages == ["", "page_31", "page_62"]
    assert sum(line["input_tokens"] for line in spending.reported()) == 63 * 2


@pytest.mark.parametrize("count", [-1, 1.5, "many", True, 2**70])
def test_a_count_that_is_none_is_rejected(spending, organization, settings, count) -> None:
    names = {"project_id": "proj_a", "model": "gpt-4o", "num_model_requests": 1}
    organization.usage["completions"][TODAY] = [{"input_tokens": count, **names}, {"input_tokens": 5, **names}]
    spending.refresh(settings())
    assert (spending.rejected(), [line["input_tokens"] for line in spending.reported()]) == ({"bad_count": 1}, [5])


# --- what is asked for -----------------------------------------------------------------------------------------------------------


def test_only_missing_days_and_those_to_be_read_again_are_asked_for(spending, organization, server, settings) -> None:
    spending.refresh(settings())
    spending.refresh(settings())
    # Six days, then the last two and today; the end is exclusive.
    first, second = [(TODAY - timedelta(days=days), TODAY + timedelta(days=1)) for days in (5, 2)]
    assert asked(server, "/costs") == [first, second]
    assert asked(server, "/completions") == [first, second]


def test_requests_are_counted_and_cost_nothing(spending, organization, server, settings) -> None:
    server.fail(500)
    spending.refresh(settings())
    state = spending.state("openai")
    assert (state["requests"], state["request_cost"]) == (1 + 7, 0)  # one that failed, costs, and six kinds of usage
    assert len(server.requests) == 8


def test_the_stand_in_speaks_as_openais_own_library_expects(organization, server) -> None:
    organization.cost(TODAY, Decimal("0.5"))
    organization.cost(YESTERDAY, Decimal("0.25"))
    start = int(datetime(2026, 11, 19, tzinfo=UTC).timestamp())
    with openai.OpenAI(api_key="none", admin_api_key=KEY, base_url=f"{server.url}/v1") as client:
        page = client.admin.organization.usage.costs(
            start_time=start, end_time=start + 2 * 86_400, bucket_width="1d", group_by=["line_item", "project_id"]
        )
    assert [result.amount.value for bucket in page.data for result in bucket.results] == [0.25, 0.5]
    assert page.data[0].results[0].project_id == "proj_a"


# --- when it goes wrong ----------------------------------------------------------------------------------------------------------


def test_a_throttled_request_is_made_again_when_the_server_says(spending, organization, server, settings) -> None:
    organization.cost(TODAY, Decimal(1))
    server.fail(429, {"error": {"message": "Rate limit reached"}}, times=2, Retry_After="0")
    assert spending.refresh(settings()).failure == ""
    assert spending.total() == 1


def test_a_projects_key_is_told_from_an_admin_key(spending, organization, settings) -> None:
    spending.environ["OPENAI_ADMIN_KEY"] = "sk-proj-secret-secret"
    failure = spending.refresh(settings()).failure
    assert "HTTP 401: Incorrect API key provided: …; `admin_key`" in failure
    assert "`admin_key` must name an admin key of the organisation, not a project's" in failure
    assert "sk-proj-secret" not in failure


def test_a_missing_key_is_named(spending, settings) -> None:
    spending.environ.clear()
    assert spending.refresh(settings()).failure == "environment variable OPENAI_ADMIN_KEY: is missing or empty (`admin_key`)"


def test_a_key_with_a_line_break_in_it_is_refused_before_it_is_sent(spending, server, settings) -> None:
    spending.environ["OPENAI_ADMIN_KEY"] = "sk-admin\r\nX-Evil: 1"
    assert "holds spaces, line breaks or letters that no key has" in spending.refresh(settings()).failure
    assert server.requests == []


def test_usage_that_may_not_be_read_leaves_the_costs_alone(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal(1))
    organization.denied = ("usage",)
    assert spending.refresh(settings()).failure == ""
    assert spending.total() == 1
    assert "Missing scopes: api.usage.read" in spending.parts()["usage"].message
    organization.denied = ()
    spending.refresh(settings())
    assert "usage" not in spending.parts()
    assert "usage/2026-11-20" in spending.parts()


def test_what_breaks_off_is_asked_for_again(spending, organization, server, settings) -> None:
    organization.cost(TODAY, Decimal(1))
    server.cut()
    assert spending.refresh(settings()).failure == ""
    assert spending.total() == 1


def test_half_a_bill_is_never_shown(spending, organization, server, settings) -> None:
    for number in range(201):
        organization.cost(TODAY - timedelta(days=number), Decimal(2))
    organization.denied = ("usage",)
    again = settings(history_days=200, reread_days=200)
    assert spending.refresh(again).failure == ""
    before = spending.charges()
    for day in organization.costs:
        organization.costs[day] = []
        organization.cost(day, Decimal(3))
    # The first page of 180 days is answered whole; every attempt at the second breaks off.
    server.delay(0)
    server.cut(times=Retries().attempts)
    assert "no whole answer" in spending.refresh(again).failure
    assert spending.charges() == before
    assert spending.refresh(again).failure == ""
    assert spending.total() == 201 * 3


def test_a_day_that_the_answer_leaves_out_is_left_as_it_was(spending, organization, settings) -> None:
    organization.cost(YESTERDAY, Decimal(5))
    organization.cost(TODAY, Decimal(1))
    spending.refresh(settings())
    organization.left_out = {YESTERDAY}
    organization.cost(TODAY, Decimal(1))
    assert spending.refresh(settings()).failure == ""
    assert spending.by("charge_date") == {"2026-11-19": 5, "2026-11-20": 2}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>Sign in</html>", "is no JSON object"),
        (b"[" * 100_000, "is no JSON object"),
        ({"object": "page"}, "has no list `data`"),
        ({"data": [{"results": []}]}, "has no `start_time`"),
        ({"data": [{"start_time": 0, "results": []}]}, "answered for 1970-01-01"),
        ({"data": [], "has_more": True, "next_page": None}, "there is more, but not where"),
        ({"data": [], "has_more": True, "next_page": "page_1"}, "comes after itself"),
    ],
)
def test_an_answer_that_is_none_fails_the_refresh_and_the_figures_stay(spending, organization, server, settings, body, sentence) -> None:
    organization.cost(TODAY, Decimal(1))
    spending.refresh(settings())
    server.answer = lambda _: Answer(body)
    assert sentence in spending.refresh(settings()).failure
    assert spending.total() == 1


def test_close_ends_a_request_that_hangs(spending, server, settings, ends_on_close) -> None:
    server.hang()
    source = spending.open(settings()).source
    assert ends_on_close(source, lambda: list(source.fetch({}, Window(TODAY, TODAY, TODAY))), server) == "ended while it was being read"


def test_a_request_that_hangs_ends_by_itself_and_is_made_again(spending, organization, server, settings) -> None:
    organization.cost(TODAY, Decimal(1))
    server.hang()
    assert spending.refresh(settings(request_timeout_seconds=3)).failure == ""
    assert spending.total() == 1


# --- what would lose or double figures -------------------------------------------------------------------------------------------


def test_an_answer_without_any_cost_does_not_wipe_the_window(spending, organization, settings) -> None:
    for number in range(6):
        organization.cost(TODAY - timedelta(days=number), Decimal(10))
    organization.usage["completions"][TODAY] = [{"input_tokens": 5, "model": "m"}]
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
    organization.cost(TODAY, Decimal(10))
    organization.usage["completions"][YESTERDAY] = [{"input_tokens": 5, "model": "m"}]
    spending.refresh(settings())
    organization.usage.clear()
    assert spending.refresh(settings()).failure == ""
    assert spending.parts()["usage"].message.startswith("usage: had usage from 2026-11-19 to 2026-11-19 and has none at all now")
    assert [line["input_tokens"] for line in spending.reported()] == [5]
    assert spending.refresh(settings(accept_empty_answers=True)).failure == ""
    assert spending.reported() == []


def test_reading_all_again_does_not_wipe_the_window_either(spending, organization, settings) -> None:
    organization.cost(TODAY - timedelta(days=4), Decimal(10))
    spending.refresh(settings())
    organization.costs.clear()
    spending.refresh(settings(), window=Window(TODAY - timedelta(days=5), TODAY - timedelta(days=5), TODAY))
    assert spending.total() == 10


def test_a_day_that_comes_twice_is_not_counted_twice(spending, organization, server, settings) -> None:
    organization.cost(YESTERDAY, Decimal(10))
    organization.usage["completions"][YESTERDAY] = [{"input_tokens": 5, "model": "m"}]
    spending.refresh(settings())

    def shifted(request):
        body = msgspec.json.decode(organization.answer(request).content)
        return Answer(body | {"data": [*body["data"], *(day for day in body["data"] if day["results"])]})

    server.answer = shifted
    failure = spending.refresh(settings()).failure
    assert failure == "OpenAI: costs: the day 2026-11-19 comes twice; OpenAI: usage/completions: the day 2026-11-19 comes twice"
    assert (spending.total(), [line["input_tokens"] for line in spending.reported()]) == (10, [5])


def test_a_key_of_another_organisation_is_refused(spending, organization, settings) -> None:
    for number in range(6):
        organization.cost(TODAY - timedelta(days=number), Decimal(10), extra={"organization_id": "org-A"})
    spending.refresh(settings())
    unchanged = spending.parts()
    spending.refresh(settings())
    assert {part.part: part.fingerprint for part in spending.parts().values()} == {
        name: part.fingerprint for name, part in unchanged.items()
    }
    for day in organization.costs:
        organization.costs[day] = []
        organization.cost(day, Decimal(1), extra={"organization_id": "org-B"})
    organization.usage["completions"][TODAY] = [{"input_tokens": 7, "model": "m"}]
    assert spending.refresh(settings()).failure == (
        "OpenAI: the key is one of the organisation org-B, but what was read before is of org-A, and it stays: give org-B a source of its "
        "own, with another `name`, or this one a key of org-A"
    )
    assert (spending.by("billing_account_id"), spending.reported()) == ({"org-A": 60}, [])


def test_an_organisation_that_is_named_later_is_the_one_that_was_read(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal(10))
    spending.refresh(settings())
    organization.costs.clear()
    organization.cost(TODAY, Decimal(10), extra={"organization_id": "org-A"})
    spending.refresh(settings())
    organization.costs.clear()
    organization.cost(TODAY, Decimal(11))
    assert spending.refresh(settings()).failure == ""
    organization.cost(TODAY, Decimal(1), extra={"organization_id": "org-B"})
    assert "but what was read before is of org-A" in spending.refresh(settings()).failure
    assert spending.total() == 11


def test_names_with_broken_letters_are_read(spending, organization, server, settings) -> None:
    organization.cost(TODAY, Decimal(10), "XX")
    organization.cost(TODAY, Decimal(5), "a\0b")
    organization.cost(TODAY, Decimal(3), "a\ufffdb")
    organization.usage["completions"][TODAY] = [{"model": "m\0", "input_tokens": 1}]
    server.answer = lambda request: Answer(organization.answer(request).content.replace(b'"XX"', rb'"\ud800"'))
    assert spending.refresh(settings()).failure == ""
    assert spending.by("service_name") == {"\ufffd": 10, "a\ufffdb": 5 + 3}
    assert [line["model"] for line in spending.reported()] == ["m\ufffd"]


def test_counts_near_what_the_ledger_holds_do_not_cost_the_costs(spending, organization, settings) -> None:
    organization.cost(TODAY, Decimal(10))
    names = {"project_id": "p"}
    counts = [2**63 - 1, 10**15, 1]
    organization.usage["completions"][TODAY] = [{"model": f"m{count}", "input_tokens": count, **names} for count in counts]
    assert spending.refresh(settings()).failure == ""
    assert (spending.total(), spending.rejected()) == (10, {"bad_count": 2})
    with spending.ledger.read() as connection:
        ((_, tokens, *_),) = reported_usage(connection, ["provider"], first=TODAY, last=TODAY)
    assert tokens == 10**15


# --- source test -----------------------------------------------------------------------------------------------------------------


def test_source_test_makes_one_request_and_says_what_it_found(spending, organization, server, settings, today) -> None:
    yesterday = today - timedelta(days=1)
    organization.cost(yesterday, Decimal(1), extra={"organization_id": "org-acme"})
    said = list(spending.open(settings()).source.probe())
    assert said == [f"the admin key may read costs; line items of {yesterday}: 1", "it is a key of org-acme"]
    assert len(server.requests) == 1


def test_source_test_says_which_right_is_missing(spending, server, settings) -> None:
    server.fail(403, NOT_ALLOWED)
    with pytest.raises(SourceError, match=r"Missing scopes: api.usage.read.*admin-keys"):
        list(spending.open(settings()).source.probe())
