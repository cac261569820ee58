"""Many accounts with a role each: read in isolation, with an external id and an account check. STS is moto's."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cost_explorer import ACCOUNT, CostExplorer, line, settings
from pydantic import ValidationError
from spending import Spending
from stand_in import Answer, Request

from costwarden.sources import SourceError
from costwarden.sources.aws_session import AwsSession
from costwarden.sources.settings import AwsSettings

ONE, OTHER = "111122223333", "444455556666"


def role(account: str, **more: str) -> dict[str, str]:
    """An entry of `accounts`."""
    return {"role_arn": f"arn:aws:iam::{account}:role/costwarden", "external_id": "our-secret"} | more


@pytest.fixture
def aws(moto: str, aws_credentials: None) -> Iterator[CostExplorer]:
    """Two accounts whose roles ask for an external id, and that of the credentials."""
    with CostExplorer(others=moto) as server:
        server.roles = {role(account)["role_arn"]: "our-secret" for account in (ONE, OTHER)}
        server.lines[ONE].append(line("2026-11-05", "1"))
        server.lines[OTHER].append(line("2026-11-05", "20"))
        server.bill.append(line("2026-11-05", "300"))
        yield server


def test_each_account_is_read_with_its_role_and_external_id(aws: CostExplorer, spending: Spending) -> None:
    done = spending.refresh(settings(aws, accounts=[role(ONE), role(OTHER), {"account_id": ACCOUNT}]))
    assert done.failure == ""
    assert spending.by("billing_account_id") == {ONE: Decimal(1), OTHER: Decimal(20), ACCOUNT: Decimal(300)}
    # At most two requests an account and refresh.
    assert len(aws.asked()) == 2 * 3
    assert spending.state("aws")["request_cost"] == 2 * 3 * 10_000_000


def test_one_account_that_fails_hurts_no_other(aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, accounts=[role(ONE), role(OTHER)])
    spending.refresh(chosen)
    spending.minutes = 400
    aws.roles[role(ONE)["role_arn"]] = "another"
    aws.lines[ONE].append(line("2026-11-05", "1"))
    aws.lines[OTHER].append(line("2026-11-05", "20"))
    assert spending.refresh(chosen).failure == ""
    assert spending.by("billing_account_id") == {ONE: Decimal(1), OTHER: Decimal(40)}
    failed = {name: part.message for name, part in spending.parts().items() if part.state == "failed"}
    assert failed.keys() == {ONE}
    assert failed[ONE].startswith(f"account {ONE}: AssumeRole: AccessDenied: ")
    assert "let the role's trust policy name them and the same `external_id`" in failed[ONE]
    assert all(part.state == "ok" for name, part in spending.parts().items() if name != ONE)

    spending.minutes = 800
    aws.roles[role(ONE)["role_arn"]] = "our-secret"
    spending.refresh(chosen)
    assert spending.by("billing_account_id") == {ONE: Decimal(2), OTHER: Decimal(40)}
    assert ONE not in spending.parts()


DEEP = b'{"ResultsByTime":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HALF = json.dumps(
    {
        "ResultsByTime": [
            {
                "TimePeriod": {"Start": "2026-11-05", "End": "2026-11-06"},
                "Groups": [{"Keys": ["\ud83d", "us-east-1"], "Metrics": {}}],
            }
        ]
    }
).encode()


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b'{"ResultsByTime": null}', b'{"ResultsByTime": [null]}', DEEP, HALF])
def test_an_answer_that_is_none_hurts_its_own_account_alone(body: bytes, aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, accounts=[role(ONE), role(OTHER)])
    spending.refresh(chosen)
    spending.minutes = 400
    aws.lines[OTHER].append(line("2026-11-05", "20"))
    answer = aws.answer

    def broken(request: Request) -> Answer:
        if not request.headers.get("x-amz-target", "").endswith("GetCostAndUsage"):
            return answer(request)
        # The first account alone.
        aws.answer = answer
        return Answer(body)

    aws.answer = broken
    assert spending.refresh(chosen).failure == ""
    assert spending.by("billing_account_id") == {ONE: Decimal(1), OTHER: Decimal(40)}
    message = spending.parts()[ONE].message
    assert "not as AWS documents it" in message
    assert len(message) < 300


def test_what_nobody_has_thought_of_hurts_its_own_account_alone(
    aws: CostExplorer, spending: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify = AwsSession.identify

    def fail(self: AwsSession) -> str:
        if identify(self) == ONE:
            raise RuntimeError("boom")
        return identify(self)

    monkeypatch.setattr(AwsSession, "identify", fail)
    assert spending.refresh(settings(aws, accounts=[role(ONE), role(OTHER)])).failure == ""
    assert spending.by("billing_account_id") == {OTHER: Decimal(20)}
    assert spending.parts()[ONE].message == f"account {ONE}: RuntimeError: boom"


def test_where_all_fail_the_source_fails(aws: CostExplorer, spending: Spending) -> None:
    aws.denied.add("GetCostAndUsage")
    failed = spending.refresh(settings(aws, accounts=[role(ONE), role(OTHER)])).failure
    assert failed.startswith(f"account {ONE}: GetCostAndUsage: AccessDeniedException")
    assert f"; account {OTHER}: GetCostAndUsage" in failed


def test_a_role_that_leads_elsewhere_is_not_read(aws: CostExplorer, spending: Spending) -> None:
    # Without a role these are the credentials' own account.
    chosen = settings(aws, accounts=[role(ONE), {"account_id": OTHER}])
    spending.refresh(chosen)
    assert spending.by("billing_account_id") == {ONE: Decimal(1)}
    message = f"account {OTHER}: the credentials belong to account {ACCOUNT}, not to {OTHER} (`account_id`)"
    assert spending.parts()[OTHER].message == message


def test_an_account_that_is_configured_no_more_takes_its_cost_along(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws, accounts=[role(ONE), role(OTHER)], forecast=True))
    spending.minutes = 400
    spending.refresh(settings(aws, accounts=[role(OTHER)], forecast=True))
    assert spending.by("billing_account_id") == {OTHER: Decimal(20)}
    assert {labels[2] for labels in spending.figures()} == {OTHER}


def test_an_account_that_comes_in_the_place_of_another_takes_over_once_it_was_read(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws, accounts=[role(ONE), {"account_id": ACCOUNT}]))
    spending.minutes = 400
    aws.roles[role(OTHER)["role_arn"]] = "not yet"
    replaced = settings(aws, accounts=[role(OTHER), {"account_id": ACCOUNT}])
    assert spending.refresh(replaced).failure == ""
    assert spending.by("billing_account_id") == {ONE: Decimal(1), ACCOUNT: Decimal(300)}

    spending.minutes = 800
    aws.roles[role(OTHER)["role_arn"]] = "our-secret"
    spending.refresh(replaced)
    assert spending.by("billing_account_id") == {OTHER: Decimal(20), ACCOUNT: Decimal(300)}


def test_credentials_of_another_account_do_not_replace_what_was_read(
    aws: CostExplorer, spending: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending.refresh(settings(aws))
    spending.minutes = 400
    monkeypatch.setattr(AwsSession, "identify", lambda _: ONE)
    failed = spending.refresh(settings(aws)).failure
    assert failed == (
        f"these credentials belong to account {ONE}, the figures so far to {ACCOUNT}: set `access.account_id`, or give the source another "
        "name"
    )
    assert spending.by("billing_account_id") == {ACCOUNT: Decimal(300)}
    assert len(aws.asked()) == 2, "nothing was paid for"
    # Who names the account means it.
    assert spending.refresh(settings(aws, access={"account_id": ONE})).failure == ""
    assert {charge["billing_account_id"] for charge in spending.charges()} == {ONE}


def test_a_member_that_is_in_the_bill_of_another_is_not_counted_twice(aws: CostExplorer, spending: Spending) -> None:
    for account in (ONE, OTHER):
        aws.lines[account] = [line("2026-11-05", "20", LINKED_ACCOUNT=OTHER)]
    failed = spending.refresh(settings(aws, accounts=[role(ONE), role(OTHER)], group_by=["LINKED_ACCOUNT", "SERVICE"]))
    assert failed.failure == f"account {OTHER} is in the bill of {ONE} already: take it out of `accounts`, else it counts twice"
    assert spending.charges() == []


def test_the_cap_in_the_middle_keeps_what_was_read_before_it(aws: CostExplorer, spending: Spending) -> None:
    done = spending.refresh(settings(aws, accounts=[role(ONE), role(OTHER)], daily_request_limit_usd="0.02"))
    assert done.failure == ""
    assert spending.by("billing_account_id") == {ONE: Decimal(1)}
    assert "at most $0.02 (`daily_request_limit_usd`)" in spending.parts()[OTHER].message


def test_the_cap_does_not_meet_the_same_account_every_day(aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, accounts=[role(ONE), role(OTHER)], daily_request_limit_usd="0.02")
    spending.refresh(chosen)
    aws.lines[ONE].append(line("2026-11-05", "1"))
    spending.today += timedelta(days=1)
    assert spending.refresh(chosen).failure == ""
    # The one that had to wait is first, and the other one waits.
    assert spending.by("billing_account_id") == {ONE: Decimal(1), OTHER: Decimal(20)}
    spending.today += timedelta(days=1)
    spending.refresh(chosen)
    assert spending.by("billing_account_id") == {ONE: Decimal(1 + 1), OTHER: Decimal(20)}


def test_no_key_of_an_assumed_role_is_in_a_message(aws: CostExplorer, spending: Spending) -> None:
    # Who the credentials are, then the role's keys, cut off in the middle.
    aws.cut(after=400)
    failed = spending.refresh(settings(aws, access={"role_arn": role(ONE)["role_arn"], "external_id": "our-secret"})).failure
    assert failed.startswith("AssumeRole: the answer breaks off after 400 of ")


def test_probe_tells_of_each_account_and_names_those_that_fail(aws: CostExplorer, spending: Spending, today: date) -> None:
    aws.roles[role(OTHER)["role_arn"]] = "another"
    aws.today = today
    said: list[str] = []
    reading = spending.open(settings(aws, accounts=[role(ONE), role(OTHER)]))
    with pytest.raises(SourceError, match=rf"^account {OTHER}: AssumeRole: AccessDenied"):
        said.extend(reading.source.probe())
    assert [sentence.split(":")[0] for sentence in said] == [f"account {ONE}"] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"accounts": [role(ONE), {"account_id": ONE}]}, f"account {ONE} stands there twice: its cost would count twice"),
        ({"accounts": [role(ONE, account_id=OTHER)]}, f"`role_arn` is a role of account {ONE}, not of {OTHER}"),
        ({"accounts": [{"external_id": "x"}]}, "an account needs `account_id` or `role_arn`"),
        ({"group_by": ["SERVICE", "REGION", "AZ"]}, "at most 2"),
        ({"group_by": []}, "at least 1"),
        ({"group_by": ["service"]}, "pattern"),
        ({"group_by": ["SERVICE", "SERVICE"]}, "two keys would be one"),
        ({"group_by": ["TAG:team", "COST_CATEGORY:Team"]}, "two keys would be one"),
        ({"split_by": {"key": "SERVICE", "values": ["a"]}}, "two keys would be one"),
        ({"split_by": {"key": "RECORD_TYPE", "values": ["a"]}}, "record types are told apart already"),
        ({"split_by": {"key": "TAG:team", "values": ["a", "a"]}}, "a value stands there twice"),
        ({"forecast_interval_percent": 50}, "greater than or equal to 51"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AwsSettings.model_validate({"type": "aws"} | wrong)


def test_the_prediction_counts_accounts_values_and_buckets() -> None:
    chosen = AwsSettings.model_validate(
        {
            "type": "aws",
            "interval_seconds": 43_200,
            "stale_after_seconds": 86_400,
            "accounts": [role(ONE), role(OTHER)],
            "split_by": {"key": "LINKED_ACCOUNT", "values": ["777788889999"]},
            "bucket_sizes": True,
            "bucket_regions": ["eu-west-1", "us-gov-west-1"],
        }
    )
    costs, sizes = chosen.predicted_requests
    # Two accounts, of each: two refreshes of a value, the others and what is no usage; one forecast.
    assert costs.a_day == 2 * (2 * 3 + 1)
    # Each with a list and up to 500 metrics at a cent a thousand.
    assert (sizes.a_day, sizes.usd_each) == (2 * 2, Decimal("0.00501"))
