"""`costwarden budget apply` and the other commands that write, beside a server that has the ledger open."""

import csv
import io
import json
from collections.abc import Callable
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import Result

from costwarden.budgets.apply import ChangedMeanwhile, apply_changes, plan_changes
from costwarden.budgets.tiers import limited_budget
from costwarden.cli.options import now
from costwarden.ledger import Ledger
from costwarden.ledger.audit import list_audit
from costwarden.ledger.budgets import read_budgets
from costwarden.ledger.bulk import sqlite_driver
from costwarden.model import DIMENSIONS, to_nanos

TWO = """\
- scope: {tenant_id: acme}
  tier: starter
- name: reports
  scope: {feature: reports, team: data}
  period: day
  limit_usd: 25.5
  soft_limit_ratio: 0.9
  thresholds: [0.5, 1]
"""


class Program:
    """The command line with a configuration and a budget file of its own."""

    def __init__(self, folder: Path, costwarden: Callable[..., Result], url: str) -> None:
        self.folder = folder
        self.costwarden = costwarden
        self.config: dict[str, Any] = {"database_url": url}

    def __call__(self, *arguments: str, answer: str = "") -> Result:
        return self.costwarden(*arguments, answer=answer, **self.config)

    def apply(self, text: str, *options: str, answer: str = "") -> Result:
        """`budget apply` of a file that says `text`."""
        file = self.folder / "budgets.yaml"
        file.write_text(text, encoding="utf-8")
        return self("budget", "apply", "--file", str(file), *options, answer=answer)


@pytest.fixture
def program(desk, tmp_path: Path, costwarden) -> Program:
    desk.now = now()
    return Program(tmp_path, costwarden, desk.url)


def limits(desk) -> dict[str, tuple[str, str, str]]:
    """Limit, tier and origin of every budget in the ledger."""
    with desk.ledger.read() as connection:
        return {row.budget: (str(Decimal(row.limit) / 10**9), row.tier, row.origin) for row in read_budgets(connection)}


def audited(desk) -> list[tuple[str, str, str]]:
    with desk.ledger.read() as connection:
        return [(entry["actor"], entry["action"], entry["subject"]) for entry in reversed(list_audit(connection))]


# --- apply -------------------------------------------------------------------------------------------------------------------------


def test_a_file_makes_its_budgets_and_a_second_time_changes_nothing(desk, program):
    first = program.apply(TWO, "--yes")
    assert (first.exit_code, first.output.splitlines()[-2:]) == (0, ["2 new, 0 changed, 0 unchanged, 0 removed", "applied"])
    assert limits(desk) == {"reports": ("25.5", "", "apply"), "tenant_id=acme/month": ("500", "starter", "apply")}
    assert audited(desk) == [("command line", "set_budget", name) for name in ("reports", "tenant_id=acme/month")]
    again = program.apply(TWO)
    assert (again.exit_code, again.output) == (0, "0 new, 0 changed, 2 unchanged, 0 removed\n")
    assert len(audited(desk)) == 2


def test_a_server_that_runs_takes_the_file_over_at_its_next_check(desk, program):
    assert desk.check("1").reason == "no_budget"
    program.apply(TWO, "--yes")
    assert desk.check("500").allowed
    assert desk.check("1").reason == "budget_exceeded"


def test_the_differences_are_shown_and_asked_about(desk, program):
    program.apply(TWO, "--yes")
    changed = TWO.replace("tier: starter", "limit_usd: 750").replace("25.5", "30")
    refused = program.apply(changed, answer="n\n")
    assert refused.exit_code == 1
    assert refused.stdout == (
        "~ reports\n    limit_usd: 25.5 -> 30\n"
        "~ tenant_id=acme/month\n    limit_usd: 500 -> 750\n    tier: starter -> none\n"
        "0 new, 2 changed, 0 unchanged, 0 removed\n"
    )
    assert limits(desk)["reports"] == ("25.5", "", "apply")
    assert program.apply(changed, answer="y\n").exit_code == 0
    assert limits(desk) == {"reports": ("30", "", "apply"), "tenant_id=acme/month": ("750", "", "apply")}


def test_a_dry_run_changes_nothing(desk, program):
    assert program.apply(TWO, "--dry-run").output.endswith("2 new, 0 changed, 0 unchanged, 0 removed\n")
    assert limits(desk) == {}


def test_differences_are_also_told_to_machines(desk, program):
    program.apply(TWO, "--yes")
    changed = TWO.replace("25.5", "30")
    rows = list(csv.reader(io.StringIO(program.apply(changed, "--dry-run", "--format", "csv").output)))
    assert rows == [
        ["change", "budget", "key", "before", "after"],
        ["changed", "reports", "limit_usd", "25.5", "30"],
        ["unchanged", "tenant_id=acme/month", "", "", ""],
    ]
    told = json.loads(program.apply(changed, "--yes", "--format", "json").output, parse_float=Decimal)
    assert [(change["change"], change["budget"]) for change in told] == [("changed", "reports"), ("unchanged", "tenant_id=acme/month")]
    assert (told[0]["before"]["limit_usd"], told[0]["after"]["limit_usd"]) == (Decimal("25.5"), 30)
    assert limits(desk)["reports"][0] == "30"


def test_a_machine_is_not_asked(desk, program):
    done = program.apply(TWO, "--format", "json")
    assert (done.exit_code, limits(desk)) == (2, {})
    assert "add `--yes` or `--dry-run`" in done.stderr


def test_pruning_removes_what_a_file_made_and_nothing_else(desk, program):
    desk.put("10", tenant_id="globex")
    program.apply(TWO, "--yes")
    program.apply("- {name: other, limit_usd: 1}", "--yes", "--manifest", "team-b")
    assert "1 removed" not in program.apply("- {scope: {tenant_id: acme}, tier: starter}", "--yes").output
    assert set(limits(desk)) == {"tenant_id=globex/month", "tenant_id=acme/month", "reports", "other"}
    pruned = program.apply("- {scope: {tenant_id: acme}, tier: starter}", "--yes", "--prune")
    assert "- reports\n0 new, 0 changed, 1 unchanged, 1 removed\n" in pruned.output
    assert set(limits(desk)) == {"tenant_id=globex/month", "tenant_id=acme/month", "other"}
    assert audited(desk)[-1] == ("command line", "delete_budget", "reports")
    assert program.apply("[]", "--yes", "--prune", "--manifest", "team-b").exit_code == 0
    assert set(limits(desk)) == {"tenant_id=globex/month", "tenant_id=acme/month"}


def test_a_budget_of_the_api_that_the_file_names_is_the_files_from_then_on(desk, program):
    desk.put("500", tenant_id="acme")
    assert "    origin: api -> apply\n" in program.apply(TWO, "--yes").output
    assert limits(desk)["tenant_id=acme/month"] == ("500", "starter", "apply")


def test_a_budget_of_the_configuration_is_not_touched_and_nothing_else_either(desk, program):
    from costwarden.budgets.settings import BudgetsSettings
    from costwarden.budgets.store import configured_budgets

    configured = configured_budgets(BudgetsSettings(configured=[{"name": "reports", "limit_usd": 1}]))
    desk.ledger.write(lambda connection: desk.engine.put_configured(connection, configured))
    done = program.apply(TWO, "--yes")
    assert done.exit_code == 1
    assert done.stderr.endswith("budgets.yaml: the budget `reports` belongs to the configuration file: change it there\n")
    assert set(limits(desk)) == {"reports"}


def test_what_was_changed_between_the_question_and_the_answer_is_not_overwritten(desk):
    scope = tuple("acme" if name == "tenant_id" else "" for name in DIMENSIONS)
    wanted = [limited_budget(desk.settings, scope, "month", to_nanos(5), "", "apply")]
    planned = plan_changes([], wanted, origin="apply", prune=False)
    desk.put("7", tenant_id="acme")

    def write(connection):
        apply_changes(connection, planned, wanted, origin="apply", prune=False, zone=desk.zone, now=desk.now)

    with pytest.raises(ChangedMeanwhile, match="nothing was applied"):
        desk.ledger.write(write)
    assert limits(desk) == {"tenant_id=acme/month": ("7", "", "api")}


def apply_at_once(desk, ledger, wanted, *, prune=False):
    """What `budget apply` does with these budgets, in a transaction of `ledger`."""
    with ledger.read() as connection:
        planned = plan_changes(read_budgets(connection), wanted, origin="apply", prune=prune)
    ledger.write(lambda connection: apply_changes(connection, planned, wanted, origin="apply", prune=prune, zone=desk.zone, now=desk.now))


def test_budgets_of_every_kind_begin_with_what_their_scopes_have_spent_and_set_aside(desk_of):
    # Days there begin at half past the hour: whole hours come from sums, the rest from single events.
    desk = desk_of(zone="Asia/Kolkata")
    desk.put("1000")
    desk.track("64", tenant_id="a", at=desk.now - 86_400_000_000)
    # 17:30 there, and the day began at 18:30 UTC: 18:40 is in the part of an hour before its first whole one.
    desk.track("16", tenant_id="b", model="n", team="y", at=desk.now - (17 * 60 + 20) * 60_000_000)
    for number, (tenant, model, team) in enumerate([("a", "m", "x"), ("b", "m", "x"), ("b", "n", "y"), ("c", "n", "")]):
        desk.track(str(2**number), tenant_id=tenant, model=model, team=team, at=desk.now)
        desk.check(str(Decimal(2**number) / 10), tenant_id=tenant, model=model, team=team)
    named = {
        "a": {"tenant_id": "a"},
        "b": {"tenant_id": "b"},
        "nobody": {"tenant_id": "nobody"},
        "b/m": {"tenant_id": "b", "model": "m"},
        "b/n": {"tenant_id": "b", "model": "n"},
        "n": {"model": "n"},
        "x": {"team": "x"},
        "y": {"team": "y"},
        "all": {},
    }
    wanted = [
        msgspec.structs.replace(
            limited_budget(desk.settings, tuple(named_.get(name, "") for name in DIMENSIONS), period, to_nanos(100), "", "apply"),
            budget=f"{name}/{period}",
        )
        for period in ("day", "total")
        for name, named_ in named.items()
    ]
    beside = Ledger(desk.url)
    apply_at_once(desk, beside, wanted)
    beside.close()
    day = {"a": "1", "b": "22", "nobody": "0", "b/m": "2", "b/n": "20", "n": "28", "x": "3", "y": "20", "all": "31"}
    held = {"a": "0.1", "b": "0.6", "nobody": "0", "b/m": "0.2", "b/n": "0.4", "n": "1.2", "x": "0.3", "y": "0.4", "all": "1.5"}
    before = {"a": 64, "all": 64}
    expected = {f"{name}/day": (to_nanos(day[name]), to_nanos(held[name]), 0) for name in named} | {
        f"{name}/total": (to_nanos(day[name]) + to_nanos(before.get(name, 0)), to_nanos(held[name]), 0) for name in named
    }
    found = desk.in_ledger()
    assert {name: found[name] for name in expected} == expected
    assert desk.in_memory() == desk.in_ledger()


def test_a_budget_that_the_file_gives_another_scope_counts_anew_and_one_with_another_limit_goes_on(desk):
    def budgets(usd, tenant):
        made = limited_budget(desk.settings, desk.wish("0", model="", tenant_id=tenant).dimensions, "month", to_nanos(usd), "", "apply")
        stays = limited_budget(desk.settings, desk.wish("0", model="", tenant_id="c").dimensions, "month", to_nanos(usd), "", "apply")
        return [msgspec.structs.replace(made, budget="named"), stays]

    other = Ledger(desk.url)
    apply_at_once(desk, other, budgets("10", "a"))
    desk.track("3", tenant_id="a")
    desk.track("4", tenant_id="b")
    desk.track("5", tenant_id="c")
    apply_at_once(desk, other, budgets("20", "b"))
    other.close()
    assert desk.in_ledger() == {"named": (to_nanos(4), 0, 0), "tenant_id=c/month": (to_nanos(5), 0, 0)}
    assert {name: limit for name, (limit, _, _) in limits(desk).items()} == {"named": "20", "tenant_id=c/month": "20"}


def test_the_audit_has_before_and_after_of_each_change_in_the_order_of_their_names(desk, program):
    program.apply(TWO, "--yes")
    program.apply(TWO.replace("tier: starter", "limit_usd: 750").replace("name: reports", "name: zeta"), "--yes", "--prune")
    with desk.ledger.read() as connection:
        removed, changed, new = reversed(list_audit(connection, 3))
    assert [entry["subject"] for entry in (removed, changed, new)] == ["reports", "tenant_id=acme/month", "zeta"]
    assert (json.loads(removed["before"])["limit"], removed["after"]) == (to_nanos("25.5"), "")
    assert (json.loads(changed["before"])["limit"], json.loads(changed["after"])["limit"]) == (to_nanos(500), to_nanos(750))
    assert (new["before"], json.loads(new["after"])["thresholds"]) == ("", ["0.5", "1"])


@pytest.fixture
def statements():
    """`with statements(ledger) as seen: …`: the statements that its writer runs on SQLite, without those of triggers."""

    @contextmanager
    def watch(ledger):
        seen: list[str] = []
        ledger.write(lambda connection: sqlite_driver(connection).set_trace_callback(seen.append))
        seen.clear()
        yield seen
        ledger.write(lambda connection: sqlite_driver(connection).set_trace_callback(None))
        # What a trigger does shows as its statement once more.
        seen[:] = [text for text, before in pairwise(["", *seen]) if text != before]

    return watch


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_thousand_budgets_are_not_a_thousand_statements_while_checks_wait(desk, statements):
    def budgets(usd, numbers):
        scopes = [desk.wish("0", model="", tenant_id=f"t{number:04}").dimensions for number in numbers]
        return [limited_budget(desk.settings, scope, "month", to_nanos(usd), "", "apply") for scope in scopes]

    beside = Ledger(desk.url)
    desk.check("1")
    counts = []
    for wanted in (budgets(1, range(1000)), budgets(2, range(1000)), budgets(2, range(0))):
        with statements(beside) as applying:
            apply_at_once(desk, beside, wanted, prune=True)
        with statements(desk.ledger) as taking_over:
            desk.check("1")
        counts.append((len(applying), len(taking_over)))
        assert len(limits(desk)) == len(wanted)
        assert desk.in_memory() == desk.in_ledger()
    beside.close()
    # 63 statements of 16 budgets and as many of 16 periods, 3 * 16 of 64 rows that are deleted and of the audit, and two dozen more; one
    # by one they were 9,000, and those of the server 3,000.
    assert max(applying for applying, _ in counts) < 250
    assert max(taking_over for _, taking_over in counts) < 30


MISTAKES = """\
- scope: {tenant_id: acme}
  limit_usd: -5
- {name: two words, limit_usd: 5}
- scope: {tennant_id: acme}
  montly: 5
  limit_usd: 1
- name: a
  limit_usd: 1
  tier: starter
- {name: b, tier: gold}
- {name: c, tier: starter, period: day}
- {name: d, limit_usd: 1, thresholds: [1, 0.5]}
- {name: e, limit_usd: 1, action: stop}
- just text
- {name: f}
"""


KEYS = "`action`, `limit_usd`, `name`, `period`, `scope`, `soft_limit_ratio`, `thresholds`, `tier`"


def test_each_mistake_is_told_with_file_line_key_value_and_rule(desk, program, tmp_path):
    done = program.apply(MISTAKES, "--yes")
    assert (done.exit_code, limits(desk)) == (1, {})
    path = tmp_path / "budgets.yaml"
    assert done.stderr.removeprefix("Error: ").splitlines() == [
        f"{path}: line {line}: {sentence}"
        for line, sentence in (
            (2, "`limit_usd`: -5: must be a finite amount of at least 0"),
            (3, "`name`: 'two words': string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.:=@/-]*$'"),
            (4, "unknown key `scope.tennant_id`, did you mean `tenant_id`?"),
            (
                5,
                f"unknown key `montly`; known here: {KEYS}",
            ),
            (7, "give either `limit_usd` or the name of a `tier`"),
            (10, "there is no tier `gold`; the configuration has `starter`, `professional`, `enterprise`"),
            (11, "a tier is a limit a month, and the period is `day`: give the limit in dollars"),
            (12, "`thresholds` must rise and not repeat"),
            (13, "`action`: 'stop': is no playbook of the configuration"),
            (14, "must be a mapping"),
            (15, "give either `limit_usd` or the name of a `tier`"),
        )
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must be a list of budgets, not nothing"),
        ("budgets: []", "must be a list of budgets, not dict"),
        ("- {limit_usd: 1}\n- {limit_usd: 2}", "the budget `global/month` stands there more than once"),
        ("- {limit_usd: 1, limit_usd: 2}", "line 1, column 18: the key `limit_usd` stands twice"),
        ("- [", "line 1, column 4: while parsing a flow node, expected the node content, but found '<stream end>'"),
    ],
)
def test_a_file_that_is_no_list_of_budgets_is_told(program, tmp_path, text, sentence):
    done = program.apply(text, "--yes")
    assert (done.exit_code, done.stderr) == (1, f"Error: {tmp_path / 'budgets.yaml'}: {sentence}\n")


def test_what_is_exported_can_be_applied_elsewhere_and_is_the_same(desk, program, beside):
    text = TWO + "- {scope: {tenant_id: 'a, b%', model: '*'}, period: total, limit_usd: '0.000000001'}\n- {limit_usd: 1234567.123456789}\n"
    program.apply(text, "--yes")
    before = limits(desk)
    exported = program("budget", "export").output
    assert program.apply(exported, "--prune", "--dry-run").output == "0 new, 0 changed, 4 unchanged, 0 removed\n"
    assert program.apply("[]", "--yes", "--prune").exit_code == 0
    assert limits(desk) == {}
    program.apply(exported, "--yes")
    assert limits(desk) == before
    assert yaml.safe_load(program("budget", "export", "--tenant", "acme").output) == [
        {"scope": {"tenant_id": "acme"}, "period": "month", "tier": "starter"}
    ]
    assert yaml.safe_load(program("budget", "export", "--origin", "api").output) == []


# --- set, reset, reservations, emergency stop, audit ----------------------------------------------------------------------------------


def test_a_budget_is_set_to_a_tier(desk, program):
    done = program("budget", "set", "--tenant", "acme", "--tier", "professional")
    assert done.output == "tenant_id=acme/month: $2,000.00 a month (tier `professional`, new); spent so far $0.00\n"
    assert limits(desk) == {"tenant_id=acme/month": ("2000", "professional", "api")}
    assert program("budget", "set", "--tenant", "acme", "--tier", "gold").exit_code == 2
    assert program("budget", "set", "--tenant", "acme").exit_code == 2
    assert program("budget", "set", "--tenant", "acme", "--tier", "custom", "--limit", "60000").exit_code == 0
    assert limits(desk) == {"tenant_id=acme/month": ("60000", "", "api")}


def test_a_reset_begins_the_period_anew_for_the_server_too(desk, program):
    budget = desk.put("10", tenant_id="acme")
    desk.track("10")
    assert not desk.check("1").allowed
    done = program("budget", "reset", budget.budget, "--reason", "billed by mistake")
    assert (done.exit_code, done.output) == (0, f"{budget.budget}: spent begins at $0.00 again (was $10.00)\n")
    assert desk.check("1").allowed
    assert audited(desk)[-1] == ("command line", "reset_budget", budget.budget)
    assert "billed by mistake" in program("audit", "--subject", budget.budget).output


def test_a_reset_needs_a_reason_and_a_budget(program):
    assert program("budget", "reset", "x").exit_code == 2
    assert program("budget", "reset", "x", "--reason", " ").exit_code == 2
    done = program("budget", "reset", "x", "--reason", "why")
    assert (done.exit_code, done.stderr) == (1, "Error: there is no budget `x`; `costwarden budget list` names them\n")


def test_an_unsettled_reservation_is_listed_and_resolved(desk, program):
    budget = desk.put("10", tenant_id="acme")
    reservation_id = desk.check("4").reservation_id
    desk.wait(seconds=601)
    desk.expire()
    (found,) = json.loads(program("reservations", "list", "--state", "unsettled", "--format", "json").output)
    assert (found["reservation_id"], found["set_aside_usd"], found["tenant_id"], found["state"]) == (reservation_id, 4, "acme", "unsettled")
    assert reservation_id in program("reservations", "list").output
    assert program("reservations", "list", "--state", "open", "--format", "json").output == "[]\n"
    done = program("reservations", "resolve", reservation_id, "--cost", "1.25", "--reason", "asked the provider")
    assert done.output == f"{reservation_id}: resolved at $1.25\n"
    assert desk.status(budget) == (to_nanos(Decimal("1.25")), 0, 0)
    assert audited(desk)[-1] == ("command line", "resolve_reservation", reservation_id)
    again = program("reservations", "resolve", reservation_id, "--cost", "1.25", "--reason", "again")
    assert again.exit_code == 1
    assert "it is settled already, or never was" in again.stderr


def test_an_emergency_stop_is_one_command_and_survives_a_restart(desk, program):
    desk.put("10", tenant_id="acme")
    assert program("emergency-stop").exit_code == 2
    assert program("emergency-stop", "--reason", "a leaked key").output.startswith("stopped: every check is refused")
    assert desk.check("1").reason == "emergency_stop"
    desk.restart()
    assert desk.check("1").reason == "emergency_stop"
    assert program("emergency-stop", "--reason", "again").output == "stopped already by command line: a leaked key\n"
    status = program("status")
    assert status.output.startswith("EMERGENCY STOP by command line since 20")
    assert status.output.splitlines()[0].endswith(": a leaked key")
    assert json.loads(program("status", "--format", "json").output)["emergency_stop"]["reason"] == "a leaked key"
    assert program("emergency-stop", "--lift", "--reason", "key revoked").output.startswith("lifted")
    assert desk.check("1").allowed
    assert program("emergency-stop", "--lift", "--reason", "key revoked").output == "there is no emergency stop\n"
    assert [action for _, action, _ in audited(desk)[-2:]] == ["emergency_stop", "lift_emergency_stop"]


def test_the_audit_log_is_read_by_people_and_machines(desk, program):
    desk.put("10", tenant_id="acme")
    desk.put("12.5", tenant_id="acme")
    assert "limit: $10.00 -> $12.50" in program("audit").output
    newest, first = json.loads(program("audit", "--format", "json").output)
    assert (first["before"], newest["after"]["limit"], newest["actor"]) == (None, 12_500_000_000, "admin")
    rows = list(csv.DictReader(io.StringIO(program("audit", "--format", "csv", "--limit", "1").output)))
    assert [(row["action"], row["subject"]) for row in rows] == [("set_budget", "tenant_id=acme/month")]


def test_a_ledger_that_is_not_there_is_told(tmp_path: Path, costwarden) -> None:
    program = Program(tmp_path, costwarden, "sqlite:///none.db")
    run: Callable[..., Result] = program
    assert run("audit").stderr == f"Error: {tmp_path}/none.db: there is no ledger yet; `costwarden serve` makes it\n"


def test_the_tier_custom_goes_with_an_amount(desk, program):
    assert program.apply("- {scope: {tenant_id: acme}, tier: custom, limit_usd: 5}\n", "--yes").exit_code == 0
    assert limits(desk) == {"tenant_id=acme/month": ("5", "", "apply")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('- {scope: {tenant_id: ""}, limit_usd: 5}', "`tenant_id` is empty"),
        ('- {name: "guardrail:cap", limit_usd: 5}', "names that begin with `guardrail:` belong to guardrails"),
        ("- {limit_usd: 0100}", "leading zero"),
        ("- {limit_usd: 1:30}", "'1:30'"),
        ("- {tier: custom}", "give either `limit_usd` or the name of a `tier`"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_what_would_mean_another_budget_is_refused(desk, program, text, words):
    done = program.apply(text, "--yes")
    assert (done.exit_code != 0, limits(desk)) == (True, {})
    assert words in done.output
