"""Manifests that are not there any more: what they spoke for stays as it was, and says so."""

import json
import os

import pytest

from costwarden.sources import Window
from costwarden.sources.settings import FocusSettings

DATA, METADATA = "cur/data/BILLING_PERIOD=2026-11", "cur/metadata/BILLING_PERIOD=2026-11"
LOST = f"{DATA}/*-Manifest.json"


@pytest.fixture
def put(folder):
    """`put(name, text)`: a file, a minute younger than the one before."""
    at = 1_795_000_000

    def write(name, text):
        nonlocal at
        at += 60
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (at, at))

    return write


@pytest.fixture
def deliver(put):
    """`deliver(name, cost, manifest)`: a file with this cost, and a manifest that names it."""

    def write(name, cost, *manifests, **more):
        put(name, f"BilledCost,ChargePeriodStart,BillingCurrency,ProviderName\n{cost},2026-11-15,USD,AWS\n")
        for manifest in manifests:
            put(manifest, json.dumps({"reportKeys": [f"exports/{name}"], **more}))

    return write


@pytest.fixture
def execute(deliver):
    """`execute(2, cost)`: the second execution of a data export."""
    return lambda number, cost: deliver(f"{DATA}/e{number}/cur-00001.csv", cost, f"{METADATA}/e{number}/cur-Manifest.json")


@pytest.fixture
def remove(folder):
    return lambda name: (folder / name).unlink()


@pytest.fixture
def read(spending, folder):
    """A refresh; gives the total in force."""

    def run():
        outcome = spending.refresh(FocusSettings(path=folder), window=Window(spending.today, spending.today, spending.today))
        assert not outcome.failure, outcome.failure
        return spending.total()

    return run


@pytest.fixture
def three_executions(execute, read):
    """Each holds the month as it was known then: only the last counts."""
    for number, cost in ((1, 100), (2, 150), (3, 210)):
        execute(number, cost)
    assert read() == 210


def failed(spending):
    return [part.part for part in spending.parts().values() if part.state == "failed"]


@pytest.mark.usefixtures("three_executions")
def test_a_period_whose_manifests_are_gone_stays_as_it_was_until_they_are_back(execute, remove, read, spending):
    for number in (1, 2, 3):
        remove(f"{METADATA}/e{number}/cur-Manifest.json")
    for _ in range(2):
        assert read() == 210
        assert failed(spending) == [LOST]
    message = spending.parts()[LOST].message
    assert "is not there any more: the period stays as it was. Bring it back, or put a manifest.json into the folder" in message
    execute(4, 220)
    assert read() == 220
    assert failed(spending) == []


@pytest.mark.usefixtures("three_executions")
def test_a_period_whose_newest_manifest_is_gone_does_not_go_back_to_an_older_one(execute, remove, read, spending):
    remove(f"{METADATA}/e3/cur-Manifest.json")
    for _ in range(2):
        assert (read(), failed(spending)) == (210, [LOST])
    execute(4, 220)
    assert (read(), failed(spending)) == (220, [])


@pytest.mark.usefixtures("three_executions")
def test_a_delivery_that_is_gone_with_its_manifest_gives_way_to_the_one_before(remove, read, spending):
    remove(f"{METADATA}/e3/cur-Manifest.json")
    remove(f"{DATA}/e3/cur-00001.csv")
    assert (read(), failed(spending)) == (150, [])


@pytest.mark.usefixtures("three_executions")
def test_a_period_that_is_gone_as_a_whole_is_gone(deliver, remove, read, spending):
    deliver("other.csv", 1)
    for number in (1, 2, 3):
        remove(f"{METADATA}/e{number}/cur-Manifest.json")
        remove(f"{DATA}/e{number}/cur-00001.csv")
    assert (read(), failed(spending)) == (1, [])


@pytest.mark.usefixtures("three_executions")
def test_a_manifest_of_ones_own_takes_the_place_of_those_that_are_gone(put, remove, read, spending):
    for number in (1, 2, 3):
        remove(f"{METADATA}/e{number}/cur-Manifest.json")
    read()
    put(f"{DATA}/manifest.json", json.dumps({"reportKeys": ["e3/cur-00001.csv"]}))
    assert (read(), failed(spending)) == (210, [])


def test_legacy_reports_and_azure_exports_without_their_manifests_stay_as_they_were(deliver, remove, read, spending):
    legacy, azure = "report/20261101-20261201", "focus-cost/20261101-20261130"
    for name, cost in (("a1", 10), ("a2", 11)):
        deliver(f"{legacy}/{name}/report-1.csv", cost, f"{legacy}/{name}/report-Manifest.json", f"{legacy}/report-Manifest.json")
    for day, run, cost in ((20, "run-2", 6), (19, "run-1", 5)):
        submitted = {"submittedTime": f"2026-11-{day}T05:00:00.0000000Z"}
        deliver(f"{azure}/{run}/part_0_0001.csv", cost, f"{azure}/{run}/manifest.json", runInfo=submitted)
    assert read() == 11 + 6
    for name in ("a1/report-Manifest.json", "a2/report-Manifest.json", "report-Manifest.json"):
        remove(f"{legacy}/{name}")
    for run in ("run-1", "run-2"):
        remove(f"{azure}/{run}/manifest.json")
    assert read() == 11 + 6
    assert failed(spending) == [f"{azure}/*-Manifest.json", f"{legacy}/*-Manifest.json"]
