"""Reads under `/v1`: rows of values with their statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import applied
from tests.servers import Server
from tests.streams.repositories import repository
from tests.testclient import TestClient

SERVICE = "/v1/services/fraud_v1/read"


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    store.write_batch("profile", {"u1": {"country": "NO", "tx_count_7d": 3}})
    return TestClient(create_app(ServerContext(store, Limits(entities=3))))


def test_a_service_returns_one_row_per_entity_in_order(client: TestClient) -> None:
    body = {"entities": [{"user_id": "u2"}, {"user_id": "u1"}, {"user_id": "u2"}]}
    rows = client.post(SERVICE, json=body).json()["rows"]
    assert [row["entity"] for row in rows] == body["entities"]
    assert [row["found"] for row in rows] == [False, True, False]
    assert rows[1]["found_by"] == {"user": True}
    assert rows[1]["features"] == {
        "country": {"value": "NO", "status": "present"},
        "tx_count_7d": {"value": 3, "status": "present"},
        "tags": {"value": [], "status": "default"},
        "tx_count_5m": {"value": 0, "status": "default"},
        "device": {"value": None, "status": "missing"},
    }


def test_a_list_of_features_can_be_read(client: TestClient) -> None:
    body = {
        "features": ["profile:country"],
        "entities": [{"user_id": "u1"}],
        "full_feature_names": True,
    }
    answer = client.post("/v1/features/read", json=body).json()
    assert answer["rows"][0]["features"] == {
        "profile__country": {"value": "NO", "status": "present"}
    }


def test_a_row_is_found_only_if_all_its_entities_are(client: TestClient) -> None:
    body = {"entities": [{"user_id": "u1", "merchant_id": 8}]}
    [row] = client.post("/v1/services/both/read", json=body).json()["rows"]
    assert (row["found"], row["found_by"]) == (False, {"user": True, "merchant": False})


def test_freshness_adds_the_remaining_ttl_and_the_event_age(
    tmp_path: Path, valkey: Server
) -> None:
    with repository(tmp_path, valkey.url) as store:
        now_ms = store.handle.now_ms()
        store.stream_writer("session").write("u1", {"step": 1}, event_timestamp=now_ms - 1000)
        body = {
            "features": ["session:step", "session:score"],
            "entities": [{"user_id": "u1"}],
            "freshness": True,
        }
        client = TestClient(create_app(ServerContext(store)))
        features = client.post("/v1/features/read", json=body).json()["rows"][0]["features"]
    assert 200 < features["step"]["ttl_s"] < 300
    assert 1 <= features["step"]["age_s"] < 60
    assert features["score"]["ttl_s"] is None


def test_values_older_than_max_age_are_stale(client: TestClient, valkey: Server) -> None:
    with valkey.client() as there:
        there.pexpire("fs:user:u1", 86_400_000 - 3_600_000)
    body = {"features": ["profile:tx_count_7d"], "entities": [{"user_id": "u1"}]}
    for max_age, status in (("2h", "present"), ("30m", "stale")):
        answer = client.post("/v1/features/read", json=body | {"max_age": {"profile": max_age}})
        cell = answer.json()["rows"][0]["features"]["tx_count_7d"]
        assert cell["status"] == status
    asked = {"features": body["features"], "entities": {"user_id": ["u1"]}}
    feast = client.post("/get-online-features", json=asked | {"max_age": {"profile": "30m"}})
    assert feast.json()["results"][1]["statuses"] == ["OUTSIDE_MAX_AGE"]


def test_a_row_that_cannot_be_read_has_an_error_and_affects_no_other(
    client: TestClient, valkey: Server
) -> None:
    with valkey.client() as there:
        there.set("fs:user:u2", "no hash")
    body = {"entities": [{"user_id": "u1"}, {"user_id": "u2"}]}
    good, bad = client.post(SERVICE, json=body).json()["rows"]
    assert "error" not in good
    assert bad["error"].startswith("WRONGTYPE")
    assert bad["features"]["country"] == {"value": None, "status": "invalid"}


def test_partial_reads_mark_values_of_an_unavailable_server(
    client: TestClient, valkey: Server
) -> None:
    body: dict[str, Any] = {"entities": [{"user_id": "u1"}], "timeout_s": 2}
    valkey.stop()
    try:
        assert client.post(SERVICE, json=body).status_code == 503
        answer = client.post(SERVICE, json=body | {"partial": True})
    finally:
        valkey.start()
    assert answer.json()["rows"][0]["features"]["country"]["status"] == "unavailable"


def test_join_keys_may_be_dates(tmp_path: Path, valkey: Server) -> None:
    definitions = """
entities: [{name: day, join_keys: {day: date}}]
feature_views: [{name: weather, entity: day, batch: {refresh: 1h}, fields: {rain: float64}}]
feature_services: [{name: rain, features: [weather]}]
"""
    with applied(tmp_path, valkey.url, definitions) as store:
        store.write_jsonl("weather", ['{"day": "2026-11-22", "rain": 0.5}'])
        client = TestClient(create_app(ServerContext(store)))
        body: dict[str, Any] = {"entities": [{"day": "2026-11-22"}]}
        row = client.post("/v1/services/rain/read", json=body).json()["rows"][0]
        assert (row["entity"], row["features"]["rain"]["value"]) == (body["entities"][0], 0.5)
        for wrong in ({"day": 1}, {"day": "22.11."}, {}, 5):
            answer = client.post("/v1/services/rain/read", json={"entities": [wrong]})
            assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/services/nothing/read", {"entities": []}, 404, "unknown feature service 'nothing'"),
        (SERVICE, {}, 422, "expected a list"),
        (SERVICE, [], 422, "expected a JSON object"),
        (SERVICE, {"entities": {"user_id": ["u1"]}}, 422, "expected a list"),
        (SERVICE, {"entities": [], "fresh": True}, 422, "unknown member 'fresh'"),
        (SERVICE, {"entities": [], "freshness": 1}, 422, "expected true or false"),
        (SERVICE, {"entities": [], "timeout_s": "1"}, 422, "expected a number"),
        (SERVICE, {"entities": [], "timeout_s": 0.001}, 422, "0.001 s is out of range"),
        (SERVICE, {"entities": [], "max_age": "2m"}, 422, "expected an object"),
        (SERVICE, {"entities": [], "max_age": {"shop": "2m"}}, 422, "shop"),
        (SERVICE, {"entities": [], "max_age": {"profile": "soon"}}, 422, "soon"),
        (SERVICE, {"entities": [{"user": 1}]}, 422, "unknown join key 'user'"),
        (SERVICE, {"entities": [{"user_id": 1}]}, 422, "1 is not a string"),
        (SERVICE, {"entities": [{"user_id": "u"}] * 4}, 422, "at most 3 entities, not 4"),
        ("/v1/features/read", {"entities": []}, 422, "the list of features is empty"),
        ("/v1/features/read", {"entities": [], "features": [1]}, 422, "a list of strings"),
        ("/v1/features/read", {"entities": [], "features": ["x:y"]}, 404, "unknown feature view 'x'"),
    ],
)  # fmt: skip
def test_a_client_error_is_one_message(
    client: TestClient, path: str, body: Any, status: int, message: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
