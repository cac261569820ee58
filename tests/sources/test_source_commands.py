"""`costwarden sources`, `source test`, `source backfill` and what `check-config` says of sources: as someone types them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from openai_admin import KEY, OpenaiAdmin
from stand_in import StandIn


@pytest.fixture
def organisation():
    """An organisation that has spent a dollar on every day of the last hundred."""
    made = OpenaiAdmin()
    for number in range(100):
        made.cost(datetime.now(UTC).date() - timedelta(days=number), "1")
    return made


@pytest.fixture
def provider(organisation):
    with StandIn(organisation.answer) as server:
        yield server


class Terminal:
    """A folder with a configuration, in which commands are typed."""

    def __init__(self, folder: Path, costwarden, make_ledger) -> None:
        self.folder, self.costwarden, self._make_ledger = folder, costwarden, make_ledger
        self.sections = {}
        (self.folder / "key").write_text(KEY, encoding="utf-8")

    def write(self, *sources, **sections):
        self.sections = {"sources": list(sources), **sections}

    def type(self, *arguments):
        return self.costwarden(*arguments, **self.sections)

    def make_ledger(self):
        self._make_ledger("costwarden.db")

    def listed(self):
        answer = self.type("sources", "--format", "json")
        return {source["source"]: source for source in json.loads(answer.output, parse_float=Decimal)["sources"]}


@pytest.fixture
def terminal(tmp_path, provider, costwarden, sqlite_url):
    made = Terminal(tmp_path, costwarden, sqlite_url)
    made.write({"type": "openai", "admin_key": {"file": "key"}, "endpoint_url": provider.url})
    return made


# --- sources -------------------------------------------------------------------------------------------------------------------


def test_a_source_that_was_never_read_is_listed_and_no_trouble(terminal):
    terminal.make_ledger()
    answer = terminal.type("sources")
    assert answer.exit_code == 0
    assert "openai  openai  never read" in answer.output
    assert terminal.listed()["openai"] == {
        "source": "openai",
        "type": "openai",
        "state": "never read",
        "last_success_at": None,
        "newest_day": None,
        "rows": 0,
        "rejected_rows": 0,
        "failed_files": 0,
        "requests": 0,
        "request_cost_today_usd": 0,
        "request_cost_usd": 0,
        "daily_request_limit_usd": 1,
        "message": "",
    }


def test_a_source_that_was_read_shows_how_fresh_it_is_and_what_was_asked(terminal, provider):
    terminal.make_ledger()
    assert terminal.type("source", "backfill", "openai", "--months", "1").exit_code == 0
    found = terminal.listed()["openai"]
    today = datetime.now(UTC).date()
    assert (found["state"], found["newest_day"], found["rows"]) == ("ok", today.isoformat(), today.day)
    assert found["requests"] == len(provider.requests)


def test_a_source_that_fails_makes_the_exit_code_1_and_says_why(terminal, organisation):
    terminal.make_ledger()
    organisation.key = "sk-admin-another"
    assert terminal.type("source", "backfill", "openai").exit_code == 1
    answer = terminal.type("sources")
    assert (answer.exit_code, terminal.listed()["openai"]["state"]) == (1, "failing")
    assert terminal.listed()["openai"]["message"] in " ".join(answer.output.split())
    assert KEY not in answer.output


def test_a_source_of_which_a_part_fails_is_read_partly_and_says_which(terminal, organisation):
    terminal.make_ledger()
    organisation.denied = ("usage/images",)
    terminal.type("source", "backfill", "openai", "--months", "1")
    answer = terminal.type("sources")
    assert (answer.exit_code, terminal.listed()["openai"]["state"]) == (1, "partly")
    assert "\nopenai: " in answer.output
    assert "api.usage.read" in terminal.listed()["openai"]["message"]


# --- source test ---------------------------------------------------------------------------------------------------------------


def test_a_source_can_be_tried_before_there_is_a_ledger_and_makes_none(terminal, provider):
    answer = terminal.type("source", "test", "openai")
    assert answer.exit_code == 0
    assert answer.output.splitlines()[-1] == "openai: ok (1 request, $0.00)"
    assert (len(provider.requests), (terminal.folder / "costwarden.db").exists()) == (1, False)


def test_a_source_that_is_tried_beside_a_ledger_keeps_nothing(terminal):
    terminal.make_ledger()
    assert terminal.type("source", "test", "openai").exit_code == 0
    assert terminal.listed()["openai"]["state"] == "never read"


def test_what_is_missing_is_said_in_plain_words(terminal, organisation):
    organisation.key = "sk-admin-another"
    answer = terminal.type("source", "test", "openai")
    assert answer.exit_code == 1
    assert answer.output.startswith("Error: openai: ")
    assert KEY not in answer.output
    (terminal.folder / "key").unlink()
    answer = terminal.type("source", "test", "openai")
    assert answer.exit_code == 1
    assert "No such file or directory" in answer.output


def test_a_source_that_is_not_configured_is_bad_usage(terminal):
    answer = terminal.type("source", "test", "aws")
    assert answer.exit_code == 2
    assert "there is no source `aws`; configured: `openai`" in answer.output


# --- source backfill -----------------------------------------------------------------------------------------------------------


def test_the_past_is_read_by_the_month_and_a_second_time_asks_for_nothing(terminal, provider):
    terminal.make_ledger()
    answer = terminal.type("source", "backfill", "openai", "--months", "3")
    assert answer.exit_code == 0
    assert len(answer.output.splitlines()) == 3
    today = datetime.now(UTC).date()
    first = (today.replace(day=1) - timedelta(days=32)).replace(day=1)
    assert terminal.listed()["openai"]["rows"] == min(100, (today - first).days + 1)
    asked = len(provider.requests)
    assert terminal.type("source", "backfill", "openai", "--months", "3").exit_code == 0
    assert len(provider.requests) == asked


def test_a_month_that_cannot_be_read_is_named_and_what_came_before_it_is_kept(terminal, provider, organisation):
    terminal.make_ledger()
    assert terminal.type("source", "backfill", "openai", "--months", "1").exit_code == 0
    rows = terminal.listed()["openai"]["rows"]
    organisation.key = "sk-admin-another"
    answer = terminal.type("source", "backfill", "openai", "--months", "2")
    assert answer.exit_code == 1
    before = datetime.now(UTC).date().replace(day=1) - timedelta(days=1)
    assert f"openai: {before:%Y-%m}: " in answer.output
    assert terminal.listed()["openai"]["rows"] == rows


def test_a_source_of_files_has_no_past_to_go_back_to(terminal):
    terminal.write({"type": "focus", "path": "bills"})
    terminal.make_ledger()
    answer = terminal.type("source", "backfill", "focus")
    assert answer.exit_code == 1
    assert "focus: is read by files, all of them at once; there is nothing to go back to" in answer.output


# --- check-config --------------------------------------------------------------------------------------------------------------


def test_check_config_says_what_the_requests_are_going_to_cost_and_warns_above_the_limit(terminal):
    terminal.write(
        {"type": "aws", "interval_seconds": 21600},
        {"type": "aws", "name": "often", "interval_seconds": 600, "forecast": False},
        {"type": "openai", "admin_key": {"file": "key"}},
    )
    answer = terminal.type("check-config")
    assert answer.exit_code == 0
    # Two requests at each of four refreshes and a forecast; two at each of 144.
    assert "source `aws`: about 9.0 Cost Explorer requests" in answer.output
    assert "$0.09 a day, $2.70 in 30 days; at most $1.00 a day" in answer.output
    assert "$2.88 a day, $86.40 in 30 days; at most $1.00 a day" in answer.output
    assert "source `often`: warning: that is more than it may spend" in answer.output
    assert "source `aws`: warning" not in answer.output
    assert "source `openai`" not in answer.output


def test_check_config_tells_a_missing_secret_of_a_source_and_the_server_starts_without_it(terminal):
    terminal.write({"type": "openai", "admin_key": {"file": "nowhere"}})
    answer = terminal.type("check-config")
    assert answer.exit_code == 1
    assert "sources `openai`.admin_key: secret file" in answer.output
