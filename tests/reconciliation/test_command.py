"""`costwarden reconcile`: what it prints, asks, and does."""

import csv
import json
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

import pytest
from click.testing import Result

TODAY = date(2026, 11, 20)
DAY = TODAY - timedelta(days=4)


@pytest.fixture
def reconcile(books, costwarden, monkeypatch) -> Callable[..., Result]:
    """`reconcile("--apply", answer="y")`: the command beside the server, and on its clock."""
    monkeypatch.setattr("costwarden.cli.reconcile.now", books.now)
    return partial(costwarden, "reconcile", database_url=books.url, budgets={"default": None})


@pytest.fixture
def filled(books):
    """$12.10 billed on one of seven days, $10 metered, $0.75 unsettled; $0.20 of tax."""
    books.bill(("gpt-4o, input", "8.1"), ("gpt-4o, output", "4"), day=DAY)
    books.bill(("VAT", "0.2"), part=f"tax/{DAY}", day=DAY, category="Tax")
    books.meter("10", day=DAY, input_tokens=1_000)
    books.reserve("0.75", event_id="a", day=DAY)
    return books


def lines_of(result, *words):
    return [line for line in result.output.splitlines() if all(word in line for word in words)]


def test_days_lines_and_what_is_left_out_are_shown_and_nothing_is_changed(filled, reconcile):
    result = reconcile("--provider", "openai")
    assert result.exit_code == 0
    (day,) = lines_of(result, "openai", str(DAY), "$12.10")
    assert day.split() == ["openai", str(DAY), "$12.10", "$10.00", "$0.00", "$2.10", "82.64", "%", "$0.75"]
    (total,) = lines_of(result, "1 days")
    assert total.split()[3:] == ["$12.10", "$10.00", "$0.00", "$2.10", "82.64", "%", "$0.75"]
    (line,) = lines_of(result, "gpt-4o", "differs")
    assert line.split() == ["openai", "gpt-4o", "$12.10", "$10.00", "$2.10", "1,000", "differs"]
    assert lines_of(result, "left out: openai", f"{TODAY - timedelta(days=8)} to {TODAY - timedelta(days=5)}: no bill")
    assert lines_of(result, "$0.20 of credits, taxes and the like is not compared")
    assert (
        "Nothing is changed yet: `--apply` records 1 corrections, $1.35 together, settles 1 reservations at $0.75 and releases 0."
        in result.output
    )
    assert (filled.recorded(day=DAY), len(filled.reservations())) == ("10", 1)


def test_apply_asks_first(filled, reconcile):
    refused = reconcile("--apply", "--provider", "openai", answer="n\n")
    assert refused.exit_code == 1
    assert (filled.recorded(day=DAY), len(filled.reservations())) == ("10", 1)
    applied = reconcile("--apply", "--provider", "openai", answer="y\n")
    assert applied.exit_code == 0
    assert "1 corrections recorded, $1.35 together; 1 reservations settled at $0.75, 0 released." in applied.output
    assert (filled.recorded(day=DAY), filled.reservations()) == ("12.1", [])
    again = reconcile("--apply", "--provider", "openai")
    assert (again.exit_code, "nothing to reconcile" in again.output) == (0, True)
    assert filled.audit()[0]["actor"] == "command line"


def test_all_providers_are_meant_unless_one_is_named(filled, reconcile):
    filled.bill(("Claude Opus 5 Usage - Input Tokens", "5"), provider="anthropic", day=DAY)
    reconcile("--apply", "--yes", "--provider", "anthropic")
    assert (filled.recorded(day=DAY), filled.recorded("anthropic", DAY)) == ("10", "5")
    reconcile("--apply", "--yes")
    assert (filled.recorded(day=DAY), filled.recorded("anthropic", DAY)) == ("12.1", "5")


def test_json_has_everything(filled, reconcile):
    filled.reserve("2", event_id="b", day=DAY, provider="", model="house-model")
    filled.meter("3", day=DAY, provider="", model="house-model")
    answer = json.loads(reconcile("--format", "json", "--provider", "openai").output)
    assert answer["totals"]["openai"] == {
        "days": 1,
        "billed_usd": 12.1,
        "metered_usd": 10,
        "corrected_usd": 0,
        "residual_usd": 2.1,
        "capture_ratio": 0.826446,
        "unsettled_usd": 0.75,
        "not_compared_usd": 0.2,
    }
    assert [day["day"] for day in answer["days"]] == [str(DAY)]
    assert answer["days"][0]["unsettled_reservations"] == 1
    assert answer["lines"][0]["metered_tokens"] == {"input_tokens": 1_000}
    assert {left["reason"] for left in answer["left_out"]} == {"no bill"}
    assert [(stray["model"], stray["usd"], len(stray["unsettled_reservations"])) for stray in answer["unassigned"]] == [
        ("house-model", 3, 0),
        ("house-model", 2, 1),
    ]
    assert answer["applied"] == []

    applied = json.loads(reconcile("--format", "json", "--provider", "openai", "--apply", "--yes").output)
    assert [(done["correction_usd"], list(done["settled"].values())) for done in applied["applied"]] == [(1.35, [0.75])]
    # The figures are those afterwards.
    assert (applied["totals"]["openai"]["corrected_usd"], applied["totals"]["openai"]["residual_usd"]) == (1.35, 0)


def test_csv_has_a_row_a_day_left_out_ones_too(filled, reconcile):
    rows = list(csv.DictReader(reconcile("--format", "csv", "--provider", "openai", "--days", "3").output.splitlines()))
    assert [(row["day"], row["billed_usd"], row["left_out"]) for row in rows] == [
        (str(DAY), "12.1", ""),
        (str(DAY + timedelta(days=1)), "", "no bill"),
        (str(DAY + timedelta(days=2)), "", "no bill"),
    ]
    assert rows[0]["not_compared_usd"] == "0.2"


def test_a_month_names_the_days_that_are_too_young(filled, reconcile):
    result = reconcile("--month", f"{TODAY:%Y-%m}", "--provider", "openai")
    assert lines_of(result, "left out: openai", f"{TODAY}: is not 2 days old yet")
    past = (TODAY.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    assert reconcile("--month", past, "--provider", "openai").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--provider", "opnai"], "there is no `opnai` under `reconciliation.providers`, which has `openai`, `anthropic`"),
        (["--yes"], "`--yes` goes with `--apply`"),
        (["--month", "2026-13"], "is not a month as 2026-03"),
        (["--month", "2999-01"], "has not begun"),
        (["--month", "2026-01", "--days", "3"], "not both"),
        (["--format", "json", "--apply"], "nobody can be asked"),
    ],
)
def test_bad_usage_is_a_sentence(filled, reconcile, arguments, message):
    result = reconcile(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert filled.recorded(day=DAY) == "10"


def test_a_ledger_without_any_bill_is_no_error(books, reconcile):
    result = reconcile()
    assert result.exit_code == 0
    assert f"left out: openai {TODAY - timedelta(days=8)} to {TODAY - timedelta(days=2)}: no bill" in result.output
    assert reconcile("--apply").exit_code == 0


@pytest.mark.parametrize("budgets", [0, 1])
def test_a_sum_that_the_ledger_cannot_hold_is_told_and_changes_nothing(books, reconcile, budgets):
    for _ in range(budgets):
        books.budget()
    books.bill(("gpt-4o, input", "999999999999"), day=DAY)
    books.reserve("1", event_id="a", day=DAY)
    result = reconcile("--apply", "--yes", "--provider", "openai")
    assert result.exit_code == 1
    assert f"openai {DAY}: not reconciled: the difference is more than the ledger can hold" in result.output
    assert (books.corrections(), len(books.reservations())) == ([], 1)


def test_names_from_bills_and_applications_do_not_command_the_terminal(reconcile, books):
    hostile = "x\x1b]0;owned\x07"
    books.bill((hostile, "1"), day=DAY)
    books.meter("2", day=DAY, provider="", model=hostile)
    books.reserve("3", day=DAY, provider="", model=hostile, event_id=hostile)
    books.bill(("gpt-4o, input", "1"), part=hostile, day=DAY - timedelta(days=1))
    books.bill(("gpt-4o, input", "1"), part="newest", day=DAY + timedelta(days=1))
    books.fail(hostile)
    shown = reconcile("--days", "7", "--provider", "openai").output
    assert "\x1b" not in shown
    assert "\x07" not in shown
    name = "x\ufffd]0;owned\ufffd"
    assert f"$2.00 of usage of the model `{name}` names no provider" in shown
    assert f"$3.00 unsettled of the model `{name}` names no provider and is left alone: event:" in shown
    assert f":acme:{name}\n" in shown
    assert f"`{name}` could not be read" in shown


def test_a_day_that_two_sources_bill_is_named_and_nothing_is_applied(reconcile, books):
    for source in ("openai", "focus"):
        books.bill(("gpt-4o, input", "10"), day=DAY, source=source)
    result = reconcile("--apply", "--yes", "--days", "7", "--provider", "openai")
    sentence = "the sources `focus` and `openai` both have a bill of the account `1`: choose with `source` in `bills`"
    assert f"left out: openai {DAY}: {sentence}" in result.output
    assert (result.exit_code, books.corrections()) == (0, [])
