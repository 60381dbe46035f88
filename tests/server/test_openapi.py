"""The OpenAPI document is valid, follows the registry and describes the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.context import ServerContext
from tests.promise.repos import ALL_TYPES, FRAUD, applied
from tests.servers import Server
from tests.testclient import TestClient

TYPED = """
entities: [{name: user, join_keys: {user_id: string, day: date}}]
feature_views:
  - name: activity
    entity: user
    description: What a user does.
    stream: {refresh: 1m, ordering: event_time}
    fields:
      count: {type: int64, default: 1, min: 1, max: 9, description: How often.}
      device: {type: string, one_of: [ios, android], required: true}
      code: {type: string, pattern: '[A-Z]{2}', max_length: 5}
      odd: {type: string, pattern: '(?i)no'}
      share: {type: float64, allow_nan: true}
      sum: {type: decimal, deprecated: true}
      notes: json
      tags: {type: array<string>, max_length: 3}
      face: 'vector<float32, 2>'
feature_services: [{name: typed, description: For tests., features: [activity]}]
"""


def document(store: FeatureStore, **more: Any) -> Any:
    return TestClient(create_app(ServerContext(store, **more))).get("/openapi.json").json()


@pytest.fixture
def typed(tmp_path: Path, valkey: Server) -> Iterator[Any]:
    with applied(tmp_path, valkey.url, TYPED) as store:
        yield document(store)


def test_the_schema_of_a_service_has_the_types_of_its_features(typed: Any) -> None:
    schemas = typed["components"]["schemas"]
    request, row = schemas["typed_request"], schemas["typed_row"]
    assert request["properties"]["entities"]["items"] == {
        "type": "object",
        "properties": {
            "user_id": {"type": "string", "minLength": 1},
            "day": {"type": "string", "format": "date"},
        },
        "additionalProperties": False,
        "required": ["user_id", "day"],
    }
    cells = row["properties"]["features"]["properties"]
    values = {name: cell["properties"]["value"] for name, cell in cells.items()}
    null = {"type": "null"}
    count = {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9}
    assert values == {
        "count": count | {"description": "How often.", "default": 1},
        "device": {"anyOf": [{"enum": ["ios", "android"]}, null]},
        "code": {"anyOf": [{"type": "string", "pattern": "^(?:[A-Z]{2})$", "maxLength": 5}, null]},
        "odd": {"anyOf": [{"type": "string"}, null]},
        "share": {
            "anyOf": [
                {
                    "anyOf": [
                        {"type": "number", "format": "double"},
                        {"enum": ["nan", "inf", "-inf"]},
                    ]
                },
                null,
            ]
        },
        "sum": {
            "anyOf": [{"type": "string", "pattern": r"^-?[0-9]{1,38}(\.[0-9]{1,38})?$"}, null],
            "deprecated": True,
        },
        "notes": {},
        "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}, "maxItems": 3}, null]},
        "face": values["face"],
    }
    assert values["face"]["anyOf"][0]["minItems"] == values["face"]["anyOf"][0]["maxItems"] == 2


def test_the_schema_of_a_view_has_the_types_of_its_fields(typed: Any) -> None:
    given = typed["components"]["schemas"]["activity_given"]
    assert given["required"] == ["user_id", "day", "event_timestamp"]
    assert given["properties"]["device"] == {"enum": ["ios", "android"]}
    assert {"type": "null"} in given["properties"]["code"]["anyOf"]
    assert typed["paths"]["/v1/views/activity/write"]["post"]["description"] == "What a user does."


def test_required_fields_are_required_in_a_batch_row(tmp_path: Path, valkey: Server) -> None:
    definitions = FRAUD.replace("country: string", "country: {type: string, required: true}", 1)
    with applied(tmp_path, valkey.url, definitions) as store:
        schemas = document(store)["components"]["schemas"]
    assert schemas["profile_given"]["required"] == ["user_id", "country"]


@pytest.mark.parametrize("definitions", [FRAUD, TYPED, ALL_TYPES.replace(", source: SOURCE", "")])
def test_the_document_is_valid(tmp_path: Path, valkey: Server, definitions: str) -> None:
    with applied(tmp_path, valkey.url, definitions) as store:
        result = document(store)
    schemathesis.openapi.from_dict(result).validate()
    for schema in result["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_tokens_are_required_if_any_are_set(store: FeatureStore) -> None:
    assert "security" not in document(store)
    client = TestClient(create_app(ServerContext(store, tokens=Tokens.parse("read:abc"))))
    assert client.get("/openapi.json").status_code == 401
    result = client.get("/openapi.json", headers={"Authorization": "Bearer abc"}).json()
    assert result["security"] == [{"bearer": []}]
    assert result["paths"]["/health"]["get"]["security"] == []


def test_the_document_follows_the_registry(tmp_path: Path, valkey: Server) -> None:
    with applied(tmp_path, valkey.url) as store:
        client = TestClient(create_app(ServerContext(store)))
        before = client.get("/openapi.json")
        known = {"If-None-Match": before.headers["etag"]}
        assert client.get("/openapi.json", headers=known).status_code == 304
        with applied(tmp_path, valkey.url, FRAUD.replace("name: both", "name: all_of_it")):
            store.reload()
        after = client.get("/openapi.json", headers=known)
    assert "/v1/services/all_of_it/read" in after.json()["paths"]
    assert "/v1/services/both/read" not in after.json()["paths"]


def test_every_route_is_in_the_document(store: FeatureStore) -> None:
    result = document(store)["paths"]
    routes = {getattr(route, "path", "") for route in create_app(ServerContext(store)).routes}
    typed = {"/v1/services/{name}/read", "/v1/views/{name}/write"}
    assert routes - typed - {"/", "/openapi.json", "/docs", "/docs/{name}"} <= set(result)


EXACT = (
    "read_fraud_v1",
    "registry",
    "status",
    "entities",
    "views",
    "services",
    "one_of_",
    "ready",
)
"""Operations that accept everything their schemas allow; others refuse `3.0` as an integer."""


EXAMPLES = min(5, settings().max_examples // 12)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_server_conforms_to_the_document(store: FeatureStore, mode: GenerationMode) -> None:
    context = ServerContext(store, allowed_hosts=frozenset(["testserver"]))
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(context))
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and operation.method != "post":
            continue
        name = operation.definition.raw["operationId"]
        loose = [] if name.startswith(EXACT) else [positive_data_acceptance]

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, derandomize=True, database=None)
        def holds(case: Any) -> None:
            case.call_and_validate(excluded_checks=loose)  # noqa: B023 - called at once

        holds()


def test_the_page_loads_no_other_origin_and_runs_no_inline_script(
    store: FeatureStore,
) -> None:
    client = TestClient(create_app(ServerContext(store, tokens=Tokens.parse("read:abc"))))
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    for name in ("docs.js", "docs.css"):
        assert f"docs/{name}" in page.text
        file = client.get(f"/docs/{name}")
        assert file.status_code == 200
        assert "://" not in file.text
    assert client.get("/docs/nothing.js").status_code == 404
    assert client.get("/").text == page.text
