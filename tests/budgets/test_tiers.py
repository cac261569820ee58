"""Tiers: a budget that follows one changes with the configuration, and none falls away with it."""

import pytest

from costwarden.budgets.rules import budget_name
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.tiers import UnknownTier, limited_budget, lost_tiers, tier_changes
from costwarden.ledger.budgets import read_budgets
from costwarden.model import DIMENSIONS, to_nanos

TENANT = tuple("acme" if name == "tenant_id" else "" for name in DIMENSIONS)


def made(settings: BudgetsSettings, limit: int | None = None, tier: str = "", period: str = "month"):
    return limited_budget(settings, TENANT, period, limit, tier)


@pytest.mark.parametrize(("tier", "dollars"), [("starter", 500), ("professional", 2_000), ("enterprise", 10_000)])
def test_the_tiers_of_the_guide_are_there_from_the_start(tier, dollars):
    budget = made(BudgetsSettings(), tier=tier)
    assert (budget.limit, budget.tier, budget.period) == (to_nanos(dollars), tier, "month")


def test_custom_is_any_amount_and_follows_nothing():
    budget = made(BudgetsSettings(), to_nanos(50_000), "custom")
    assert (budget.limit, budget.tier) == (to_nanos(50_000), "")


@pytest.mark.parametrize(
    ("limit", "tier", "period", "sentence"),
    [
        (None, "gold", "month", "there is no tier `gold`; the configuration has `starter`, `professional`, `enterprise`"),
        (None, "custom", "month", "the tier `custom` has no limit of its own: give the limit in dollars"),
        (None, "", "month", "give either a limit in dollars or a tier"),
        (5, "starter", "month", "give either a limit in dollars or a tier"),
        (None, "starter", "day", "a tier is a limit a month, and the period is `day`: give the limit in dollars"),
    ],
)
def test_what_is_no_limit_is_told(limit, tier, period, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        made(BudgetsSettings(), limit, tier, period)


def test_an_unknown_tier_has_a_class_of_its_own():
    with pytest.raises(UnknownTier):
        made(BudgetsSettings(tiers={}), tier="starter")


def follow(desk, settings: BudgetsSettings) -> list[str]:
    """What `serve` does at its start and at a reload; the names of what changed."""

    def write(connection):
        changes = tier_changes(read_budgets(connection), settings)
        for budget in changes:
            desk.engine.put(connection, budget, "config")
        return [budget.budget for budget in changes]

    return desk.ledger.write(write)


def test_a_budget_follows_its_tier_and_the_cap_is_another_at_the_next_check(desk):
    budget = made(desk.settings, tier="starter")
    desk.ledger.write(lambda connection: desk.engine.put(connection, budget, "admin"))
    assert desk.check("500").allowed
    assert not desk.check("1").allowed
    assert follow(desk, BudgetsSettings(tiers={"starter": 750})) == [budget_name(TENANT, "month")]
    assert desk.check("250").allowed
    assert not desk.check("1").allowed
    assert follow(desk, BudgetsSettings(tiers={"starter": 750})) == []


def test_a_tier_that_is_gone_leaves_the_cap_where_it_was(desk):
    budget = made(desk.settings, tier="starter")
    desk.ledger.write(lambda connection: desk.engine.put(connection, budget, "admin"))
    settings = BudgetsSettings(tiers={})
    assert follow(desk, settings) == []
    with desk.ledger.read() as connection:
        assert lost_tiers(read_budgets(connection), settings) == ["starter"]
    assert not desk.check("501").allowed


def test_a_new_tenant_gets_the_tier_that_the_default_names(desk_of):
    desk = desk_of(default={"model": "*", "tier": "professional"})
    assert desk.check("2000").allowed
    with desk.ledger.read() as connection:
        (row,) = read_budgets(connection)
    assert (row.tier, row.limit, row.origin) == ("professional", to_nanos(2_000), "default")


def test_a_configured_budget_names_a_tier(desk):
    from costwarden.budgets.store import configured_budgets

    settings = BudgetsSettings(configured=[{"name": "acme", "scope": {"tenant_id": "acme"}, "tier": "enterprise"}])
    (budget,) = configured_budgets(settings)
    assert (budget.limit, budget.tier, budget.origin) == (to_nanos(10_000), "enterprise", "config")
