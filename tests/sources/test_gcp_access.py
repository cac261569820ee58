"""Whose credentials the source of Google Cloud has, and what its settings allow."""

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google_cloud import DETAILED, FOCUS_TABLE, TABLE
from pydantic import ValidationError
from spending import Spending

from costwarden.sources import RequestLimitReached, Requests, SourceError
from costwarden.sources.gcp_clients import Calls, gcp_credentials
from costwarden.sources.settings import GcpAccess, GcpSettings

D = Decimal
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without credentials of Google: neither of gcloud nor of a metadata server."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., Path]:
    """`key_file({…})`: a file of credentials with these contents."""

    def write(contents: Any) -> Path:
        path = tmp_path / "key.json"
        path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
        return path

    return write


@pytest.mark.usefixtures("nothing_found")
def test_the_section_of_the_configuration_is_named_as_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"set `gcp.credentials_file`"):
        gcp_credentials(GcpAccess(), SCOPES, section="gcp")
    with pytest.raises(SourceError, match=r"\(`gcp.credentials_file`\)$"):
        gcp_credentials(GcpAccess(credentials_file=tmp_path / "none.json"), SCOPES, section="gcp")


@pytest.mark.usefixtures("nothing_found")
def test_missing_credentials_are_a_sentence_that_says_how_to_give_them(spending: Spending) -> None:
    read = spending.refresh(GcpSettings(type="gcp", table=TABLE, budgets=False))
    assert read.failure.startswith(
        "no Google Cloud credentials were found: set `access.credentials_file`, run `gcloud auth application-default login`, or run as a "
        "service account ("
    )
    assert read.requests == 0


def test_a_key_file_that_is_none_is_said_without_its_contents(key_file: Callable[..., Path], tmp_path: Path) -> None:
    wrong = {
        "not json, s3cret": "is no key of a service account",
        '["s3cret"]': "is no key of a service account",
        '{"type": "authorized_user", "client_secret": "s3cret"}': "`type` is 'authorized_user', not `service_account`",
        '{"type": "service_account", "private_key": "s3cret"}': "is no key of a service account",
        '{"type": "external_account", "audience": "s3cret"}': "is no key of a service account and no configuration of federation",
    }
    for contents, sentence in wrong.items():
        with pytest.raises(SourceError) as raised:
            gcp_credentials(GcpAccess(credentials_file=key_file(contents)), SCOPES)
        assert sentence in str(raised.value)
        assert "`access.credentials_file`" in str(raised.value)
        assert "s3cret" not in str(raised.value)
    with pytest.raises(SourceError, match="No such file"):
        gcp_credentials(GcpAccess(credentials_file=tmp_path / "missing.json"), SCOPES)


def test_a_key_of_a_service_account_and_a_federation_are_taken(key_file: Callable[..., Path]) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65_537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    service_account = {
        "type": "service_account",
        "client_email": "costwarden@billing-host.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "private_key": private.decode(),
    }
    found: Any = gcp_credentials(GcpAccess(credentials_file=key_file(service_account), quota_project="paying"), SCOPES)
    assert found.service_account_email == "costwarden@billing-host.iam.gserviceaccount.com"
    assert (found.scopes, found.quota_project_id) == (SCOPES, "paying")
    # https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers
    federation = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/one",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": "/var/run/token"},
    }
    found = gcp_credentials(GcpAccess(credentials_file=key_file(federation)), SCOPES)
    assert found.scopes == SCOPES


def test_an_endpoint_without_tls_is_given_no_credentials(key_file: Callable[..., Path]) -> None:
    found: Any = gcp_credentials(GcpAccess(endpoint_url="http://127.0.0.1:1", credentials_file=key_file("anything")), SCOPES)
    assert type(found).__name__ == "AnonymousCredentials"


def test_a_missing_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(SourceError, match=r"Google Cloud needs a library: `pip install 'costwarden\[gcp\]'`"):
        gcp_credentials(GcpAccess(endpoint_url="http://127.0.0.1:1"), SCOPES)


def test_a_call_that_was_given_up_asks_for_nothing_more(wait_until: Callable[..., object]) -> None:
    requests = Requests()
    calls = Calls(requests)
    asked: list[str] = []

    def ask() -> None:
        calls.about_to_ask()
        calls.close()
        try:
            calls.about_to_ask()
        except SourceError as error:
            asked.append(str(error))

    with pytest.raises(SourceError, match="ended"):
        calls.run("the query", ask)
    wait_until(lambda: asked)
    assert requests.made == 1


def test_an_error_that_is_not_googles_stays_what_it_is() -> None:
    def fail(error: Exception) -> Callable[[], None]:
        def ask() -> None:
            raise error

        return ask

    calls = Calls(Requests())
    with pytest.raises(ZeroDivisionError):
        calls.run("the query", fail(ZeroDivisionError()))
    with pytest.raises(SourceError, match=r"^the query: no answer in time$"):
        calls.run("the query", fail(TimeoutError()))
    with pytest.raises(RequestLimitReached, match="enough"):
        calls.run("the query", fail(RequestLimitReached("enough")))


def test_the_kind_of_export_and_its_account_are_in_the_name_of_the_table() -> None:
    for table, kind in ((TABLE, "standard"), (DETAILED, "detailed"), (FOCUS_TABLE, "focus")):
        settings = GcpSettings(type="gcp", table=table)
        assert (settings.kind, settings.account, settings.job_project) == (kind, "010101-F0FFF0-61C528", "billing-host")
    view = GcpSettings(type="gcp", table="old.org:views-1.finops.our_bill", export="detailed", billing_account="AAAAAA-BBBBBB-000000")
    assert (view.kind, view.account, view.job_project) == ("detailed", "AAAAAA-BBBBBB-000000", "old.org:views-1")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"table": "billing.gcp_billing_export_v1_010101_F0FFF0_61C528"},
            "must be PROJECT.DATASET.TABLE: a project id has 6 to 30 small letters",
        ),
        ({"table": "p-1234.billing.x` WHERE 1=1 --"}, "must be PROJECT.DATASET.TABLE: a project id has 6 to 30 small letters"),
        ({"table": "p-1234.billing.x\\"}, "must be PROJECT.DATASET.TABLE: a project id has 6 to 30 small letters"),
        ({"table": f"{TABLE}\n"}, "must be PROJECT.DATASET.TABLE: a project id has 6 to 30 small letters"),
        ({"table": "billing-host.billing.our_view"}, "say which it is with `export: standard`, `detailed` or `focus`"),
        ({"table": "billing-host.billing.our_view", "export": "standard"}, "set `billing_account`, or `budgets: false`"),
        ({"partition_column": "a b"}, "String should match pattern"),
        ({"project": "x` --"}, "String should match pattern"),
        ({"billing_account": "010101"}, "String should match pattern"),
        ({"maximum_bytes_billed": 1}, "greater than or equal to 10485760"),
        ({"maximum_bytes": 1}, "maximum_bytes"),
    ],
)
def test_a_setting_that_is_wrong_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        GcpSettings.model_validate({"type": "gcp", "table": TABLE, **changes})
    assert sentence in str(raised.value)


def test_the_queries_of_a_day_are_predicted_at_their_largest() -> None:
    (predicted,) = GcpSettings(type="gcp", table=TABLE).predicted_requests
    assert (predicted.a_day, predicted.usd_each) == (4, D("6.25") * 10 / 1024)
    (free,) = GcpSettings(type="gcp", table=TABLE, usd_per_tebibyte=D(0)).predicted_requests
    assert free.usd_each == 0
