"""Whatever happens in whatever order, every figure of every budget is what a plain dictionary says."""

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from costwarden.budgets.engine import Reserve, Settle, named_id
from costwarden.budgets.rules import budget_name, period_bounds
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import LedgerUnavailable
from costwarden.model import DIMENSIONS, Usage, from_nanos

TENANTS = st.sampled_from(["acme", "umbrella"])
MODELS = st.sampled_from(["m", "n"])
USERS = st.sampled_from(["", "u1"])
EVENTS = st.sampled_from(["", "", "e1", "e2"])
AMOUNTS = st.integers(0, 40)
LIMITS = st.integers(0, 400)
PERIODS = st.sampled_from(["hour", "day", "month", "total"])
BERLIN = ZoneInfo("Europe/Berlin")
RESERVATION_SECONDS = 600
SECOND = 1_000_000


def scope(tenant="", model="", user=""):
    named = {"tenant_id": tenant, "model": model, "user_id": user}
    return tuple(named.get(dimension, "") for dimension in DIMENSIONS)


def matches(of, dimensions):
    return all(wanted in ("", value) for wanted, value in zip(of, dimensions, strict=True))


class Model:
    """What the engine must do, without a thought for speed: every figure is summed from the beginning."""

    def __init__(self):
        self.budgets = {}
        """name -> scope, period, limit"""
        self.usage = []
        """(dimensions, timestamp, cost)"""
        self.identities = {}
        """(tenant, "event" or "reservation", id) -> cost"""
        self.reservations = {}
        """id -> dimensions, event id, estimate, created at, unsettled; in the order of making"""
        self.suspended = set()

    def spent(self, name, at):
        of, period, _ = self.budgets[name]
        start, end = period_bounds(period, at, BERLIN)
        return sum(cost for dimensions, when, cost in self.usage if matches(of, dimensions) and start <= when < end)

    def held(self, name, at, unsettled):
        of, period, _ = self.budgets[name]
        start, end = period_bounds(period, at, BERLIN)
        return sum(
            held["estimate"]
            for held in self.reservations.values()
            if matches(of, held["dimensions"]) and start <= held["created_at"] < end and held["unsettled"] == unsettled
        )

    def figures(self, at):
        return {name: (self.spent(name, at), self.held(name, at, False), self.held(name, at, True)) for name in self.budgets}

    def check(self, dimensions, estimate, at, event_id):
        """The reason of the refusal, or the repeated reservation's id, or None: a new one."""
        tenant = dimensions[0]
        if tenant in self.suspended:
            return "tenant_suspended"
        known = self.reservations.get(named_id(tenant, event_id)) if event_id else None
        if known is not None:
            same = known["dimensions"] == dimensions and estimate <= known["estimate"]
            return named_id(tenant, event_id) if same else "event_id_conflict"
        if event_id and (tenant, "event", event_id) in self.identities:
            return "event_id_conflict"
        applying = [name for name, (of, _, _) in self.budgets.items() if matches(of, dimensions)]
        if not applying:
            return "no_budget"
        for name in applying:
            committed = sum(self.figures(at)[name])
            if committed + estimate > self.budgets[name][2] or committed >= self.budgets[name][2]:
                return "budget_exceeded"
        return None

    def reserve(self, reservation_id, dimensions, estimate, at, event_id):
        self.reservations[reservation_id] = {
            "dimensions": dimensions,
            "event_id": event_id,
            "estimate": estimate,
            "created_at": at,
            "unsettled": False,
        }

    def find(self, dimensions, reservation_id, event_id):
        tenant, model = dimensions[0], dimensions[2]
        if reservation_id or event_id:
            wanted = reservation_id or named_id(tenant, event_id)
            found = self.reservations.get(wanted)
            return wanted if found is not None and found["dimensions"][0] == tenant else None
        waiting = [
            (held["unsettled"], position, key)
            for position, (key, held) in enumerate(self.reservations.items())
            if not held["event_id"]
            and (held["dimensions"][0], held["dimensions"][2]) == (tenant, model)
            and all("" in pair or pair[0] == pair[1] for pair in zip(dimensions, held["dimensions"], strict=True))
        ]
        return min(waiting)[2] if waiting else None

    def settle(self, dimensions, cost, at, now, reservation_id, event_id):
        """The cost recorded and whether it was there before. `at` is 0 where the caller does not say when it was."""
        tenant = dimensions[0]
        found = self.find(dimensions, reservation_id, event_id)
        held = self.reservations.pop(found) if found else None
        if event_id or (held and held["event_id"]):
            identity = tenant, "event", event_id or held["event_id"]
        elif found or reservation_id:
            key = found or reservation_id
            named = named_id(tenant, "")
            identity = (tenant, "event", key.removeprefix(named)) if key.startswith(named) else (tenant, "reservation", key)
        else:
            identity = tenant, "nothing", object()
        if identity in self.identities:
            return self.identities[identity], True
        self.identities[identity] = cost
        if held:
            dimensions = tuple(theirs or ours for theirs, ours in zip(held["dimensions"], dimensions, strict=True))
            at = held["created_at"]
        self.usage.append((dimensions, at or now, cost))
        return cost, False

    def expire(self, at):
        due = [
            held for held in self.reservations.values() if not held["unsettled"] and held["created_at"] + RESERVATION_SECONDS * SECOND <= at
        ]
        for held in due:
            held["unsettled"] = True
        return len(due)


def machine(empty_ledger, desk_class):
    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.folder = tempfile.TemporaryDirectory()
            path = shutil.copy(empty_ledger, Path(self.folder.name) / "costwarden.db")
            chosen = BudgetsSettings(default=None, reservation_seconds=RESERVATION_SECONDS)
            self.desk = desk_class(path, chosen, BERLIN)
            self.model = Model()
            self.ids = []
            """Every reservation that was ever made, also those that are settled."""

        def teardown(self):
            self.desk.ledger.close()
            self.folder.cleanup()

        def step(self, operation):
            return self.desk.ledger.writer.step_blocking(lambda _: operation(), None)

        # --- steps ---------------------------------------------------------------------------------------------------------

        def do_check(self, tenant, model, user, estimate, event_id):
            dimensions, at = scope(tenant, model, user), self.desk.now
            expected = self.model.check(dimensions, estimate, at, event_id)
            decision = self.desk.engine.reserve(Reserve(dimensions, estimate, at, event_id))
            if decision.allowed:
                assert expected in (None, decision.reservation_id)
            else:
                assert decision.reason == expected
            if expected is None:
                self.model.reserve(decision.reservation_id, dimensions, estimate, at, event_id)
                self.ids.append(decision.reservation_id)

        def do_track(self, tenant, model, user, cost, event_id, reservation, hours_ago):
            dimensions, now = scope(tenant, model, user), self.desk.now
            reservation_id = self.ids[-reservation] if 0 < reservation <= len(self.ids) else ""
            at = now - hours_ago * 3600 * SECOND if hours_ago else 0
            expected = self.model.settle(dimensions, cost, at, now, reservation_id, event_id)
            usage = Usage(source=f"api:{tenant}", event_id=event_id, timestamp=at, tenant_id=tenant, model=model, user_id=user, cost=cost)
            settled = self.desk.engine.settle(Settle(usage, reservation_id, now))
            assert (settled.cost, settled.repeated) == expected

        check_arguments = st.tuples(st.just("check"), TENANTS, MODELS, USERS, AMOUNTS, EVENTS)
        # Among the newest reservations, or none; when it was, or now.
        track_arguments = st.tuples(
            st.just("track"), TENANTS, MODELS, USERS, AMOUNTS, EVENTS, st.integers(0, 4), st.sampled_from([0, 0, 0, 1, 30])
        )

        def do(self, name, *arguments):
            (self.do_check if name == "check" else self.do_track)(*arguments)

        @rule(one=st.one_of(check_arguments, track_arguments))
        def alone(self, one):
            self.step(lambda: self.do(*one))

        @rule(group=st.lists(st.one_of(check_arguments, track_arguments), min_size=2, max_size=8))
        def together(self, group):
            """One transaction, as when they arrive at the same time."""
            self.step(lambda: [self.do(*one) for one in group])

        @rule(group=st.lists(st.one_of(check_arguments, track_arguments), min_size=1, max_size=3))
        def in_a_transaction_that_fails(self, group):
            """Nothing of it has happened, neither in the ledger nor in memory."""

            def fail():
                for name, *arguments in group:
                    # The model is not asked: whatever the engine answers, nobody hears of it.
                    if name == "check":
                        tenant, model, user, estimate, event_id = arguments
                        self.desk.engine.reserve(Reserve(scope(tenant, model, user), estimate, self.desk.now, event_id))
                    else:
                        tenant, model, user, cost, event_id, *_ = arguments
                        usage = Usage(source=f"api:{tenant}", event_id=event_id, timestamp=0, tenant_id=tenant, model=model, cost=cost)
                        self.desk.engine.settle(Settle(usage, "", self.desk.now))
                raise OSError("power cut")

            with capture_logs(), pytest.raises(LedgerUnavailable, match="the ledger did not commit: OSError"):
                self.step(fail)

        @rule(seconds=st.sampled_from([300, 600]))
        def wait_and_expire(self, seconds):
            self.desk.wait(seconds=seconds)
            assert self.desk.expire() == self.model.expire(self.desk.now)

        @rule(hours=st.sampled_from([1, 11, 24, 24 * 31]))
        def roll_over(self, hours):
            self.desk.wait(seconds=hours * 3600)

        # --- statements ----------------------------------------------------------------------------------------------------

        @initialize(limit=LIMITS)
        def begin_with_a_budget(self, limit):
            self.put(limit, "month", "acme", "", "", beside=False)

        @rule(
            limit=LIMITS,
            period=PERIODS,
            tenant=st.sampled_from(["", "acme", "umbrella"]),
            model=st.sampled_from(["", "m"]),
            user=USERS,
            beside=st.booleans(),
        )
        def put(self, limit, period, tenant, model, user, beside):
            of = scope(tenant, model, user)
            give = self.desk.put_beside if beside else self.desk.put
            give(str(from_nanos(limit)), period, tenant_id=tenant, model=model, user_id=user)
            self.model.budgets[budget_name(of, period)] = of, period, limit

        @rule(tenant=TENANTS)
        def suspend(self, tenant):
            assert self.desk.suspend(tenant) == (tenant not in self.model.suspended)
            self.model.suspended.add(tenant)

        @precondition(lambda self: self.model.suspended)
        @rule(tenant=TENANTS)
        def resume(self, tenant):
            assert self.desk.resume(tenant) == (tenant in self.model.suspended)
            self.model.suspended.discard(tenant)

        @rule()
        def restart(self):
            # Anonymous checks are settled in the order of their microseconds; no process starts within one.
            self.desk.wait(seconds=0.1)
            self.desk.restart()

        # --- what must hold ------------------------------------------------------------------------------------------------

        @invariant()
        def every_figure_is_the_models(self):
            expected = self.model.figures(self.desk.now)
            assert self.desk.in_ledger() == expected
            assert self.desk.in_memory() == expected

        @invariant()
        def every_sum_in_the_ledger_is_that_of_its_usage(self):
            with self.desk.ledger.read() as connection:
                periods = connection.exec_driver_sql("SELECT budget, period_start, spent, requests FROM budget_periods").fetchall()
                hourly = connection.exec_driver_sql("SELECT hour, tenant_id, sum(cost), sum(requests) FROM usage_hourly GROUP BY 1, 2")
                by_hour = {(hour, tenant): (cost, requests) for hour, tenant, cost, requests in hourly}
                totals = connection.exec_driver_sql("SELECT coalesce(sum(cost), 0), coalesce(sum(requests), 0) FROM usage_totals").one()
            for name, start, spent, requests in periods:
                of, period, _ = self.model.budgets[name]
                _, end = period_bounds(period, start, BERLIN)
                costs = [cost for dimensions, when, cost in self.model.usage if matches(of, dimensions) and start <= when < end]
                assert (spent, requests) == (sum(costs), len(costs))
            expected = defaultdict(lambda: (0, 0))
            for dimensions, when, cost in self.model.usage:
                key = when // 3_600_000_000, dimensions[0]
                expected[key] = expected[key][0] + cost, expected[key][1] + 1
            assert by_hour == expected
            assert tuple(totals) == (sum(cost for _, _, cost in self.model.usage), len(self.model.usage))

    return Machine


def test_the_engine_and_the_ledger_agree_with_a_dictionary_whatever_happens(empty_ledger, desk_class):
    run_state_machine_as_test(
        machine(empty_ledger, desk_class),
        settings=settings(max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]),
    )
