"""The description of the API is valid, complete, and says what the server does."""

import json

import msgspec
import pytest

from costwarden.api.operations import OPERATIONS
from costwarden.budgets.requests import CheckRequest, LeaseRequest, ReleaseRequest, SetRequest, SuspendRequest, TrackRequest

BODIES = {
    "/api/ai-budget/check": CheckRequest,
    "/api/ai-budget/track": TrackRequest,
    "/api/ai-budget/lease": LeaseRequest,
    "/api/ai-budget/release": ReleaseRequest,
    "/api/ai-budget/set": SetRequest,
    "/api/ai-budget/tenant/{tenant_id}/suspend": SuspendRequest,
}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture
def document(server):
    return server.get("/openapi.json").json()


def operations(document):
    return {(path, method): operation for path, methods in document["paths"].items() for method, operation in methods.items()}


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_document_has_what_openapi_requires(document):
    # https://spec.openapis.org/oas/v3.1.0: openapi, info.title, info.version; of an operation the responses, of a response the
    # description, of a path its parameters.
    assert document["openapi"].startswith("3.1")
    assert document["info"].keys() >= {"title", "version", "description"}
    names = []
    for (path, method), operation in operations(document).items():
        assert path.startswith("/")
        assert method in METHODS
        assert operation["summary"]
        assert all(status.isdigit() and response["description"] for status, response in operation["responses"].items())
        templated = {part.partition("}")[0] for part in path.split("{")[1:]}
        given = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
        assert templated == given
        names.append(operation["operationId"])
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(document):
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_every_schema_is_used(document):
    used = {reference.rpartition("/")[2] for reference in references(document)}
    assert used == document["components"]["schemas"].keys()


def test_every_operation_is_described_with_its_errors(document):
    # FastAPI would describe an error of its own making, which nobody ever gets.
    assert operations(document).keys() == OPERATIONS.keys()
    for key, operation in operations(document).items():
        expected = OPERATIONS[key]
        assert operation["responses"].keys() == {expected.status, *expected.errors, "405", "500"}
        for status, response in operation["responses"].items():
            if status != expected.status:
                assert response["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_every_parameter_of_a_query_is_explained(document):
    silent = [
        (key, parameter["name"])
        for key, operation in operations(document).items()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and not parameter.get("description")
    ]
    assert silent == []


def test_every_body_has_an_example_that_is_one(document, server):
    for (path, method), operation in OPERATIONS.items():
        if operation.body is not None:
            described = document["paths"][path][method]["requestBody"]["content"]["application/json"]
            assert described["example"] == operation.example
            assert msgspec.convert(operation.example, operation.body, strict=False) is not None


@pytest.mark.parametrize("path", BODIES)
def test_a_request_is_described_by_the_fields_that_are_read(document, path):
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    described = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    fields = msgspec.structs.fields(BODIES[path])
    assert described["properties"].keys() == {field.encode_name for field in fields}
    assert described["required"] == [field.encode_name for field in fields if field.required]
    assert described["additionalProperties"] is False


def test_an_amount_is_a_number_or_text(document):
    # The guide's own example sends a number.
    schemas = document["components"]["schemas"]
    assert schemas["SetRequest"]["properties"]["monthly_limit_usd"]["anyOf"][0]["type"] == ["number", "string"]
    assert schemas["TrackRequest"]["properties"]["cost_usd"]["anyOf"][0]["type"] == ["number", "string"]


def test_credentials_are_required_where_they_are_configured(server_of, secret):
    server = server_of(tokens=[{"name": "prometheus", "role": "viewer", "secret": secret("token")}])
    for key, operation in operations(server.get("/openapi.json").json()).items():
        assert operation.get("security") == ([{"bearer": []}] if OPERATIONS[key].permission else None)


def test_asked_twice_it_says_the_same(server):
    assert server.get("/openapi.json").content == server.get("/openapi.json").content
    assert json.loads(server.get("/openapi.json").content)["info"]["title"] == "costwarden"
