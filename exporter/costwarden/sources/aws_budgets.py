"""The budgets that are kept in AWS Budgets.

Shapes: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_Budget.html
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date
from decimal import Decimal, InvalidOperation
from typing import Any

from costwarden.model import EXACT, ProviderBudget
from costwarden.sources.aws_costs import Month
from costwarden.sources.aws_session import AwsSession
from costwarden.sources.currency import Rates
from costwarden.sources.http_json import pages
from costwarden.sources.settings.aws import AwsSettings
from costwarden.sources.windows import ONE_DAY

_PERIODS = {"DAILY": "day", "MONTHLY": "month", "QUARTERLY": "quarter", "ANNUALLY": "year", "CUSTOM": "custom"}

_ALL_COSTS = {
    "IncludeCredit": True,
    "IncludeDiscount": True,
    "IncludeOtherSubscription": True,
    "IncludeRecurring": True,
    "IncludeRefund": True,
    "IncludeSubscription": True,
    "IncludeSupport": True,
    "IncludeTax": True,
    "IncludeUpfront": True,
    "UseAmortized": False,
    "UseBlended": False,
}
"""`CostTypes` of a budget on the whole of the unblended bill."""


def describe_budgets(session: AwsSession, account: str) -> list[Mapping[str, Any]]:
    """All budgets of the account, as boto3 gives them. Raises `SourceError`."""
    client = session.client("budgets")

    def ask(token: str) -> dict[str, Any]:
        page = {"NextToken": token} if token else {}
        answer: dict[str, Any] = session.ask(lambda: client.describe_budgets(AccountId=account, **page))
        return answer

    answers = pages("DescribeBudgets", ask, lambda answer: answer.get("NextToken") or "")
    return [budget for answer in answers for budget in answer.get("Budgets") or []]


class BudgetReader:
    """Makes the budgets of one account out of what AWS says, and of the bill of `month` where that was read."""

    def __init__(self, settings: AwsSettings, account: str, part: str, rates: Rates, today: date, month: Month) -> None:
        self._settings, self._account, self._part = settings, account, part
        self._rates, self._today, self._month = rates, today, month

    def read(self, described: Iterable[Mapping[str, Any]]) -> tuple[list[ProviderBudget], list[str]]:
        """The budgets on cost, and a sentence for each that could not be read. Budgets on usage or coverage have no dollars."""
        budgets, refused = [], []
        for budget in described:
            if budget.get("BudgetType") != "COST":
                continue
            try:
                budgets.append(self._budget(budget))
            except (KeyError, TypeError, ValueError, InvalidOperation) as error:
                refused.append(f"budget {budget.get('BudgetName')!r}: {error}")
        return budgets, refused

    def _budget(self, budget: Mapping[str, Any]) -> ProviderBudget:
        if "BudgetLimit" not in budget:
            raise ValueError("AWS names no limit")
        spend = budget.get("CalculatedSpend") or {}
        return ProviderBudget(
            source=self._settings.name,
            part=self._part,
            provider_name="aws",
            account_id=self._account,
            budget=budget["BudgetName"],
            period=_PERIODS[budget["TimeUnit"]],
            limit_usd=self._usd(budget["BudgetLimit"]),
            spent_usd=self._spent(budget, spend),
            forecast_usd=self._forecast(budget, spend),
        )

    def _usd(self, spend: Mapping[str, Any]) -> Decimal:
        amount, unit = Decimal(spend["Amount"]), spend["Unit"]
        rate = self._rates.usd(unit, self._today)
        if rate is None:
            raise ValueError(f"it is in {unit!r}, and there is no rate for {self._today}: add one to `exchange_rates`")
        if not amount.is_finite():
            raise ValueError(f"{spend['Amount']!r} is no amount")
        return EXACT.multiply(amount, rate)

    def _spent(self, budget: Mapping[str, Any], spend: Mapping[str, Any]) -> Decimal | None:
        """What was spent. AWS says 0 after a budget was edited, until it has counted anew hours later; then this is the bill's figure for a
        budget on all of it, and unknown for any other."""
        if "ActualSpend" not in spend:
            return None
        amount = self._usd(spend["ActualSpend"])
        if amount:
            return amount
        if self._is_on_everything(budget):
            billed = self._month.between(self._today.replace(day=1), self._today + ONE_DAY)
            if billed is not None:
                return billed
        return None if self._was_edited(budget) else amount

    def _forecast(self, budget: Mapping[str, Any], spend: Mapping[str, Any]) -> Decimal | None:
        if "ForecastedSpend" not in spend:
            return None
        amount = self._usd(spend["ForecastedSpend"])
        return None if not amount and self._was_edited(budget) else amount

    def _was_edited(self, budget: Mapping[str, Any]) -> bool:
        """Whether so lately that AWS may not have counted since: it does three times a day."""
        edited = budget.get("LastUpdatedTime")
        return edited is not None and bool(edited.astimezone(UTC).date() >= self._today - ONE_DAY)

    def _is_on_everything(self, budget: Mapping[str, Any]) -> bool:
        # A budget of the newer form, with `Metrics` and a filter that is only shown when asked for, has no `CostTypes`.
        return (
            budget["TimeUnit"] == "MONTHLY"
            and not budget.get("CostFilters")
            and budget.get("CostTypes") == _ALL_COSTS
            and self._settings.billed_metric == "UnblendedCost"
        )
