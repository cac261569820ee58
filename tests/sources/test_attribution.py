"""Tags, accounts and services to team, feature, tenant and environment."""

import duckdb
import pytest

from costwarden.sources.attribution import Attribution, parse_tags, value_before_and_after
from costwarden.sources.settings import AttributionSettings
from costwarden.sources.settings.attribution import ComparedRules

COLUMNS = {"provider_name": "aws", "billing_account_id": "111122223333", "sub_account_id": "444455556666", "service_name": "Amazon Bedrock"}


@pytest.fixture
def attribute():
    """`attribute([rule, …], tags={…}, service_name=…)`: team, feature, tenant and environment of a charge."""

    def run(rules=(), tags=(), **columns):
        settings = AttributionSettings.model_validate({"rules": rules})
        return Attribution(settings).attribute(COLUMNS | columns, dict(tags))

    return run


def test_without_rules_the_tags_of_the_same_names_are_taken(attribute):
    assert attribute() == ("", "", "", "")
    tags = {"team": "search", "feature": "chat", "tenant_id": "acme", "environment": "prod"}
    assert attribute(tags=tags) == ("search", "chat", "acme", "prod")
    assert attribute(tags={"tenant": "acme", "env": "prod"}) == ("", "", "acme", "prod")
    assert attribute(tags={"tenant_id": "acme", "tenant": "other"}) == ("", "", "acme", "")


@pytest.mark.parametrize(
    ("rule", "team"),
    [
        ({"origins": ["tag:CostCenter"]}, "cc-1042"),
        ({"origins": ["tag: costcenter "]}, "cc-1042"),
        ({"origins": ["tag:owner", "tag:CostCenter"]}, "cc-1042"),
        ({"origins": ["tag:CostCenter"], "values": {"cc-10*": "payments"}}, "payments"),
        ({"origins": ["tag:CostCenter"], "values": {"cc-1041": "web"}}, "from the tag"),
        ({"origins": ["tag:CostCenter", "sub_account_id"], "values": {"4444*": "research"}}, "research"),
        ({"origins": ["sub_account_id"], "values": {"444455556666": "first", "4444*": "second"}}, "first"),
        ({"origins": ["sub_account_id"], "values": {"4444*": "first", "444455556666": "second"}}, "first"),
        ({"origins": ["billing_account_id"], "values": {"1111????3333": "payer"}}, "payer"),
        ({"origins": ["service_name"], "values": {"Amazon Bedrock*": "ai"}}, "ai"),
        ({"origins": ["service_name"], "values": {"amazon bedrock": "ai"}}, "from the tag"),
        ({"origins": ["service_name"], "values": {"Amazon [AB]*": "ai"}}, "ai"),
        ({"origins": ["provider_name"], "values": {"aws": "cloud"}}, "cloud"),
        ({"origins": ["provider_name"]}, "aws"),
    ],
)
def test_a_rule_reads_its_origins_in_order_and_the_defaults_hold_where_it_sets_nothing(attribute, rule, team):
    tags = {"costcenter": "cc-1042", "team": "from the tag"}
    assert attribute([{"target": "team", **rule}], tags)[0] == team


def test_the_first_rule_that_sets_a_target_wins_and_targets_do_not_meet(attribute):
    rules = [
        {"target": "team", "origins": ["tag:absent"]},
        {"target": "environment", "origins": ["sub_account_id"], "values": {"*": "prod"}},
        {"target": "team", "origins": ["service_name"], "values": {"*": "one"}},
        {"target": "team", "origins": ["service_name"], "values": {"*": "two"}},
    ]
    assert attribute(rules) == ("one", "", "", "prod")


def test_the_defaults_can_be_replaced():
    settings = AttributionSettings.model_validate({"defaults": [{"target": "team", "origins": ["tag:squad"]}]})
    assert Attribution(settings).attribute(COLUMNS, {"squad": "a", "team": "b", "env": "prod"}) == ("a", "", "", "")


def test_the_keys_of_tags_that_rules_read_are_told_as_they_are_written_and_once():
    rules = [
        {"target": "team", "origins": ["tag:CostCenter", "sub_account_id", "tag: squad "]},
        {"target": "feature", "origins": ["tag:CostCenter"]},
    ]
    settings = AttributionSettings.model_validate({"rules": rules, "defaults": [{"target": "team", "origins": ["tag:team"]}]})
    assert settings.tag_keys == ("CostCenter", "squad", "team")
    assert AttributionSettings().tag_keys == ("team", "feature", "tenant_id", "tenant", "environment", "env")


def test_two_sets_of_rules_are_asked_at_once():
    before = AttributionSettings.model_validate({"rules": [{"target": "team", "origins": ["tag:squad"]}]})
    after = AttributionSettings.model_validate({"defaults": [{"target": "environment", "origins": ["tag:stage"]}]})
    both = ComparedRules.of(before, after)
    assert set(both.tag_keys) == {*before.tag_keys, *after.tag_keys}
    tags = {"squad": "1:red", "feature": "chat", "stage": "prod"}
    found = [value_before_and_after(text) for text in Attribution(both).attribute(COLUMNS, tags)]
    assert found == [("1:red", ""), ("chat", ""), ("", ""), ("", "prod")]
    assert found == list(zip(Attribution(before).attribute(COLUMNS, tags), Attribution(after).attribute(COLUMNS, tags), strict=True))


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", {}),
        ("{}", {}),
        ("[]", {}),
        ('{"Team": "search"}', {"team": "search"}),
        ('{"org": "trey", " org": "other"}', {"org": "trey"}),
        ('{"org": "", " ORG ": "other"}', {"org": "other"}),
        ('{"org": "a", "org": "b"}', {"org": "a"}),
        ('{"n": 5, "yes": true, "none": null, "list": ["a"]}', {"n": "5", "yes": "true", "list": '["a"]'}),
        ('{"team": "  search  "}', {"team": "search"}),
        ('[{"key": "team", "value": "search"}, {"Key": "env", "Value": "prod"}]', {"team": "search", "env": "prod"}),
        ('[{"key": "team"}]', {}),
        ('{"\\u0074eam": "search"}', {"team": "search"}),
        ('{"te\\u0000am": "a\\u0000b"}', {"te\ufffdam": "a\ufffdb"}),
        ('{"team": "\\ud83d", "e\\udc00nv": "\\ud83d\\ude00"}', {"team": "\ufffd", "e\ufffdnv": "\U0001f600"}),
        ("{", None),
        ("7", None),
        ("null", {}),
        ('"team"', None),
        ('["team"]', None),
        ('[{"name": "team"}]', None),
        ('[["key", "team"]]', None),
        ("[" * 100_000, None),
    ],
)
def test_tags_are_read_as_keys_without_case_and_outer_spaces(text, tags):
    assert parse_tags(text) == tags


def test_a_bill_is_attributed_row_by_row(write_bill, read_one, by):
    write_bill(
        "bill.csv",
        {"BilledCost": "1", "Tags": '{"CostCenter": "cc-1"}'},
        {"BilledCost": "2", "Tags": '{"CostCenter": "cc-2"}'},
        {"BilledCost": "4", "Tags": '{"CostCenter": "cc-2"}', "ServiceName": "Amazon Bedrock"},
        {"BilledCost": "8", "SubAccountId": "999"},
        {"BilledCost": "16", "Tags": "NULL"},
    )
    change = read_one(
        rules=[
            {"target": "feature", "origins": ["service_name"], "values": {"*Bedrock": "chat"}},
            {"target": "team", "origins": ["tag:costcenter", "sub_account_id"], "values": {"cc-1": "web", "cc-*": "data", "999": "lab"}},
        ]
    )
    assert by(change, "team", "feature") == {("web", ""): 1, ("data", ""): 2, ("data", "chat"): 4, ("lab", ""): 8, ("", ""): 16}


def test_as_many_combinations_of_tags_as_rows_are_all_attributed(write_bill, read_one, by):
    # More than one batch of 5,000.
    count = 6_000
    write_bill("bill.csv", *({"Tags": f'{{"team": "t{number % 7}", "Name": "{number}"}}'} for number in range(count)))
    sums = by(read_one(), "team")
    assert sums == {f"t{number}": len(range(number, count, 7)) for number in range(7)}


def test_a_tag_that_no_database_can_hold_costs_neither_its_file_nor_the_row(write_bill, read_one, by):
    write_bill(
        "bill.csv",
        {"BilledCost": "1", "Tags": r'{"team": "\ud83d", "env": "prod"}'},
        {"BilledCost": "2", "Tags": r'{"team": "a\u0000b"}'},
        {"BilledCost": "4", "Tags": '{"team": "search"}'},
    )
    change = read_one()
    assert by(change, "team", "environment") == {("\ufffd", "prod"): 1, ("a\ufffdb", ""): 2, ("search", ""): 4}
    assert change.message == ""


def test_tags_of_json_that_are_null_are_no_tags(folder, read_one):
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 5 AS BilledCost, 5 AS EffectiveCost, 5 AS ListCost, 5 AS ContractedCost, DATE '2026-01-01' AS ChargePeriodStart,"
            f" 'USD' AS BillingCurrency, 'null'::JSON AS Tags) TO '{folder / 'bill.parquet'}'"
        )
    change = read_one()
    assert (change.rows, change.message) == (1, "")
