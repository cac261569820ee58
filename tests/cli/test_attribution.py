"""`costwarden attribution`: whose cost the bills are, exactly, and what other rules would make of it, without making it so."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from cost_explorer import CostExplorer, line
from cost_explorer import settings as aws_settings
from opencost_server import OpenCost
from spending import Spending
from sqlalchemy import delete, insert

from costwarden.cli.attribution_try import Compared
from costwarden.ledger.reading import find_answer, keep_answer
from costwarden.ledger.schema import COST_BASES, charges, source_answers
from costwarden.model import Charge
from costwarden.sources import RequestLimitReached
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings, KubernetesSettings
from costwarden.sources.windows import Window
from costwarden.sync.reading import open_to_compare

DAY = "2026-11-19"
ANY = Window(date(2026, 11, 20), date(2026, 11, 20), date(2026, 11, 20))
"""A source of files has no use for it."""

pytestmark = pytest.mark.usefixtures("spending")

HEADER = (
    "ProviderName,BillingAccountId,SubAccountId,ServiceName,ServiceCategory,RegionId,ChargeCategory,ChargePeriodStart,BillingCurrency,"
    "BilledCost,EffectiveCost,ListCost,ContractedCost,Tags"
)


@pytest.fixture
def charge(spending: Spending) -> Callable[..., None]:
    """`charge("12.5", team="web", …)`: a charge in dollars, on 2026-11-19 unless said otherwise."""

    def add(cost: str, day: str = DAY, **columns: str) -> None:
        values = {
            "source": "bills",
            "part": "bill.csv",
            "charge_date": day,
            "provider_name": "aws",
            "charge_category": "Usage",
            **{f"{basis}_usd": cost for basis in COST_BASES},
            **columns,
        }
        row = {column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"}
        spending.ledger.write(lambda connection: connection.execute(insert(charges).values(row)))

    return add


def as_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.output, parse_float=Decimal, parse_int=Decimal)


# --- coverage ------------------------------------------------------------------------------------------------------------------


def test_coverage_is_the_share_of_usage_and_purchases_with_an_owner(charge, costwarden):
    charge("60", team="web")
    charge("20", team="web", charge_category="Purchase", tenant_id="acme")
    charge("20")
    charge("1000", charge_category="Tax")
    charge("-500", charge_category="Credit", team="web")
    charge("7", charge_category="Adjustment")
    charge("90", "2026-10-31", team="web")
    found = as_json(costwarden("attribution", "coverage", "--month", "2026-11", "--format", "json"))
    assert (found["first_day"], found["last_day"], found["total_usd"]) == ("2026-11-01", "2026-11-30", 60 + 20 + 20)
    ratios = {target["target"]: (target["ratio"], target["attributed_usd"], target["unattributed_usd"]) for target in found["targets"]}
    assert ratios == {
        "team": (Decimal("0.8"), 60 + 20, 20),
        "feature": (0, 0, 100),
        "tenant_id": (Decimal("0.2"), 20, 60 + 20),
        "environment": (0, 0, 100),
    }


def test_the_largest_spend_without_an_owner_is_listed_exactly_and_the_rest_is_one_row(charge, costwarden):
    ec2 = {"sub_account_id": "111", "service_name": "Amazon EC2"}
    charge("0.1", **ec2)
    charge("0.2", "2026-11-02", **ec2)
    charge("5", team="web", **ec2)
    charge("0.000000000000000000000001", provider_name="gcp", service_name="BigQuery")
    charge("0.2", sub_account_id="222", service_name="Amazon S3")
    arguments = ("attribution", "coverage", "--month", "2026-11", "--target", "team")
    (team,) = as_json(costwarden(*arguments, "--top", 2, "--format", "json"))["targets"]
    assert team["largest_unattributed"] == [
        {"provider": "aws", "account": "111", "service": "Amazon EC2", "cost_usd": Decimal("0.1") + Decimal("0.2")},
        {"provider": "aws", "account": "222", "service": "Amazon S3", "cost_usd": Decimal("0.2")},
        {"provider": "other", "account": "other", "service": "other", "cost_usd": Decimal("1e-24")},
    ]
    text = costwarden(*arguments, "--top", 2).output
    assert "usage and purchases (billed_cost), 2026-11-01 to 2026-11-30: $5.500000000000000000000001" in text
    assert "without a team" in text
    assert "60.0 %" in text  # 0.3 of 0.5
    assert "without a feature" not in text


def test_a_month_without_cost_has_no_coverage(costwarden):
    assert costwarden("attribution", "coverage", "--month", "2026-11").output == "no usage or purchases from 2026-11-01 to 2026-11-30\n"
    found = as_json(costwarden("attribution", "coverage", "--month", "2026-11", "--format", "json"))
    assert {target["ratio"] for target in found["targets"]} == {None}


def test_what_a_cluster_allocates_of_a_bill_is_covered_on_its_own(charge, costwarden):
    charge("100", service_name="Amazon EC2")
    charge("30", provider_name="kubernetes", charge_category="Allocated", team="web")
    charge("10", provider_name="kubernetes", charge_category="Allocated")
    arguments = ("attribution", "coverage", "--month", "2026-11", "--target", "team", "--format", "json")
    (bills,) = as_json(costwarden(*arguments))["targets"]
    (cluster,) = as_json(costwarden(*arguments, "--provider", "kubernetes"))["targets"]
    assert (bills["ratio"], bills["unattributed_usd"]) == (0, 100)
    assert (cluster["ratio"], cluster["unattributed_usd"]) == (Decimal("0.75"), 10)


# --- other rules ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bills(tmp_path: Path) -> Path:
    """Three rows of a bill: of account 111, of 222, and a tagged one."""
    folder = tmp_path / "bills"
    folder.mkdir()

    def row(account: str, service: str, category: str, cost: str, tags: str = "") -> str:
        costs = ",".join([cost] * 4)
        return f"AWS,999,{account},{service},Compute,us-east-1,{category},{DAY}T00:00:00Z,USD,{costs},{tags}"

    rows = [
        row("111", "Amazon EC2", "Usage", "10.5"),
        row("222", "Amazon EC2", "Usage", "20"),
        row("222", "Amazon S3", "Usage", "40", '"{""team"": ""data"", ""cost-center"": ""47""}"'),
        row("222", "Amazon EC2", "Tax", "3"),
    ]
    (folder / "bill.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def new_rules(tmp_path: Path) -> Callable[..., Path]:
    """`new_rules(rule, …)`: a file with these rules."""

    def write(*rules: Any) -> Path:
        path = tmp_path / "new.yaml"
        path.write_text(yaml.safe_dump({"attribution": {"rules": list(rules)}}), encoding="utf-8")
        return path

    return write


def ledger_rows(spending: Spending) -> list[dict[str, Any]]:
    return spending.charges()


def test_a_try_shows_what_would_move_and_moves_nothing(bills, new_rules, costwarden, spending):
    assert spending.refresh(FocusSettings(path=bills), window=ANY).failure == ""
    before = ledger_rows(spending)
    path = new_rules(
        {"target": "team", "origins": ["tag:cost-center"], "values": {"47": "platform"}},
        {"target": "team", "origins": ["sub_account_id"], "values": {"222": "research"}},
    )
    sections = {"sources": [{"type": "focus", "path": str(bills)}]}
    found = as_json(costwarden("attribution", "try", path, "--target", "team", "--format", "json", **sections))
    assert found["sources"] == [
        {
            "source": "focus",
            "first_day": DAY,
            "last_day": DAY,
            "before_usd": Decimal("73.5"),
            "after_usd": Decimal("73.5"),
            "in_ledger_usd": Decimal("73.5"),
            "problems": [],
        }
    ]
    (team,) = found["targets"]
    assert team["moves"] == [
        {"before": "data", "after": "platform", "provider": "aws", "service": "Amazon S3", "cost_usd": 40},
        # 20 of usage and 3 of tax.
        {"before": "", "after": "research", "provider": "aws", "service": "Amazon EC2", "cost_usd": 20 + 3},
    ]
    # Of 70.5 that can be attributed: 40 before, 40 + 20 after.
    assert team["attributed_ratio_before"] == round(Decimal(40) / Decimal("70.5"), 6)
    assert team["attributed_ratio_after"] == round(Decimal(60) / Decimal("70.5"), 6)
    assert ledger_rows(spending) == before
    text = costwarden("attribution", "try", path, "--target", "team", **sections).output
    assert "team: $63.00 would move; attributed 56.7 % before, 85.1 % after" in text
    assert "the source has changed" not in text


def test_rules_that_say_the_same_move_nothing(bills, new_rules, costwarden, spending):
    assert spending.refresh(FocusSettings(path=bills), window=ANY).failure == ""
    text = costwarden("attribution", "try", new_rules(), sources=[{"type": "focus", "path": str(bills)}]).output
    for target in ("team", "feature", "tenant_id", "environment"):
        assert f"{target}: nothing would move" in text


def test_a_source_that_has_changed_since_its_refresh_is_told(bills, new_rules, costwarden, spending):
    assert spending.refresh(FocusSettings(path=bills), window=ANY).failure == ""
    bill = bills / "bill.csv"
    bill.write_text(bill.read_text(encoding="utf-8").replace("10.5", "11.5"), encoding="utf-8")
    text = costwarden("attribution", "try", new_rules(), sources=[{"type": "focus", "path": str(bills)}]).output
    assert "focus: the ledger has $73.50 of these days: the source has changed since its last refresh" in text


def test_a_source_that_cannot_be_read_is_named_and_the_others_are_compared(bills, new_rules, costwarden, free_port, spending):
    assert spending.refresh(FocusSettings(path=bills), window=ANY).failure == ""
    url = f"http://127.0.0.1:{free_port()}"
    path = new_rules({"target": "feature", "origins": ["sub_account_id"], "values": {"111": "chat"}})
    sections = {"sources": [{"type": "focus", "path": str(bills)}, {"type": "kubernetes", "url": url}]}
    result = costwarden("attribution", "try", path, **sections)
    assert result.exit_code == 0
    assert f"not compared: kubernetes: {url}/allocation: cannot be reached" in result.output
    assert "feature: $10.50 would move" in result.output
    alone = costwarden("attribution", "try", path, "--source", "kubernetes", **sections)
    assert alone.exit_code == 1


def test_labels_that_only_the_new_rules_read_are_asked_for(new_rules, costwarden, spending):
    with OpenCost() as opencost:
        for squad, cost in (("red", "1"), ("blue", "2")):
            opencost.run(DAY, controller="web", cpuCost=cost, labels={"team": "shop", "squad": squad})
        settings = KubernetesSettings(type="kubernetes", url=opencost.url)
        assert spending.refresh(settings).failure == ""
        path = new_rules({"target": "team", "origins": ["tag:squad"]})
        sections = {"sources": [{"type": "kubernetes", "url": opencost.url}]}
        found = as_json(costwarden("attribution", "try", path, "--target", "team", "--format", "json", **sections))
    assert {(move["before"], move["after"]): move["cost_usd"] for move in found["targets"][0]["moves"]} == {
        ("shop", "blue"): 2,
        ("shop", "red"): 1,
    }
    # As of the last refresh, whatever the day is now.
    assert (found["sources"][0]["last_day"], found["sources"][0]["in_ledger_usd"]) == (DAY, 1 + 2)


def test_values_that_look_like_a_length_are_told_apart(bills, new_rules, costwarden, spending):
    assert spending.refresh(FocusSettings(path=bills), window=ANY).failure == ""
    path = new_rules({"target": "team", "origins": ["sub_account_id"], "values": {"111": "3:a:b"}})
    found = as_json(
        costwarden("attribution", "try", path, "--target", "team", "--format", "json", sources=[{"type": "focus", "path": str(bills)}])
    )
    assert [(move["before"], move["after"]) for move in found["targets"][0]["moves"]] == [("", "3:a:b")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("atribution: {}\n", "has no section `attribution`"),
        ("- 1\n", "has no section `attribution`"),
        ("attribution: {rules: [{target: squad, origins: ['tag:a']}]}\n", "rules"),
        ("attribution: {roules: []}\n", "roules"),
        ("attribution: [\n", "new.yaml"),
    ],
)
def test_a_file_that_is_no_set_of_rules_is_refused(tmp_path, costwarden, text, sentence):
    path = tmp_path / "new.yaml"
    path.write_text(text, encoding="utf-8")
    result = costwarden("attribution", "try", path)
    assert result.exit_code == 1
    assert sentence in result.output


def test_a_source_that_is_not_configured_is_a_mistake(new_rules, costwarden):
    result = costwarden("attribution", "try", new_rules(), "--source", "aws")
    assert result.exit_code == 2
    assert "there is no source `aws`" in result.output


def test_money_that_comes_or_goes_on_the_way_is_not_shown():
    compared = Compared("bills")
    amounts = dict.fromkeys(COST_BASES, Decimal(5))
    names = dict.fromkeys(("feature", "tenant_id", "environment"), "0:")
    fields = (
        dict.fromkeys(Charge.__struct_fields__, "")
        | names
        | amounts
        | {"team": "1:ab", "usd_rate": Decimal(2), "charge_date": date(2026, 1, 1)}
    )
    compared.add(Charge(**fields), "billed_cost")
    compared.check()
    assert compared.moves["team"] == {("a", "b", "", ""): Decimal(5 * 2)}
    compared.total += 1
    with pytest.raises(Exception, match="bills: team: 10 dollars before, 11 read: this is a bug"):
        compared.check()


# --- what costs money ----------------------------------------------------------------------------------------------------------


def test_to_compare_pays_nothing_takes_kept_answers_of_any_age_and_keeps_none(spending):
    known = hashlib.sha256(b"known").hexdigest()
    long_ago = spending.now() - 40 * 86_400_000_000
    keep = partial(keep_answer, source="kubernetes", request=known, body="{}", now=long_ago, since=0)
    spending.ledger.write(keep)
    reading = open_to_compare(
        spending.ledger,
        KubernetesSettings(type="kubernetes", url="http://127.0.0.1:1"),
        AttributionSettings(),
        ExchangeRates(),
        reveal=lambda _: "",
        now=spending.now,
    )
    with pytest.raises(RequestLimitReached, match=r"no answer is kept that would do, and to ask costs \$0.01 a request"):
        reading.requests.about_to_ask(10_000_000)
    assert reading.requests.answer("known", lambda: pytest.fail("asked")) == "{}"
    assert reading.requests.answer("unknown", lambda: "answered") == "answered"
    with spending.ledger.read() as connection:
        assert find_answer(connection, "kubernetes", hashlib.sha256(b"unknown").hexdigest(), 0) is None
    assert reading.requests.cost == 0
    reading.source.close()


@pytest.fixture
def aws(moto: str, aws_credentials: None) -> Iterator[CostExplorer]:
    """Cost Explorer with two services on one day."""
    with CostExplorer(others=moto) as server:
        server.bill.extend([line(DAY, "8", SERVICE="Amazon EC2"), line(DAY, "2", SERVICE="Amazon S3")])
        yield server


@pytest.fixture
def platform(new_rules: Callable[..., Path]) -> Path:
    """Rules by which EC2 is the platform's."""
    return new_rules({"target": "team", "origins": ["service_name"], "values": {"*EC2*": "platform"}})


def test_a_paid_source_is_tried_from_the_answers_of_its_last_refresh_for_nothing(aws, platform, costwarden, spending):
    settings = aws_settings(aws)
    sections = {"sources": [settings.model_dump(mode="json", exclude_unset=True)]}
    # The first refresh asks for all of the history, the next ones for the days that are read again.
    for minutes in (0, 400):
        spending.minutes = minutes
        assert spending.refresh(settings).failure == ""
        cost, asked = spending.state("aws")["request_cost"], len(aws.asked())
        found = as_json(costwarden("attribution", "try", platform, "--target", "team", "--format", "json", **sections))
        assert [(move["after"], move["cost_usd"]) for move in found["targets"][0]["moves"]] == [("platform", 8)]
        assert found["sources"][0]["problems"] == []
        assert (spending.state("aws")["request_cost"], len(aws.asked())) == (cost, asked)


def test_a_paid_source_without_a_kept_answer_is_named_and_is_asked_only_with_paid(aws, platform, costwarden, spending):
    settings = aws_settings(aws)
    assert spending.refresh(settings).failure == ""
    spending.ledger.write(lambda connection: connection.execute(delete(source_answers)))
    before, cost, asked = spending.charges(), spending.state("aws")["request_cost"], len(aws.asked())
    sections = {"sources": [settings.model_dump(mode="json", exclude_unset=True)]}
    result = costwarden("attribution", "try", platform, **sections)
    assert result.exit_code == 1
    assert "not compared: aws: " in result.output
    assert "no answer is kept that would do, and to ask costs $0.01 a request" in result.output
    assert (spending.state("aws")["request_cost"], len(aws.asked())) == (cost, asked)
    paid = costwarden("attribution", "try", platform, "--paid", **sections)
    assert "team: $8.00 would move" in paid.output
    assert spending.state("aws")["request_cost"] == cost + 10_000_000 * (len(aws.asked()) - asked)
    assert len(aws.asked()) > asked
    assert spending.charges() == before
