"""The ledger brought to the bill: what is resolved, what is corrected, who pays for it, and that a second time changes nothing."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costwarden.budgets.calls import Reserve, Reset, Settle
from costwarden.model import Usage, from_nanos, round_to_nanos, to_micros, to_nanos
from costwarden.pricing import PriceBook, PricingSettings
from costwarden.pricing.rerating import Rerating

DAY = date(2026, 11, 10)


def amounts(applied):
    """What became of each reservation in the order of settlement, and the correction, in dollars."""
    return [str(from_nanos(cost)) for cost in applied.settled.values()], str(from_nanos(applied.correction))


def test_what_is_unsettled_is_settled_first_and_the_rest_is_corrected(books):
    """The worked example of docs/reconciliation.md."""
    everything, provider, tenant = books.budget(), books.budget(provider="openai"), books.budget(tenant_id="acme")
    model, anthropic = books.budget(model="gpt-4o"), books.budget(provider="anthropic")
    books.bill(("gpt-4o-2024-08-06, input", "8.1"), ("gpt-4o-2024-08-06, output", "4.0000000004"))
    books.meter("10")
    books.reserve("0.5", event_id="a")
    books.reserve("0.25", event_id="b")
    assert books.spent()[tenant] == "10 + 0.75"

    # 12.1000000004 - 10 = 2.1000000004; 0.5 + 0.25 of it settle what was unsettled, $1.35 is left.
    applied = books.apply()
    assert amounts(applied) == (["0.5", "0.25"], "1.35")
    assert books.reservations() == []
    assert books.recorded() == "12.1"
    # What can be attributed, its tenant pays; what cannot, only budgets that name no tenant, model or team.
    assert books.spent() == {everything: "12.1", provider: "12.1", tenant: "10.75", model: "10.75", anthropic: "0"}
    (day,) = books.read(DAY, DAY, "openai").days
    assert (day.metered, day.corrected, day.corrections) == (10_750_000_000, 1_350_000_000, 1)
    # Finer than a nano-dollar: it cannot be recorded, and stays to be seen.
    assert (day.residual, day.to_record) == (Decimal("4e-10"), 0)
    assert not books.apply().changed
    # A budget that is made afterwards counts what stands in the ledger: the same.
    total = books.budget(period="total")
    assert books.spent()[total] == "12.1"


def test_a_correction_is_an_event_of_nobody_at_noon_without_a_call(books):
    books.bill(("gpt-4o, input", "3"))
    books.apply()
    (row,) = books.corrections()
    filled = {name: value for name, value in row.items() if value and name not in ("usage_id", "recorded_xid")}
    assert filled == {
        "source": "correction",
        "event_id": "billed:1:reconciliation/openai:2026-11-10",
        "timestamp": 1_794_312_000_000_000,
        "provider": "openai",
        "operation": "reconciliation",
        "success": 1,
        "cost": 3_000_000_000,
        "priced_by": "bill",
    }


def test_less_than_is_unsettled_is_shared_out_and_nothing_corrected(books):
    tenant = books.budget(tenant_id="acme")
    books.bill(("gpt-4o, input", "10.01"))
    books.meter("10")
    books.reserve("0.02", event_id="a")
    books.reserve("0.01", event_id="b")
    # A cent for three cents: two thirds and one third of it, the nano-dollar that is left over to the larger remainder.
    assert amounts(books.apply()) == (["0.006666667", "0.003333333"], "0")
    assert books.spent() == {tenant: "10.01"}
    assert books.corrections() == []


def test_a_bill_below_the_meter_releases_what_is_unsettled_and_takes_the_rest_back(books):
    everything, tenant = books.budget(), books.budget(tenant_id="acme")
    books.bill(("gpt-4o, input", "7"))
    books.meter("10")
    books.reserve("0.5", event_id="a")
    assert amounts(books.apply()) == (["0"], "-3")
    assert books.spent() == {everything: "7", tenant: "10"}
    assert books.recorded() == "7"


def test_a_bill_that_agrees_releases_what_is_unsettled(books):
    everything = books.budget()
    books.bill(("gpt-4o, input", "10"))
    books.meter("10")
    books.reserve("0.5", event_id="a")
    assert amounts(books.apply()) == (["0"], "0")
    assert (books.spent(), books.reservations()) == ({everything: "10"}, [])


def test_a_restated_bill_adds_the_difference_alone_also_when_it_comes_back(books):
    everything = books.budget()
    books.meter("10")
    for billed, difference in (("12", "2"), ("15", "3"), ("12", "-3"), ("15", "3"), ("0", "-15")):
        books.bill(("gpt-4o, input", billed))
        assert amounts(books.apply()) == ([], difference)
        assert not books.apply().changed
        assert books.recorded() == billed == books.spent()[everything]
    assert [from_nanos(row["cost"]) for row in books.corrections()] == [2, 3, -3, 3, -15]


def test_a_credit_above_the_days_bill_is_no_credit_to_budgets_unless_it_is_compared(books_of):
    books = books_of()
    everything = books.budget()
    books.bill(("gpt-4o, input", "12"))
    books.bill(("Free credits", "-100"), part=f"credits/{DAY}", category="Credit")
    books.meter("10")
    assert amounts(books.apply()) == ([], "2")
    url = books.url
    books.ledger.close()
    compared = books_of(url=url, not_compared=())
    # 12 - 100 is what the day costs then.
    assert amounts(compared.apply()) == ([], "-100")
    assert (compared.recorded(), compared.spent()) == ("-88", {everything: "-88"})
    assert not compared.apply().changed


def test_usage_that_comes_in_late_is_taken_back_by_the_next_one(books):
    books.bill(("gpt-4o, input", "12"))
    books.meter("10")
    assert amounts(books.apply()) == ([], "2")
    books.meter("1.5")
    assert amounts(books.apply()) == ([], "-1.5")
    assert books.recorded() == "12"


def test_a_late_track_of_what_the_bill_has_settled_counts_once(books):
    tenant = books.budget(tenant_id="acme")
    books.bill(("gpt-4o, input", "1"))
    reservation_id = books.reserve("1", event_id="a")
    books.apply()
    usage = Usage(source="api:acme", event_id="a", timestamp=0, tenant_id="acme", model="gpt-4o", cost=to_nanos("0.9"), priced_by="caller")
    late = books.ledger.writer.step_blocking(books.engine.settle, Settle(usage, reservation_id, books.now()))
    assert (late.repeated, late.cost) == (True, to_nanos("1"))
    assert (books.spent(), books.recorded()) == ({tenant: "1"}, "1")


def test_days_and_providers_are_apart(books):
    next_day = DAY + timedelta(days=1)
    books.bill(("gpt-4o, input", "2"))
    books.bill(("gpt-4o, input", "3"), day=next_day)
    books.bill(("Claude Opus 5 Usage - Input Tokens", "5"), provider="anthropic")
    books.reserve("1", event_id="a", provider="anthropic", model="claude-opus-5")
    books.reserve("1", event_id="b", day=next_day)
    kept = books.reservations()
    assert amounts(books.apply()) == ([], "2")
    assert books.reservations() == kept
    assert amounts(books.apply("anthropic")) == (["1"], "4")
    assert amounts(books.apply("openai", next_day)) == (["1"], "2")
    recorded = [books.recorded(), books.recorded(day=next_day), books.recorded("anthropic"), books.recorded("anthropic", next_day)]
    assert recorded == ["2", "3", "5", "0"]


def test_what_names_no_provider_is_matched_by_its_model_or_left_alone(books):
    books.bill(("gpt-4o, input", "3"))
    books.reserve("1", event_id="a", provider="")
    left = books.reserve("1", event_id="b", provider="", model="house-model")
    assert amounts(books.apply()) == (["1"], "2")
    assert books.reservations() == [left]


def test_a_day_without_a_whole_bill_is_left_alone(books):
    books.meter("10")
    books.reserve("1", event_id="a")
    applied = books.apply()
    assert (applied.refused, applied.changed) == ("no bill", False)
    books.bill(("gpt-4o, input", "3"), rejected=1)
    assert "could not be read" in books.apply().refused
    assert (len(books.reservations()), books.corrections(), books.audit()) == (1, [], [])


def test_a_lease_that_nobody_gave_back_is_settled_by_at_most_what_is_left_of_it(books):
    tenant = books.budget(tenant_id="acme")
    books.bill(("gpt-4o, input", "9"))
    lease = books.reserve("4", event_id="job", kind="lease")
    call = Usage(source="api:acme", event_id="c1", timestamp=0, tenant_id="acme", model="gpt-4o", cost=to_nanos("3"), priced_by="caller")
    books.ledger.writer.step_blocking(books.engine.settle, Settle(call, lease, books.now()))
    # $3 of $4 are drawn: 9 - 3 = 6 settle the dollar that is left, and $5 nobody knows.
    assert amounts(books.apply()) == (["1"], "5")
    assert (books.spent(), books.recorded()) == ({tenant: "4"}, "9")


def test_the_audit_log_says_who_what_and_from_what_to_what(books):
    books.bill(("gpt-4o, input", "12.0000000007"))
    books.meter("10")
    held = books.reserve("0.5", event_id="a")
    books.apply()
    books.apply()
    (entry,) = books.audit()
    assert (entry["actor"], entry["subject"]) == ("auditor", "openai/2026-11-10")
    assert json.loads(entry["before"]) == {"recorded_usd": "10", "unsettled_usd": "0.5"}
    assert json.loads(entry["after"]) == {
        "recorded_usd": "12.000000001",
        "unsettled_usd": "0",
        "billed_usd": "12.0000000007",
        "correction_usd": "1.500000001",
        "correction": 1,
        "settled_usd": "0.5",
        "settled_reservations": 1,
        "released_reservations": 0,
    }
    (resolution,) = books.audit("resolve_reservation")
    assert (resolution["subject"], json.loads(resolution["after"])["reason"]) == (held, "reconciled with the bill of openai for 2026-11-10")


def test_a_reset_budget_is_not_charged_for_what_was_before_the_reset(books):
    """A budget that an operator has begun anew in the meantime: the correction is of a day before."""
    everything = books.budget()
    books.bill(("gpt-4o, input", "12"))
    books.meter("10")
    at = to_micros_of(DAY + timedelta(days=2))
    books.ledger.writer.step_blocking(books.engine.reset, Reset(everything, "new", "admin", at))
    books.apply()
    assert (books.spent(), books.recorded()) == ({everything: "0"}, "12")


def to_micros_of(day):
    return to_micros(datetime(day.year, day.month, day.day, tzinfo=UTC))


def test_a_rerating_passes_corrections_by_bills_over(books):
    books.bill(("gpt-4o, input", "12"))
    books.apply()
    corrections = [Usage(**{name: row[name] for name in Usage.__struct_fields__}) for row in books.corrections()]
    rerating = Rerating(PriceBook(PricingSettings()).price, corrections)
    assert [rerating.rerate(correction) for correction in corrections] == [None]


# --- beside others -------------------------------------------------------------------------------------------------------------


def test_it_works_beside_a_server_whose_budgets_follow(books_of):
    server = books_of()
    everything = server.budget("12")
    server.bill(("gpt-4o, input", "12"))
    server.meter("10")
    server.reserve("0.5", event_id="a")
    command = books_of(url=server.url, owner=False)
    assert amounts(command.apply()) == (["0.5"], "1.5")
    assert server.spent() == {everything: "12"}
    # The server's own memory: nothing is left of the limit, in the month that pays.
    wish = Reserve(("acme", "openai", "gpt-4o", "", "", "", "", "", ""), 1, to_micros_of(DAY), "b")
    denied = server.ledger.writer.step_blocking(server.engine.reserve, wish)
    assert (denied.allowed, denied.spent, denied.unsettled) == (False, to_nanos("12"), 0)


def test_two_at_the_same_time_record_one_correction(books_of):
    first = books_of()
    first.budget()
    first.bill(("gpt-4o, input", "12"))
    first.meter("10")
    held = [first.reserve("0.01", event_id=str(number)) for number in range(20)]
    second = books_of(url=first.url, owner=False)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda books: books.apply(), (first, second)))
    assert sorted(len(applied.settled) for applied in done) == [0, len(held)]
    assert sorted(applied.correction for applied in done) == [0, to_nanos("1.8")]
    assert first.recorded() == "12"


def test_two_at_the_same_time_without_any_budget_record_one_correction(books_of):
    first = books_of()
    first.bill(("gpt-4o, input", "12"))
    second = books_of(url=first.url, owner=False)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda books: books.apply(), (first, second)))
    assert sorted(applied.correction for applied in done) == [0, to_nanos("12")]
    assert first.recorded() == "12"


# --- whatever the figures are --------------------------------------------------------------------------------------------------

AMOUNT = st.decimals("0", "50", places=12)
NANOS = st.integers(0, 20 * 10**9).map(lambda nanos: format(from_nanos(nanos), "f"))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_metered_settled_and_corrected_are_what_was_billed(books_of, data):
    books = books_of()
    everything, provider, tenant = (
        books.budget("100000"),
        books.budget("100000", provider="openai"),
        books.budget("100000", tenant_id="acme"),
    )
    for metered in data.draw(st.lists(NANOS, max_size=3)):
        books.meter(metered)
    held = data.draw(st.lists(NANOS, max_size=4))
    for number, estimate in enumerate(held):
        books.reserve(estimate, event_id=str(number))
    others = data.draw(st.lists(NANOS, max_size=2))
    for number, estimate in enumerate(others):
        books.reserve(estimate, event_id=f"other-{number}", provider="anthropic")
    for _ in range(data.draw(st.integers(1, 3))):
        lines = data.draw(st.lists(st.tuples(st.sampled_from(["Usage", "Usage", "Adjustment"]), AMOUNT, st.booleans()), max_size=3))
        total = Decimal(0)
        for number, (category, amount, is_refund) in enumerate(lines):
            signed = -amount if is_refund else amount
            total += signed
            books.bill(("gpt-4o, input", format(signed, "f")), part=f"{number}/{DAY}", category=category)
        for number in range(len(lines), 3):
            books.bill(part=f"{number}/{DAY}")
        books.bill(("gpt-4o, input", "1"), day=DAY + timedelta(days=1))
        before = to_nanos(books.recorded())
        applied = books.apply()
        assert before + sum(applied.settled.values()) + applied.correction == round_to_nanos(total)
        assert to_nanos(books.recorded()) == round_to_nanos(total)
        assert not books.apply().changed
    # Budgets have what the ledger has, and hold what belongs to another provider's bill.
    unsettled = sum(map(to_nanos, others))
    left = f" + {from_nanos(unsettled)}" if unsettled else ""
    attributed = sum(row["cost"] for row in books.corrections())
    assert books.spent()[everything] == f"{books.recorded()}{left}"
    assert books.spent()[provider] == books.recorded()
    assert books.spent()[tenant] == f"{from_nanos(to_nanos(books.recorded()) - attributed)}{left}"
    books.ledger.close()


def test_a_bill_that_two_sources_have_is_not_recorded(books):
    everything = books.budget()
    books.meter("10")
    for source in ("openai", "file"):
        books.bill(("gpt-4o, input", "10"), source=source)
    applied = books.apply()
    assert applied.refused == "the sources `file` and `openai` both have a bill of the account `1`: choose with `source` in `bills`"
    assert (applied.changed, books.corrections(), books.spent()) == (False, [], {everything: "10"})
