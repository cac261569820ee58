"""Settings of Azure: which scopes there are, and which groups Azure can answer."""

import pytest
from pydantic import ValidationError

from costwarden.sources.settings import AzureSettings

ID = "0AAAAAAA-2222-3333-4444-555555555555"
SUBSCRIPTION = f"/subscriptions/{ID}"
ACCOUNT = "/providers/Microsoft.Billing/billingAccounts"


def made(**given):
    return AzureSettings.model_validate({"type": "azure", "scopes": [SUBSCRIPTION], **given})


@pytest.mark.parametrize(
    ("scope", "known_as"),
    [
        (SUBSCRIPTION, SUBSCRIPTION.lower()),
        (f"/Subscriptions/{ID.lower()}/", SUBSCRIPTION.lower()),
        (f"{SUBSCRIPTION}/resourcegroups/Shop.eu_(1)", f"{SUBSCRIPTION.lower()}/resourceGroups/Shop.eu_(1)"),
        ("/providers/microsoft.management/managementgroups/acme", "/providers/Microsoft.Management/managementGroups/acme"),
        (f"{ACCOUNT}/1234567", f"{ACCOUNT}/1234567"),
        (f"{ACCOUNT}/{ID.lower()}:{ID.lower()}_2019-05-31", f"{ACCOUNT}/{ID.lower()}:{ID.lower()}_2019-05-31"),
        (f"{ACCOUNT}/1/departments/2", f"{ACCOUNT}/1/departments/2"),
        (f"{ACCOUNT}/1/enrollmentAccounts/2", f"{ACCOUNT}/1/enrollmentAccounts/2"),
        (f"{ACCOUNT}/1/customers/2", f"{ACCOUNT}/1/customers/2"),
        (f"{ACCOUNT}/1/billingProfiles/2", f"{ACCOUNT}/1/billingProfiles/2"),
        (f"{ACCOUNT}/1/billingProfiles/2/invoiceSections/3", f"{ACCOUNT}/1/billingProfiles/2/invoiceSections/3"),
    ],
)
def test_every_kind_of_scope_is_known_by_one_spelling(scope, known_as):
    assert made(scopes=[scope]).scopes == (known_as,)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"scopes": []}, "at least 1 item"),
        ({"scopes": [ID]}, "is no scope: give the full id, as `/subscriptions/00000000-0000-0000-0000-000000000000`"),
        ({"scopes": ["/subscriptions/shop"]}, "is no scope"),
        ({"scopes": [f"{SUBSCRIPTION}/resourceGroups/a/../../x"]}, "is no scope"),
        ({"scopes": [f"{SUBSCRIPTION}/resourceGroups/a?b"]}, "is no scope"),
        ({"scopes": [f"{ACCOUNT}/1/invoiceSections/3"]}, "is no scope"),
        ({"scopes": [SUBSCRIPTION, SUBSCRIPTION.lower()]}, f"`scopes`: {SUBSCRIPTION.lower()} is given twice"),
        (
            {"scopes": [f"{SUBSCRIPTION}/resourceGroups/shop", SUBSCRIPTION]},
            f"{SUBSCRIPTION.lower()}/resourcegroups/shop is inside {SUBSCRIPTION.lower()}, and would count twice",
        ),
        ({"group_by": ["colour"]}, "String should match pattern"),
        ({"group_by": ["tag:a/b"]}, "String should match pattern"),
        ({"group_by": ["service", "service"]}, "`group_by`: a key is given twice"),
        ({"group_by": ["tag:a", "tag:b"]}, "`group_by`: at most one tag"),
        ({"group_by": ["region", "resource_group", "service", "subscription", "charge_type"]}, "`group_by`: at most 4 keys"),
        ({"group_by": ["service", "charge_type", "region"]}, "`group_by`: `region` must be the first or the second: Azure groups by two"),
        ({"client_type": "a b"}, "String should match pattern"),
        ({"throttle_wait_seconds": -1}, "greater than or equal to 0"),
    ],
)
def test_mistakes_are_told(given, sentence):
    with pytest.raises(ValidationError) as raised:
        made(**given)
    assert sentence in str(raised.value)


def test_what_costs_are_told_apart_by_is_what_the_kind_of_scope_needs():
    assert made().keys_of(SUBSCRIPTION) == ("service", "region", "charge_type")
    assert made().keys_of(f"{ACCOUNT}/1") == ("subscription", "service", "charge_type")
    assert made(group_by=["tag:team", "service"]).keys_of(f"{ACCOUNT}/1") == ("tag:team", "service")


def test_requests_cost_nothing():
    assert made().predicted_requests == ()
