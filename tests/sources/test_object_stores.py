"""Bills in S3, Google Cloud Storage and Azure Blob Storage: one listing, changed objects only, and what is said when something is wrong.

All three by their real libraries against `blob_server`; S3 against moto too.
"""

import gzip
from decimal import Decimal

import boto3
import pytest
from blob_server import Bucket, azure, gcs, s3
from pydantic import TypeAdapter, ValidationError
from stand_in import StandIn

from costwarden.sources import Window
from costwarden.sources.settings import SourceSettings

LIST, GET = 5_000, 400
"""Nano-dollars, by https://aws.amazon.com/s3/pricing/: $0.005 and $0.0004 per 1,000."""

FACES = {
    "s3": (s3, "s3://bills/exports", "aws"),
    "gs": (gcs, "gs://bills/exports", "gcp"),
    "az": (azure, "az://storage1/bills/exports", "azure"),
}


def bill(*costs, day="2026-11-15", **columns):
    extra = "".join(f",{name}" for name in columns)
    values = "".join(f",{value}" for value in columns.values())
    rows = "".join(f"{cost},{day},USD,AWS{values}\n" for cost in costs)
    return f"BilledCost,ChargePeriodStart,BillingCurrency,ProviderName{extra}\n{rows}"


class Place:
    """A bucket behind one of the three, and the settings that name it."""

    def __init__(self, scheme, server, bucket):
        self.scheme, self.server, self.bucket = scheme, server, bucket
        _, self.url, self.section = FACES[scheme]

    def settings(self, **more):
        return TypeAdapter(SourceSettings).validate_python(
            {"type": "focus", "url": self.url, self.section: {"endpoint_url": self.server.url}, **more}
        )


@pytest.fixture(params=FACES)
def place(request, aws_credentials):
    bucket = Bucket()
    with StandIn(FACES[request.param][0](bucket)) as server:
        yield Place(request.param, server, bucket)


def refresh(spending, settings, **more):
    """A file is read whole, whatever the window."""
    return spending.refresh(settings, window=Window(spending.today, spending.today, spending.today), **more)


def read(spending, place, **more):
    outcome = refresh(spending, place.settings(**more))
    assert not outcome.failure, outcome.failure
    return spending.total("billed_cost")


def asked(place):
    """Requests since the last time: (listings, reads)."""
    lists = {"s3": "list-type", "gs": "prefix", "az": "comp"}[place.scheme]
    made = [lists in request.query for request in place.server.requests]
    place.server.requests.clear()
    return sum(made), len(made) - sum(made)


def test_only_what_has_changed_is_read_and_an_unchanged_prefix_costs_one_listing(spending, place):
    place.bucket["exports/a.csv"] = bill("1.10", "2.25")
    place.bucket["exports/2026/b.csv.gz"] = bill("10")
    place.bucket["exports-old/c.csv"] = bill("100")
    place.bucket["exports/.tmp/d.csv"] = bill("1000")
    assert read(spending, place) == Decimal("1.10") + Decimal("2.25") + 10
    assert sorted(spending.parts()) == ["2026/b.csv.gz", "a.csv"]
    assert asked(place) == (1, 2)
    assert spending.state("focus")["request_cost"] == LIST + 2 * GET
    assert read(spending, place) == Decimal("13.35")
    assert asked(place) == (1, 0)
    assert spending.state("focus")["request_cost"] == 2 * LIST + 2 * GET
    place.bucket["exports/a.csv"] = bill("1.10", "3.25")
    assert read(spending, place) == Decimal("1.10") + Decimal("3.25") + 10
    assert asked(place) == (1, 1)
    del place.bucket["exports/2026/b.csv.gz"]
    assert read(spending, place) == Decimal("1.10") + Decimal("3.25")
    assert asked(place) == (1, 0)


def test_a_listing_of_several_pages_is_read_to_its_end_and_every_page_is_paid_for(spending, place):
    for number in range(7):
        place.bucket[f"exports/{number}.csv"] = bill(str(number + 1))
    assert read(spending, place) == 1 + 2 + 3 + 4 + 5 + 6 + 7
    assert asked(place) == (3, 7)
    assert spending.state("focus")["request_cost"] == 3 * LIST + 7 * GET


def test_the_sum_of_the_charges_is_that_of_the_objects_to_the_last_digit_with_credits_and_other_currencies(spending, place):
    costs = ["0.00000000012", "-3.50", "12345.678901234567890123"]
    place.bucket["exports/a.csv"] = bill(*costs)
    place.bucket["exports/b.csv"] = bill("10").replace("USD", "EUR")
    settings = place.settings()
    assert not refresh(spending, settings, currencies={"EUR": [{"valid_from": "2026-01-01", "usd": "1.08"}]}).failure
    assert spending.by("billing_currency") == {"USD": sum(map(Decimal, costs)), "EUR": 10}
    assert spending.total() == sum(map(Decimal, costs)) + 10 * Decimal("1.08")
    assert not refresh(spending, settings).failure
    assert (spending.total(), spending.rejected()) == (sum(map(Decimal, costs)), {"no_exchange_rate": 1})


def test_a_prefix_that_is_empty_gone_or_closed_to_us_is_a_failure_and_not_a_bill_of_nothing(spending, place):
    place.bucket["exports/a.csv"] = bill("7")
    read(spending, place)
    del place.bucket["exports/a.csv"]
    assert refresh(spending, place.settings()).failure == f"{place.url}: holds no *.csv, *.csv.gz, *.parquet"
    place.bucket.denied.add("list")
    right = {"s3": "s3:ListBucket on arn:aws:s3:::bills", "gs": "storage.objects.list", "az": "Storage Blob Data Reader"}[place.scheme]
    assert right in refresh(spending, place.settings()).failure
    place.bucket.name = "another"
    assert "does not exist" in refresh(spending, place.settings()).failure
    assert spending.total() == 7


def test_an_object_that_may_not_be_read_fails_alone(spending, place):
    place.bucket["exports/a.csv"] = bill("1")
    place.bucket["exports/b.csv"] = bill("2")
    place.bucket.denied.add("exports/a.csv")
    assert read(spending, place) == 2
    right = {"s3": "s3:GetObject", "gs": "storage.objects.get", "az": "Storage Blob Data Reader"}[place.scheme]
    assert right in spending.parts()["a.csv"].message
    place.bucket.denied.clear()
    assert read(spending, place) == 1 + 2


def test_an_object_that_changes_between_the_listing_and_the_reading_waits_for_the_next_refresh(spending, place):
    place.bucket["exports/a.csv"] = bill("1")
    read(spending, place)
    place.bucket["exports/a.csv"] = bill("2")

    def overwrite(name):
        place.bucket.before_reading = lambda name: None
        place.bucket[name] = bill("3")

    place.bucket.before_reading = overwrite
    assert read(spending, place) == 1
    assert spending.parts()["a.csv"].message == "a.csv: changed while it was being read; the next refresh tries again"
    assert read(spending, place) == 3


def test_an_object_that_breaks_off_in_the_middle_leaves_the_old_figures(spending, place):
    place.bucket["exports/a.csv"] = bill("1")
    read(spending, place)
    place.bucket["exports/a.csv"] = bill("2", "3", "4")
    # The first request of a refresh is the listing: the faults are for those after it.
    place.server.delay(0)
    place.server.cut(after=60, times=1 if place.scheme == "gs" else 5)
    if place.scheme == "gs":
        # Google's library asks again at once; the bill is the whole one.
        assert read(spending, place) == 2 + 3 + 4
        return
    assert read(spending, place) == 1
    part = spending.parts()["a.csv"]
    assert (part.state, "the next refresh tries again" in part.message) == ("failed", True)


def test_a_listing_that_is_throttled_is_asked_for_again_and_paid_for_again(spending, place):
    place.bucket["exports/a.csv"] = bill("1")
    place.server.fail(503)
    assert read(spending, place) == 1
    assert spending.state("focus")["request_cost"] == 2 * LIST + GET


def test_close_ends_a_fetch_that_hangs(spending, place, ends_on_close):
    place.bucket["exports/a.csv"] = bill("1")
    place.server.hang()
    source = spending.open(place.settings()).source
    assert ends_on_close(source, lambda: list(source.fetch({})), place.server) == "closed while it was being read"


def test_the_cap_on_what_requests_may_cost_holds_and_the_figures_stay(spending, place):
    place.bucket["exports/a.csv"] = bill("1")
    read(spending, place)
    place.bucket["exports/a.csv"] = bill("2")
    limit = Decimal(2 * LIST + GET) / 10**9
    outcome = refresh(spending, place.settings(daily_request_limit_usd=limit))
    assert "`daily_request_limit_usd`" in outcome.failure
    assert spending.total() == 1


def test_the_probe_lists_once_and_says_what_is_there(spending, place):
    place.bucket["exports/a.csv"] = bill("1")
    place.bucket["exports/manifest.json"] = "{}"
    reading = spending.open(place.settings())
    size = sum(len(stored.data) for stored in place.bucket.objects.values())
    assert list(reading.source.probe()) == [
        f"{place.url}: holds 1 files that may be bills, {size} bytes",
        "1 manifests say which of them count",
    ]
    assert asked(place) == (1, 0)


def test_nothing_is_left_on_the_disk(spending, place, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    place.bucket["exports/a.csv"] = bill("1")
    place.bucket["exports/b.csv.gz"] = bill("2")
    assert read(spending, place) == 1 + 2
    assert list(scratch.iterdir()) == []


def test_a_missing_secret_or_credential_is_a_sentence(spending, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = TypeAdapter(SourceSettings)
    failed = refresh(
        spending, settings.validate_python({"type": "focus", "url": "s3://bills", "aws": {"endpoint_url": "http://127.0.0.1:9"}})
    )
    assert "no AWS credentials were found" in failed.failure
    failed = refresh(
        spending, settings.validate_python({"type": "focus", "url": "gs://bills", "gcp": {"credentials_file": "/nowhere.json"}})
    )
    assert "/nowhere.json: No such file or directory" in failed.failure


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "exactly one of `path` and `url`"),
        ({"path": "x", "url": "s3://bills"}, "exactly one of `path` and `url`"),
        ({"url": "https://bills"}, "String should match pattern"),
        ({"url": "az://storage1"}, "String should match pattern"),
        ({"path": "x", "aws": {}}, "`aws` has no use with `path`"),
        ({"url": "s3://bills/x", "gcp": {}}, "`gcp` has no use with `url` s3://bills/x: that is read by `aws`"),
    ],
)
def test_a_mistake_in_the_settings_is_told(value, sentence):
    with pytest.raises(ValidationError, match="(?s)" + sentence.replace(".", r"\.")):
        TypeAdapter(SourceSettings).validate_python({"type": "focus", **value})


def test_the_listings_of_a_day_are_predicted():
    settings = TypeAdapter(SourceSettings).validate_python({"type": "focus", "url": "s3://bills", "interval_seconds": 3600})
    (predicted,) = settings.predicted_requests
    assert (predicted.a_day, predicted.usd_each) == (24, Decimal("0.000005"))
    assert TypeAdapter(SourceSettings).validate_python({"type": "focus", "path": "x"}).predicted_requests == ()


def test_s3_as_moto_has_it(spending, moto, aws_credentials):
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="bills")
    # A page of a listing is 1,000 keys.
    for number in range(1001):
        client.put_object(Bucket="bills", Key=f"exports/notes/{number:04}.txt", Body=b"")
    client.put_object(Bucket="bills", Key="exports/2026 [11]/a+b.csv.gz", Body=gzip.compress(bill("1.10", "2").encode()))
    client.put_object(Bucket="bills", Key="exports/z.csv", Body=bill("5").encode())
    settings = TypeAdapter(SourceSettings).validate_python(
        {"type": "focus", "url": "s3://bills/exports/", "aws": {"endpoint_url": moto, "account_id": "123456789012"}}
    )
    assert not refresh(spending, settings).failure
    assert spending.by("part") == {"2026 [11]/a+b.csv.gz": Decimal("1.10") + 2, "z.csv": 5}
    assert spending.state("focus")["request_cost"] == 2 * LIST + 2 * GET
    client.put_object(Bucket="bills", Key="exports/z.csv", Body=bill("6").encode())
    assert not refresh(spending, settings).failure
    assert spending.total() == Decimal("1.10") + 2 + 6
    assert spending.state("focus")["request_cost"] == 4 * LIST + 3 * GET


def test_the_page_of_metrics(spending, place, golden):
    place.bucket["exports/a.csv"] = bill("1.25", "-0.25", ServiceName="Amazon EC2", SubAccountId="444455556666")
    place.bucket["exports/b.csv"] = bill("10", day="2026-11-16", ServiceName="Amazon S3", SubAccountId="444455556666")
    read(spending, place)
    golden("focus_objects.prom", spending.exposition())
