"""Writes and loads through Feast's interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import applied
from tests.server.server_process import await_jobs, wait_until
from tests.servers import Server
from tests.streams.repositories import fields_without_ttl, repository
from tests.testclient import TestClient

CSV = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: csv, path: users.csv, timestamp_field: at}}
    fields: {visits: int64}
  - {name: notes, entity: user, batch: {refresh: 1h, expires: field}, fields: {note: json, sum: decimal}}
"""


@pytest.fixture
def client(store: FeatureStore) -> TestClient:
    return TestClient(create_app(ServerContext(store, Limits(entities=300))))


@pytest.fixture
def loadable(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    (tmp_path / "users.csv").write_text(
        "user_id,visits,at\nu1,1,2026-11-22T08:00:00Z\nu1,2,2026-11-22T09:00:00Z\n"
    )
    with applied(tmp_path, valkey.url, CSV) as store:
        yield store
        await_jobs()


def value(store: FeatureStore, feature: str, entity: str = "u1") -> Any:
    name = feature.partition(":")[2]
    return store.get_online_features([feature], [{"user_id": entity}]).to_dict()[name][0]


def test_a_push_writes_a_batch_view_and_a_stream_view(
    client: TestClient, store: FeatureStore, valkey: Server
) -> None:
    frame = {"user_id": ["u1", "u2"], "country": ["NO", None], "tx_count_7d": [3, 4]}
    result = client.post(
        "/push", json={"push_source_name": "profile", "df": frame, "to": "online"}
    )
    assert (result.status_code, result.content) == (200, b"")
    frame = {"user_id": ["u1"], "tx_count_5m": [9]}
    assert client.post("/push", json={"push_source_name": "activity", "df": frame}).is_success
    assert value(store, "profile:country") == "NO"
    assert value(store, "profile:country", "u2") is None
    assert value(store, "activity:tx_count_5m") == 9
    with valkey.client() as there:
        assert fields_without_ttl(there) == []
        assert 0 < there.hpttl("fs:user:u1", "tx_count_5m")[0] <= 300_000


def test_columns_that_feast_clients_add_are_accepted(
    client: TestClient, store: FeatureStore
) -> None:
    body = {
        "feature_view_name": "profile",
        "df": {
            "user_id": ["u1"],
            "country": ["SE"],
            "event_timestamp": ["2026-11-22T08:00:00"],
            "created": [None],
            "t": ["2026-11-22T08:00:00"],
        },
        "allow_registry_cache": False,
    }
    result = client.post("/write-to-online-store", json=body)
    assert (result.status_code, result.json()) == (200, None)
    assert value(store, "profile:country") == "SE"


def test_event_timestamps_order_the_rows_of_a_push(tmp_path: Path, valkey: Server) -> None:
    with repository(tmp_path, valkey.url) as store:
        client = TestClient(create_app(ServerContext(store)))
        now = store.handle.now_ms()
        for step, age_ms in ((1, 5000), (2, 9000)):
            frame = {"user_id": ["u1"], "step": [step], "event_timestamp": [_naive(now - age_ms)]}
            body = {"push_source_name": "session", "df": frame}
            assert client.post("/push", json=body).status_code == 200
        assert value(store, "session:step") == 1
        without = {"push_source_name": "session", "df": {"user_id": ["u1"], "step": [1]}}
        assert client.post("/push", json=without).status_code == 422


def test_a_frame_is_ordered_by_the_time_of_its_view_and_read_with_it(
    tmp_path: Path, valkey: Server
) -> None:
    definitions = CSV.replace("refresh: 1h, source", "refresh: 1h, ordering: event_time, source")
    with applied(tmp_path, valkey.url, definitions) as store:
        client = TestClient(create_app(ServerContext(store)))
        for name, day in (("at", 3), ("event_timestamp", 2), ("at", 1)):
            frame = {"user_id": ["u1"], "visits": [day], name: [f"2026-11-0{day}T00:00:00"]}
            body = {"push_source_name": "profile", "df": frame}
            assert client.post("/push", json=body).status_code == 200
        without = {"push_source_name": "profile", "df": {"user_id": ["u1"], "visits": [1]}}
        assert client.post("/push", json=without).status_code == 422
        request = {"entities": {"user_id": ["u1", "u2"]}, "features": ["profile:visits"]}
        visits = client.post("/get-online-features", json=request).json()["results"][1]
    assert visits["values"] == [3, None]
    assert visits["event_timestamps"] == ["2026-11-03T00:00:00Z", "1970-01-01T00:00:00Z"]


def _naive(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None).isoformat()


def test_json_strings_are_parsed_and_decimals_keep_every_digit(loadable: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(loadable)))
    body = (
        '{"feature_view_name": "notes", "df": {"user_id": ["u1", "u2"],'
        ' "note": ["{\\"a\\": 1.5}", [0.5]], "sum": [0.1234567890123456789, "2"]}}'
    )
    assert client.post("/write-to-online-store", content=body).status_code == 200
    assert value(loadable, "notes:note") == {"a": 1.5}
    assert str(value(loadable, "notes:sum")) == "0.1234567890123456789"


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/push", {"push_source_name": "nothing", "df": {}}, 422, "PushSourceNotFoundException"),
        ("/write-to-online-store", {"feature_view_name": "nothing", "df": {}}, 404, "FeatureViewNotFoundException"),
        ("/materialize", {"feature_views": ["nothing"]}, 404, "FeatureViewNotFoundException"),
        ("/push", {"push_source_name": "profile", "df": {}, "to": "offline"}, 422, "cannot push to 'offline'"),
        ("/push", {"push_source_name": "profile"}, 422, "expected an object"),
        ("/push", {"push_source_name": "profile", "df": []}, 422, "expected an object"),
        ("/push", {"push_source_name": "profile", "df": {}}, 422, "the frame has no columns"),
        ("/push", {"push_source_name": "profile", "df": {"user_id": "u1"}}, 422, "a list of values"),
        ("/push", {"push_source_name": "profile", "df": {"user_id": ["u1"], "country": []}}, 422, "differ in length"),
        ("/push", {"push_source_name": "profile", "df": {"user_id": ["u1"], "county": [1]}}, 422, "did you mean 'country'"),
        ("/push", {"push_source_name": "profile", "df": {"country": ["NO"]}}, 422, "null is not allowed"),
        ("/push", {"push_source_name": "profile", "df": {"user_id": ["u"] * 301}}, 422, "at most 300 rows, not 301"),
        ("/push", {"push_source_name": 5, "df": {}}, 422, "expected a string"),
        ("/materialize", {"start_ts": "yesterday"}, 422, "'yesterday' is not a time"),
        ("/materialize", {"start_ts": "2026-11-23", "end_ts": "2026-11-22"}, 422, "is after the end"),
        ("/materialize", {"feature_views": "profile"}, 422, "expected a list"),
        ("/materialize", {"feature_views": ["scores"]}, 422, "no batch source"),
        ("/materialize", {"version": "v2"}, 422, "not supported"),
        ("/materialize?async=null", {}, 422, "true or false"),
        ("/materialize-incremental", {}, 422, "expected a string"),
    ],
)  # fmt: skip
def test_a_client_error_is_4xx(
    client: TestClient, path: str, body: Any, status: int, text: str
) -> None:
    result = client.post(path, json=body)
    assert result.status_code == status
    assert text in result.text


@pytest.mark.parametrize(
    ("view", "field"), [("profile", "tx_count_7d"), ("activity", "tx_count_5m")]
)
def test_one_invalid_row_refuses_the_whole_frame(
    client: TestClient, valkey: Server, view: str, field: str
) -> None:
    ids = [f"u{i}" for i in range(300)]
    frame = {"user_id": ids, field: [1] * 299 + ["many"]}
    result = client.post("/push", json={"push_source_name": view, "df": frame})
    assert result.status_code == 422
    assert "299" in result.json()["error"]["where"]
    with valkey.client() as there:
        assert there.keys("fs:*") == []


@pytest.mark.parametrize(
    "text", ['{"df": {"a": 1, "a": 2}}', '{"df": NaN}', "[" * 100_000, f"1e{'9' * 99}"]
)
def test_ambiguous_and_non_finite_json_is_refused(client: TestClient, text: str) -> None:
    assert client.post("/push", content=text).status_code == 400


def test_materialize_loads_the_rows_of_its_time_window(loadable: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(loadable)))
    body = {
        "start_ts": "2026-11-22T00:00:00",
        "end_ts": "2026-11-22T08:30:00",
        "feature_views": None,
    }
    result = client.post("/materialize", json=body)
    assert (result.status_code, result.json()) == (200, None)
    assert value(loadable, "profile:visits") == 1
    older = {"end_ts": "2026-11-22T08:30:00+00:00"}
    assert client.post("/materialize-incremental", json=older).status_code == 200
    assert value(loadable, "profile:visits") == 1
    assert client.post("/materialize", json={"disable_event_timestamp": True}).status_code == 200
    ignored: dict[str, object] = {"disable_event_timestamp": True, "start_ts": 1e177}
    assert client.post("/materialize", json=ignored).status_code == 422
    assert value(loadable, "profile:visits") == 2
    refused = client.post("/materialize-incremental", json=older)
    assert (refused.status_code, "OlderRowsError" in refused.text) == (422, True)
    assert value(loadable, "profile:visits") == 2
    for path in ("/materialize", "/materialize-incremental"):
        for option, visits in (("missing_only", 2), ("allow_older", 1)):
            assert client.post(path, json={**older, option: True}).status_code == 200
            assert value(loadable, "profile:visits") == visits
        client.post("/materialize", json={})
    both = {**older, "allow_older": True, "missing_only": True}
    assert client.post("/materialize?async=true", json=both).status_code == 422


def test_an_asynchronous_materialize_locks_its_view(
    loadable: FeatureStore, valkey: Server
) -> None:
    with TestClient(create_app(ServerContext(loadable))) as client, valkey.client() as there:
        holder = {"host": "elsewhere", "pid": 1, "since_ms": 0, "token": ""}
        there.set("fs:@lock:profile", json.dumps(holder), px=60_000)
        result = client.post("/materialize?async=true", json={})
        assert result.status_code == 409
        assert "is already being loaded" in result.json()["error"]["message"]
        there.delete("fs:@lock:profile")
        result = client.post("/materialize?async=true", json={"feature_views": ["profile"]})
        assert (result.status_code, result.json()) == (
            202,
            {"status": "accepted", "feature_views": ["profile"]},
        )
        wait_until(lambda: value(loadable, "profile:visits") == 2)
    assert threading.active_count() < 20
