"""Whatever the bill and however it is grouped, split and paged: what is charged is what was billed, to the last digit."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from cost_explorer import ACCOUNT, TARGET, CostExplorer, Line, settings
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from stand_in import Request

from costwarden.model import exact_sum
from costwarden.sources.attribution import Attribution
from costwarden.sources.aws_costs import CostReader
from costwarden.sources.currency import Rates
from costwarden.sources.daily import DailyCosts
from costwarden.sources.settings import AttributionSettings, AwsSettings, ExchangeRates

FIRST = date(2026, 11, 1)
DAYS = 3
KEYS = {
    "SERVICE": ("AmazonEC2", "AmazonS3", "A$B"),
    "REGION": ("eu-west-1", "global", "NoRegion"),
    "LINKED_ACCOUNT": ("111122223333", "444455556666"),
    "RECORD_TYPE": ("Usage", "DiscountedUsage", "Credit", "Refund", "Tax", "SavingsPlanNegation", "Something new"),
    "USAGE_TYPE": ("BoxUsage", "DataTransfer"),
    "TAG:team": ("", "a$b", "search"),
    "COST_CATEGORY:Unit": ("", "$", "north"),
}

amounts = st.decimals(min_value=-10_000, max_value=10_000, places=10).map(str)
lines = st.builds(
    lambda day, billed, effective, keys: Line(FIRST + timedelta(days=day), billed, keys, {"AmortizedCost": effective}),
    st.integers(0, DAYS - 1),
    amounts,
    amounts,
    st.fixed_dictionaries({key: st.sampled_from(values) for key, values in KEYS.items()}),
)
groups = st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2, unique=True)


@pytest.fixture(scope="module")
def aws() -> Iterator[CostExplorer]:
    """Cost Explorer that is asked without a connection."""
    with CostExplorer() as server:
        yield server


@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bill=st.lists(lines, max_size=25), group_by=groups, split=st.sampled_from([None, *sorted(KEYS)]), page=st.integers(1, 9))
def test_every_cost_is_charged_once(bill: list[Line], group_by: list[str], split: str | None, page: int, aws: CostExplorer) -> None:
    aws.bill[:] = bill
    aws.page = page
    if split in (*group_by, "RECORD_TYPE"):
        split = None
    # One value of those that are there, so that there is a rest, and one that nothing has.
    divided = {"split_by": {"key": split, "values": [KEYS[split][-1], "nothing has it"]}} if split else {}
    chosen = settings(aws, group_by=group_by, **divided)
    asked: list[Any] = []

    def ask(operation: str, parameters: Mapping[str, Any], _: str, read: Callable[[str], Any]) -> Any:
        asked.append(parameters)
        headers = {"x-amz-target": f"{TARGET}GetCostAndUsage", "authorization": "Credential=AKIAEXAMPLE/"}
        answer = aws.answer(Request("POST", "/", {}, headers, json.dumps(parameters).encode()))
        assert answer.status == 200, answer.body
        return read(json.dumps(answer.body))

    rates = Rates(ExchangeRates())
    costs = DailyCosts("aws", ACCOUNT, Attribution(AttributionSettings()), rates)
    last = FIRST + timedelta(days=DAYS - 1)
    answered = CostReader(chosen, ACCOUNT, costs, rates).read(ask, FIRST, last)
    charges = [charge for day in costs.changes(FIRST, last, {}) for charge in day.charges]

    assert exact_sum([charge.billed_cost for charge in charges]) == aws.total() == answered.month.between(FIRST, last + timedelta(days=1))
    assert exact_sum([charge.effective_cost for charge in charges]) == aws.total(metric="AmortizedCost")
    granted = [one.amount("UnblendedCost") for one in bill if one.get("RECORD_TYPE") == "Credit"]
    assert exact_sum([charge.billed_cost for charge in charges if charge.charge_category == "Credit"]) == exact_sum(granted)
    assert len([parameters for parameters in asked if "NextPageToken" not in parameters]) == chosen.cost_requests
    assert len(answered.days) == DAYS


def test_the_page_of_the_docs_shows_settings_that_are_taken_and_counts_right(project: Path) -> None:
    page = (project / "docs/sources/aws.md").read_text()
    shown = AwsSettings.model_validate(yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["sources"][0])
    assert shown.accounts[1].number == "444455556666"
    (usual,) = AwsSettings.model_validate({"type": "aws"}).predicted_requests
    assert "With the defaults that is 4 × 2 + 1 = 9 requests a day, $0.09." in page
    assert (usual.a_day, usual.a_day * usual.usd_each) == (9, Decimal("0.09"))
    for policy in page.split("```json\n")[1:]:
        assert json.loads(policy.split("```")[0])["Version"] == "2012-10-17"
