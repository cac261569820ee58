"""Whatever happens in whatever order, on either engine, every figure of every budget is what a plain dictionary says."""

import asyncio
import os
from collections import defaultdict
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from costwarden.budgets.calls import Release, Reserve, Reset, Resolve, Settle, named_id
from costwarden.budgets.rules import budget_name, period_bounds
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import LedgerUnavailable
from costwarden.model import DIMENSIONS, Usage, from_nanos

EXAMPLES = int(os.environ.get("COSTWARDEN_EXAMPLES", "15"))
"""Runs of up to 30 rules, on each database: 15 take 10 to 20 seconds. More are for a night."""

TENANTS = st.sampled_from(["acme", "umbrella"])
MODELS = st.sampled_from(["m", "n", ""])
USERS = st.sampled_from(["", "u1"])
EVENTS = st.sampled_from(["", "", "e1", "e2"])
AMOUNTS = st.one_of(st.just(0), st.integers(0, 40))
LIMITS = st.integers(0, 400)
PERIODS = st.sampled_from(["hour", "day", "month", "total"])
ENGINES = st.sampled_from([0, 1])
NEWEST = st.integers(0, 5)
"""Which of the newest reservations is meant; 0 is none."""
BERLIN = ZoneInfo("Europe/Berlin")
RESERVATION_SECONDS = 600
SECOND = 1_000_000

OPERATIONS = st.one_of(
    st.tuples(st.just("check"), TENANTS, MODELS, USERS, AMOUNTS, EVENTS),
    st.tuples(st.just("lease"), TENANTS, MODELS, USERS, AMOUNTS, EVENTS, st.sampled_from([300, 7200])),
    # When it was, in hours ago, or now.
    st.tuples(st.just("track"), TENANTS, MODELS, USERS, AMOUNTS, EVENTS, NEWEST, st.sampled_from([0, 0, 0, 1, 30])),
    st.tuples(st.just("track"), TENANTS, MODELS, USERS, AMOUNTS, st.sampled_from(["c1", "c2", "c3", "c4"]), NEWEST, st.just(0)),
    st.tuples(st.just("release"), TENANTS, NEWEST),
    st.tuples(st.just("resolve"), AMOUNTS, NEWEST),
    st.tuples(st.just("reset"), st.integers(0, 3)),
    st.tuples(st.just("expire")),
)


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
        self.resets = {}
        """(budget, start of its period) -> how much usage there was when it was reset"""
        self.identities = {}
        """(tenant, "event" or "reservation", id) -> cost"""
        self.reservations = {}
        """id -> dimensions, kind, event id, estimate, settled, created at, expires at, unsettled; in the order of making"""
        self.suspended = set()

    def put(self, of, period, limit):
        name = budget_name(of, period)
        if name not in self.budgets:
            self.resets = {key: count for key, count in self.resets.items() if key[0] != name}
        self.budgets[name] = of, period, limit

    def costs(self, name, at):
        of, period, _ = self.budgets[name]
        start, end = period_bounds(period, at, BERLIN)
        counted = self.usage[self.resets.get((name, start), 0) :]
        return [cost for dimensions, when, cost in counted if matches(of, dimensions) and start <= when < end]

    def held(self, name, at, unsettled):
        of, period, _ = self.budgets[name]
        start, end = period_bounds(period, at, BERLIN)
        return sum(
            held["estimate"]
            for held in self.reservations.values()
            if matches(of, held["dimensions"]) and start <= held["created_at"] < end and held["unsettled"] == unsettled
        )

    def figures(self, name, at):
        return sum(self.costs(name, at)), self.held(name, at, False), self.held(name, at, True)

    # --- operations --------------------------------------------------------------------------------------------------------

    def reserve(self, wish, decision):
        tenant = wish.dimensions[0]
        stopped = self.suspended & {"", tenant}
        if stopped:
            assert decision.reason == ("emergency_stop" if "" in stopped else "tenant_suspended")
            return
        known = self.reservations.get(named_id(tenant, wish.event_id)) if wish.event_id else None
        if known is not None:
            least = wish.estimate if wish.at_least is None else wish.at_least
            same = (known["dimensions"], known["kind"]) == (wish.dimensions, wish.kind) and least <= known["estimate"] + known["settled"]
            found = (decision.reservation_id, decision.reason)
            assert found == ((named_id(tenant, wish.event_id), "") if same else ("", "event_id_conflict"))
            return
        if wish.event_id and (tenant, "event", wish.event_id) in self.identities:
            assert decision.reason == "event_id_conflict"
            return
        applying = [
            (sum(self.figures(name, wish.at)), limit) for name, (of, _, limit) in self.budgets.items() if matches(of, wish.dimensions)
        ]
        if not applying:
            assert decision.reason == "no_budget"
            return
        estimate = wish.estimate
        if wish.at_least is not None:
            estimate = max(wish.at_least, min(estimate, *(limit - committed for committed, limit in applying)))
        if any(committed + estimate > limit or committed >= limit for committed, limit in applying):
            assert decision.reason == "budget_exceeded"
            return
        assert (decision.allowed, decision.estimate) == (True, estimate)
        self.reservations[decision.reservation_id] = {
            "dimensions": wish.dimensions,
            "kind": wish.kind,
            "event_id": wish.event_id,
            "estimate": estimate,
            "settled": 0,
            "created_at": wish.at,
            "expires_at": wish.at + (wish.seconds or RESERVATION_SECONDS) * SECOND,
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
            if (held["event_id"], held["kind"]) == ("", "call")
            and (held["dimensions"][0], held["dimensions"][2]) == (tenant, model)
            and all("" in pair or pair[0] == pair[1] for pair in zip(dimensions, held["dimensions"], strict=True))
        ]
        return min(waiting)[2] if waiting else None

    def settle(self, call, settled):
        usage = call.usage
        dimensions = tuple(getattr(usage, name) for name in DIMENSIONS)
        tenant, event_id = usage.tenant_id, usage.event_id
        found = self.find(dimensions, call.reservation_id, event_id)
        held = self.reservations[found] if found else None
        if held and held["kind"] == "lease" and not event_id:
            assert settled.refused == "event_id_needed"
            return
        if event_id or (held and held["event_id"]):
            identity = tenant, "event", event_id or held["event_id"]
        elif found or call.reservation_id:
            key = found or call.reservation_id
            named = named_id(tenant, "")
            identity = (tenant, "event", key.removeprefix(named)) if key.startswith(named) else (tenant, "reservation", key)
        else:
            identity = tenant, "nothing", object()
        if held and held["kind"] == "call":
            del self.reservations[found]
        if identity in self.identities:
            assert (settled.repeated, settled.cost) == (True, self.identities[identity])
            return
        assert (settled.repeated, settled.cost, settled.reservation_id) == (False, usage.cost, found or "")
        self.identities[identity] = usage.cost
        at = usage.timestamp or call.at
        if held:
            dimensions = tuple(theirs or ours for theirs, ours in zip(held["dimensions"], dimensions, strict=True))
            at = held["created_at"]
            held["estimate"] -= min(usage.cost, held["estimate"])
            held["settled"] += usage.cost
        self.usage.append((dimensions, at, usage.cost))

    def release(self, end, released):
        held = self.reservations.get(end.reservation_id)
        found = held is not None and held["dimensions"][0] == end.tenant_id
        assert (released.found, released.released) == (found, held["estimate"] if found else 0)
        if found:
            del self.reservations[end.reservation_id]

    def resolve(self, word, settled):
        held = self.reservations.pop(word.reservation_id, None)
        assert (settled is None) == (held is None)
        if held is None or not word.cost:
            return
        if held["kind"] == "call":
            tenant = held["dimensions"][0]
            identity = (tenant, "event", held["event_id"]) if held["event_id"] else (tenant, "reservation", word.reservation_id)
            self.identities.setdefault(identity, word.cost)
        self.usage.append((held["dimensions"], held["created_at"], word.cost))

    def reset(self, wish, done):
        assert done == (wish.budget in self.budgets)
        if done:
            start, _ = period_bounds(self.budgets[wish.budget][1], wish.at, BERLIN)
            self.resets[wish.budget, start] = len(self.usage)

    def expire(self, at, count):
        due = [held for held in self.reservations.values() if not held["unsettled"] and held["expires_at"] <= at]
        for held in due:
            held["unsettled"] = True
        assert count == len(due)


def machine(database_url, desk_class):
    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            chosen = BudgetsSettings(default=None, reservation_seconds=RESERVATION_SECONDS)
            self.desk = desk_class(database_url(), chosen, BERLIN)
            # Another replica, or the command line beside the server that owns the file.
            self.other = desk_class(self.desk.url, chosen, BERLIN, owner=False)
            self.model = Model()
            self.ids = []
            """Every reservation that was ever made, also those that are settled."""
            self.loop = asyncio.new_event_loop()

        def teardown(self):
            self.loop.close()
            self.other.ledger.close()
            self.desk.ledger.close()

        def turn(self, seconds):
            # Anonymous checks are settled in the order of their microseconds; no two groups begin within one.
            self.desk.wait(seconds=seconds)
            self.other.now = self.desk.now

        def submit(self, desk, *steps):
            """All of them at once, as requests that arrive together: one transaction."""

            async def together():
                tasks = [desk.ledger.writer.step(work, argument) for work, argument in steps]
                return await asyncio.gather(*tasks, return_exceptions=True)

            return self.loop.run_until_complete(together())

        # --- steps ---------------------------------------------------------------------------------------------------------

        def id_of(self, newest):
            return self.ids[-newest] if 0 < newest <= len(self.ids) else ""

        def step_of(self, engine, name, *arguments):
            now = self.desk.now
            if name == "check":
                *named, amount, event_id = arguments
                return engine.reserve, Reserve(scope(*named), amount, now, event_id)
            if name == "lease":
                *named, amount, event_id, seconds = arguments
                return engine.reserve, Reserve(scope(*named), amount, now, event_id, "lease", seconds, at_least=1)
            if name == "track":
                tenant, model, user, cost, event_id, newest, hours_ago = arguments
                at = now - hours_ago * 3600 * SECOND if hours_ago else 0
                usage = Usage(
                    source=f"api:{tenant}", event_id=event_id, timestamp=at, tenant_id=tenant, model=model, user_id=user, cost=cost
                )
                return engine.settle, Settle(usage, self.id_of(newest), now)
            if name == "release":
                return engine.release, Release(arguments[0], self.id_of(arguments[1]))
            if name == "resolve":
                return engine.resolve, Resolve(self.id_of(arguments[1]), arguments[0], "asked", "operator", now)
            if name == "reset":
                names = [*sorted(self.model.budgets), "no such budget"]
                return engine.reset, Reset(names[arguments[0] % len(names)], "trial", "operator", now)
            return engine.expire, now

        @rule(group=st.lists(OPERATIONS, min_size=1, max_size=8), engine=ENGINES)
        def operate(self, group, engine):
            self.turn(0.001)
            desk = (self.desk, self.other)[engine]
            steps = [self.step_of(desk.engine, *one) for one in group]
            for (work, argument), answer in zip(steps, self.submit(desk, *steps), strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                getattr(self.model, work.__name__)(argument, answer)
            self.ids += [key for key in self.model.reservations if key not in self.ids]

        @rule(group=st.lists(OPERATIONS, min_size=1, max_size=3), engine=ENGINES)
        def in_a_transaction_that_fails(self, group, engine):
            """Nothing of it has happened, neither in the ledger nor in memory."""

            def fail(_):
                raise OSError("power cut")

            desk = (self.desk, self.other)[engine]
            steps = [self.step_of(desk.engine, *one) for one in group]
            with capture_logs():
                answers = self.submit(desk, *steps, (fail, None))
            assert {str(answer).partition(" in ")[0] for answer in answers} == {"the ledger did not commit: OSError"}

        @rule(seconds=st.sampled_from([300, 600]))
        def wait_and_expire(self, seconds):
            self.turn(seconds)
            self.model.expire(self.desk.now, self.desk.expire())

        @rule(hours=st.sampled_from([1, 11, 24, 24 * 31]))
        def roll_over(self, hours):
            self.turn(hours * 3600)

        # --- statements ----------------------------------------------------------------------------------------------------

        @initialize(limit=LIMITS)
        def begin_with_a_budget(self, limit):
            self.put(limit, "month", "acme", "", "", by=0)

        @rule(
            limit=LIMITS,
            period=PERIODS,
            tenant=st.sampled_from(["", "acme", "umbrella"]),
            model=st.sampled_from(["", "m"]),
            user=USERS,
            by=st.integers(0, 2),
        )
        def put(self, limit, period, tenant, model, user, by):
            give = (self.desk.put, self.other.put, self.desk.put_beside)[by]
            give(str(from_nanos(limit)), period, tenant_id=tenant, model=model, user_id=user)
            self.model.put(scope(tenant, model, user), period, limit)

        @precondition(lambda self: self.model.budgets)
        @rule(number=st.integers(0, 3), engine=ENGINES)
        def delete(self, number, engine):
            names = sorted(self.model.budgets)
            name = names[number % len(names)]
            (self.desk, self.other)[engine].delete(name)
            del self.model.budgets[name]

        @rule(tenant=st.sampled_from(["acme", "umbrella", ""]), engine=ENGINES)
        def suspend(self, tenant, engine):
            assert (self.desk, self.other)[engine].suspend(tenant) == (tenant not in self.model.suspended)
            self.model.suspended.add(tenant)

        @precondition(lambda self: self.model.suspended)
        @rule(engine=ENGINES)
        def resume(self, engine):
            for tenant in ("acme", "umbrella", ""):
                assert (self.desk, self.other)[engine].resume(tenant) == (tenant in self.model.suspended)
            self.model.suspended.clear()

        @rule()
        def restart(self):
            self.desk.restart()

        @precondition(lambda self: self.desk.ledger.shared)
        @rule()
        def every_connection_is_lost(self):
            with self.desk.ledger.read() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                ).all()
            with capture_logs():
                for desk in (self.desk, self.other):
                    # It had none, or finds it broken and says so; the next group has a new one.
                    (answer,) = self.submit(desk, (lambda _: "fine", None))
                    assert answer == "fine" or isinstance(answer, LedgerUnavailable)

        # --- what must hold ------------------------------------------------------------------------------------------------

        @invariant()
        def every_figure_is_the_models(self):
            expected = {name: self.model.figures(name, self.desk.now) for name in self.model.budgets}
            assert self.desk.in_ledger() == expected
            assert self.desk.in_memory() == expected
            assert self.other.in_memory() == expected

        @invariant()
        def every_sum_in_the_ledger_is_that_of_its_usage(self):
            with self.desk.ledger.read() as connection:
                read = connection.exec_driver_sql
                periods = read("SELECT budget, period_start, spent, requests, reserved, unsettled FROM budget_periods").fetchall()
                hourly = read("SELECT hour, tenant_id, sum(cost), sum(requests) FROM usage_hourly GROUP BY 1, 2").fetchall()
                totals = read("SELECT coalesce(sum(cost), 0), coalesce(sum(requests), 0) FROM usage_totals").one()
                events = read("SELECT timestamp, tenant_id, cost FROM usage").fetchall()
                reservations = read("SELECT reservation_id, kind, state, estimate, settled FROM reservations").fetchall()
            for name, start, *figures in periods:
                if name in self.model.budgets:
                    costs = self.model.costs(name, start)
                    assert figures == [sum(costs), len(costs), self.model.held(name, start, False), self.model.held(name, start, True)]
            expected = defaultdict(lambda: (0, 0))
            for dimensions, when, cost in self.model.usage:
                key = when // 3_600_000_000, dimensions[0]
                expected[key] = expected[key][0] + cost, expected[key][1] + 1
            assert {(hour, tenant): (cost, requests) for hour, tenant, cost, requests in hourly} == expected
            assert tuple(totals) == (sum(cost for _, _, cost in self.model.usage), len(self.model.usage))
            assert sorted(map(tuple, events)) == sorted((when, dimensions[0], cost) for dimensions, when, cost in self.model.usage)
            assert {key: tuple(held) for key, *held in reservations} == {
                key: (held["kind"], "unsettled" if held["unsettled"] else "open", held["estimate"], held["settled"])
                for key, held in self.model.reservations.items()
            }

    return Machine


@pytest.mark.timeout(600)
def test_the_engines_and_the_ledger_agree_with_a_dictionary_whatever_happens(database_url, desk_class):
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=checks, print_blob=True)
    run_state_machine_as_test(machine(database_url, desk_class), settings=chosen)
