"""`featurekit generate jsonschema` describes rows as readers and the HTTP server return them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from featurekit import FeatureStore
from featurekit.codegen.service_json_schema import service_schema_files
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.generators.registries import DEFINITIONS, registry
from tests.promise.repos import FRAUD, applied
from tests.servers import Server
from tests.testclient import TestClient


@pytest.mark.parametrize("definitions", DEFINITIONS.values(), ids=DEFINITIONS)
def test_every_document_is_a_json_schema(tmp_path: Path, definitions: str) -> None:
    found = registry(tmp_path, definitions)
    texts = service_schema_files(found).texts
    assert len(texts) == len(found.feature_services)
    for text in texts.values():
        jsonschema.Draft202012Validator.check_schema(json.loads(text))


def test_rows_of_python_and_of_http_are_valid(tmp_path: Path, valkey: Server) -> None:
    keys = [{"user_id": "u1", "merchant_id": 7}, {"user_id": "u2", "merchant_id": 8}]
    with applied(tmp_path, valkey.url, FRAUD) as store:
        store.write_batch("profile", {"u1": {"country": "NO", "tx_count_7d": 3, "tags": ["a"]}})
        schema = _schema(store, "both")
        rows: list[dict[str, Any]] = store.get_online_features("both", keys).to_json()
        client = TestClient(create_app(ServerContext(store)))
        answer = client.post("/v1/services/both/read", json={"entities": keys}).json()
    assert rows[0]["tx_count_7d"] == 3
    for row in rows:
        jsonschema.validate(row, schema)
    jsonschema.validate(answer, schema | {"$ref": "#/$defs/response"} | _open())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rows[0] | {"tx_count_7d": None}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rows[0] | {"more": 1}, schema)


def _schema(store: FeatureStore, service: str) -> dict[str, Any]:
    text = service_schema_files(store.applied).texts[f"{service}.schema.json"]
    schema: dict[str, Any] = json.loads(text)
    return schema


def _open() -> dict[str, Any]:
    """Return what removes the rules of the root, which describes another kind of row."""
    return {"properties": {}, "required": [], "additionalProperties": True}
