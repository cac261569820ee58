"""Deliveries of AWS and Azure: only the newest complete one of a period counts, in a folder as in an object store.

Layouts: https://docs.aws.amazon.com/cur/latest/userguide/dataexports-export-delivery.html,
https://docs.aws.amazon.com/cur/latest/userguide/understanding-report-versions.html,
https://learn.microsoft.com/en-us/azure/cost-management-billing/costs/tutorial-improved-exports
"""

import json
import os
from datetime import UTC, datetime

import pytest
from blob_server import Bucket, s3
from pydantic import TypeAdapter
from stand_in import StandIn

from costwarden.sources import Window
from costwarden.sources.manifests import choose
from costwarden.sources.settings import SourceSettings
from costwarden.sources.stores import Item


def bill(cost, day="2026-11-15"):
    return f"BilledCost,ChargePeriodStart,BillingCurrency,ProviderName\n{cost},{day},USD,AWS\n"


class FolderOfBills:
    """A synchronised bucket, with the times of its objects."""

    def __init__(self, path, spending):
        self.path, self.spending, self.minute = path, spending, 0

    def __setitem__(self, name, text):
        self.minute += 1
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        at = 1_795_000_000 + self.minute * 60
        os.utime(path, (at, at))

    def __delitem__(self, name):
        (self.path / name).unlink()

    @property
    def settings(self):
        return {"path": str(self.path)}

    def reads(self):
        return None


class S3OfBills:
    def __init__(self, bucket, server):
        self.bucket, self.server = bucket, server

    def __setitem__(self, name, text):
        self.bucket[f"exports/{name}"] = text

    def __delitem__(self, name):
        del self.bucket[f"exports/{name}"]

    @property
    def settings(self):
        return {"url": "s3://bills/exports", "aws": {"endpoint_url": self.server.url}}

    def reads(self):
        """Names of the objects read since the last time."""
        read = [request.path.removeprefix("/bills/exports/") for request in self.server.requests if "list-type" not in request.query]
        self.server.requests.clear()
        return read


@pytest.fixture(params=["folder", "s3"])
def store(request, folder, spending, aws_credentials):
    if request.param == "folder":
        yield FolderOfBills(folder, spending)
        return
    bucket = Bucket()
    with StandIn(s3(bucket)) as server:
        yield S3OfBills(bucket, server)


@pytest.fixture
def read(spending, store):
    """A refresh; gives the total in force."""

    def run():
        settings = TypeAdapter(SourceSettings).validate_python({"type": "focus", **store.settings})
        outcome = spending.refresh(settings, window=Window(spending.today, spending.today, spending.today))
        assert not outcome.failure, outcome.failure
        return spending.total()

    return run


def data_export(store, execution, *costs, manifest=True):
    """A delivery of AWS Data Exports that makes new files, as it names them with the whole URL."""
    names = [f"cur/data/BILLING_PERIOD=2026-11/{execution}/cur-0000{number}.csv" for number in range(1, len(costs) + 1)]
    for name, cost in zip(names, costs, strict=True):
        store[name] = bill(cost)
    if manifest:
        files = [f"s3://bills/exports/{name}" for name in names]
        store[f"cur/metadata/BILLING_PERIOD=2026-11/{execution}/cur-Manifest.json"] = json.dumps(
            {"dataFiles": files, "executionId": execution}
        )


def legacy(store, assembly, *costs):
    """A delivery of a legacy report that makes new files; the manifest of the period is written over."""
    period = "report/20261101-20261201"
    names = [f"{period}/{assembly}/report-0000{number}.csv" for number in range(1, len(costs) + 1)]
    for name, cost in zip(names, costs, strict=True):
        store[name] = bill(cost)
    manifest = json.dumps({"assemblyId": assembly, "bucket": "bills", "reportKeys": [f"exports/{name}" for name in names]})
    store[f"{period}/{assembly}/report-Manifest.json"] = manifest
    store[f"{period}/report-Manifest.json"] = manifest


def azure_run(store, run, submitted, *costs):
    """A run of an Azure export, with the names of its blobs from the container on."""
    period = "focus-cost/20261101-20261130"
    names = [f"{period}/{run}/part_{number}_0001.csv" for number in range(len(costs))]
    for name, cost in zip(names, costs, strict=True):
        store[name] = bill(cost)
    store[f"{period}/{run}/manifest.json"] = json.dumps(
        {
            "manifestVersion": "2024-04-01",
            "blobCount": len(names),
            "blobs": [{"blobName": f"exports/{name}", "byteCount": 1, "dataRowCount": 1} for name in names],
            "runInfo": {"runId": run, "submittedTime": submitted},
        }
    )


def test_only_the_newest_execution_of_a_data_export_counts(store, read, spending):
    data_export(store, "e1", 10, 20)
    assert read() == 10 + 20
    data_export(store, "e2", 11, 22, 33)
    assert read() == 11 + 22 + 33
    assert {part.split("/")[3] for part in spending.parts()} == {"e2"}


def test_only_the_newest_assembly_of_a_legacy_report_counts(store, read):
    legacy(store, "a1", 10, 20)
    legacy(store, "a2", 11)
    assert read() == 11
    legacy(store, "a3", 12, 5)
    assert read() == 12 + 5


def test_the_newest_run_of_an_azure_export_counts_whatever_the_times_of_the_files(store, read):
    azure_run(store, "run-2", "2026-11-20T05:00:00.0000000Z", 22)
    azure_run(store, "run-1", "2026-11-19T05:00:00.0000000Z", 11)
    assert read() == 22


def test_periods_are_apart_and_a_bill_without_a_manifest_counts_as_it_is(store, read):
    data_export(store, "e1", 10)
    store["cur/data/BILLING_PERIOD=2026-10/old.csv"] = bill(7, "2026-10-05")
    store["other/a.csv"] = bill(3)
    assert read() == 10 + 7 + 3


def test_a_delivery_that_is_not_complete_leaves_the_one_before_in_force_and_says_so(store, read, spending):
    data_export(store, "e1", 10, 20)
    read()
    data_export(store, "e2", 11, 22, 33)
    del store["cur/data/BILLING_PERIOD=2026-11/e2/cur-00002.csv"]
    assert read() == 10 + 20
    (failed,) = [part for part in spending.parts().values() if part.state == "failed"]
    assert failed.part == "cur/metadata/BILLING_PERIOD=2026-11/e2/cur-Manifest.json"
    assert "cur-00002.csv, not there (yet): the delivery before counts" in failed.message
    store["cur/data/BILLING_PERIOD=2026-11/e2/cur-00002.csv"] = bill(22)
    assert read() == 11 + 22 + 33
    assert {part.state for part in spending.parts().values()} == {"ok"}


def test_a_delivery_before_its_manifest_does_not_count(store, read):
    data_export(store, "e1", 10)
    read()
    data_export(store, "e2", 99, manifest=False)
    assert read() == 10


def test_a_delivery_over_the_same_names_that_has_lost_a_file_leaves_what_was_read(store, read):
    for name, cost in (("1", 10), ("2", 20)):
        store[f"cur/data/BILLING_PERIOD=2026-11/cur-0000{name}.csv"] = bill(cost)
    manifest = json.dumps({"dataFiles": [f"s3://b/exports/cur/data/BILLING_PERIOD=2026-11/cur-0000{name}.csv" for name in "12"]})
    store["cur/metadata/BILLING_PERIOD=2026-11/cur-Manifest.json"] = manifest
    assert read() == 10 + 20
    del store["cur/data/BILLING_PERIOD=2026-11/cur-00002.csv"]
    assert read() == 10 + 20
    store["cur/data/BILLING_PERIOD=2026-11/cur-00002.csv"] = bill(25)
    store["cur/data/BILLING_PERIOD=2026-11/cur-00003.csv"] = bill(99)
    assert read() == 10 + 25


def test_a_manifest_that_is_no_json_keeps_the_period_as_it_was(store, read, spending):
    data_export(store, "e1", 10)
    read()
    data_export(store, "e2", 11)
    store["cur/metadata/BILLING_PERIOD=2026-11/e2/cur-Manifest.json"] = '{"dataFiles": ['
    assert read() == 10
    assert "is not JSON" in spending.parts()["cur/metadata/BILLING_PERIOD=2026-11/e2/cur-Manifest.json"].message


def test_a_report_in_zip_is_told(store, read, spending):
    store["report/20261101-20261201/report-Manifest.json"] = json.dumps(
        {"reportKeys": ["exports/report/20261101-20261201/a1/report-1.csv.zip"]}
    )
    store["x.csv"] = bill(1)
    assert read() == 1
    assert "ZIP is not read" in spending.parts()["report/20261101-20261201/report-Manifest.json"].message


def test_a_manifest_of_something_else_and_one_for_redshift_say_nothing(store, read):
    store["manifest.json"] = "{}"
    store["report/20261101-20261201/report-RedshiftManifest.json"] = json.dumps({"entries": [{"url": "s3://b/x.csv"}]})
    store["report/20261101-20261201/a.csv"] = bill(5)
    assert read() == 5


def test_what_is_as_it_was_is_not_read_again_nor_is_its_manifest(store, read):
    data_export(store, "e1", 10, 20)
    azure_run(store, "run-1", "2026-11-19T05:00:00Z", 5)
    assert read() == 10 + 20 + 5
    store.reads()
    assert read() == 10 + 20 + 5
    assert store.reads() in (None, [])
    azure_run(store, "run-2", "2026-11-20T05:00:00Z", 6)
    assert read() == 10 + 20 + 6
    assert store.reads() in (
        None,
        [f"focus-cost/20261101-20261130/{name}" for name in ("run-1/manifest.json", "run-2/manifest.json", "run-2/part_0_0001.csv")],
    )


def test_a_file_of_a_delivery_that_fails_does_not_take_the_others_along(store, read, spending):
    data_export(store, "e1", 10, 20)
    store["cur/data/BILLING_PERIOD=2026-11/e1/cur-00002.csv"] = "nonsense\n"
    assert read() == 10
    assert read() == 10
    store["cur/data/BILLING_PERIOD=2026-11/e1/cur-00002.csv"] = bill(20)
    assert read() == 10 + 20


# --- which file a manifest means -----------------------------------------------------------------------------------------------


PERIOD = "20261101-20261201"


def report(store, prefix, cost, key=f"exports/focus/{PERIOD}/focus-00001.csv"):
    """A report whose manifest names its file by a key that says nothing of `prefix`."""
    store[f"{prefix}exports/focus/{PERIOD}/focus-00001.csv"] = bill(cost)
    store[f"{prefix}exports/focus/{PERIOD}/focus-Manifest.json"] = json.dumps({"reportKeys": [key]})


@pytest.mark.parametrize("key", [f"exports/focus/{PERIOD}/focus-00001.csv", "focus-00001.csv"])
def test_accounts_that_deliver_under_the_same_names_each_have_their_own_files(store, read, spending, key):
    costs = {f"account-{number}/": 10**number for number in range(6)}
    for prefix, cost in costs.items():
        report(store, prefix, cost, key)
    assert read() == 111_111
    assert {part.state for part in spending.parts().values()} == {"ok"}
    assert len(spending.parts()) == 6


def test_an_account_whose_file_is_not_there_yet_does_not_take_that_of_another(store, read, spending):
    report(store, "a/", 5)
    report(store, "b/", 7)
    del store[f"a/exports/focus/{PERIOD}/focus-00001.csv"]
    assert read() == 7
    assert {part: found.state for part, found in spending.parts().items()} == {
        f"a/exports/focus/{PERIOD}/focus-Manifest.json": "failed",
        f"b/exports/focus/{PERIOD}/focus-00001.csv": "ok",
    }
    store[f"a/exports/focus/{PERIOD}/focus-00001.csv"] = bill(5)
    assert read() == 7 + 5


@pytest.mark.parametrize("backup", ["backup/", "zz-backup/"])
def test_a_backup_of_the_files_below_the_prefix_is_not_taken_for_them(store, read, spending, backup):
    report(store, "", 210)
    store[f"{backup}exports/focus/{PERIOD}/focus-00001.csv"] = bill(90)
    assert read() == 210 + 90
    marks = {part: found.fingerprint.rpartition("|")[2] for part, found in spending.parts().items()}
    assert [part for part, mark in marks.items() if mark] == [f"exports/focus/{PERIOD}/focus-00001.csv"]


def test_names_without_a_folder_are_those_of_the_run_of_the_manifest(store, read):
    for period, run, cost, day in (
        ("20261001-20261031", "run-1", 10, "2026-10-03"),
        ("20261101-20261130", "run-1", 99, "2026-11-03"),
        ("20261101-20261130", "run-2", 20, "2026-11-03"),
    ):
        store[f"exp/{period}/{run}/part_0_0001.csv"] = bill(cost, day)
        store[f"exp/{period}/{run}/manifest.json"] = json.dumps({"blobs": [{"blobName": "part_0_0001.csv"}]})
    assert read() == 10 + 20


def test_names_without_a_folder_of_a_data_export_are_those_of_its_execution(store, read):
    for execution, cost in (("e1", 10), ("e2", 11)):
        store[f"cur/data/BILLING_PERIOD=2026-11/{execution}/cur-00001.csv"] = bill(cost)
        store[f"cur/metadata/BILLING_PERIOD=2026-11/{execution}/cur-Manifest.json"] = json.dumps({"dataFiles": ["cur-00001.csv"]})
    assert read() == 11


def test_a_name_that_fits_two_files_alike_is_told_and_neither_is_chosen(store, read, spending):
    store["m/manifest.json"] = json.dumps({"dataFiles": ["x.csv"]})
    for folder in "ab":
        store[f"{folder}/x.csv"] = bill(5, f"2026-11-1{'ab'.index(folder)}")
    assert read() == 5 + 5
    assert "names x.csv, which is there twice: a/x.csv and b/x.csv" in spending.parts()["m/manifest.json"].message


def test_two_manifests_never_claim_one_file(store, read, spending):
    store["d/x.csv"] = bill(5)
    for folder in ("m1", "m2"):
        store[f"{folder}/manifest.json"] = json.dumps({"dataFiles": ["s3://bills/exports/d/x.csv"]})
    for _ in range(2):
        assert read() == 5
        assert {part: found.state for part, found in spending.parts().items()} == {"d/x.csv": "ok", "m2/manifest.json": "failed"}
    assert "names s3://bills/exports/d/x.csv, which another manifest names too" in spending.parts()["m2/manifest.json"].message


def test_a_name_of_the_report_that_ends_like_a_file_is_none(store, read):
    store[f"daily.csv/{PERIOD}/a1/daily.csv-00001.csv"] = bill(5)
    store[f"daily.csv/{PERIOD}/daily.csv-Manifest.json"] = json.dumps(
        {"reportName": "daily.csv", "reportKeys": [f"exports/daily.csv/{PERIOD}/a1/daily.csv-00001.csv"]}
    )
    assert read() == 5


@pytest.mark.parametrize("suffix", [".csv", ".csv.zip"])
def test_a_name_of_any_length_makes_a_short_message(store, read, spending, suffix):
    store["x.csv"] = bill(1)
    store["r/manifest.json"] = json.dumps({"reportKeys": ["n" * 3_000_000 + suffix]})
    assert read() == 1
    assert len(spending.parts()["r/manifest.json"].message) < 400


def chosen(manifest):
    """What counts where this manifest lies beside no file at all."""
    item = Item("r/manifest.json", "1", datetime(2026, 11, 20, tzinfo=UTC), len(manifest))
    return choose({item.path: item}, {}, (), lambda _: manifest.encode())


def test_half_a_surrogate_pair_in_the_name_of_a_file_makes_a_message_that_is_text():
    message = chosen(r'{"reportKeys": ["\ud800.csv"]}').failed["r/manifest.json"]
    assert message == "r/manifest.json: names \ufffd.csv, not there (yet): the delivery before counts"
