"""`POST /get-online-features` in the form that Feast clients send and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import ALL_TYPES, applied
from tests.servers import Server
from tests.streams.repositories import repository
from tests.testclient import TestClient

EPOCH = "1970-01-01T00:00:00Z"
PATH = "/get-online-features"


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    store.write_batch(
        "profile", {"u1": {"country": "NO", "tx_count_7d": 3}, "u2": {"country": "SE"}}
    )
    store.write_batch("shop", {7: {"sales": 12}})
    return TestClient(create_app(ServerContext(store, Limits(entities=5))))


def ask(client: TestClient, entities: Any, features: Any, **more: Any) -> Any:
    which = "feature_service" if isinstance(features, str) else "features"
    answer = client.post(PATH, json={"entities": entities, which: features, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def error(client: TestClient, body: Any) -> tuple[int, Any]:
    answer = client.post(PATH, json=body)
    return answer.status_code, answer.json()


def test_a_response_has_one_result_per_column_join_keys_first(client: TestClient) -> None:
    features = ["profile:country", "profile:tx_count_7d"]
    answer = ask(
        client,
        {"user_id": ["u1", "u2", "nobody"]},
        features,
        full_feature_names=False,
        include_feature_view_version_metadata=True,
    )
    times = [EPOCH] * 3
    assert answer == {
        "results": [
            {
                "values": ["u1", "u2", "nobody"],
                "statuses": ["PRESENT", "PRESENT", "PRESENT"],
                "event_timestamps": times,
            },
            {
                "values": ["NO", "SE", None],
                "statuses": ["PRESENT", "PRESENT", "NOT_FOUND"],
                "event_timestamps": times,
            },
            {
                "values": [3, 0, 0],
                "statuses": ["PRESENT", "NULL_VALUE", "NOT_FOUND"],
                "event_timestamps": times,
            },
        ],
        "metadata": {
            "feature_names": ["user_id", "country", "tx_count_7d"],
            "feature_view_metadata": [{"name": "profile"}],
        },
    }


def test_a_feature_service_is_read_by_name(client: TestClient) -> None:
    answer = ask(client, {"user_id": ["u1"], "merchant_id": [7]}, "both")
    names = answer["metadata"]["feature_names"]
    assert names[:2] == ["user_id", "merchant_id"]
    assert names[2:] == ["tx_count_7d", "sales", "profile__country", "shop__country"]
    assert [result["values"] for result in answer["results"]] == [
        ["u1"],
        [7],
        [3],
        [12],
        ["NO"],
        [None],
    ]


def test_entities_of_a_row_are_found_independently(client: TestClient) -> None:
    answer = ask(client, {"user_id": ["u1"], "merchant_id": [8]}, "both")
    statuses = [result["statuses"][0] for result in answer["results"][2:]]
    assert statuses == ["PRESENT", "NOT_FOUND", "PRESENT", "NOT_FOUND"]


def test_full_names_contain_the_view(client: TestClient) -> None:
    answer = ask(client, {"user_id": ["u1"]}, ["profile:country"], full_feature_names=True)
    assert answer["metadata"]["feature_names"] == ["user_id", "profile__country"]


def test_a_request_without_entities_is_valid(client: TestClient) -> None:
    answer = ask(client, {"user_id": []}, ["profile:country"])
    empty: dict[str, list[object]] = {"values": [], "statuses": [], "event_timestamps": []}
    assert answer["results"] == [empty, empty]


def test_bytes_that_do_not_decode_are_invalid(client: TestClient, valkey: Server) -> None:
    with valkey.client() as there:
        there.hset("fs:user:u1", "tx_count_7d", "three")
        there.set("fs:user:u3", "no hash")
    answer = ask(client, {"user_id": ["u1", "u3"]}, ["profile:tx_count_7d"])
    assert answer["results"][1]["statuses"] == ["INVALID", "INVALID"]
    assert answer["results"][1]["values"] == [0, 0]


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({"features": ["profil:country"]}, "FeatureViewNotFoundException", "Feature view profil does not exist in project shop"),
        ({"feature_service": "fraud"}, "FeatureServiceNotFoundException", "Feature service fraud does not exist in project shop"),
        ({"features": ["profile:county"]}, "FeastObjectNotFoundException", "unknown field 'county'"),
    ],
)  # fmt: skip
def test_an_unknown_name_returns_feasts_own_error(
    client: TestClient, body: dict[str, Any], kind: str, text: str
) -> None:
    status, result = error(client, {"entities": {"user_id": ["u1"]}} | body)
    detail = json.loads(result)
    assert (status, detail["module"], detail["class"]) == (404, "feast.errors", kind)
    assert text in detail["message"]
    assert "did you mean" in detail["message"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"entities": {"user_id": ["u1"]}},
        {"entities": [{"user_id": "u1"}], "features": ["profile:country"]},
        {"entities": {"user_id": "u1"}, "features": ["profile:country"]},
        {"entities": {"user_id": ["u1"]}, "features": "profile:country"},
        {"entities": {"user_id": ["u1"]}, "features": [1]},
        {"entities": {"user_id": ["u1"]}, "features": [":"]},
        {"entities": {"user_id": ["u1"]}, "feature_service": 1},
        {"entities": {"user_id": ["u1"]}, "feature_service": "profile:country"},
        {"entities": {"user_id": ["u1"]}, "feature_service": "both", "full_feature_names": "no"},
        {"entities": {"user": ["u1"]}, "features": ["profile:country"]},
        {"entities": {}, "features": ["profile:country"]},
        {"entities": {"user_id": ["u1"], "x": ["u1"]}, "features": ["profile:country"]},
        {"entities": {"user_id": [7]}, "features": ["profile:country"]},
        {"entities": {"user_id": [None]}, "features": ["profile:country"]},
        {"entities": {"user_id": [""]}, "features": ["profile:country"]},
        {"entities": {"merchant_id": [2**70]}, "features": ["shop:sales"]},
        {"entities": {"merchant_id": [True]}, "features": ["shop:sales"]},
        {"entities": {"origin": ["OSL"], "dest": []}, "features": ["delays:minutes"]},
        {"entities": {"user_id": ["u"] * 6}, "features": ["profile:country"]},
    ],
)
def test_a_client_error_is_4xx(client: TestClient, body: Any) -> None:
    status, result = error(client, body)
    assert status in (404, 422)
    assert status == 404 or result["error"]["message"]


def test_an_unavailable_store_is_503(store: FeatureStore, valkey: Server) -> None:
    client = TestClient(create_app(ServerContext(store)))
    valkey.stop()
    try:
        answer = client.post(
            PATH, json={"entities": {"user_id": ["u1"]}, "features": ["profile:country"]}
        )
    finally:
        valkey.start()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["type"] == "StoreUnavailableError"


def test_values_of_every_type_have_feasts_json_form(tmp_path: Path, valkey: Server) -> None:
    values = {
        "a_string": "é",
        "a_int64": 2**60,
        "a_float64": float("-inf"),
        "a_float32": 0.1,
        "a_bytes": b"\xff",
        "a_json": {"n": [2**70]},
    }
    with applied(tmp_path, valkey.url, ALL_TYPES.replace(", source: SOURCE", "")) as store:
        store.write_jsonl(
            "everything",
            [
                json.dumps(
                    {
                        "user_id": "u1",
                        **values,
                        "a_bytes": "/w==",
                        "a_float64": "-inf",
                        "a_decimal": "1.50",
                        "a_timestamp": "2026-11-22T10:00:00+02:00",
                        "a_date": "2026-11-22",
                        "b_float64": [0.5, 1],
                        "b_date": ["2026-11-22"],
                        "c_vector": [0.1, 1, 2],
                    }
                )
            ],
        )
        answer = ask(TestClient(create_app(ServerContext(store))), {"user_id": ["u1"]}, "all")
    names = answer["metadata"]["feature_names"]
    got = {n: r["values"][0] for n, r in zip(names, answer["results"], strict=True)}
    expected = values | {
        "user_id": "u1",
        "a_bytes": "/w==",
        "a_float64": "-Infinity",
        "a_decimal": "1.5",
        "a_timestamp": "2026-11-22T08:00:00Z",
        "a_date": "2026-11-22",
        "b_float64": [0.5, 1.0],
        "b_date": ["2026-11-22"],
        "c_vector": [0.1, 1.0, 2.0],
    }
    assert {n: v for n, v in got.items() if v is not None} == expected


def test_event_timestamps_come_from_a_view_with_event_time(tmp_path: Path, valkey: Server) -> None:
    with repository(tmp_path, valkey.url) as store:
        now_ms = store.handle.now_ms()
        at_ms = now_ms - now_ms % 1000 - 877
        store.stream_writer("session").write("u1", {"step": 1}, event_timestamp=at_ms)
        client = TestClient(create_app(ServerContext(store)))
        answer = ask(client, {"user_id": ["u1", "u2"]}, ["session:step", "activity:count"])
    assert answer["metadata"]["feature_names"] == ["user_id", "step", "count"]
    step, count = answer["results"][1:]
    assert step["event_timestamps"][0].endswith(".123Z")
    assert step["event_timestamps"][1] == EPOCH
    assert count["event_timestamps"] == [EPOCH, EPOCH]


def test_join_keys_may_be_dates(tmp_path: Path, valkey: Server) -> None:
    definitions = """
entities: [{name: day, join_keys: {day: date}}]
feature_views: [{name: weather, entity: day, batch: {refresh: 1h}, fields: {rain: float64}}]
"""
    with applied(tmp_path, valkey.url, definitions) as store:
        store.write_jsonl("weather", ['{"day": "2026-11-22", "rain": 0.5}'])
        client = TestClient(create_app(ServerContext(store)))
        answer = ask(client, {"day": ["2026-11-22"]}, ["weather:rain"])
        assert [result["values"] for result in answer["results"]] == [["2026-11-22"], [0.5]]
        body = {"entities": {"day": ["22.11."]}, "features": ["weather:rain"]}
        assert error(client, body)[0] == 422
