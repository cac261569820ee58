"""Azure's throttling, broken answers and credentials: how long is waited, when it is given up, and what a person is told."""

import logging
import sys
import threading
from datetime import date

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import ClientSecretCredential, CredentialUnavailableError, DefaultAzureCredential
from azure_costs import SUBSCRIPTION, AzureCharge, AzureCosts, azure

from costwarden.config import reveal
from costwarden.sources import Requests, SourceError, azure_client
from costwarden.sources.azure_client import AzureClient, credential_of, in_words, seconds_to_wait
from costwarden.sources.azure_query import definition, read_lines
from costwarden.sources.settings import AzureAccess, AzureSettings

DAY = date(2026, 11, 19)
SCOPE = f"/subscriptions/{SUBSCRIPTION}"
TENANT = "22222222-2222-3333-4444-555555555555"
CLIENT = "33333333-2222-3333-4444-555555555555"
PREFIX = "x_ms_ratelimit_microsoft.costmanagement"
SECONDS = {
    f"{PREFIX}_qpu_retry_after": "12",
    f"{PREFIX}_entity_retry_after": "26",
    f"{PREFIX}_tenant_retry_after": "7",
    f"{PREFIX}_clienttype_retry_after": "41",
    "retry_after": "3",
}

FOUR_COLUMNS = (
    b'{"properties": {"columns": [{"name": "Cost"}, {"name": "UsageDate"}, {"name": "ServiceName"}, {"name": "Currency"}], "rows": [[%s]]}}'
)


@pytest.fixture
def server():
    with azure(AzureCosts(date(2026, 11, 20), [AzureCharge(DAY, "5.5")])) as running:
        yield running


class Asking:
    """A client whose pauses are noted instead of waited for."""

    def __init__(self, server, **given):
        access = {"endpoint_url": server.url}
        settings = AzureSettings.model_validate({"type": "azure", "scopes": [SCOPE], "access": access, **given})
        self.pauses, self.requests = [], Requests()
        self.client = AzureClient(settings, lambda _: "", self.requests, pause=lambda seconds: bool(self.pauses.append(seconds)))

    def __call__(self):
        return [str(line.cost) for line in read_lines(self.client, SCOPE, definition("ActualCost", DAY, DAY, ("service",)), ("service",))]


@pytest.mark.parametrize("named", SECONDS)
def test_each_quota_says_in_a_header_of_its_own_how_long_to_wait(server, named):
    asking = Asking(server)
    server.fail(429, **{named: SECONDS[named]})
    assert asking() == ["5.5"]
    assert asking.pauses == [float(SECONDS[named])]


def test_of_several_quotas_the_longest_is_waited_for(server):
    asking = Asking(server)
    server.fail(429, **SECONDS)
    assert asking() == ["5.5"]
    assert asking.pauses == [41]


def test_every_attempt_counts_as_a_request(server):
    asking = Asking(server)
    server.fail(429, **SECONDS)
    server.fail(503)
    asking()
    assert asking.requests.made == len(server.requests) == 3


def test_a_hint_that_was_too_short_is_lengthened_and_a_missing_one_is_replaced():
    hint = {"x-ms-ratelimit-microsoft.costmanagement-clienttype-retry-after": "1"}
    assert [seconds_to_wait(hint, attempts) for attempts in range(4)] == [1, 2, 4, 8]
    assert [seconds_to_wait({}, attempts) for attempts in range(3)] == [15, 30, 60]
    assert seconds_to_wait({"retry-after": "Fri, 20 Nov 2026 12:00:00 GMT"}, 0) == 15
    assert seconds_to_wait({"retry-after": "-5"}, 0) == seconds_to_wait({"retry-after": "inf"}, 0) == 15


def test_past_the_bound_it_is_given_up_with_a_sentence(server):
    asking = Asking(server, throttle_wait_seconds=60)
    server.fail(429, times=3, **SECONDS)
    with pytest.raises(SourceError) as raised:
        asking()
    assert str(raised.value) == (
        f"{SCOPE}: Azure takes no more requests for now and wants 41 s of waiting, after 41 s already, of at most 60 s "
        "(`throttle_wait_seconds`); the next refresh tries again"
    )
    assert (asking.pauses, len(server.requests)) == ([41], 2)


def test_without_waiting_at_all_it_is_asked_once(server):
    asking = Asking(server, throttle_wait_seconds=0)
    server.fail(429, retry_after="30")
    with pytest.raises(SourceError, match="wants 30 s of waiting, after 0 s already"):
        asking()
    assert len(server.requests) == 1


def test_waiting_for_azure_ends_when_the_source_is_closed(server):
    settings = AzureSettings.model_validate({"type": "azure", "scopes": [SCOPE], "access": {"endpoint_url": server.url}})
    client = AzureClient(settings, lambda _: "", Requests())
    server.fail(429, retry_after="250")
    raised = []

    def ask():
        try:
            list(client.post(SCOPE, "query", definition("ActualCost", DAY, DAY, ())))
        except SourceError as error:
            raised.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    while not server.requests:
        thread.join(0.005)
    client.close()
    thread.join(60)
    assert raised == ["ended while Azure was being read"]


def test_a_fault_of_azures_own_is_tried_again_and_then_told(server):
    asking = Asking(server)
    server.fail(503, times=2)
    assert asking() == ["5.5"]
    assert asking.pauses == [1, 2]
    server.fail(500, {"error": {"code": "InternalServerError", "message": "Something broke."}}, times=3)
    with pytest.raises(SourceError, match=r"Azure answered 500 InternalServerError: Something broke$"):
        asking()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>", "Azure's answer is not JSON: '<html>'"),
        (b"[]", "Azure's answer is not an object"),
        (b" ", "Azure's answer is not JSON: ' '"),
        (b'{"properties": {"columns": []}}', "Azure's answer has no rows"),
        (b"{}", "Azure's answer to `query` has no `properties`"),
        (b'{"properties": {"rows": [[1]]}}', "Azure's answer does not name its columns"),
        (b'{"properties": {"columns": [{"name": "Cost"}], "rows": [[1]]}}', "Azure's answer has no column ServiceName, only cost"),
        (
            FOUR_COLUMNS % b'1, 20261319, "a", "USD"',
            "Azure's answer has '20261319' for a day",
        ),
        (
            FOUR_COLUMNS % b'1, 20261119, "a"',
            "a row of Azure's answer has not the 4 columns that it names: 1, 20261119, a",
        ),
    ],
)
def test_garbage_is_told_for_what_it_is(server, body, sentence):
    asking = Asking(server)
    server.fail(200, body)
    with pytest.raises(SourceError) as raised:
        asking()
    assert str(raised.value).startswith(f"{SCOPE}: {sentence}")


def test_a_refusal_without_a_reason_is_told_with_its_text(server):
    server.fail(418, b"short and stout")
    with pytest.raises(SourceError, match="Azure answered 418 without a reason: short and stout"):
        Asking(server)()


def test_nobody_listening_is_told():
    with azure(AzureCosts(DAY)) as server:
        asking = Asking(server)
    with pytest.raises(SourceError, match=r"no whole answer from Azure: .*, 3 times in a row"):
        asking()


def test_an_answer_without_an_end_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(azure_client, "MOST_BYTES", 1 << 20)
    server.fail(200, {"properties": {"columns": [], "rows": [], "note": "x" * (1 << 20)}})
    with pytest.raises(SourceError, match="an answer is larger than 1 MiB, and no page of Azure's is: is there something in between"):
        Asking(server)()


def test_a_login_that_gives_no_answer_is_no_refusal():
    def login(cause):
        try:
            raise cause
        except ServiceRequestError as error:
            # As azure-identity does with whatever fails.
            raise ClientAuthenticationError(f"Authentication failed: {error}") from error

    with pytest.raises(Exception, match=r"^Azure's login gives no answer: Failed to resolve 'login.microsoftonline.com'$") as raised:
        in_words(lambda: login(ServiceRequestError("Failed to resolve 'login.microsoftonline.com'")))
    assert type(raised.value).__name__ == "_Broken", "it is tried again"


def test_no_credentials_at_all_are_one_sentence_and_no_log(caplog):
    credential_of(AzureAccess(), lambda _: "")
    tried = "DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n\tEnvironment: no"

    def ask():
        # What azure-identity logs before it raises.
        logging.getLogger("azure.identity._credentials.chained").warning(tried)
        raise ClientAuthenticationError(tried)

    with pytest.raises(SourceError) as raised:
        in_words(ask)
    assert str(raised.value) == (
        "no Azure credentials were found. Set `access.tenant_id`, `access.client_id` and `access.client_secret`, or log in (`az login`), "
        "or run with a managed or workload identity"
    )
    assert [record for record in caplog.records if record.name.startswith("azure")] == []


def test_a_missing_library_is_a_sentence(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.mgmt.costmanagement", None)
    with pytest.raises(SourceError, match=r"Azure needs a library: `pip install 'costwarden\[azure\]'`"):
        Asking(server)()
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(SourceError, match=r"Azure needs a library: `pip install 'costwarden\[azure\]'`"):
        credential_of(AzureAccess(), lambda _: "")


def access(**given):
    return AzureAccess.model_validate({"client_secret": {"env": "AZURE_APP"}, "tenant_id": TENANT, "client_id": CLIENT, **given})


def test_a_client_secret_is_read_from_where_it_is_kept():
    found = credential_of(access(), lambda secret: reveal(secret, {"AZURE_APP": "s3cret"}))
    assert isinstance(found, ClientSecretCredential)
    assert isinstance(credential_of(AzureAccess(), lambda _: ""), DefaultAzureCredential)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "`access.client_secret`: environment variable AZURE_APP: is missing or empty"),
        ({"tenant_id": "", "client_id": ""}, "`access.client_secret` is given without `access.tenant_id` and `access.client_id`"),
        ({"client_id": ""}, "`access.client_secret` is given without `access.client_id`"),
    ],
)
def test_missing_parts_of_the_credentials_are_named(given, sentence):
    with pytest.raises(SourceError) as raised:
        credential_of(access(**given), lambda secret: reveal(secret, {}))
    assert str(raised.value) == sentence


def test_the_section_of_the_configuration_is_named_as_it_is_called():
    with pytest.raises(SourceError, match=r"^`azure.client_secret` is given without `azure.client_id`$"):
        credential_of(access(client_id=""), lambda _: "s3cret", section="azure")


def test_a_tenant_that_is_none_is_told_without_the_secret():
    with pytest.raises(SourceError, match="`access`: Invalid tenant ID") as raised:
        credential_of(access(tenant_id="no tenant!"), lambda _: "s3cret")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "error", [ClientAuthenticationError("AADSTS7000215: Invalid client secret provided.\nTrace"), CredentialUnavailableError("No one.")]
)
def test_credentials_that_are_refused_or_missing_are_a_sentence(error):
    def ask():
        raise error

    with pytest.raises(SourceError) as raised:
        in_words(ask)
    first_line = str(error).splitlines()[0].rstrip(".")
    assert str(raised.value) == (
        f"Azure knows no such credentials: {first_line}. Set `access.tenant_id`, `access.client_id` and `access.client_secret`, or log in "
        "(`az login`), or run with a managed or workload identity"
    )
