"""Tiers: budgets whose limit stands in the configuration, by name, and follows it."""

from collections.abc import Sequence

import msgspec

from costwarden.budgets.rules import Budget, Dimensions
from costwarden.budgets.settings import CUSTOM_TIER, BudgetsSettings
from costwarden.budgets.store import budget_of, new_budget
from costwarden.ledger.budgets import BudgetRow
from costwarden.model import to_nanos


class UnknownTier(ValueError):
    """The configuration has no such tier; the message names those that it has."""


def tier_limit(settings: BudgetsSettings, tier: str) -> int:
    """Nano-dollars a month of a tier. Raises `UnknownTier`."""
    if tier == CUSTOM_TIER:
        raise UnknownTier(f"the tier `{CUSTOM_TIER}` has no limit of its own: give the limit in dollars")
    if tier not in settings.tiers:
        known = ", ".join(f"`{name}`" for name in settings.tiers) or "none"
        raise UnknownTier(f"there is no tier `{tier}`; the configuration has {known}")
    return to_nanos(settings.tiers[tier])


def limited_budget(settings: BudgetsSettings, scope: Dimensions, period: str, limit: int | None, tier: str, origin: str = "api") -> Budget:
    """A new budget of `limit` nano-dollars, or one that follows `tier`.

    Raises `ValueError` unless exactly one of the two is given, or where a tier is not for a month, and `UnknownTier`.
    """
    if tier == CUSTOM_TIER:
        tier = ""
        if limit is None:
            raise UnknownTier(f"the tier `{CUSTOM_TIER}` has no limit of its own: give the limit in dollars")
    if (limit is None) == (not tier):
        raise ValueError("give either a limit in dollars or a tier")
    if not tier:
        assert limit is not None
        return new_budget(settings, scope, period, limit, origin)
    if period != "month":
        raise ValueError(f"a tier is a limit a month, and the period is `{period}`: give the limit in dollars")
    return new_budget(settings, scope, period, tier_limit(settings, tier), origin, tier)


def tier_changes(known: Sequence[BudgetRow], settings: BudgetsSettings) -> list[Budget]:
    """The budgets of the ledger whose tier has another limit by now, with that limit.

    A budget whose tier is no longer configured keeps its limit: a cap must not fall away by a line that was deleted.
    """
    limits = {tier: to_nanos(usd) for tier, usd in settings.tiers.items()}
    followers = [row for row in known if row.origin != "config" and row.tier in limits]
    return [msgspec.structs.replace(budget_of(row), limit=limits[row.tier]) for row in followers if row.limit != limits[row.tier]]


def lost_tiers(known: Sequence[BudgetRow], settings: BudgetsSettings) -> list[str]:
    """The tiers that budgets of the ledger follow and that the configuration does not have."""
    return sorted({row.tier for row in known if row.tier and row.tier not in settings.tiers})
