"""Azure: `type: azure`."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from costwarden.sources.settings.access import AzureAccess, HttpTimeout
from costwarden.sources.settings.schedule import DailySchedule, SourceName

_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = r"[\w:.-]{1,200}"

_SCOPES = {
    "subscription": ("subscriptions", _GUID),
    "resource_group": ("subscriptions", _GUID, "resourceGroups", r"[\w.()-]{0,89}[\w()-]"),
    "management_group": ("providers", "Microsoft.Management", "managementGroups", r"[\w.()-]{1,90}"),
    "billing_account": ("providers", "Microsoft.Billing", "billingAccounts", _ID),
    "department": ("providers", "Microsoft.Billing", "billingAccounts", _ID, "departments", _ID),
    "enrollment_account": ("providers", "Microsoft.Billing", "billingAccounts", _ID, "enrollmentAccounts", _ID),
    "customer": ("providers", "Microsoft.Billing", "billingAccounts", _ID, "customers", _ID),
    "billing_profile": ("providers", "Microsoft.Billing", "billingAccounts", _ID, "billingProfiles", _ID),
    "invoice_section": ("providers", "Microsoft.Billing", "billingAccounts", _ID, "billingProfiles", _ID, "invoiceSections", _ID),
}
"""Kind of scope -> its path, as the reference names them:
https://learn.microsoft.com/en-us/rest/api/cost-management/query/usage#uri-parameters"""

_WORDS = {"subscriptions", "resourceGroups", "providers", "Microsoft.Management", "managementGroups", "Microsoft.Billing"}
_WORDS |= {"billingAccounts", "departments", "enrollmentAccounts", "customers", "billingProfiles", "invoiceSections"}


def kind_of_scope(scope: str) -> str:
    """`subscription`, `resource_group`, `management_group`, `billing_account` or a part of one; empty where it is no scope."""
    for kind, segments in _SCOPES.items():
        pattern = "".join(f"/{re.escape(segment) if segment in _WORDS else segment}" for segment in segments)
        if re.fullmatch(pattern, scope, re.IGNORECASE):
            return kind
    return ""


def _scope(text: str) -> str:
    scope = text.strip().rstrip("/")
    if not kind_of_scope(scope):
        raise ValueError("is no scope: give the full id, as `/subscriptions/00000000-0000-0000-0000-000000000000`")
    # Azure does not mind the case; a part of the ledger does, so that one scope must have one name.
    known = {word.lower(): word for word in _WORDS}
    guid = re.compile(_GUID, re.IGNORECASE)
    return "/".join(known.get(part.lower(), part.lower() if guid.fullmatch(part) else part) for part in scope.split("/"))


AzureScope = Annotated[str, AfterValidator(_scope)]
"""What Azure is asked for as one, by its full id."""

GroupKey = Annotated[
    str, StringConstraints(pattern=r"^(service|region|subscription|resource_group|charge_type|pricing_model|tag:[^<>%&\\?/]+)$")
]
"""What costs are told apart by."""

NEVER_EMPTY = ("service", "subscription", "charge_type")
"""The keys that every cost has a value of, so that a query for each value leaves nothing out."""

MOST_KEYS = 4

_OF_ONE_SUBSCRIPTION = ("service", "region", "charge_type")
_OF_MANY = ("subscription", "service", "charge_type")


class AzureSettings(DailySchedule):
    """Cost of Azure, from Cost Management."""

    type: Literal["azure"]
    """`azure`: cost of Azure, from Cost Management."""
    name: SourceName = "azure"
    """Name of the source: the `source` label of its series."""
    access: AzureAccess = AzureAccess()
    """Credentials."""
    scopes: tuple[AzureScope, ...] = Field(min_length=1)
    """What is asked for, by full id: subscriptions, resource groups, management groups, billing accounts and their parts. No two may
    hold the same cost, or it counts twice."""
    group_by: tuple[GroupKey, ...] = ()
    """What costs are told apart by: `service`, `region`, `subscription`, `resource_group`, `charge_type`, `pricing_model`, `tag:NAME`.
    Azure groups by two; the third and fourth, which must be of `service`, `subscription` and `charge_type`, take a query for each value.
    Empty: service, region and charge_type of a subscription or resource group; subscription, service and charge_type of all else."""
    amortized: bool = True
    """Whether the amortized cost is asked for, too: it becomes the effective cost. Off, the effective cost is the billed one, and half as
    many requests are made."""
    budgets: bool = True
    """Whether the budgets that are kept at the scopes are read."""
    forecast: bool = True
    """Whether Azure's own forecast of the month is read."""
    client_type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "costwarden"
    """The header `ClientType`: Azure counts a quota for each, and without one everybody's together."""
    throttle_wait_seconds: float = Field(default=300, ge=0, le=3600, allow_inf_nan=False)
    """Seconds that are waited for one answer, all together, where Azure says that there are too many requests. Then the scope fails."""
    request_timeout_seconds: HttpTimeout = 60
    """Seconds that one request may take."""

    def keys_of(self, scope: str) -> tuple[str, ...]:
        """What the costs of `scope` are told apart by."""
        if self.group_by:
            return self.group_by
        return _OF_ONE_SUBSCRIPTION if kind_of_scope(scope) in {"subscription", "resource_group"} else _OF_MANY

    @model_validator(mode="after")
    def _groups_that_azure_can_answer(self) -> Self:
        keys = self.group_by
        if len(set(keys)) < len(keys):
            raise ValueError("`group_by`: a key is given twice")
        if len(keys) > MOST_KEYS:
            raise ValueError(f"`group_by`: at most {MOST_KEYS} keys")
        if sum(key.startswith("tag:") for key in keys) > 1:
            raise ValueError("`group_by`: at most one tag")
        if late := [key for key in keys[2:] if key not in NEVER_EMPTY]:
            names = ", ".join(f"`{name}`" for name in NEVER_EMPTY)
            raise ValueError(
                f"`group_by`: `{late[0]}` must be the first or the second: Azure groups by two, and only {names} can come after"
            )
        return self

    @model_validator(mode="after")
    def _scopes_apart(self) -> Self:
        for problem in _overlaps([scope.lower() for scope in self.scopes]):
            raise ValueError(f"`scopes`: {problem}")
        return self


def _overlaps(scopes: list[str]) -> Iterator[str]:
    for scope in scopes:
        if scopes.count(scope) > 1:
            yield f"{scope} is given twice"
        for outer in scopes:
            if scope.startswith(f"{outer}/"):
                yield f"{scope} is inside {outer}, and would count twice"
