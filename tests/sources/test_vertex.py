"""Tokens of Vertex AI from Cloud Monitoring's REST surface, against a stand-in that aligns and groups as it is asked to."""

import json
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from cloud_monitoring import CALLS, TOKENS, CloudMonitoring
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError
from stand_in import Answer, StandIn

from costwarden.sources.http_json import Retries
from costwarden.sources.settings import VertexSettings
from costwarden.sources.windows import Window

TODAY = date(2026, 11, 20)
YESTERDAY = TODAY - timedelta(days=1)
FLASH = "gemini-2.5-flash"


def at(day, hour=12, minute=0):
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


@pytest.fixture
def monitoring():
    return CloudMonitoring()


@pytest.fixture
def server(monitoring):
    with StandIn(monitoring.answer) as made:
        yield made


@pytest.fixture
def settings(server):
    def make(**options):
        defaults = {"projects": ["acme-prod"], "history_days": 5, "reread_days": 2, "access": {"endpoint_url": server.url}}
        return VertexSettings(type="vertex", **defaults | options)

    return make


def tokens(spending):
    """(Day, project, model) -> (input, output)."""
    return {
        (line["usage_date"], line["account_id"], line["model"]): (line.get("input_tokens", 0), line.get("output_tokens", 0))
        for line in spending.reported()
    }


# --- what is read ----------------------------------------------------------------------------------------------------------------


def test_tokens_and_calls_become_reported_usage(spending, monitoring, settings, golden) -> None:
    for hour in (1, 23):
        monitoring.write("acme-prod", TOKENS, at(YESTERDAY, hour), 100, FLASH, type="input")
        monitoring.write("acme-prod", TOKENS, at(YESTERDAY, hour), 40, FLASH, type="output", max_token_size="128K")
        monitoring.write("acme-prod", CALLS, at(YESTERDAY, hour), 3, FLASH, response_code="200")
    monitoring.write("acme-prod", TOKENS, at(TODAY), 7, FLASH, type="input", request_type="dedicated")
    monitoring.write("acme-prod", TOKENS, at(TODAY), 9, "claude-sonnet-4", "20250514", type="input")
    assert spending.refresh(settings()).failure == ""
    golden("vertex.json", msgspec.json.format(msgspec.json.encode(spending.reported()), indent=1).decode() + "\n")


def test_days_are_those_of_utc(spending, monitoring, settings) -> None:
    monitoring.write("acme-prod", TOKENS, at(YESTERDAY, 23, 59), 1, FLASH, type="input")
    monitoring.write("acme-prod", TOKENS, at(TODAY, 0, 1), 2, FLASH, type="input")
    spending.refresh(settings())
    found = {day: counts for (day, _, _), counts in tokens(spending).items()}
    assert found == {"2026-11-19": (1, 0), "2026-11-20": (2, 0)}


def test_the_end_of_the_day_before_the_first_is_not_taken_for_a_part_of_it(spending, server, settings) -> None:
    # The interval is closed: a sum that ends where it starts may come along.
    point = {"interval": {"endTime": "2026-11-15T00:00:00Z"}, "value": {"int64Value": "5"}}
    series = {"metric": {"labels": {"type": "input"}}, "resource": {"labels": {"model_user_id": FLASH}}, "points": [point]}
    server.answer = lambda _: Answer({"timeSeries": [series]})
    assert spending.refresh(settings()).failure == ""
    assert spending.reported() == []


def test_late_data_and_a_restated_day_replace_the_day(spending, monitoring, settings) -> None:
    monitoring.write("acme-prod", TOKENS, at(YESTERDAY), 100, FLASH, type="input")
    spending.refresh(settings())
    monitoring.write("acme-prod", TOKENS, at(YESTERDAY, 13), 11, FLASH, type="input")
    spending.refresh(settings())
    assert tokens(spending) == {("2026-11-19", "acme-prod", FLASH): (111, 0)}


def test_all_pages_are_read_and_sums_are_kept(spending, monitoring, server, settings) -> None:
    monitoring.page = 7
    for number in range(30):
        for kind in ("input", "output"):
            monitoring.write("acme-prod", TOKENS, at(TODAY), number + 1, f"model-{number}", type=kind)
    spending.refresh(settings())
    # 60 series in pages of 7: 9 answers; the calls have one.
    assert len(server.requests) == 9 + 1
    counts = tokens(spending).values()
    assert (sum(inputs for inputs, _ in counts), sum(outputs for _, outputs in counts)) == (sum(range(31)), sum(range(31)))


def test_a_project_without_models_is_no_failure(spending, settings) -> None:
    assert spending.refresh(settings()).failure == ""
    assert (spending.reported(), spending.charges(), len(spending.parts())) == ([], [], 6)


def test_only_missing_days_and_those_to_be_read_again_are_asked_for(spending, server, settings) -> None:
    spending.refresh(settings())
    spending.refresh(settings())
    starts = [request.first("interval.startTime")[:10] for request in server.requests]
    assert starts == ["2026-11-15"] * 2 + ["2026-11-18"] * 2
    assert {request.first("interval.endTime") for request in server.requests} == {"2026-11-21T00:00:00Z"}


def test_a_day_in_between_that_is_forgotten_by_now_is_left_alone(spending, monitoring, settings) -> None:
    for number in range(10):
        monitoring.write("acme-prod", TOKENS, at(TODAY - timedelta(days=number)), 1, FLASH, type="input")
    spending.refresh(settings(history_days=5))
    monitoring.points.clear()
    monitoring.write("acme-prod", TOKENS, at(TODAY), 1, FLASH, type="input")
    assert spending.refresh(settings(history_days=9)).failure == ""
    # Of the six days two are read again, with today; the three before that are known.
    assert sorted(tokens(spending)) == [(str(TODAY - timedelta(days=number)), "acme-prod", FLASH) for number in (5, 4, 3, 0)]


def test_a_project_whose_usage_is_all_gone_keeps_it_until_that_is_accepted(spending, monitoring, settings) -> None:
    both = settings(projects=["acme-prod", "acme-test"])
    for project in both.projects:
        monitoring.write(project, TOKENS, at(YESTERDAY), 5, FLASH, type="input")
    spending.refresh(both)
    del monitoring.points["acme-prod"]
    monitoring.write("acme-test", TOKENS, at(YESTERDAY), 1, FLASH, type="input")
    assert spending.refresh(both).failure == ""
    assert tokens(spending) == {("2026-11-19", "acme-prod", FLASH): (5, 0), ("2026-11-19", "acme-test", FLASH): (6, 0)}
    assert spending.parts()["acme-prod"].message == (
        "acme-prod: had usage from 2026-11-19 to 2026-11-19 and has none at all now; its figures stay "
        "(`accept_empty_answers: true` takes it)"
    )
    again = Window(TODAY - timedelta(days=5), TODAY - timedelta(days=5), TODAY)
    spending.refresh(both, window=again)
    assert ("2026-11-19", "acme-prod", FLASH) in tokens(spending)
    spending.refresh(settings(projects=both.projects, accept_empty_answers=True))
    assert tokens(spending) == {("2026-11-19", "acme-test", FLASH): (6, 0)}


@pytest.mark.parametrize("scoping", ["acme-prod", "123456789012"])
def test_a_scoping_project_answers_for_itself_alone(spending, monitoring, settings, scoping) -> None:
    monitoring.scopes[scoping] = {"acme-test"}
    for number, project in enumerate((scoping, "acme-test")):
        monitoring.write(project, TOKENS, at(TODAY), 5 + number, FLASH, type="input")
    spending.refresh(settings(projects=[scoping, "acme-test"]))
    assert tokens(spending) == {("2026-11-20", scoping, FLASH): (5, 0), ("2026-11-20", "acme-test", FLASH): (6, 0)}


def test_a_kind_of_token_that_nobody_knows_is_rejected_aloud(spending, monitoring, settings) -> None:
    monitoring.write("acme-prod", TOKENS, at(TODAY), 5, FLASH, type="thought")
    monitoring.write("acme-prod", TOKENS, at(TODAY), 6, FLASH, type="input")
    spending.refresh(settings())
    assert (spending.rejected(), tokens(spending)) == ({"unknown_token_type": 1}, {("2026-11-20", "acme-prod", FLASH): (6, 0)})


@pytest.mark.parametrize("value", [{"int64Value": "-4"}, {"doubleValue": 1.5}, {"boolValue": True}, {"int64Value": "9" * 40}])
def test_a_count_that_is_none_is_rejected_aloud(spending, server, settings, value) -> None:
    point = {"interval": {"endTime": "2026-11-21T00:00:00Z"}, "value": value}
    series = {"metric": {"labels": {"type": "input"}}, "resource": {"labels": {"model_user_id": FLASH}}, "points": [point]}
    server.answer = lambda request: Answer({"timeSeries": [series]} if TOKENS in request.first("filter") else {})
    spending.refresh(settings())
    assert (spending.rejected(), spending.reported()) == ({"bad_count": 1}, [])


def test_requests_are_counted_and_cost_nothing(spending, server, settings) -> None:
    server.fail(503, Retry_After="0")
    spending.refresh(settings())
    state = spending.state("vertex")
    assert (state["requests"], state["request_cost"]) == (1 + 2, 0)


# --- when it goes wrong ----------------------------------------------------------------------------------------------------------


def test_a_throttled_request_is_made_again(spending, monitoring, server, settings) -> None:
    monitoring.write("acme-prod", TOKENS, at(TODAY), 5, FLASH, type="input")
    server.fail(429, {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}, times=2, Retry_After="0")
    assert spending.refresh(settings()).failure == ""
    assert tokens(spending) == {("2026-11-20", "acme-prod", FLASH): (5, 0)}


def test_half_an_answer_is_never_shown(spending, monitoring, server, settings) -> None:
    monitoring.page = 1
    monitoring.write("acme-prod", TOKENS, at(TODAY), 5, FLASH, type="input")
    monitoring.write("acme-prod", TOKENS, at(TODAY), 6, FLASH, type="output")
    spending.refresh(settings())
    monitoring.write("acme-prod", TOKENS, at(TODAY), 10, FLASH, type="input")
    server.delay(0)
    server.cut(times=Retries().attempts)
    assert "no whole answer" in spending.refresh(settings()).failure
    assert tokens(spending) == {("2026-11-20", "acme-prod", FLASH): (5, 6)}
    assert spending.refresh(settings()).failure == ""
    assert tokens(spending) == {("2026-11-20", "acme-prod", FLASH): (15, 6)}


def test_an_answer_that_says_that_it_is_not_whole_is_no_answer(spending, server, settings) -> None:
    server.answer = lambda _: Answer({"executionErrors": [{"code": 4, "message": "deadline exceeded"}]})
    assert "the answer is not whole" in spending.refresh(settings()).failure


def test_one_project_that_fails_leaves_the_other_alone(spending, monitoring, settings) -> None:
    both = settings(projects=["acme-prod", "acme-test"])
    monitoring.write("acme-prod", TOKENS, at(TODAY), 5, FLASH, type="input")
    monitoring.write("acme-test", TOKENS, at(TODAY), 6, FLASH, type="input")
    spending.refresh(both)
    monitoring.denied = {"acme-prod"}
    monitoring.write("acme-test", TOKENS, at(TODAY), 6, FLASH, type="input")
    assert spending.refresh(both).failure == ""
    assert tokens(spending) == {("2026-11-20", "acme-prod", FLASH): (5, 0), ("2026-11-20", "acme-test", FLASH): (12, 0)}
    assert "grant `roles/monitoring.viewer` on the project" in spending.parts()["acme-prod"].message
    monitoring.denied = set()
    spending.refresh(both)
    assert "acme-prod" not in spending.parts()


def test_a_project_that_is_read_no_more_takes_its_usage_along(spending, monitoring, settings) -> None:
    for project in ("acme-prod", "acme-test"):
        monitoring.write(project, TOKENS, at(TODAY), 5, FLASH, type="input")
    spending.refresh(settings(projects=["acme-prod", "acme-test"]))
    spending.refresh(settings(projects=["acme-test"]))
    assert tokens(spending) == {("2026-11-20", "acme-test", FLASH): (5, 0)}


def test_a_missing_right_is_named(spending, monitoring, settings) -> None:
    monitoring.denied = {"acme-prod"}
    failure = spending.refresh(settings()).failure
    assert "HTTP 403: Permission monitoring.timeSeries.list denied" in failure
    assert "grant `roles/monitoring.viewer`" in failure


def test_a_credentials_file_that_is_not_there_is_named(spending, settings, tmp_path) -> None:
    failure = spending.refresh(settings(access={"credentials_file": tmp_path / "key.json"})).failure
    assert f"{tmp_path / 'key.json'}: No such file or directory (`access.credentials_file`)" in failure


def test_a_service_account_proves_itself_with_a_token_that_is_counted(spending, settings, tmp_path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    # https://cloud.google.com/iam/docs/keys-create-delete, https://developers.google.com/identity/protocols/oauth2/service-account
    with StandIn(lambda _: Answer({"access_token": "ya29.token", "expires_in": 3600, "token_type": "Bearer"})) as tokens_from:
        info = {"type": "service_account", "private_key": pem, "client_email": "a@b.iam", "token_uri": f"{tokens_from.url}/token"}
        path = tmp_path / "key.json"
        path.write_text(json.dumps(info))
        reading = spending.open(settings(access={"credentials_file": path, "quota_project": "acme-billing"}))
        headers = [reading.source._headers() for _ in range(2)]
    assert [(found["authorization"], found["x-goog-user-project"]) for found in headers] == [("Bearer ya29.token", "acme-billing")] * 2
    assert (len(tokens_from.requests), reading.requests.made) == (1, 1)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"no JSON", "is no JSON object"),
        ({"timeSeries": {}}, "has no list `timeSeries`"),
        ({"timeSeries": [7]}, "has no list `points`"),
        ({"timeSeries": [{"points": [{}]}]}, "has no `interval.endTime`"),
        ({"timeSeries": [], "nextPageToken": "x"}, "comes after itself"),
    ],
)
def test_an_answer_that_is_none_fails_the_refresh_and_the_figures_stay(spending, monitoring, server, settings, body, sentence) -> None:
    monitoring.write("acme-prod", TOKENS, at(TODAY), 5, FLASH, type="input")
    spending.refresh(settings())
    server.answer = lambda _: Answer(body)
    assert sentence in spending.refresh(settings()).failure
    assert tokens(spending) == {("2026-11-20", "acme-prod", FLASH): (5, 0)}


def test_close_ends_a_request_that_hangs(spending, server, settings, ends_on_close) -> None:
    server.hang()
    source = spending.open(settings()).source
    assert ends_on_close(source, lambda: list(source.fetch({}, Window(TODAY, TODAY, TODAY))), server) == "ended while it was being read"


# --- settings and `source test` --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projects", [[], ["acme-prod", "acme-prod"], ["acme/../other"], ["Acme"], ["acme-prod?x=1"]])
def test_projects_are_ids_that_fit_a_path(projects) -> None:
    with pytest.raises(ValidationError):
        VertexSettings(type="vertex", projects=projects)


@pytest.mark.parametrize("project", ["acme-prod", "example.com:acme-prod", "123456789012"])
def test_projects_have_ids_or_numbers(project) -> None:
    assert VertexSettings(type="vertex", projects=[project]).projects == (project,)


def test_source_test_makes_one_request_and_says_what_it_found(spending, monitoring, server, settings, today) -> None:
    yesterday = today - timedelta(days=1)
    monitoring.write("acme-prod", TOKENS, at(yesterday), 5, FLASH, type="input")
    assert list(spending.open(settings()).source.probe()) == [f"acme-prod: models called on {yesterday}: {FLASH}"]
    assert len(server.requests) == 1


def test_source_test_that_finds_nothing_asks_whether_the_project_is_the_right_one(spending, settings, today) -> None:
    yesterday = today - timedelta(days=1)
    assert list(spending.open(settings()).source.probe()) == [
        f"acme-prod: models called on {yesterday}: none; is the id right, and is it the project in which models are called (`projects`)?"
    ]
