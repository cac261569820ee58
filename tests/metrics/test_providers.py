"""Figures and budgets that providers state: each series once, whatever they say."""

from decimal import Decimal

import pytest

from costwarden.ledger import Ledger
from costwarden.ledger.providers import read_figures, read_provider_budgets, replace_stated
from costwarden.metrics.providers import provider_collector
from costwarden.model import ProviderBudget, ProviderFigure


def figure(usd, account="5", source="azure", metric="azure_cost_forecast_usd", labels=None):
    return ProviderFigure(source=source, part="", metric=metric, labels=labels or (source, account), value=Decimal(usd))


def budget(limit, name="all", **amounts):
    given = {"limit_usd": Decimal(limit), "spent_usd": None, **amounts}
    return ProviderBudget(source="azure", part="", provider_name="azure", account_id="5", budget=name, period="month", **given)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_ledger(request, ledger):
    if request.param == "sqlite":
        yield ledger
    else:
        with_postgresql = Ledger(request.getfixturevalue("postgresql_url")())
        yield with_postgresql
        with_postgresql.close()


@pytest.fixture
def state(any_ledger):
    """`state(part, figures, budgets)`: what a part of the source `azure` states."""
    return lambda part, figures=(), budgets=(): any_ledger.write(lambda conn: replace_stated(conn, "azure", part, figures, budgets))


def test_the_page_has_each_series_once_and_all_others_beside_it(any_ledger, state, page_of):
    """Two scopes with one name in their labels would leave the page without any figure of any provider."""
    state("a/forecast", [figure("10")], [budget("100", spent_usd=Decimal(1))])
    state("b/forecast", [figure("20")], [budget("200", spent_usd=Decimal(2))])
    state("c/forecast", [figure("7", source="aws", metric="aws_cost_forecast_usd")])
    lines = page_of(provider_collector(any_ledger.read)).answer().body.decode().splitlines()
    assert [line for line in lines if line.startswith(("aws_cost_forecast", "azure_cost_forecast", "cloud_provider_budget"))] == [
        'aws_cost_forecast_usd{source="aws",account="5"} 7.0',
        'azure_cost_forecast_usd{source="azure",account="5"} 10.0',
        'cloud_provider_budget_limit_usd{source="azure",provider="azure",account="5",budget="all",period="month"} 100.0',
        'cloud_provider_budget_spent_usd{source="azure",provider="azure",account="5",budget="all",period="month"} 1.0',
    ]
    assert 'costwarden_collector_up{collector="providers"} 1.0' in lines


def test_of_what_a_part_states_twice_the_last_holds(any_ledger, state):
    state("a", [figure("10"), figure("3", "6"), figure("20")], [budget("100"), budget("50", "other"), budget("200")])
    with any_ledger.read() as connection:
        figures, budgets = read_figures(connection), read_provider_budgets(connection)
    assert [(one.labels[1], one.value) for one in figures] == [("5", 20), ("6", 3)]
    assert [(one.budget, one.limit_usd) for one in budgets] == [("all", 200), ("other", 50)]


def test_names_that_a_database_cannot_hold_are_held_as_near_as_may_be(any_ledger, state):
    state("a", [figure("10", "5\0")], [budget("100", "al\ud800l")])
    with any_ledger.read() as connection:
        (found,), (kept,) = read_figures(connection), read_provider_budgets(connection)
    assert (found.labels[1], kept.budget) == ("5\ufffd", "al\ufffdl")


def test_a_figure_that_another_version_has_kept_is_not_shown(any_ledger, state):
    state("a", [figure("10", metric="gone_usd"), figure("10", labels=("azure",))])
    assert [samples for _, samples in provider_collector(any_ledger.read).collect() if samples] == []
