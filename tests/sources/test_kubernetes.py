"""Kubernetes from OpenCost and Kubecost: exact to the last digit that they answer, idle and shared cost apart, nothing counted twice."""

import dataclasses
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opencost_server import OpenCost
from spending import Spending
from stand_in import Answer

from costwarden.ledger.charges import breakdown
from costwarden.settings import Secret
from costwarden.sources import Failed, SourceError
from costwarden.sources.settings import KubernetesSettings
from costwarden.sources.windows import Window

DAY, TODAY = "2026-11-19", "2026-11-20"
AGAIN = {"Retry-After": "0"}


@pytest.fixture
def opencost() -> Iterator[OpenCost]:
    """A cluster without cost."""
    with OpenCost() as server:
        yield server


@pytest.fixture
def settings(opencost: OpenCost) -> Callable[..., KubernetesSettings]:
    """`settings(cluster=…)`: those of `opencost`; three days of history, two of which are read again."""
    return lambda **keys: KubernetesSettings(**{"type": "kubernetes", "url": opencost.url, "history_days": 3, "reread_days": 1, **keys})


@pytest.fixture
def read(spending: Spending, settings: Callable[..., KubernetesSettings]) -> Callable[..., None]:
    """`read(rules=[…], cluster=…)`: one refresh, which must succeed."""

    def refresh(*, rules: Any = (), currencies: Any = None, **keys: Any) -> None:
        assert spending.refresh(settings(**keys), rules=rules, currencies=currencies).failure == ""

    return refresh


def shop(opencost: OpenCost) -> None:
    """Two days of a cluster: a web shop, a job, a bare pod, volumes of nobody, idle machines."""
    opencost.run("2026-11-18", controller="web", cpuCost="2", ramCost="1", labels={"team": "search"})
    opencost.run(DAY, controller="web", cpuCost="2.5", ramCost="1.25", pvCost="0.5", networkCost="0.125", labels={"team": "search"})
    opencost.run(DAY, namespace="batch", controller="nightly", kind="job", cpuCost="4", gpuCost="8", labels={"team": "data", "env": "prod"})
    opencost.run(DAY, namespace="batch", cpuCost="0.75")
    opencost.run(DAY, namespace="shop", container="__unmounted__", pvCost="0.3")
    opencost.leave_idle(DAY, "6.2")


def test_a_cluster_on_the_page(opencost, read, spending, golden):
    shop(opencost)
    read()
    golden("kubernetes.txt", spending.exposition())


def test_a_charge_names_cluster_namespace_and_workload_and_every_dollar_served_is_kept(opencost, read, spending):
    shop(opencost)
    read()
    assert spending.by("sub_account_id", "service_name", "service_category") == {
        ("shop", "deployment/web", "Compute"): Decimal(3) + Decimal("3.75"),
        ("shop", "deployment/web", "Storage"): Decimal("0.5"),
        ("shop", "deployment/web", "Networking"): Decimal("0.125"),
        ("batch", "job/nightly", "Compute"): 4 + 8,
        ("batch", "Without a controller", "Compute"): Decimal("0.75"),
        ("shop", "Unmounted volumes", "Storage"): Decimal("0.3"),
        ("", "Idle", "Idle"): Decimal("6.2"),
    }
    assert {(charge["provider_name"], charge["billing_account_id"], charge["charge_category"]) for charge in spending.charges()} == {
        ("kubernetes", "cluster-one", "Usage")
    }
    assert spending.total() == opencost.served() == Decimal("26.625")
    # One for each allocation, however many categories it has.
    assert spending.state("kubernetes")["rows"] == 6


def test_kubecost_is_asked_by_its_own_path_and_names(spending):
    with OpenCost("kubecost") as kubecost:
        shop(kubecost)
        settings = KubernetesSettings(type="kubernetes", url=kubecost.url, product="kubecost", history_days=3, reread_days=1)
        assert spending.refresh(settings).failure == ""
        assert spending.total() == kubecost.served() == Decimal("26.625")
        assert spending.by("service_category")["Idle"] == Decimal("6.2")
        assert {request.path for request in kubecost.server.requests} == {"/model/allocation"}


# --- labels --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names_labels", [False, True])
def test_pods_of_one_workload_with_other_labels_are_told_apart(opencost, read, spending, names_labels):
    opencost.names_labels = names_labels
    opencost.run(DAY, controller="web", cpuCost="1", labels={"team": "search", "tenant": "acme"})
    opencost.run(DAY, controller="web", cpuCost="2", labels={"team": "search", "tenant": "globex"})
    opencost.run(DAY, controller="web", cpuCost="4", labels={"team": "data"})
    opencost.run(DAY, controller="web", cpuCost="8")
    read()
    assert spending.by("team", "tenant_id") == {("search", "acme"): 1, ("search", "globex"): 2, ("data", ""): 4, ("", ""): 8}


def test_a_rule_may_write_the_key_of_a_label_as_kubernetes_does(opencost, read, spending):
    opencost.run(DAY, controller="web", cpuCost="1", labels={"app.kubernetes.io/part-of": "checkout"})
    opencost.run(DAY, controller="web", cpuCost="2", labels={"app.kubernetes.io/part-of": "catalogue"})
    read(rules=[{"target": "feature", "origins": ["tag:app.kubernetes.io/part-of"]}])
    assert spending.by("feature") == {"checkout": 1, "catalogue": 2}


def test_labels_hold_before_annotations_and_the_pods_before_the_namespaces(opencost, read, spending):
    opencost.run(DAY, controller="a", cpuCost="1", labels={"team": "pod"}, annotations={"team": "note"}, namespace_labels={"team": "space"})
    opencost.run(DAY, controller="b", cpuCost="2", annotations={"team": "note"}, namespace_labels={"team": "space"})
    opencost.run(DAY, controller="c", cpuCost="4", namespace_labels={"team": "space"})
    read()
    assert spending.by("team") == {"pod": 1, "note": 2, "space": 4}


def test_a_cluster_that_is_named_by_an_arn_does_not_shift_the_labels(opencost, read, spending):
    arn = "arn:aws:eks:eu-central-1:111122223333:cluster/prod"
    opencost.run(DAY, cluster=arn, controller="web", cpuCost="1", labels={"team": "search", "env": "prod"})
    read()
    assert spending.by("billing_account_id", "team", "environment") == {(arn, "search", "prod"): 1}


def test_rules_read_namespaces_workloads_and_clusters(opencost, read, spending):
    opencost.run(DAY, namespace="payments-prod", controller="web", cpuCost="1")
    opencost.run(DAY, namespace="batch", controller="nightly", kind="cronjob", cpuCost="2")
    opencost.leave_idle(DAY, "4")
    read(
        rules=[
            {"target": "team", "origins": ["sub_account_id"], "values": {"payments-*": "payments"}},
            {"target": "team", "origins": ["service_name"], "values": {"cronjob/*": "batch", "Idle": "platform"}},
            {"target": "environment", "origins": ["billing_account_id"], "values": {"cluster-one": "prod"}},
        ]
    )
    assert spending.by("team", "environment") == {("payments", "prod"): 1, ("batch", "prod"): 2, ("platform", "prod"): 4}


def test_new_rules_are_applied_to_days_that_are_read_already(opencost, read, spending):
    opencost.run("2026-11-17", namespace="batch", controller="nightly", cpuCost="2")
    read()
    assert spending.by("team") == {"": 2}
    read(rules=[{"target": "team", "origins": ["sub_account_id"], "values": {"batch": "data"}}])
    assert spending.by("team") == {"data": 2}


def test_a_day_that_is_gone_at_the_source_is_not_lost_with_new_rules(opencost, read, spending, settings):
    opencost.run("2026-11-17", namespace="batch", controller="nightly", cpuCost="2")
    opencost.run(DAY, namespace="batch", controller="nightly", cpuCost="1")
    read()
    opencost.forget("2026-11-17")
    read(rules=[{"target": "team", "origins": ["sub_account_id"], "values": {"batch": "data"}}])
    assert spending.by("charge_date", "team") == {("2026-11-17", ""): 2, (DAY, "data"): 1}
    assert spending.parts()["clusters/2026-11-17"].state == "ok"


# --- sums ----------------------------------------------------------------------------------------------------------------------


def test_what_rounding_takes_from_the_components_is_a_row_of_its_own(opencost, read, spending):
    # 3 × 0.000004 are rounded to 0 each, and 0.00001 together.
    opencost.run(DAY, controller="web", cpuCost="1.000004", pvCost="2.000004", networkCost="3.000004")
    # 1.000006 + 1.000006 are 1.00001 each, and 2.00001 together.
    opencost.run(DAY, cluster="two", controller="api", cpuCost="1.000006", pvCost="1.000006")
    read()
    assert spending.by("billing_account_id", "service_category") == {
        ("cluster-one", "Compute"): 1,
        ("cluster-one", "Storage"): 2,
        ("cluster-one", "Networking"): 3,
        ("cluster-one", "Rounding"): Decimal("0.00001"),
        ("two", "Compute"): Decimal("1.00001"),
        ("two", "Storage"): Decimal("1.00001"),
        ("two", "Rounding"): Decimal("-0.00001"),
    }
    assert spending.total() == opencost.served() == Decimal("6.00001") + Decimal("2.00001")


def test_a_component_that_is_not_known_yet_stays_with_its_workload(opencost, read, spending):
    opencost.run(DAY, controller="web", cpuCost="1", labels={"team": "search"})
    answer = opencost.server.answer

    def with_licence(request):
        found = answer(request)
        for allocation in found.body["data"][0].values():
            allocation["totalCost"] += 0.5
        return found

    opencost.server.answer = with_licence
    read()
    assert spending.by("service_name", "team", "service_category") == {
        ("deployment/web", "search", "Compute"): 1,
        ("deployment/web", "search", "Other"): Decimal("0.5"),
    }


def test_numbers_are_taken_as_they_are_written(opencost, read, spending):
    # As a float it would be 0.1000000000000000055511151231257827.
    opencost.run(DAY, controller="web", cpuCost="0.1")
    opencost.run(DAY, controller="api", cpuCost="0.2")
    read()
    assert spending.total() == Decimal("0.3")


def test_shared_cost_is_put_together_again_and_no_namespaces(opencost, read, spending):
    opencost.run(DAY, namespace="a", controller="web", cpuCost="1", sharedCost="0.25", labels={"team": "search"})
    opencost.run(DAY, namespace="b", controller="api", cpuCost="3", sharedCost="0.75")
    read()
    assert spending.by("sub_account_id", "service_name", "team") == {
        ("a", "deployment/web", "search"): 1,
        ("b", "deployment/api", ""): 3,
        ("", "Shared", ""): Decimal("0.25") + Decimal("0.75"),
    }


def test_idle_cost_is_asked_for_and_never_spread(opencost, read):
    opencost.run(DAY, controller="web", cpuCost="1")
    read()
    query = opencost.server.requests[0].query
    assert (query["includeIdle"], query["shareIdle"]) == (["true"], ["false"])
    assert query["aggregate"] == [
        "cluster,namespace,controllerKind,controller,label:team,label:feature,label:tenant_id,label:tenant,label:environment,label:env"
    ]


def test_several_clusters_are_several_accounts(opencost, read, spending):
    opencost.run(DAY, cluster="east", controller="web", cpuCost="1")
    opencost.run(DAY, cluster="west", controller="web", cpuCost="2")
    read()
    assert spending.by("billing_account_id") == {"east": 1, "west": 2}


def test_a_cluster_may_be_given_another_name(opencost, read, spending):
    shop(opencost)
    read(cluster="prod-eu")
    assert set(spending.by("billing_account_id")) == {"prod-eu"}


# --- other bills ---------------------------------------------------------------------------------------------------------------


def test_a_correction_downward_is_a_credit_of_the_workload(opencost, read, spending):
    opencost.run(DAY, controller="web", cpuCost="10", cpuCostAdjustment="-4", pvCost="1", pvCostAdjustment="-1.5")
    read()
    assert spending.by("service_category") == {"Compute": 10 - 4, "Storage": Decimal(1) - Decimal("1.5")}
    assert spending.total() == opencost.served() == Decimal("5.5")


def test_a_cluster_without_cost_is_read_and_known(opencost, read, spending):
    read()
    assert spending.charges() == []
    assert {part: found.state for part, found in spending.parts().items()} == {f"clusters/2026-11-{day}": "ok" for day in (17, 18, 19, 20)}


def test_another_currency_is_converted_and_both_amounts_are_kept(opencost, read, spending):
    shop(opencost)
    read(currency="EUR", currencies={"EUR": [{"valid_from": "2026-01-01", "usd": "1.1"}]})
    assert spending.total("billed_cost") == opencost.served() == Decimal("26.625")
    assert spending.total() == Decimal("26.625") * Decimal("1.1")


def test_a_currency_without_a_rate_is_rejected_aloud(opencost, read, spending):
    shop(opencost)
    read(currency="EUR")
    assert spending.charges() == []
    # Each component that cost something: 1, then 3 of the web, 1 each of the job, the bare pod, the volumes and the idle machines.
    assert spending.rejected() == {"no_exchange_rate": 1 + 3 + 4}


def test_several_sets_of_one_day_are_added_up(opencost, read, spending):
    opencost.run(DAY, controller="web", cpuCost="1")
    answer = opencost.server.answer

    def by_half_days(request):
        found = answer(request)
        (day,) = found.body["data"]
        halves = [
            {name: {**one, "window": {"start": f"{DAY}T{start}:00:00Z", "end": f"{DAY}T{end}:00:00Z"}} for name, one in day.items()}
            for start, end in (("00", "12"), ("12", "23"))
        ]
        return dataclasses.replace(found, body={**found.body, "data": halves})

    opencost.server.answer = by_half_days
    read()
    assert spending.by("service_name") == {"deployment/web": 1 + 1}


def test_what_could_not_be_computed_is_rejected_and_the_rest_counts(opencost, read, spending):
    # Not a number in Go, `null` in the answer: allocation_json.go.
    opencost.run(DAY, controller="web", cpuCost=None)
    opencost.run(DAY, controller="api", cpuCost="2")
    read()
    assert spending.by("service_name") == {"deployment/api": 2}
    assert spending.rejected() == {"missing_cost": 1}


def test_a_cost_that_is_a_text_is_rejected(opencost, read, spending):
    opencost.run(DAY, controller="web", cpuCost="1")
    answer = opencost.server.answer

    def broken(request):
        found = answer(request)
        for allocation in found.body["data"][0].values():
            allocation["ramCost"] = "a lot"
        return found

    opencost.server.answer = broken
    read()
    assert spending.rejected() == {"bad_cost": 1}


@pytest.mark.parametrize(
    "number", [b"1e-70", b"1e400", b"-1e-41", b"1e99999999999999999999", b"9" * 5000, b"1000000000000.5"], ids=lambda number: number[:20]
)
@pytest.mark.parametrize("field", [b"cpuCost", b"totalCost"])
def test_a_number_out_of_scale_is_rejected_and_the_rest_counts(opencost, read, spending, number, field):
    opencost.run(DAY, controller="web", cpuCost="777")
    opencost.run(DAY, controller="api", cpuCost="1.00001", ramCost="2", networkCost="0.00001")
    found = opencost.answer
    broken = b'"%s": %s' % (field, number)
    opencost.server.answer = lambda request: Answer(found(request).content.replace(b'"%s": 777.0' % field, broken))
    read()
    assert spending.total() == Decimal("3.00002")
    assert spending.rejected() == {"bad_cost": 1}


def test_sums_of_many_digits_are_exact(opencost, read, spending):
    opencost.run(DAY, controller="web", cpuCost="777", ramCost="3")
    found = opencost.answer

    def precise(request):
        content = found(request).content.replace(b'"cpuCost": 777.0', b'"cpuCost": 1e-24')
        return Answer(content.replace(b'"totalCost": 780.0', b'"totalCost": 123456789012.5'))

    opencost.server.answer = precise
    read()
    # What the components miss is one of its own: 123456789012.5 - 3 - 1e-24
    categories = {"Compute": Decimal("3.000000000000000000000001"), "Other": Decimal("123456789009.499999999999999999999999")}
    assert spending.by("service_category") == categories
    assert spending.total() == Decimal("123456789012.5")


def test_names_with_broken_letters_are_read(opencost, read, spending):
    for controller in ("XX", "a"):
        opencost.run(DAY, controller=controller, cpuCost="1")
    found = opencost.answer
    opencost.server.answer = lambda request: Answer(found(request).content.replace(b'"XX"', rb'"\ud800"'))
    read()
    assert spending.by("service_name") == {"deployment/\ufffd": 1, "deployment/a": 1}


# --- which days ----------------------------------------------------------------------------------------------------------------


def test_only_missing_days_and_those_to_read_again_are_asked_for(opencost, read, spending):
    shop(opencost)
    read()
    assert opencost.asked_days() == [TODAY, DAY, "2026-11-18", "2026-11-17"]
    assert spending.state("kubernetes")["requests"] == 4
    opencost.server.requests.clear()
    read()
    assert opencost.asked_days() == [TODAY, DAY]
    assert spending.state("kubernetes")["requests"] == 4 + 2
    assert spending.state("kubernetes")["request_cost"] == 0


def test_a_day_restated_replaces_the_one_before(opencost, read, spending):
    shop(opencost)
    read()
    before = spending.total()
    opencost.run(DAY, controller="web", cpuCostAdjustment="-0.5", labels={"team": "search"})
    read()
    assert spending.total() == before - Decimal("0.5")
    read()
    assert spending.total() == before - Decimal("0.5")


def test_a_day_that_prometheus_has_dropped_keeps_its_cost_and_says_so(opencost, read, spending):
    shop(opencost)
    read()
    before = spending.total()
    opencost.forget(DAY)
    read()
    assert spending.total() == before
    part = spending.parts()[f"clusters/{DAY}"]
    assert part.state == "failed"
    assert part.message.startswith(f"{DAY}: had cost, and now there is none at all; its figures stay.")
    read(accept_empty_answers=True)
    assert spending.by("charge_date") == {"2026-11-18": 3}


def test_days_of_another_zone_than_utc_are_refused(spending):
    with OpenCost("kubecost") as kubecost:
        shop(kubecost)
        kubecost.utc_offset_hours = 2
        settings = KubernetesSettings(type="kubernetes", url=kubecost.url, product="kubecost", history_days=3, reread_days=1)
        failure = spending.refresh(settings).failure
    assert "asked for 2026-11-19, answered for 2026-11-18T22:00Z to 2026-11-19T22:00Z" in failure
    assert spending.charges() == []


# --- what goes wrong -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_throttled_request_is_made_again_after_the_time_that_is_asked_for(opencost, read, spending, status):
    shop(opencost)
    opencost.server.fail(status, times=2, **AGAIN)
    read()
    assert spending.total() == opencost.served()
    # Two that were refused, and each of the four days.
    assert spending.state("kubernetes")["requests"] == 2 + 4


def fail_before(opencost: OpenCost, day: str) -> None:
    """Have every day before `day` fail, as often as it is asked for."""
    broken = Answer({"code": 500, "message": "Error: prometheus: out of memory"}, 500, AGAIN)
    opencost.server.answer = lambda request: broken if request.first("window")[:10] < day else opencost.answer(request)


def test_days_that_cannot_be_read_any_more_do_not_keep_today_from_being_read(opencost, read, spending):
    for number in range(10, 21):
        opencost.run(f"2026-11-{number}", controller="web", cpuCost="1")
    fail_before(opencost, "2026-11-18")
    read(history_days=10)
    assert spending.by("charge_date") == {"2026-11-18": 1, DAY: 1, TODAY: 1}
    failed = {name: part.message for name, part in spending.parts().items() if part.state == "failed"}
    assert sorted(failed) == [f"clusters/2026-11-{number}" for number in range(10, 18)]
    assert failed["clusters/2026-11-15"] == f"2026-11-15: {opencost.url}/allocation: answers 500: Error: prometheus: out of memory"
    assert failed["clusters/2026-11-14"] == "2026-11-14: not asked for, as the 3 days after it fail"
    # Each of the three that fail is asked for three times; the rest not at all.
    assert opencost.asked_days() == [TODAY, DAY, "2026-11-18", *(f"2026-11-{number}" for number in (17, 17, 17, 16, 16, 16, 15, 15, 15))]
    opencost.server.answer = opencost.answer
    read(history_days=10)
    assert spending.total() == 11


def test_days_given_up_keep_their_figures(opencost, read, spending):
    for number in range(14, 21):
        opencost.run(f"2026-11-{number}", controller="web", cpuCost="1")
    read(history_days=6)
    fail_before(opencost, "2026-11-18")
    read(history_days=6, reread_days=6)
    assert spending.total() == 7
    assert spending.parts()["clusters/2026-11-14"].message == "2026-11-14: not asked for, as the 3 days after it fail; its figures stay"


def test_a_day_that_fails_for_good_leaves_the_others_alone(opencost, read, spending):
    shop(opencost)
    fail_before(opencost, "2026-11-18")
    read()
    assert spending.total() == Decimal("26.625")
    failed = spending.parts()["clusters/2026-11-17"]
    assert failed.state == "failed"
    assert failed.message == f"2026-11-17: {opencost.url}/allocation: answers 500: Error: prometheus: out of memory"
    # It is asked for again, although it lies before the days that are read again.
    opencost.server.requests.clear()
    opencost.server.answer = opencost.answer
    read()
    assert opencost.asked_days() == [TODAY, DAY, "2026-11-17"]
    assert spending.parts()["clusters/2026-11-17"].state == "ok"


def test_three_days_in_a_row_are_not_the_fault_of_a_day(opencost, read, spending, settings):
    shop(opencost)
    read()
    before = spending.total()
    opencost.server.fail(500, {"code": 500, "message": "Error: no Prometheus"}, times=9, **AGAIN)
    opencost.server.requests.clear()
    done = spending.refresh(settings(reread_days=3))
    assert done.failure == f"{opencost.url}/allocation: answers 500: Error: no Prometheus"
    assert len(opencost.server.requests) == 9
    assert spending.total() == before


def test_half_an_answer_is_no_answer(opencost, read, spending, settings):
    shop(opencost)
    read()
    before = spending.by("sub_account_id", "service_name")
    opencost.run(DAY, controller="web", cpuCost="100")
    opencost.server.cut(times=6)
    done = spending.refresh(settings())
    assert "the connection broke off" in done.failure
    assert spending.by("sub_account_id", "service_name") == before


def test_an_answer_that_breaks_off_once_is_asked_for_again(opencost, read, spending):
    shop(opencost)
    opencost.server.cut(after=200)
    read()
    assert spending.total() == opencost.served()


def test_a_token_is_sent(spending):
    with OpenCost(token="s3cret") as opencost:
        shop(opencost)
        spending.environ["OPENCOST_TOKEN"] = "s3cret"
        settings = KubernetesSettings(type="kubernetes", url=opencost.url, token=Secret(env="OPENCOST_TOKEN"), history_days=3)
        assert spending.refresh(settings).failure == ""
        assert spending.total() == Decimal("26.625")


def test_a_missing_token_and_a_wrong_one_are_told_in_plain_words(spending):
    with OpenCost(token="s3cret") as opencost:
        settings = {"type": "kubernetes", "url": opencost.url}
        assert spending.refresh(KubernetesSettings(**settings)).failure == f"{opencost.url}/allocation: answers 401; set `token`"
        secret = Secret(env="OPENCOST_TOKEN")
        spending.environ["OPENCOST_TOKEN"] = "wrong"
        failure = spending.refresh(KubernetesSettings(**settings, token=secret)).failure
        assert failure == f"{opencost.url}/allocation: answers 401; the token has no right to read allocations"
        spending.environ.clear()
        with pytest.raises(SourceError, match=r"environment variable OPENCOST_TOKEN: is missing or empty \(`token`\)"):
            spending.open(KubernetesSettings(**settings, token=secret))


def test_a_token_that_is_answered_back_is_not_shown(opencost, spending, settings):
    spending.environ["OPENCOST_TOKEN"] = "s3cret-of-the-proxy"
    opencost.server.fail(401, {"message": "no such token: s3cret-of-the-proxy"})
    failure = spending.refresh(settings(token=Secret(env="OPENCOST_TOKEN"))).failure
    assert failure == f"{opencost.url}/allocation: answers 401: no such token: …; the token has no right to read allocations"


def test_an_answer_that_is_too_large_is_told(opencost, spending, settings, monkeypatch):
    monkeypatch.setattr("costwarden.sources.kubernetes_api.MOST_BYTES", 1 << 20)
    opencost.server.answer = lambda _: Answer(b" " * (1 << 20) + b" ")
    assert "/allocation: a day is more than 1 MiB" in spending.refresh(settings()).failure


def test_a_wrong_product_is_told(opencost, spending, settings):
    failure = spending.refresh(settings(product="kubecost")).failure
    assert failure == f"{opencost.url}/model/allocation: answers 404; is `url` right, or is it `product: opencost`?"


def test_pages_instead_of_the_api_are_told(opencost, spending, settings):
    opencost.server.fail(200, b"<!doctype html>", **{"Content-Type": "text/html; charset=utf-8"})
    failure = spending.refresh(settings()).failure
    assert failure == f"{opencost.url}/allocation: answers text/html, not JSON; OpenCost's API has port 9003, its pages have 9090"


def test_an_address_where_nothing_listens_is_told(free_port, spending):
    url = f"http://127.0.0.1:{free_port()}"
    failure = spending.refresh(KubernetesSettings(type="kubernetes", url=url)).failure
    assert failure.startswith(f"{url}/allocation: cannot be reached (")
    assert failure.endswith("; is `url` right, and does it run?")


@pytest.mark.parametrize(
    "body",
    [{"code": 200, "data": None}, {"code": 200, "data": {}}, {"code": 200, "data": [[]]}, {"code": 200, "data": [{"a": 5}]}, [], 5, "x"],
)
def test_garbage_is_no_cost(opencost, read, spending, settings, body):
    shop(opencost)
    read()
    before = spending.total()
    opencost.server.fail(200, body, times=2)
    assert spending.refresh(settings()).failure != ""
    assert spending.total() == before


def test_no_set_for_a_day_is_no_cost_on_it(opencost, read, spending):
    opencost.server.fail(200, {"code": 200, "data": [None]}, times=4)
    read()
    assert spending.charges() == []
    assert len(spending.parts()) == 4


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opencost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("certificate") / "opencost.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a server with that certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_of_ones_own_authority_is_trusted_by_ca_file_alone(spending, tls, certificate):
    with OpenCost(tls=tls) as opencost:
        shop(opencost)
        address = {"type": "kubernetes", "url": opencost.url}
        failure = spending.refresh(KubernetesSettings(**address)).failure
        assert failure.startswith(f"{opencost.url}/allocation: its certificate is not trusted (")
        assert failure.endswith("; name its authority in `ca_file`")
        assert spending.refresh(KubernetesSettings(**address, ca_file=certificate)).failure == ""
        assert spending.total() == Decimal("26.625")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_told(spending, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=f"`ca_file` {path}: "):
        spending.open(KubernetesSettings(type="kubernetes", url="https://opencost", ca_file=path))


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_hang_ends_when_the_source_is_closed(spending, wait_until, tls, certificate, encrypted):
    with OpenCost(tls=tls if encrypted else None) as opencost:
        opencost.server.hang()
        settings = KubernetesSettings(type="kubernetes", url=opencost.url, ca_file=certificate if encrypted else None)
        source = spending.open(settings).source
        raised = []

        def fetch() -> None:
            try:
                list(source.fetch({}, Window(date(2026, 11, 19), date(2026, 11, 19), date(2026, 11, 20))))
            except SourceError as error:
                raised.append(str(error))

        thread = threading.Thread(target=fetch)
        thread.start()
        wait_until(lambda: opencost.server.requests)
        source.close()
        thread.join(60)
        assert raised == [f"{opencost.url}/allocation: closed while it was being read"]


def test_a_hang_ends_by_itself(opencost, read, spending):
    shop(opencost)
    opencost.server.hang()
    read(request_timeout_seconds=3)
    assert spending.parts()[f"clusters/{TODAY}"].message.endswith("no answer within 3 s (`request_timeout_seconds`)")
    assert spending.total() == Decimal("26.625")


# --- not counted twice ---------------------------------------------------------------------------------------------------------


def test_a_cluster_in_another_bill_is_left_out_of_sums_over_providers(opencost, read, spending):
    shop(opencost)
    read(billed_by="aws")
    november = {"first": date(2026, 11, 1), "last": date(2026, 11, 30)}
    with spending.ledger.read() as connection:
        assert breakdown(connection, "billed_cost", ["provider_name"], **november) == []
        assert breakdown(connection, "billed_cost", [], **november, allocated=True) == [(Decimal("26.625"),)]
    assert {charge["charge_category"] for charge in spending.charges()} == {"Allocated"}


def test_days_that_are_known_follow_a_change_of_who_bills_them(opencost, read, spending):
    shop(opencost)
    read()
    read(billed_by="aws")
    assert {charge["charge_category"] for charge in spending.charges()} == {"Allocated"}
    assert spending.total() == Decimal("26.625")


# --- the probe -----------------------------------------------------------------------------------------------------------------


def test_the_probe_makes_one_request_and_tells_what_is_there(opencost, spending, settings):
    opencost.run(TODAY, cluster="east", controller="web", cpuCost="1.5")
    opencost.run(TODAY, cluster="west", controller="web", cpuCost="2")
    reading = spending.open(settings())
    with closing(reading.source) as source:
        assert list(source.probe()) == [
            f"{opencost.url}: opencost answers",
            "clusters: east, west",
            "cost of today so far: 3.5 USD",
            "it tells no idle cost; OpenCost needs to know the nodes' prices for that",
        ]
    assert reading.requests.made == 1


def test_the_probe_of_a_cluster_without_data_says_so(opencost, spending, settings):
    with closing(spending.open(settings()).source) as source:
        assert list(source.probe()) == [
            f"{opencost.url}: opencost answers",
            "it knows of no cost today: does its Prometheus have data?",
        ]


def test_the_probe_of_a_cluster_without_sane_numbers_says_so(opencost, spending, settings):
    opencost.server.fail(200, {"code": 200, "data": [{"a": {"totalCost": "a lot"}}]})
    with closing(spending.open(settings()).source) as source, pytest.raises(SourceError, match="the cost of today is none: 'a lot'"):
        list(source.probe())


def test_a_change_that_fails_is_a_part_of_its_own(opencost, spending, settings):
    shop(opencost)
    opencost.server.fail(500, {"message": "no"}, times=3, **AGAIN)
    with closing(spending.open(settings()).source) as source:
        changes = list(source.fetch({}, Window(date(2026, 11, 18), date(2026, 11, 18), date(2026, 11, 19))))
    assert [type(change).__name__ for change in changes] == ["Failed", "Read"]
    assert isinstance(changes[0], Failed)


# --- settings ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("url", "https://user:pw@opencost", "must be an address alone"),
        ("url", "opencost:9003", "String should match pattern"),
        ("billed_by", "AWS", "must be the provider's name in lower case"),
        ("billed_by", "kubernetes", "another one than `kubernetes`"),
        ("product", "openkost", "Input should be 'opencost' or 'kubecost'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(key, value, rule):
    with pytest.raises(ValueError, match=rule):
        KubernetesSettings(**{"type": "kubernetes", "url": "http://opencost:9003", key: value})


def test_an_address_may_end_in_a_slash():
    assert KubernetesSettings(type="kubernetes", url="http://opencost:9003/").url == "http://opencost:9003"
