"""Lines of answers to daily charges: exact, attributed, converted, replaced by the day, and rejected aloud."""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.model import ReportedUsage, exact_sum
from costwarden.sources import KnownPart
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import Cost, DailyCosts, KnownDay, NothingLeft, clean
from costwarden.sources.json_rows import MOST
from costwarden.sources.settings import AttributionSettings, ExchangeRates

DAY = date(2026, 11, 20)
NEXT = DAY + timedelta(days=1)


def costs(rules=(), **currencies):
    attribution = Attribution(AttributionSettings.model_validate({"rules": rules}))
    return DailyCosts("bills", "acme", attribution, Rates(ExchangeRates.model_validate({"currencies": currencies})))


def line(billed_cost, **fields):
    return Cost(**{"day": DAY, "provider_name": "aws", "billing_currency": "USD", "billed_cost": billed_cost, **fields})


def changes(daily, known=None, last=DAY):
    return {day.part: day for day in daily.changes(DAY, last, known or {})}


def knowing(found):
    return {part: KnownPart("ok", day.fingerprint, day.figures) for part, day in found.items()}


def test_lines_that_agree_in_every_dimension_are_one_charge_and_their_costs_are_added_exactly():
    daily = costs()
    for cost in ("0.1", "0.2", "-0.00000000001"):
        daily.add(line(cost, service_name="EC2"))
    daily.add(line("5", service_name="EC2", charge_category="Credit"))
    (day,) = changes(daily).values()
    assert [(charge.charge_category, charge.billed_cost, charge.row_count) for charge in day.charges] == [
        ("Credit", Decimal(5), 1),
        ("Usage", Decimal("0.1") + Decimal("0.2") - Decimal("0.00000000001"), 3),
    ]
    assert day.rows == 3 + 1


def test_a_cost_that_is_not_told_is_the_billed_one():
    daily = costs()
    daily.add(line("5", effective_cost="4", list_cost=Decimal(6)))
    (charge,) = changes(daily)["acme/2026-11-20"].charges
    assert (charge.billed_cost, charge.effective_cost, charge.list_cost, charge.contracted_cost) == (5, 4, 6, 5)


def test_every_day_that_was_asked_for_is_a_part_and_one_without_cost_is_an_empty_one():
    daily = costs()
    daily.add(line("5"))
    found = changes(daily, last=NEXT)
    assert [(part, day.rows, day.figures != "") for part, day in found.items()] == [
        ("acme/2026-11-20", 1, True),
        ("acme/2026-11-21", 0, False),
    ]


def test_a_day_is_given_again_only_where_it_has_changed_or_could_not_be_read_before():
    daily = costs()
    daily.add(line("5"))
    found = changes(daily, last=NEXT)
    assert changes(daily, knowing(found), NEXT) == {}
    failed = {"acme/2026-11-21": KnownPart("failed", "", "")}
    assert list(changes(daily, knowing(found) | failed, NEXT)) == ["acme/2026-11-21"]
    restated = costs()
    restated.add(line("4.99"))
    assert list(changes(restated, knowing(found), NEXT)) == ["acme/2026-11-20"]


def test_new_rules_and_new_rates_change_a_day_of_the_same_answer():
    plain, attributed = costs(), costs([{"target": "team", "origins": ["tag:squad"]}])
    for daily in (plain, attributed):
        daily.add(line("5", tags={"Squad ": "search"}))
    assert changes(plain)["acme/2026-11-20"].charges[0].team == ""
    assert changes(attributed)["acme/2026-11-20"].charges[0].team == "search"
    assert changes(attributed, knowing(changes(plain))) != {}
    dear, cheap = (costs(EUR=[{"valid_from": "2026-01-01", "usd": usd}]) for usd in ("1.2", "1.1"))
    for daily in (dear, cheap):
        daily.add(line("5", billing_currency="EUR"))
    assert changes(dear, knowing(changes(cheap))) != {}


@pytest.mark.parametrize(
    ("fields", "reason", "sentence"),
    [
        ({"billed_cost": "n/a"}, "bad_cost", "'n/a' is not a number"),
        ({"billed_cost": "NaN"}, "bad_cost", "'NaN' is not a finite number"),
        ({"billed_cost": "1e12"}, "cost_out_of_range", "'1e12' has more than 12 digits before the point"),
        ({"billed_cost": "5", "effective_cost": "x"}, "bad_cost", "'x' is not a number"),
        ({"billed_cost": "5", "billing_currency": ""}, "missing_currency", "the answer names no currency"),
        (
            {"billed_cost": "5", "billing_currency": "CNY"},
            "no_exchange_rate",
            "no rate for 'CNY' on 2026-11-20: add one to `exchange_rates`",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_counted_and_kept_with_its_reason(fields, reason, sentence):
    daily = costs()
    daily.add(line(**fields), content="the line")
    daily.add(line("7"))
    (day,) = changes(daily).values()
    assert (day.rejected, [charge.billed_cost for charge in day.charges]) == ({reason: 1}, [7])
    (row,) = day.rejected_rows
    assert (row.part, row.reason, row.detail, row.content) == ("acme/2026-11-20", reason, sentence, "the line")


def test_a_cost_finer_than_24_places_is_rounded_and_the_day_says_so():
    daily = costs()
    daily.add(line("0." + "0" * 23 + "15"))
    daily.add(line("1.500"))
    (day,) = changes(daily).values()
    assert day.charges[0].billed_cost == Decimal("1.5") + Decimal("2e-24")
    assert (day.rounded, day.message) == (1, "1 with a cost finer than 24 decimal places, rounded")


def test_an_answer_for_days_that_were_not_asked_for_is_refused():
    daily = costs()
    daily.add(line("5", day=NEXT))
    with pytest.raises(ValueError, match="acme: asked for 2026-11-20 to 2026-11-20, answered for 2026-11-21"):
        changes(daily)


def test_reported_usage_is_added_up_by_what_tells_it_apart_and_belongs_to_its_day():
    daily = costs()
    for tokens in (5, 7):
        usage = ReportedUsage(source="", part="", usage_date=DAY, provider="openai", model="gpt-4o", input_tokens=tokens, requests=1)
        daily.add_usage(usage)
    daily.add_usage(ReportedUsage(source="", part="", usage_date=DAY, provider="openai", model="gpt-4o", service_tier="batch", requests=3))
    (day,) = changes(daily).values()
    assert [(found.service_tier, found.input_tokens, found.requests) for found in day.usage] == [("", 5 + 7, 1 + 1), ("batch", 0, 3)]
    assert {(found.source, found.part) for found in day.usage} == {("bills", "acme/2026-11-20")}
    assert (day.charges, day.figures) == ([], "")


@pytest.mark.parametrize("fields", [{"input_tokens": MOST}, {"requests": MOST - 1, "input_tokens": 5}])
def test_counts_that_no_ledger_could_add_up_are_rejected_and_costs_stay(fields):
    daily = costs()
    daily.add(line("5"))
    for model, counts in (("first", fields), ("second", {"input_tokens": 1, "requests": 2})):
        daily.add_usage(ReportedUsage(source="", part="", usage_date=DAY, provider="openai", model=model, **counts), "the line")
    (day,) = changes(daily).values()
    assert ([found.model for found in day.usage], day.rejected) == (["first"], {"bad_count": 1})
    assert [charge.billed_cost for charge in day.charges] == [5]
    assert "more than 1000000000000000 on one day" in day.rejected_rows[0].detail
    assert day.rejected_rows[0].content == "the line"


# --- nothing left -------------------------------------------------------------------------------------------------------------------


def test_days_that_had_cost_and_have_none_at_all_are_a_failure():
    before = costs()
    before.add(line("5"))
    before.add(line("7", day=NEXT))
    known = knowing(changes(before, last=NEXT + timedelta(days=1)))
    sentence = r"^acme: had cost from 2026-11-20 to 2026-11-21 and has none at all now; its figures stay \(`accept_empty_answers: true`"
    with pytest.raises(NothingLeft, match=sentence):
        changes(costs(), known, NEXT + timedelta(days=1))
    found = {day.part: day for day in costs().changes(DAY, NEXT, known, accepts_empty=True)}
    assert [(part, day.charges) for part, day in found.items()] == [("acme/2026-11-20", []), ("acme/2026-11-21", [])]


def test_a_day_that_failed_last_time_has_figures_to_lose_too():
    with pytest.raises(NothingLeft):
        changes(costs(), {"acme/2026-11-20": KnownDay("failed", "", "of the day before it failed")})


def test_one_line_of_any_kind_is_enough_for_a_day_to_become_empty():
    before = costs()
    before.add(line("5"))
    known = knowing(changes(before))
    cost, rejected = costs(), costs()
    cost.add(line("1", day=NEXT))
    rejected.add(line("n/a", day=NEXT))
    for daily in (cost, rejected):
        assert changes(daily, known, NEXT)["acme/2026-11-20"].charges == []


def test_days_that_never_had_cost_may_stay_so():
    known = knowing(changes(costs(), last=NEXT))
    assert changes(costs(), known, NEXT) == {}
    # What lies outside of the days that are asked for is not lost.
    outside = {"acme/2026-11-19": KnownDay("ok", "0", "0")}
    assert list(changes(costs(), known | outside, NEXT + timedelta(days=1))) == ["acme/2026-11-22"]


# --- texts that no database holds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("plain", "plain"), ("Größe 😀", "Größe 😀"), ("a\0b", "a\ufffdb"), ("ä\0\ud83d", "ä\ufffd\ufffd"), ("\ude00\ud83d", "\ufffd\ufffd")],
)
def test_a_text_is_cleaned_of_what_no_ledger_holds(text, cleaned):
    assert clean(text) == cleaned


def test_names_that_are_the_same_once_cleaned_are_one_charge():
    daily = costs([{"target": "team", "origins": ["tag:team"]}])
    for name in ("S3\ud800", "S3\0", "S3\ufffd"):
        daily.add(line("5", service_name=name, tags={"team": "\udfff"}))
    (day,) = changes(daily).values()
    assert [(charge.service_name, charge.team, charge.billed_cost) for charge in day.charges] == [("S3\ufffd", "\ufffd", 15)]


def test_models_that_are_the_same_once_cleaned_are_one_line_of_usage():
    daily = costs()
    for model in ("m\0", "m\ud800"):
        daily.add_usage(ReportedUsage(source="", part="", usage_date=DAY, provider="openai", model=model, requests=1))
    (day,) = changes(daily).values()
    assert [(found.model, found.requests) for found in day.usage] == [("m\ufffd", 2)]


def test_a_rejected_line_and_a_scope_may_hold_any_text():
    daily = DailyCosts("bills", "a\0\ud800", Attribution(AttributionSettings()), Rates(ExchangeRates()))
    daily.add(line("\ud800"), "\0\ud800")
    (day,) = daily.changes(DAY, DAY, {})
    (row,) = day.rejected_rows
    assert (day.part, row.content) == ("a\ufffd\ufffd/2026-11-20", "\ufffd\ufffd")


amounts = st.decimals(min_value=-(10**11), max_value=10**11, places=11, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["EC2", "S3", ""]), st.sampled_from(["USD", "EUR"]), amounts)))
def test_whatever_comes_the_charges_are_the_sum_of_the_lines(lines):
    daily = costs(EUR=[{"valid_from": "2026-01-01", "usd": "1.0831"}])
    wanted = defaultdict(list)
    for offset, service, currency, amount in lines:
        daily.add(line(amount, day=DAY + timedelta(days=offset), service_name=service, billing_currency=currency))
        wanted[DAY + timedelta(days=offset), service, currency].append(amount)
    found = {
        (charge.charge_date, charge.service_name, charge.billing_currency): charge.billed_cost
        for day in changes(daily, last=DAY + timedelta(days=3)).values()
        for charge in day.charges
    }
    assert found == {key: exact_sum(given) for key, given in wanted.items()}
