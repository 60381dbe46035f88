"""Writes and loads under `/v1`, the registry and the status."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import FRAUD, applied, write_repo
from tests.server.server_process import await_jobs, wait_until
from tests.servers import Server
from tests.streams.repositories import repository, ttl_ms
from tests.testclient import TestClient

WINDOWS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: tx
    entity: user
    stream: {refresh: 1m, once: {event_id: id}}
    inputs: {amount: float64}
    fields: {tx_count_10m: {type: int64, aggregate: count, window: 10m}}
"""


@pytest.fixture
def client(store: FeatureStore) -> Iterator[TestClient]:
    with TestClient(create_app(ServerContext(store, Limits(entities=300)))) as client:
        yield client


def test_rows_are_written_to_a_batch_view(client: TestClient, store: FeatureStore) -> None:
    rows = [{"user_id": "u1", "country": "NO", "tags": ["a"]}, {"user_id": "u2"}]
    result = client.post("/v1/views/profile/write", json={"rows": rows})
    assert result.json() == {
        "view": "profile",
        "written": 2,
        "dropped_older": 0,
        "dropped_expired": 0,
        "repeated": 0,
    }
    assert store.online_reader("fraud_v1").read("u1").tags == ["a"]
    assert store.load_history() == []


def test_a_store_flushed_under_a_server_is_read_but_not_written_until_apply(
    client: TestClient, store: FeatureStore, valkey: Server
) -> None:
    path, body = "/v1/views/profile/write", {"rows": [{"user_id": "u1", "country": "NO"}]}
    assert client.post(path, json=body).status_code == 200
    with valkey.client() as redis:
        redis.flushall()
        wait_until(lambda: client.post(path, json=body).status_code == 503)
        refused = client.post(path, json=body).json()
        assert "featurekit apply" in str(refused)
        events = {"rows": [{"user_id": "u1", "tx_count_5m": 3}]}
        assert client.post("/v1/views/activity/write", json=events).status_code == 503
        assert client.post("/v1/materialize", json={"views": ["profile"]}).status_code == 503
        read = client.post("/v1/services/fraud_v1/read", json={"entities": [{"user_id": "u1"}]})
        assert read.status_code == 200
        redis.flushall()  # a row may have been written within the first second
        store.apply()
        assert client.post(path, json=body).json()["written"] == 1


def test_events_are_written_to_a_stream_view_with_their_own_ttl(
    client: TestClient, valkey: Server
) -> None:
    body: dict[str, Any] = {"rows": [{"user_id": "u1", "tx_count_5m": 3}], "ttl_s": 1.5}
    assert client.post("/v1/views/activity/write", json=body).json()["written"] == 1
    assert ttl_ms(valkey, "fs:user:u1", "tx_count_5m") <= 1500


def test_late_events_are_counted_in_the_response(tmp_path: Path, valkey: Server) -> None:
    with repository(tmp_path, valkey.url) as store:
        now_ms = store.handle.now_ms()
        times = [now_ms, now_ms - 1000, now_ms - 3_600_000]
        rows = [{"user_id": "u1", "step": 1, "event_timestamp": ms} for ms in times]
        client = TestClient(create_app(ServerContext(store)))
        result = client.post("/v1/views/session/write", json={"rows": rows})
    assert result.json() == {
        "view": "session",
        "written": 1,
        "dropped_older": 1,
        "dropped_expired": 1,
        "repeated": 0,
    }


def test_repeated_events_of_windows_are_counted_in_the_response(
    tmp_path: Path, valkey: Server
) -> None:
    with repository(tmp_path, valkey.url, WINDOWS) as store:
        rows = [{"user_id": "u1", "id": each, "amount": 2.5} for each in ("a", "b", "a")]
        client = TestClient(create_app(ServerContext(store)))
        result = client.post("/v1/views/tx/write", json={"rows": rows})
    counts = {"written": 2, "dropped_older": 0, "dropped_expired": 0, "repeated": 1}
    assert result.json() == {"view": "tx", **counts}


def test_an_event_of_any_stream_view_may_have_a_time(client: TestClient) -> None:
    now_ms = time.time_ns() // 1_000_000
    rows = [
        {"user_id": "u1", "tx_count_5m": 1, "event_timestamp": now_ms},
        {"user_id": "u1", "tx_count_5m": 2, "event_timestamp": 1},
    ]
    result = client.post("/v1/views/activity/write", json={"rows": rows})
    counts = {"written": 1, "dropped_older": 0, "dropped_expired": 1, "repeated": 0}
    assert result.json() == {"view": "activity", **counts}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/views/nothing/write", {"rows": []}, 404, "unknown feature view 'nothing'"),
        ("/v1/views/profile/write", {}, 422, "expected a list"),
        ("/v1/views/profile/write", {"rows": [5]}, 422, "an object of join keys and fields"),
        ("/v1/views/profile/write", {"rows": [{"user_id": "u1", "x": 1}]}, 422, "no such field"),
        ("/v1/views/profile/write", {"rows": [{"user_id": "u1", "tx_count_7d": -1}]}, 422, "is below min"),
        ("/v1/views/profile/write", {"rows": [{}], "ttl_s": 5}, 422, "its TTL is declared in YAML"),
        ("/v1/views/activity/write", {"rows": [{"user_id": "u1", "tx_count_5m": 1.5}]}, 422, "not an int64"),
        ("/v1/views/activity/write", {"rows": [{"user_id": "u1", "x": 1}]}, 422, "no such field"),
        ("/v1/views/activity/write", {"rows": [{"user_id": "u1", "event_timestamp": "soon"}]}, 422, "is not a time"),
        ("/v1/views/activity/write", {"rows": [], "ttl_s": "x"}, 422, "expected a number"),
        ("/v1/views/activity/write", {"rows": [], "ttl_s": 1e300}, 422, "a number of seconds"),
        ("/v1/views/activity/write", {"rows": [], "ttl_s": 0}, 422, "is not a TTL"),
        ("/v1/views/activity/write", {"rows": [{}] * 301}, 422, "at most 300 rows, not 301"),
        ("/v1/materialize", {"views": ["nothing"]}, 404, "unknown feature view 'nothing'"),
        ("/v1/materialize", {"start": 5}, 422, "expected a string"),
        ("/v1/materialize", {"start": "soon"}, 422, "'soon' is not a time"),
        ("/v1/materialize", {"start": "soon", "wait": False}, 422, "'soon' is not a time"),
        ("/v1/materialize", {"when": 1}, 422, "unknown member 'when'"),
        ("/v1/materialize", {"allow_older": 1}, 422, "expected true or false"),
        ("/v1/materialize", {"allow_older": True, "missing_only": True}, 422, "exclude each other"),
    ],
)  # fmt: skip
def test_a_client_error_is_one_message(
    client: TestClient, path: str, body: Any, status: int, text: str
) -> None:
    result = client.post(path, json=body)
    assert result.status_code == status
    assert text in result.json()["error"]["message"]


DATED = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, ORDERING source: {type: csv, path: users.csv, timestamp_field: at}}
    fields: {visits: int64}
"""


def test_a_load_of_older_rows_takes_the_options_of_the_command(
    tmp_path: Path, valkey: Server
) -> None:
    (tmp_path / "users.csv").write_text(
        "user_id,visits,at\nu1,1,2026-11-01\nu2,1,2026-11-01\nu1,2,2026-11-02\n"
    )
    with (
        applied(tmp_path, valkey.url, DATED.replace("ORDERING ", "")) as store,
        TestClient(create_app(ServerContext(store))) as client,
    ):
        path, window = "/v1/materialize", {"end": "2026-11-02"}
        assert client.post(path, json={"start": "2026-11-02"}).status_code == 200
        assert client.post(path, json=window).status_code == 422
        [report] = client.post(path, json={**window, "missing_only": True}).json()["reports"]
        assert (report["rows_written"], report["rows_kept"]) == (1, 1)
        [report] = client.post(path, json={**window, "allow_older": True}).json()["reports"]
        assert report["rows_written"] == 2
        assert store.online_reader(["profile:visits"]).read("u1").visits == 1


def test_rows_of_a_view_that_is_ordered_by_time_have_a_time(
    tmp_path: Path, valkey: Server
) -> None:
    with (
        applied(tmp_path, valkey.url, DATED.replace("ORDERING", "ordering: event_time,")) as store,
        TestClient(create_app(ServerContext(store))) as client,
    ):
        path, row = "/v1/views/profile/write", {"user_id": "u1", "visits": 2}
        refused = client.post(path, json={"rows": [row]})
        assert refused.status_code == 422
        assert "must have a time" in refused.json()["error"]["message"]
        times: list[str | int] = [
            "2026-11-02T00:00:00Z",
            1793491200000,
        ]  # the second is a day older
        bodies = [{"rows": [{**row, "event_timestamp": time}]} for time in times]
        written, dropped = [client.post(path, json=body).json() for body in bodies]
        assert (written["written"], written["dropped_older"]) == (1, 0)
        assert (dropped["written"], dropped["dropped_older"]) == (0, 1)
        assert store.metrics().loads["profile"].rows_kept == 1
        document = client.get("/openapi.json").json()["components"]["schemas"]["profile_given"]
        assert "event_timestamp" in document["required"]


def test_materialize_returns_reports_or_runs_in_the_background(
    tmp_path: Path, valkey: Server
) -> None:
    (tmp_path / "users.csv").write_text("user_id,visits\nu1,1\n")
    definitions = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: csv, path: users.csv}}
    fields: {visits: int64}
"""
    with (
        applied(tmp_path, valkey.url, definitions) as store,
        TestClient(create_app(ServerContext(store))) as client,
    ):
        report = client.post("/v1/materialize", json={}).json()["reports"][0]
        assert (report["view"], report["rows_written"]) == ("profile", 1)
        result = client.post("/v1/materialize", json={"views": ["profile"], "wait": False})
        assert (result.status_code, result.json()["views"]) == (202, ["profile"])
        wait_until(lambda: len(store.load_history()) == 2)
        await_jobs()


def test_the_registry_is_returned_as_a_whole_and_by_name(
    client: TestClient, store: FeatureStore
) -> None:
    whole = client.get("/v1/registry").json()
    assert whole["fingerprint"] == store.compiled.fingerprint
    for kind in ("entities", "views", "services"):
        assert client.get(f"/v1/{kind}").json()[kind] == whole[kind]
        for document in whole[kind]:
            assert client.get(f"/v1/{kind}/{document['name']}").json() == document
    view = client.get("/v1/views/profile").json()
    assert (view["written"], view["ttl_ms"], view["services"]) == (
        "batch",
        86_400_000,
        ["both", "fraud_v1"],
    )
    assert view["fields"][1] == {
        "kind": "field",
        "name": "tx_count_7d",
        "type": "int64",
        "default": 0,
        "min": 0,
        "ttl_ms": 86_400_000,
    }
    service = client.get("/v1/services/both").json()
    assert service["entities"] == ["user", "merchant"]
    assert service["features"][0] == "profile:tx_count_7d"
    assert client.get("/v1/entities/route").json()["join_keys"] == [
        {"name": "origin", "type": "string"},
        {"name": "dest", "type": "string"},
    ]


@pytest.mark.parametrize("kind", ["entities", "views", "services"])
def test_an_unknown_name_is_404_with_the_known_names(client: TestClient, kind: str) -> None:
    result = client.get(f"/v1/{kind}/nothing")
    assert result.status_code == 404
    assert "known: " in result.json()["error"]["hint"]


def test_the_status_contains_each_view(client: TestClient) -> None:
    result = client.get("/v1/status").json()
    assert (result["registry_error"], result["store_state"]) == ("", "same")
    states = {state["view"]: state for state in result["views"]}
    assert (states["profile"]["state"], states["profile"]["reason"]) == ("never", "never loaded")
    assert states["activity"]["kind"] == "stream"


def test_a_server_is_ready_if_a_registry_is_applied_and_the_store_answers(
    tmp_path: Path, valkey: Server
) -> None:
    with (
        FeatureStore(write_repo(tmp_path, valkey.url, FRAUD)) as store,
        TestClient(create_app(ServerContext(store))) as client,
    ):
        result = client.get("/ready")
        assert (result.status_code, result.json()["reason"]) == (503, "nothing is applied yet")
        store.apply()
        assert client.get("/ready").json()["ready"] is True
        valkey.stop()
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        valkey.start()
        assert client.get("/ready").status_code == 200
