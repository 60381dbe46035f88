"""Derived features over HTTP, and the request data that they are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.server import reader_cache
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import applied
from tests.servers import Server
from tests.testclient import TestClient

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
requests:
  - name: payment
    fields:
      amount: {type: float64, min: 0}
      paid_at: timestamp
      note: {type: string, default: none}
      channel: string
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 24h, ordering: event_time}
    fields: {average: float64, last_login: timestamp, country: string}
  - name: risk
    derived: {from: [profile, payment]}
    fields:
      ratio: {type: float64, expr: "amount / nullif(average, 0)", default: 1}
      idle_s: {type: float64, expr: "epoch(paid_at) - epoch(last_login)"}
      text: {type: string, expr: "note || '!'"}
feature_services:
  - {name: payments, features: [country, risk]}
  - {name: plain, features: [profile]}
""".replace("[country, risk]", "['profile:country', risk]")

SERVICE = "/v1/services/payments/read"
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SENT = {"amount": 30, "paid_at": (MIDNIGHT + timedelta(minutes=1)).isoformat()}


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, DEFINITIONS) as store:
        row = {"average": 20.0, "last_login": MIDNIGHT, "country": "NO"}
        store.write_batch("profile", {"u1": row | {"event_timestamp": MIDNIGHT}})
        yield store


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    return TestClient(create_app(ServerContext(store, Limits())))


def post(client: TestClient, entities: list[str], **members: Any) -> Any:
    body = {"entities": [{"user_id": name} for name in entities], **members}
    return client.post(SERVICE, json=body)


def test_request_data_are_one_object_or_one_for_each_entity(client: TestClient) -> None:
    [row] = post(client, ["u1"], request=SENT).json()["rows"]
    assert row["features"] == {
        "country": {"value": "NO", "status": "present"},
        "ratio": {"value": 1.5, "status": "present"},
        "idle_s": {"value": 60.0, "status": "present"},
        "text": {"value": "none!", "status": "present"},
    }
    each = [SENT, SENT | {"amount": 10, "note": "hi"}]
    first, second = post(client, ["u1", "u2"], request=each).json()["rows"]
    assert first["features"] == row["features"]
    assert second["found"] is False
    assert second["features"]["ratio"] == {"value": 1.0, "status": "default"}
    assert second["features"]["text"] == {"value": "hi!", "status": "present"}
    assert second["features"]["idle_s"] == {"value": None, "status": "missing"}


@pytest.mark.parametrize(
    ("sent", "where", "message"),
    [
        ({}, "request", "missing request value 'amount'"),
        (SENT | {"amont": 1}, "request", "unknown request value 'amont'"),
        (SENT | {"amount": "much"}, "request, value 'amount'", "'much'"),
        (SENT | {"amount": -1}, "request, value 'amount'", "below"),
        (SENT | {"paid_at": "now"}, "request value paid_at", "'now'"),
        ([SENT, SENT], "request", "2 mappings for 1 rows"),
        ([1], "request", "not 1"),
        (3, "request", "expected an object, or a list"),
    ],
)
def test_wrong_request_data_are_refused_by_name(
    client: TestClient, sent: object, where: str, message: str
) -> None:
    answer = post(client, ["u1"], request=sent)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["where"].startswith(where)
    assert message in error["message"]


def test_a_service_without_request_data_refuses_them(client: TestClient) -> None:
    body = {"entities": [{"user_id": "u1"}], "request": {"amount": 1}}
    answer = client.post("/v1/services/plain/read", json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        422,
        "unknown request value 'amount'",
    )


def test_values_of_the_declaration_that_the_service_does_not_need_are_ignored(
    client: TestClient,
) -> None:
    whole = SENT | {"channel": 7}
    for request in (whole, [whole]):
        answer = post(client, ["u1"], request=request).json()
        assert answer["rows"][0]["features"]["ratio"] == {"value": 1.5, "status": "present"}
    columns = {"user_id": ["u1"]} | {name: [value] for name, value in whole.items()}
    body = {"feature_service": "payments", "entities": columns}
    answer = client.post("/get-online-features", json=body).json()
    assert "channel" not in answer["metadata"]["feature_names"]
    assert [1.5] in [each["values"] for each in answer["results"]]
    body["entities"] = columns | {"chanel": ["web"]}
    assert client.post("/get-online-features", json=body).status_code == 422


def test_large_reads_take_the_request_data_of_each_slice(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_cache, "LARGE_CELLS", 20)
    monkeypatch.setattr(reader_cache, "SLICE_CELLS", 12)
    each = [SENT | {"amount": 20 * i} for i in range(10)]
    rows = post(client, ["u1"] * 10, request=each).json()["rows"]
    assert [row["features"]["ratio"]["value"] for row in rows] == [float(i) for i in range(10)]
    wrong = post(client, ["u1"] * 10, request=[*each[:-1], {}])
    assert wrong.json()["error"]["where"] == "request of row 9"


def test_feast_clients_send_request_data_as_columns(client: TestClient) -> None:
    columns = {"user_id": ["u1", "u2"]} | {name: [value] * 2 for name, value in SENT.items()}
    answer = client.post(
        "/get-online-features", json={"feature_service": "payments", "entities": columns}
    ).json()
    results = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert results["ratio"]["values"] == [1.5, 1.0]
    assert results["ratio"]["statuses"] == ["PRESENT", "NULL_VALUE"]
    assert results["idle_s"]["values"] == [60.0, None]
    assert results["country"]["event_timestamps"] == [
        f"{MIDNIGHT:%Y-%m-%d}T00:00:00Z",
        "1970-01-01T00:00:00Z",
    ]
    lacking = {"user_id": ["u1"], "amount": [1]}
    answer = client.post(
        "/get-online-features", json={"feature_service": "payments", "entities": lacking}
    )
    assert answer.status_code == 422
    assert "missing request value 'paid_at'" in answer.text


def test_the_openapi_document_has_the_request_data(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    asked = document["components"]["schemas"]["payments_request"]
    assert asked["required"] == ["entities", "request"]
    row = asked["properties"]["request"]["anyOf"][0]
    assert list(row["properties"]) == ["amount", "paid_at", "note", "channel"]
    assert row["required"] == ["amount", "paid_at"]
    assert "request" not in document["components"]["schemas"]["plain_request"]["properties"]
    assert "ratio" in str(document["components"]["schemas"]["payments_row"])
