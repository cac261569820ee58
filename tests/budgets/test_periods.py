"""What a budget has spent begins anew with its period, and with nothing else: no restart, no change, no other time zone."""

import subprocess
import sys
from zoneinfo import ZoneInfo

import pytest

from costwarden.budgets.store import configured_budgets
from costwarden.ledger.budgets import read_crossed
from costwarden.model import to_nanos

DAY = 86_400_000_000


def usd(*amounts):
    return tuple(to_nanos(amount) for amount in amounts)


# --- rollover ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "days"), [("hour", 1 / 24), ("day", 1), ("week", 2), ("month", 16)], ids=["hour", "day", "week", "month"]
)
def test_a_new_period_begins_with_nothing_spent_and_needs_no_job(desk, period, days):
    budget = desk.put("1.00", period=period, tenant_id="acme")
    desk.track("1.00", event_id="e1")
    assert not desk.check("0.01").allowed
    # Noon of Saturday, 2025-11-15: the next week begins on Monday, the next month in 15 days and a half.
    desk.wait(days=days)
    assert desk.status(budget) == usd("0", "0", "0")
    assert desk.check("1.00").allowed


def test_a_total_never_begins_anew(desk):
    budget = desk.put("1.00", period="total", tenant_id="acme")
    desk.track("1.00", event_id="e1")
    desk.wait(days=3660)
    assert desk.status(budget) == usd("1.00", "0", "0")
    assert not desk.check("0.01").allowed


def test_a_call_that_is_answered_in_the_next_month_is_paid_by_the_month_that_set_it_aside(desk):
    budget = desk.put("1.00", tenant_id="acme")
    decision = desk.check("0.40")
    desk.wait(days=16)
    assert desk.status(budget) == usd("0", "0", "0")
    desk.track("0.30", reservation_id=decision.reservation_id)
    assert desk.status(budget) == usd("0", "0", "0")
    desk.wait(days=-16)
    assert desk.status(budget) == usd("0.30", "0", "0")


def test_usage_belongs_to_the_period_of_its_own_time(desk):
    budget = desk.put("1.00", period="day", tenant_id="acme")
    desk.track("0.10", event_id="today")
    desk.track("0.20", event_id="yesterday", at=desk.now - DAY)
    desk.track("0.40", event_id="tomorrow", at=desk.now + DAY)
    found = []
    for _ in range(2):
        for days in (-1, 1, 1, -1):
            desk.wait(days=days)
            found.append(desk.status(budget)[0])
        desk.restart()
    # The day before, today, the day after, today; then again after a restart.
    assert found == list(usd("0.20", "0.10", "0.40", "0.10")) * 2


def test_a_clock_that_is_set_back_finds_the_old_period_as_it_was(desk):
    budget = desk.put("1.00", period="day", tenant_id="acme")
    desk.track("0.10", event_id="e1")
    reserved = desk.check("0.20")
    desk.wait(days=1)
    desk.track("0.40", event_id="e2")
    desk.wait(days=-1)
    assert desk.status(budget) == usd("0.10", "0.20", "0")
    desk.track("0.25", reservation_id=reserved.reservation_id)
    assert desk.status(budget) == usd("0.35", "0", "0")


def test_a_day_of_25_hours_in_berlin_is_one_day_of_its_budget(desk_of):
    desk = desk_of(zone="Europe/Berlin")
    budget = desk.put("9.00", period="day", tenant_id="acme")
    midnight = 1_761_429_600_000_000  # 2025-10-25 22:00 UTC = 2025-10-26 00:00 in Berlin
    hours = [midnight + hour * 3_600_000_000 for hour in (0, 24)]
    for at in (*hours, midnight + 25 * 3_600_000_000):
        desk.track("1.00", event_id=str(at), at=at)
    desk.now = midnight
    assert desk.status(budget) == usd("2.00", "0", "0")


# 23 and 25 hours: the clocks of Berlin go forward on 2026-03-29 and back on 2025-10-26, each at 01:00 UTC.
SPRING, AUTUMN = 1_774_738_800_000_000, 1_761_429_600_000_000
"""Local midnight of those days: 2026-03-28 23:00 UTC and 2025-10-25 22:00 UTC."""
HOUR = 3_600_000_000


@pytest.mark.parametrize(("midnight", "hours"), [(SPRING, 23), (AUTUMN, 25)], ids=["spring", "autumn"])
def test_a_day_on_which_the_clocks_change_begins_and_ends_at_local_midnight(desk_of, midnight, hours):
    desk = desk_of(zone="Europe/Berlin")
    budget = desk.put("1.00", period="day", tenant_id="acme")
    desk.now = midnight - 1
    desk.track("1.00", event_id="the day before")
    assert not desk.check("0.01").allowed
    desk.now = midnight
    refused = desk.check("1.01")
    assert (refused.spent, refused.resets_at) == (0, midnight + hours * HOUR)
    desk.track("1.00", event_id="the day itself")
    # Every hour of it, also the one that is there twice.
    for hour in range(hours):
        desk.now = midnight + hour * HOUR
        assert not desk.check("0.01").allowed
    desk.now = midnight + hours * HOUR - 1
    assert not desk.check("0.01").allowed
    desk.restart()
    assert desk.status(budget) == usd("1.00", "0", "0")
    desk.now += 1
    assert desk.status(budget) == usd("0", "0", "0")
    assert desk.check("1.00").allowed


@pytest.mark.parametrize("begin", [SPRING + HOUR, AUTUMN + HOUR], ids=["spring", "autumn"])
def test_an_hour_is_sixty_minutes_also_where_the_clock_shows_none_or_two_of_it(desk_of, begin):
    desk = desk_of(zone="Europe/Berlin")
    budget = desk.put("1.00", period="hour", tenant_id="acme")
    for hour in range(4):
        desk.now = begin + hour * HOUR
        desk.track("1.00", event_id=str(hour))
        desk.now += HOUR - 1
        refused = desk.check("0.01")
        assert (refused.spent, refused.resets_at) == (to_nanos("1.00"), desk.now + 1)
    assert desk.status(budget) == usd("1.00", "0", "0")


@pytest.mark.parametrize(("zone", "last"), [("Europe/Berlin", 1_774_994_400_000_000), ("UTC", 1_775_001_600_000_000)])
def test_a_month_ends_at_local_midnight_and_what_was_set_aside_in_it_stays_in_it(desk_of, zone, last):
    desk = desk_of(zone=zone)
    desk.now = last - 1  # 2026-03-31, 24:00
    budget = desk.put("1.00", tenant_id="acme")
    named, anonymous, leaking = desk.check("0.20", event_id="e1"), desk.check("0.30"), desk.check("0.40")
    assert not desk.check("0.11").allowed
    desk.now = last
    assert desk.status(budget) == usd("0", "0", "0")
    assert desk.check("1.00").allowed
    # They are answered in April, expire in April, and belong to March.
    desk.track("0.25", event_id="e1")
    desk.track("0.35", reservation_id=anonymous.reservation_id)
    desk.now = last - 1 + 600 * 1_000_000
    assert desk.expire() == 1
    assert desk.status(budget) == usd("0", "1.00", "0")
    desk.restart()
    desk.now = last - 1
    assert desk.status(budget) == usd("0.60", "0", "0.40")  # 0.25 + 0.35
    assert {named.allowed, leaking.allowed} == {True}
    desk.now = last
    assert desk.release(leaking.reservation_id).found
    desk.now = last - 1
    assert desk.status(budget) == usd("0.60", "0", "0")


def test_a_clock_that_is_set_back_over_the_end_of_a_month_frees_nothing(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.90", event_id="e1")
    for _ in range(3):
        desk.wait(days=16)
        assert desk.check("0.05").allowed
        desk.wait(days=-16)
        assert not desk.check("0.11").allowed
        desk.restart()
        assert not desk.check("0.11").allowed
    assert desk.status(budget) == usd("0.90", "0", "0")
    desk.wait(days=16)
    assert desk.status(budget) == usd("0", "0.15", "0")  # 3 × 0.05


def test_two_engines_with_clocks_on_both_sides_of_a_month_spend_each_month_once(desk, beside):
    budget = desk.put("1.00", tenant_id="acme")
    other = beside()
    other.wait(days=16)
    for _ in range(3):
        assert desk.check("0.30").allowed
        assert other.check("0.20").allowed
    assert desk.check("0.11").spent == 0
    assert not desk.check("0.11").allowed
    assert other.check("0.40").allowed
    assert not other.check("0.01").allowed
    assert desk.in_ledger()[budget.budget] == usd("0", "0.90", "0")
    assert other.in_ledger()[budget.budget] == usd("0", "1.00", "0")


# --- budgets that are made or changed in mid-period ----------------------------------------------------------------------------


def test_a_new_budget_counts_what_its_scope_has_spent_in_the_period_so_far(desk_of):
    desk = desk_of(unbudgeted="allow")
    desk.track("0.70", event_id="e1", input_tokens=7, output_tokens=3)
    desk.track("0.50", event_id="e2", tenant_id="umbrella")
    desk.track("0.20", event_id="e3", at=desk.now - 20 * DAY)  # last month
    budget = desk.put("1.00", tenant_id="acme")
    assert desk.status(budget) == usd("0.70", "0", "0")
    status = desk.statuses()[budget.budget]
    assert (status.input_tokens, status.output_tokens, status.requests) == (7, 3, 1)
    assert not desk.check("0.31").allowed


def test_a_new_budget_counts_what_is_set_aside_in_its_scope(desk_of):
    desk = desk_of(unbudgeted="allow")
    expired = desk.check("0.40")
    desk.wait(seconds=600)
    desk.expire()
    open_ = desk.check("0.30")
    desk.check("0.10", tenant_id="umbrella")
    budget = desk.put("1.00", tenant_id="acme")
    assert desk.status(budget) == usd("0", "0.30", "0.40")
    for decision in (open_, expired):
        desk.track("0.25", reservation_id=decision.reservation_id)
    assert desk.status(budget) == usd("0.50", "0", "0")  # 0.25 + 0.25


def test_a_period_before_the_budget_was_made_is_whole_when_late_usage_reaches_it(desk_of):
    desk = desk_of(unbudgeted="allow")
    yesterday = desk.now - DAY
    desk.track("0.30", event_id="e1", at=yesterday)
    budget = desk.put("1.00", period="day", tenant_id="acme")
    desk.track("0.40", event_id="e2", at=yesterday)
    desk.wait(days=-1)
    assert desk.status(budget) == usd("0.70", "0", "0")  # 0.30 + 0.40


def test_a_changed_limit_keeps_what_is_spent_and_set_aside(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.60", event_id="e1")
    desk.check("0.30")
    desk.put("0.50", tenant_id="acme")
    assert desk.status(budget) == usd("0.60", "0.30", "0")
    assert not desk.check("0.01").allowed
    desk.put("2.00", tenant_id="acme")
    assert desk.check("1.10").allowed  # 2.00 - 0.60 - 0.30
    assert desk.status(budget) == usd("0.60", "1.40", "0")


def test_a_budget_that_the_command_line_writes_holds_at_the_next_check(desk):
    desk.put("9.00", tenant_id="acme")
    desk.track("0.60", event_id="e1")
    desk.check("0.30")
    written = desk.put_beside("1.00", model="m")
    # 0.60 + 0.30 + 0.11 > 1.00
    assert desk.check("0.11").budget == written
    assert desk.status(written) == usd("0.60", "0.30", "0")
    desk.put_beside("3.00", model="m")
    assert desk.check("0.11").allowed


def test_another_time_zone_after_a_restart_frees_nothing_that_was_spent(desk):
    budgets = [desk.put("9.00", period=period, tenant_id="acme") for period in ("day", "week", "month", "total")]
    # Saturday, 2025-11-15, 18:30 UTC, which is Sunday in Auckland already.
    desk.wait(seconds=6.5 * 3600)
    desk.track("0.60", event_id="e1")
    desk.track("0.05", event_id="e2", at=desk.now - 10 * 3600 * 1_000_000)  # 08:30 UTC, half past nine of Saturday evening there
    assert [desk.status(budget)[0] for budget in budgets] == [to_nanos("0.65")] * 4
    desk.zone = ZoneInfo("Pacific/Auckland")
    desk.restart()
    assert [desk.status(budget)[0] for budget in budgets] == list(usd("0.60", "0.65", "0.65", "0.65"))
    desk.track("0.01", event_id="e3")
    desk.restart()
    assert [desk.status(budget)[0] for budget in budgets] == list(usd("0.61", "0.66", "0.66", "0.66"))


# --- thresholds ----------------------------------------------------------------------------------------------------------------


def crossed(desk, budget):
    status = desk.statuses()[budget.budget]
    key = (budget.budget, status.period_start)
    with desk.ledger.read() as connection:
        return list(read_crossed(connection, [key]).get(key, {}))


def test_every_threshold_is_crossed_once_a_period(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.49", event_id="e1")
    assert crossed(desk, budget) == []
    desk.track("0.01", event_id="e2")
    assert crossed(desk, budget) == ["0.5"]
    desk.track("0.31", event_id="e3")
    assert crossed(desk, budget) == ["0.5", "0.75", "0.8"]
    desk.restart()
    desk.track("0.01", event_id="e4")
    assert crossed(desk, budget) == ["0.5", "0.75", "0.8"]
    desk.track("5.00", event_id="e5")
    desk.track("5.00", event_id="e6")
    assert crossed(desk, budget) == ["0.5", "0.75", "0.8", "0.9", "1"]
    desk.wait(days=16)
    assert crossed(desk, budget) == []
    desk.track("0.60", event_id="e7")
    assert crossed(desk, budget) == ["0.5"]


def test_what_is_only_set_aside_crosses_no_threshold(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("1.00")
    assert crossed(desk, budget) == []


# --- default budget ------------------------------------------------------------------------------------------------------------

DEFAULT = {"model": "m", "monthly_limit_usd": "0.10"}


def test_a_new_tenant_gets_the_default_budget_at_its_first_check(desk_of):
    desk = desk_of(default=DEFAULT)
    assert desk.statuses() == {}
    assert desk.check("0.06").remaining == to_nanos("0.04")
    refused = desk.check("0.06")
    assert refused.budget.budget == "tenant_id=acme,model=m/month"
    assert (refused.budget.limit, refused.budget.origin) == (to_nanos("0.10"), "default")
    # Another tenant has one of its own.
    assert desk.check("0.06", tenant_id="umbrella").allowed


def test_the_default_budget_counts_what_the_tenant_had_spent_before(desk_of):
    desk = desk_of(default=DEFAULT)
    desk.track("0.06", event_id="e1")
    assert desk.check("0.05").reason == "budget_exceeded"  # 0.06 + 0.05 > 0.10


def test_the_default_budget_is_for_its_model_alone(desk_of):
    desk = desk_of(default=DEFAULT)
    assert desk.check("0.01", model="another").reason == "no_budget"
    assert desk.statuses() == {}


def test_a_default_of_every_model_covers_them_together(desk_of):
    desk = desk_of(default={**DEFAULT, "model": "*"})
    assert desk.check("0.06", model="one").allowed
    assert desk.check("0.06", model="two").reason == "budget_exceeded"
    assert list(desk.statuses()) == ["tenant_id=acme/month"]


def test_a_tenant_that_has_a_budget_for_the_call_gets_no_default(desk_of):
    desk = desk_of(default=DEFAULT)
    budget = desk.put("5.00", tenant_id="acme")
    assert desk.check("1.00").allowed
    assert list(desk.statuses()) == [budget.budget]


def test_a_budget_of_everybody_does_not_spare_a_tenant_its_default(desk_of):
    desk = desk_of(default=DEFAULT)
    desk.put("5.00")
    assert desk.check("0.20").budget.budget == "tenant_id=acme,model=m/month"


def test_the_default_budget_is_in_the_audit_log_once(desk_of):
    desk = desk_of(default=DEFAULT)
    for _ in range(3):
        desk.check("0.01")
    with desk.ledger.read() as connection:
        entries = connection.exec_driver_sql("SELECT actor, action, subject FROM audit").fetchall()
    assert entries == [("default", "set_budget", "tenant_id=acme,model=m/month")]


# --- budgets of the configuration ----------------------------------------------------------------------------------------------


def configure(desk, desk_of, *configured):
    settings = desk_of(configured=configured).settings
    budgets = configured_budgets(settings)
    desk.ledger.write(lambda connection: desk.engine.put_configured(connection, budgets))


def test_configured_budgets_come_change_and_go_with_the_configuration(desk, desk_of):
    everything = {"name": "everything", "period": "day", "limit_usd": 1}
    configure(desk, desk_of, everything)
    desk.track("0.80", event_id="e1")
    assert desk.check("0.30").budget.budget == "everything"
    configure(desk, desk_of, {**everything, "limit_usd": 2})
    assert desk.check("0.30").allowed
    assert desk.in_memory() == desk.in_ledger() == {"everything": usd("0.80", "0.30", "0")}
    configure(desk, desk_of)
    assert desk.in_memory() == desk.in_ledger() == {}
    configure(desk, desk_of, everything)
    assert desk.in_memory() == desk.in_ledger() == {"everything": usd("0.80", "0.30", "0")}


def test_a_configured_budget_of_another_scope_or_period_counts_anew(desk, desk_of):
    desk.put("99")
    named = {"name": "changing", "limit_usd": 9}
    configure(desk, desk_of, {**named, "scope": {"tenant_id": "acme"}})
    desk.track("0.10", event_id="e1")
    desk.track("0.20", event_id="e2", tenant_id="umbrella")
    desk.track("0.40", event_id="e3", tenant_id="umbrella", at=desk.now - 3 * DAY)
    reserved = desk.check("0.80", tenant_id="umbrella")
    assert desk.in_ledger()["changing"] == usd("0.10", "0", "0")
    configure(desk, desk_of, {**named, "scope": {"tenant_id": "umbrella"}})
    assert desk.in_memory()["changing"] == desk.in_ledger()["changing"] == usd("0.60", "0.80", "0")  # 0.20 + 0.40
    configure(desk, desk_of, {**named, "scope": {"tenant_id": "umbrella"}, "period": "day"})
    assert desk.in_memory()["changing"] == desk.in_ledger()["changing"] == usd("0.20", "0.80", "0")
    desk.track("0.70", tenant_id="umbrella", reservation_id=reserved.reservation_id)
    assert desk.in_memory()["changing"] == desk.in_ledger()["changing"] == usd("0.90", "0", "0")


def test_a_configured_name_that_the_api_has_taken_is_refused_and_nothing_changes(desk, desk_of):
    desk.put("1.00", tenant_id="acme")
    taken = {"name": "tenant_id=acme/month", "limit_usd": 2}
    with pytest.raises(ValueError, match="the name `tenant_id=acme/month` is taken by a budget that the API made; choose another"):
        configure(desk, desk_of, {"name": "fine", "limit_usd": 3}, taken)
    assert list(desk.in_memory()) == list(desk.in_ledger()) == ["tenant_id=acme/month"]


def test_every_change_of_a_budget_is_in_the_audit_log(desk, desk_of):
    desk.put("1.00", tenant_id="acme")
    desk.put_beside("2.00", tenant_id="acme")
    configure(desk, desk_of, {"name": "everything", "limit_usd": 3})
    configure(desk, desk_of)
    with desk.ledger.read() as connection:
        entries = connection.exec_driver_sql("SELECT actor, action, subject FROM audit ORDER BY entry_id").fetchall()
    assert entries == [
        ("admin", "set_budget", "tenant_id=acme/month"),
        ("command line", "set_budget", "tenant_id=acme/month"),
        ("config", "set_budget", "everything"),
        ("config", "delete_budget", "everything"),
    ]


OTHER_PROCESS = """
import sys
from zoneinfo import ZoneInfo
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.store import new_budget, store_budget
from costwarden.ledger import Ledger

url, now, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(url)
budget = new_budget(BudgetsSettings(), ("acme", *[""] * 8), "month", limit)
ledger.write(lambda connection: store_budget(connection, budget, ZoneInfo("UTC"), now, "command line"))
ledger.close()
"""


def test_a_budget_that_another_process_writes_holds_at_the_next_check(desk, project):
    desk.put("9.00", tenant_id="acme")
    desk.track("0.60", event_id="e1")
    assert desk.check("0.50").allowed
    command = [sys.executable, "-c", OTHER_PROCESS, desk.url, str(desk.now), str(to_nanos("1.00"))]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(project / "exporter")})
    refused = desk.check("0.01")
    # 0.60 + 0.50 + 0.01 > 1.00
    assert (refused.budget.limit, refused.spent, refused.reserved) == usd("1.00", "0.60", "0.50")


def test_a_budget_that_the_command_line_makes_counts_what_was_spent_before(desk):
    desk.track("0.30", event_id="e1")
    budget = desk.put_beside("1.00", tenant_id="acme")
    assert desk.in_ledger()[budget.budget] == usd("0.30", "0", "0")
    assert desk.status(budget) == usd("0.30", "0", "0")
