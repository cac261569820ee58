"""Budgets of Cloud Billing: their API knows the limits and no spend, so the spend is computed from the rows of the billing export.

Shapes: https://cloud.google.com/billing/docs/reference/budget/rest/v1/billingAccounts.budgets
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from costwarden.model import EXACT, ProviderBudget, exact_sum
from costwarden.sources.currency import Rates
from costwarden.sources.gcp_clients import MISSING_LIBRARY, REQUEST_SECONDS, RETRY_SECONDS, Calls, gcp_credentials
from costwarden.sources.gcp_export import Line
from costwarden.sources.requests import SourceError
from costwarden.sources.settings import GcpAccess
from costwarden.sources.windows import ONE_DAY

if TYPE_CHECKING:
    from google.cloud.billing import budgets_v1

SCOPES = ("https://www.googleapis.com/auth/cloud-billing",)
"""The narrowest that both APIs take; what the credentials may do is up to their roles."""

MONTHS = {"month": 1, "quarter": 3, "year": 12}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, as its API has it. An empty filter lets everything through."""

    budget_id: str
    name: str
    limit: Decimal | None
    """In `currency`; None where it is what the period before has cost."""
    currency: str
    period: str
    """`month`, `quarter`, `year` or `custom`."""
    begin: date | None = None
    """Of a custom period."""
    end: date | None = None
    """The last day of a custom period; None where it has no end."""
    projects: frozenset[str] = frozenset()
    """Numbers (or ids) of projects."""
    ancestors: frozenset[str] = frozenset()
    """Numbers of folders and organizations."""
    services: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    label: tuple[str, frozenset[str]] | None = None
    credit_types: frozenset[str] | None = None
    """Types of credit that are subtracted; None for all."""

    def days(self, today: date) -> tuple[date, date]:
        """The first day of the period that holds `today`, and `today`; of a custom period that is over, its own last day."""
        if self.period == "custom":
            assert self.begin is not None
            return self.begin, min(self.end or today, today)
        return _period_start(today, MONTHS[self.period]), today

    def days_before(self, today: date) -> tuple[date, date]:
        """The whole of the period before the one that holds `today`."""
        last = self.days(today)[0] - ONE_DAY
        return _period_start(last, MONTHS[self.period]), last

    def needs_from(self, today: date) -> date:
        """The first day of which a cost must be known."""
        return (self.days(today) if self.limit is not None else self.days_before(today))[0]

    def counts(self, line: Line, label_keys: Sequence[str]) -> bool:
        """Whether a row of the export is in the budget."""
        if self.projects and not {line.project, line.project_number} & self.projects:
            return False
        if self.ancestors and not set(line.ancestry.split("/")) & self.ancestors:
            return False
        if self.services and line.service_id not in self.services:
            return False
        if self.accounts and line.account not in self.accounts:
            return False
        if self.label is not None and line.budget_labels[label_keys.index(self.label[0])] not in self.label[1]:
            return False
        return not line.credit or self.credit_types is None or line.credit in self.credit_types


def _period_start(day: date, months: int) -> date:
    return date(day.year, (day.month - 1) // months * months + 1, 1)


def read_budgets(access: GcpAccess, account: str, calls: Calls) -> list[Terms]:
    """The budgets of a billing account. Raises `SourceError`; a budget of a kind that is not known is an error too."""

    def ask() -> list[Terms]:
        with _budget_client(access, calls) as client:
            found = client.list_budgets(parent=f"billingAccounts/{account}", retry=_retry(), timeout=REQUEST_SECONDS)
            return [_terms(budget) for page in _pages("ListBudgets", found) for budget in page.budgets]

    remedy = f"the credentials need roles/billing.viewer on billing account {account}, and their project the Cloud Billing Budget API"
    return calls.run(f"the budgets of billing account {account}", ask, remedy)


def read_accounts(access: GcpAccess, calls: Calls) -> list[tuple[str, str, bool]]:
    """Id, name and whether it is open, of each billing account that the credentials may see. Raises `SourceError`."""

    def ask() -> list[tuple[str, str, bool]]:
        try:
            from google.cloud import billing_v1
            from google.cloud.billing_v1.services.cloud_billing.transports.rest import (
                CloudBillingRestInterceptor,
                CloudBillingRestTransport,
            )
        except ImportError:
            raise SourceError(MISSING_LIBRARY) from None

        class Counted(CloudBillingRestInterceptor):
            def pre_list_billing_accounts(self, request: Any, metadata: Any) -> Any:
                calls.about_to_ask()
                return request, metadata

        transport = CloudBillingRestTransport(**_transport(access, "https://cloudbilling.googleapis.com"), interceptor=Counted())
        with billing_v1.CloudBillingClient(transport=transport) as client:
            accounts = client.list_billing_accounts(retry=_retry(), timeout=REQUEST_SECONDS)
            found = (account for page in _pages("ListBillingAccounts", accounts) for account in page.billing_accounts)
            return [(account.name.removeprefix("billingAccounts/"), account.display_name, account.open_) for account in found]

    return calls.run("the billing accounts", ask, "the project of the credentials needs the Cloud Billing API")


def _pages(what: str, pager: Any) -> Iterator[Any]:
    """The pages of one of Google's pagers, which follow a token for ever. Raises `SourceError` where one comes again."""
    seen = set()
    for page in pager.pages:
        yield page
        if (token := page.next_page_token) in seen:
            raise SourceError(f"{what}: the page {token[:80]!r} comes after itself")
        seen.add(token)


def _budget_client(access: GcpAccess, calls: Calls) -> budgets_v1.BudgetServiceClient:
    try:
        from google.cloud.billing import budgets_v1
        from google.cloud.billing.budgets_v1.services.budget_service.transports.rest import (
            BudgetServiceRestInterceptor,
            BudgetServiceRestTransport,
        )
    except ImportError:
        raise SourceError(MISSING_LIBRARY) from None

    class Counted(BudgetServiceRestInterceptor):
        def pre_list_budgets(self, request: Any, metadata: Any) -> Any:
            calls.about_to_ask()
            return request, metadata

    transport = BudgetServiceRestTransport(**_transport(access, "https://billingbudgets.googleapis.com"), interceptor=Counted())
    return budgets_v1.BudgetServiceClient(transport=transport)


def _transport(access: GcpAccess, usual: str) -> dict[str, Any]:
    scheme, host = (access.endpoint_url or usual).split("://", 1)
    return {"host": host, "url_scheme": scheme, "credentials": gcp_credentials(access, SCOPES)}


def _retry() -> Any:
    from google.api_core import exceptions, retry

    transient = (exceptions.TooManyRequests, exceptions.InternalServerError, exceptions.BadGateway, exceptions.ServiceUnavailable)
    return retry.Retry(predicate=retry.if_exception_type(*transient, exceptions.GatewayTimeout), timeout=RETRY_SECONDS)


def _terms(budget: budgets_v1.Budget) -> Terms:
    chosen = budget.budget_filter
    period = chosen.calendar_period.name.lower()
    begin = end = None
    if "custom_period" in chosen:
        period, begin = "custom", _day(chosen.custom_period.start_date)
        end = _day(chosen.custom_period.end_date) if "end_date" in chosen.custom_period else None
    elif period not in MONTHS:
        # The API's default, where a budget says nothing: https://cloud.google.com/billing/docs/reference/budget/rest/v1/…#Filter
        period = "month"
    treatment = chosen.credit_types_treatment.name
    amount = budget.amount
    money = amount.specified_amount if "specified_amount" in amount else None
    label = next(((key, frozenset(str(value) for value in values)) for key, values in chosen.labels.items()), None)
    return Terms(
        budget_id=budget.name.rsplit("/", 1)[-1],
        name=budget.display_name or budget.name.rsplit("/", 1)[-1],
        limit=None if money is None else EXACT.add(Decimal(money.units), Decimal(money.nanos).scaleb(-9)),
        currency="" if money is None else money.currency_code,
        period=period,
        begin=begin,
        end=end,
        projects=_numbers(chosen.projects),
        ancestors=_numbers(chosen.resource_ancestors),
        services=_numbers(chosen.services),
        accounts=_numbers(chosen.subaccounts),
        label=label,
        credit_types={"EXCLUDE_ALL_CREDITS": frozenset(), "INCLUDE_SPECIFIED_CREDITS": frozenset(chosen.credit_types)}.get(treatment),
    )


def _day(stated: Any) -> date:
    return date(stated.year, stated.month, stated.day)


def _numbers(names: Sequence[str]) -> frozenset[str]:
    """`projects/123` -> `123`."""
    return frozenset(name.rsplit("/", 1)[-1] for name in names)


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the cost that budgets are compared with."""

    lines: Sequence[Line]
    label_keys: Sequence[str]
    """Those of the `budget_labels` of `lines`."""
    first: date
    """The first day that `lines` hold all of."""
    today: date
    """The last one."""
    rates: Rates
    has_credits: bool
    """Whether `lines` keep credits apart; without that no budget's spend can be told."""

    def of(self, budget: Terms, first: date, last: date) -> Decimal | None:
        """Dollars that are spent of `budget` in these days; None where that is not known, or a row has no exchange rate."""
        if not self.has_credits or (first < self.first and first <= last):
            return None
        amounts = []
        for line in self.lines:
            if first <= line.day <= last and budget.counts(line, self.label_keys):
                rate = self.rates.usd(line.currency, line.day)
                if rate is None:
                    return None
                amounts.append(EXACT.multiply(line.billed, rate))
        return exact_sum(amounts)


def stated_budgets(terms: Sequence[Terms], spend: Spend, source: str, part: str, account: str) -> tuple[list[ProviderBudget], list[str]]:
    """The budgets with what is spent of them, and a sentence for each that cannot be stated."""
    found, problems = [], []
    names = [budget.name for budget in terms]
    for budget in terms:
        if budget.limit is None:
            limit = spend.of(budget, *budget.days_before(spend.today))
            why = "its limit is what the period before has cost, and that is not known: see `history_days`"
        else:
            rate = spend.rates.usd(budget.currency, spend.today)
            limit = None if rate is None else EXACT.multiply(budget.limit, rate)
            why = f"its limit is in {budget.currency!r}, and there is no rate for that: add one to `exchange_rates`"
        if limit is None:
            problems.append(f"budget {budget.name!r} is left out: {why}")
            continue
        found.append(
            ProviderBudget(
                source=source,
                part=part,
                provider_name="gcp",
                account_id=account,
                # Two budgets may have one name.
                budget=budget.name if names.count(budget.name) == 1 else f"{budget.name} ({budget.budget_id})",
                period=budget.period,
                limit_usd=limit,
                spent_usd=spend.of(budget, *budget.days(spend.today)),
            )
        )
    return found, problems
