"""Views without an entity: one hash, read once a call and joined to every row."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, FeatureKitError, RequestError, UnknownNameError
from featurekit.registry import Registry
from featurekit.repo.streaming import StreamOptions
from featurekit.server.app import create_app
from featurekit.server.console import console_routes
from featurekit.server.context import ServerContext
from tests.cli.running import run, run_json
from tests.promise.repos import applied, commands, immortal, names
from tests.promise.repos import hashes as all_hashes
from tests.servers import Server
from tests.testclient import TestClient

GLOBAL = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 24h}
    fields: {age: int64}
  - name: rates
    batch: {refresh: 1h, source: {type: csv, path: rates.csv, timestamp_field: at}}
    fields: {usd: {type: float64, default: 1}, nok: float64}
  - name: load
    stream: {refresh: 1m, ttl: 1h, source: {type: redis_stream, stream: load-events}}
    fields: {requests: int64, usd: int64}
feature_services:
  - {name: model, features: [profile, rates, "load:requests"]}
  - {name: world, features: [rates]}
"""
RATES = "at,usd,nok\n2026-01-02T00:00:00Z,1.25,11.5\n2026-01-01T00:00:00Z,1.5,12\n"
KEYS = {b"fs:_global:rates": {b"usd": b"1.25", b"nok": b"11.5"}}


def hashes(server: Server) -> dict[bytes, dict[bytes, bytes]]:
    return {key: row for key, row in all_hashes(server).items() if key.startswith(b"fs:")}


def fill(store: FeatureStore) -> None:
    (store.path / "rates.csv").write_text(RATES)
    store.materialize(["rates"])
    store.write_batch("profile", {"u1": {"age": 30}})
    store.stream_writer("load").write((), {"requests": 5})


@pytest.fixture
def model(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, GLOBAL) as store:
        fill(store)
        yield store


USERS = {"user_id": ["u1", "nobody", "u1"]}
SERVED: dict[str, list[Any]] = {
    **USERS,
    "age": [30, None, 30],
    "usd": [1.25] * 3,
    "nok": [11.5] * 3,
    "requests": [5] * 3,
}


def check(response: Any) -> None:
    assert response.to_dict() == SERVED
    assert response.found_by == {"user": [True, False, True]}
    assert response.found == [True, False, True]
    assert response.statuses["usd"] == ["present"] * 3


def test_the_row_joins_every_row_and_has_no_part_in_found(model: FeatureStore) -> None:
    check(model.get_online_features("model", USERS))
    reader = model.online_reader("model")
    row = reader.read("u1")
    assert (row.age, row.usd, row.requests) == (30, 1.25, 5)
    assert (row.found, row.found_by) == (True, {"user": True})
    rows = pickle.loads(pickle.dumps(reader)).read_many(["u1", "nobody"])
    assert [(each.age, each.nok, each.found) for each in rows] == [
        (30, 11.5, True),
        (None, 11.5, False),
    ]
    assert reader.read_many([]) == []
    assert len(reader.get({"user_id": []})) == 0


async def test_asyncio_reads_are_the_same(model: FeatureStore) -> None:
    check(await model.get_online_features_async("model", USERS))
    assert (await model.online_reader("world").read_async({})).usd == 1.25


def test_it_is_read_once_a_call_in_the_same_round_trip(
    model: FeatureStore, valkey: Server
) -> None:
    reader = model.online_reader("model")
    reader.get(USERS)
    before = model.handle.connection_stats.round_trips
    with commands(valkey) as seen:
        reader.get(USERS)
        reader.read_many(["u1", "u2"])
    assert model.handle.connection_stats.round_trips == before + 2
    assert names(seen) == {"HMGET": 3 + 2 + 2 + 2}
    assert [command[1] for command in seen].count("fs:_global:rates") == 2


def test_a_request_of_such_views_alone_needs_no_keys(model: FeatureStore) -> None:
    reader = model.online_reader("world")
    assert reader.plan.join_keys == ()
    for entity_rows, count in (([{}], 1), ({}, 1), ([{}, {}], 2), ([], 0)):
        response = reader.get(entity_rows)
        assert response.to_dict() == {"usd": [1.25] * count, "nok": [11.5] * count}
        assert response.to_rows() == [{"usd": 1.25, "nok": 11.5}] * count
        assert response.to_json() == [{"usd": 1.25, "nok": 11.5}] * count
        assert (response.found, response.found_by) == ([True] * count, {})
        assert response.to_arrow().num_rows == count
        assert response._repr_html_().count("1.25") == count
    nothing: list[Any] = [(), {}]
    for entity in nothing:
        assert reader.read(entity).nok == 11.5
        assert reader.read(entity).found
    assert [row.usd for row in reader.read_many([(), {}])] == [1.25, 1.25]
    with pytest.raises(RequestError, match=r"unknown join key 'user_id'"):
        reader.get({"user_id": ["u1"]})
    with pytest.raises(RequestError):
        reader.read("u1")


def test_absent_values_have_defaults_and_are_counted_by_row(model: FeatureStore) -> None:
    model.reset("_global")
    response = model.get_online_features("model", USERS)
    assert response.to_dict()["usd"] == [1.0] * 3
    assert response.statuses["usd"] == ["default"] * 3
    assert response.statuses["nok"] == ["missing"] * 3
    assert response.found == [True, False, True]
    reads = model.metrics()
    assert reads.reads["model"].entities == 3
    assert reads.features["rates"]["missing"] == 3
    assert reads.features["profile"]["present"] == 2


def test_ages_and_freshness_are_of_the_one_hash(model: FeatureStore) -> None:
    response = model.get_online_features("model", USERS, freshness=True)
    left = response.freshness["requests"]
    assert len(set(left)) == 1
    assert 0 < (left[0] or 0) <= 3600
    response = model.get_online_features("model", USERS, max_age={"rates": "1h", "load": "1h"})
    assert response.to_dict() == SERVED
    model.stream_writer("load").write((), {"requests": 6}, ttl=timedelta(seconds=30))
    response = model.get_online_features("model", USERS, max_age={"load": "1m"})
    assert response.statuses["requests"] == ["stale"] * 3
    assert response.statuses["age"] == ["present", "missing", "present"]


def test_an_alias_names_its_columns_too(model: FeatureStore) -> None:
    items: list[Any] = [{"view": "rates", "as": "fx", "fields": ["usd"]}, "profile"]
    response = model.get_online_features(items, {"user_id": ["u1"]})
    assert response.to_dict() == {"user_id": ["u1"], "fx__usd": [1.25], "age": [30]}
    assert response.found_by == {"user": [True]}
    with pytest.raises(RequestError, match="unknown join key 'user_id'"):
        model.online_reader([{"view": "rates", "join_keys": {"user_id": "u"}}])


def test_rows_are_written_without_a_key(model: FeatureStore, valkey: Server) -> None:
    def stored() -> dict[bytes, bytes]:
        return hashes(valkey)[b"fs:_global:rates"]

    assert hashes(valkey) == KEYS | {
        b"fs:user:u1": {b"age": b"30"},
        b"fs:_global:load": {b"requests": b"5"},
    }
    model.write_batch("rates", {"usd": 2.0, "nok": 10.0})
    assert stored() == {b"usd": b"2", b"nok": b"10"}
    model.write_batch("rates", [{"usd": 3.0}])
    assert stored() == {b"usd": b"3"}
    model.write_batch("rates", pa.table({"usd": [4.0], "nok": [8.0]}))
    assert stored() == {b"usd": b"4", b"nok": b"8"}
    model.write_jsonl("rates", ['{"usd": 5}'])
    assert stored() == {b"usd": b"5"}
    with valkey.client() as client:
        assert immortal(client) == []
    with pytest.raises(BadRowError, match="no such field"):
        model.write_jsonl("rates", ['{"user_id": "u1", "usd": 5}'])
    with pytest.raises(FeatureKitError):
        model.stream_writer("load").write("u1", {"requests": 1})


async def test_events_are_written_without_a_key(model: FeatureStore, valkey: Server) -> None:
    writer = model.stream_writer("load")
    await writer.write_async((), {"requests": 7, "usd": 1})
    assert hashes(valkey)[b"fs:_global:load"] == {b"requests": b"7", b"usd": b"1"}
    writer.write_many([((), {"requests": 8}), ({}, {"requests": 9})])
    assert hashes(valkey)[b"fs:_global:load"][b"requests"] == b"9"
    with valkey.client() as client:
        client.xadd("load-events", {"requests": "10"})
    [report] = model.streams.run(["load"], StreamOptions(once=True))
    assert (report.written, report.rejected) == (1, 0)
    assert hashes(valkey)[b"fs:_global:load"][b"requests"] == b"10"


def test_commands_know_the_one_hash(model: FeatureStore, valkey: Server) -> None:
    inspection = model.inspect("_global", "rates")
    assert (inspection.key, inspection.found) == ("fs:_global:rates", True)
    assert {field.name: field.value for field in inspection.fields} == {"usd": 1.25, "nok": 11.5}
    assert model.why("_global", "load", "usd")[0].status == "missing"
    with pytest.raises(UnknownNameError, match="without an entity"):
        model.inspect("_global", "profile")
    assert model.delete("_global", "load").entities == 1
    assert set(hashes(valkey)) == {b"fs:_global:rates", b"fs:user:u1"}
    assert model.reset("_global") == 1
    assert set(hashes(valkey)) == {b"fs:user:u1"}
    fill(model)
    assert model.reset("_global:rates") == 1
    assert set(hashes(valkey)) == {b"fs:user:u1", b"fs:_global:load"}
    fill(model)
    assert model.reset("user") == 1
    assert model.reset() == 2
    statuses = {status.view: status for status in model.status()}
    assert statuses["rates"].state


def test_a_load_with_prune_keeps_the_row_that_it_wrote(
    model: FeatureStore, valkey: Server
) -> None:
    report = model.materialize(["rates"], prune=True)[0]
    assert (report.rows_written, report.entities_pruned) == (1, 0)
    assert hashes(valkey)[b"fs:_global:rates"] == KEYS[b"fs:_global:rates"]


def test_the_command_line_reads_and_inspects_it(model: FeatureStore) -> None:
    repo = ["--repo", str(model.path)]
    document = run_json(*repo, "get", "world")
    assert document["features"] == {"usd": [1.25], "nok": [11.5]}
    assert (document["found"], document["found_by"]) == ([True], {})
    assert "1.25" in run(*repo, "get", "world").output
    assert run_json(*repo, "get", "model", "--entity", "user_id=u1")["features"]["usd"] == [1.25]
    missing = run(*repo, "get", "model")
    assert missing.exit_code == 2
    assert "--entity user_id=…" in missing.output
    assert run_json(*repo, "inspect", "_global", "rates")["key"] == "fs:_global:rates"
    assert "entity" not in run_json(*repo, "describe", "rates")
    assert "none" in run(*repo, "list", "views").output
    assert run(*repo, "doctor").exit_code in (0, 1)
    assert run_json(*repo, "why", "_global", "load")
    assert run_json(*repo, "delete", "_global", "load", "--yes")["entities"] == 1
    assert (
        "fs:_global:rates" in run(*repo, "reset", "_global", "--yes").output + "fs:_global:rates"
    )
    assert run_json(*repo, "reset", "_global", "--yes")["deleted"] == 0


def test_http_reads_and_writes_it(model: FeatureStore) -> None:
    context = ServerContext(model, allow_writes=True)
    client = TestClient(create_app(context, console_routes(context)), base_url="http://127.0.0.1")
    body: dict[str, Any] = {"entities": [{"user_id": "u1"}, {"user_id": "nobody"}]}
    rows = client.post("/v1/services/model/read", json=body).json()["rows"]
    assert [row["found_by"] for row in rows] == [{"user": True}, {"user": False}]
    assert [row["features"]["usd"]["value"] for row in rows] == [1.25, 1.25]
    rows = client.post("/v1/services/world/read", json={"entities": [{}]}).json()["rows"]
    assert rows[0]["features"]["nok"] == {"value": 11.5, "status": "present"}
    assert (rows[0]["found"], rows[0]["found_by"]) == (True, {})
    body = {"features": ["profile:age", "rates:usd"], "entities": USERS}
    document = client.post("/get-online-features", json=body).json()
    assert [result["values"] for result in document["results"]] == [
        USERS["user_id"],
        [30, None, 30],
        [1.25] * 3,
    ]
    assert document["results"][2]["event_timestamps"] == ["1970-01-01T00:00:00Z"] * 3
    body = {"features": ["rates:usd"], "entities": {}}
    assert client.post("/get-online-features", json=body).json()["results"][0]["values"] == [1.25]
    written = client.post("/v1/views/rates/write", json={"rows": [{"usd": 9, "nok": 9}]})
    assert written.json()["written"] == 1
    frame = {"push_source_name": "load", "df": {"requests": [6]}}
    assert client.post("/push", json=frame).status_code == 200
    assert model.online_reader("model").read("u1").requests == 6
    assert client.get("/openapi.json").status_code == 200
    views = client.get("/console/api/registry").json()
    assert [entity["name"] for entity in views["entities"]] == ["user", "_global"]
    result = client.post("/console/api/read", json={"features": "world", "ids": {}}).json()
    assert result["rows"][0]["cells"][0]["text"] == "9"
    assert client.get("/console/api/inspect?entity=_global&id=rates").json()["found"]
    assert client.get("/console/api/ids?entity=_global").json()["ids"] == ["load", "rates"]


def test_plan_and_the_registry_know_views_without_an_entity(
    model: FeatureStore, valkey: Server
) -> None:
    registry = model.applied
    assert Registry.from_json(registry.to_json()) == registry
    file = model.path / "features.yaml"
    text = file.read_text()
    file.write_text(text.replace("usd: {type: float64, default: 1}, ", ""))
    with FeatureStore(model.path) as store:
        details = [str(change) for change in store.plan()]
        assert any("field rates:usd" in each and "next load" in each for each in details), details
        store.apply()
        store.materialize(["rates"])
        assert hashes(valkey)[b"fs:_global:rates"] == {b"nok": b"11.5"}
    start, end = text.index("  - name: rates"), text.index("  - name: load")
    without = text[:start] + text[end:]
    file.write_text(without.replace(", rates, ", ", ").replace("[rates]", "[profile]"))
    with FeatureStore(model.path) as store:
        store.apply()
        assert Registry.from_json(store.applied.to_json()) == store.applied
        assert store.delete_retired().values == 1
        assert b"fs:_global:rates" not in hashes(valkey)
    file.write_text(text.replace("- name: load", "- name: load\n    entity: user"))
    with FeatureStore(model.path) as store:
        moved = next(change for change in store.plan() if change.kind == "breaking")
        assert (moved.subject, moved.before, moved.after) == ("feature view load", None, "user")
    file.write_text(text)
    with FeatureStore(model.path) as store:
        details = [str(change) for change in store.plan()]
        assert any("without an entity" in each for each in details), details
        assert not any("entity _global" in each for each in details), details


def test_rows_are_compared_by_their_time(valkey: Server, tmp_path: Path) -> None:
    text = GLOBAL.replace(
        "batch: {refresh: 1h, source", "batch: {refresh: 1h, ordering: event_time, source"
    )
    with applied(tmp_path, valkey.url, text) as store:
        fill(store)
        store.write_jsonl("rates", ['{"usd": 3, "event_timestamp": "2025-12-01T00:00:00Z"}'])
        assert store.online_reader("world").read({}).usd == 1.25
        assert store.materialize(["rates"], missing_only=True)[0].rows_kept == 1
        client = TestClient(create_app(ServerContext(store)), base_url="http://127.0.0.1")
        body = {"features": ["profile", "rates"], "entities": USERS}
        results = client.post("/get-online-features", json=body).json()["results"]
        assert results[2]["event_timestamps"] == ["2026-01-02T00:00:00Z"] * 3
        response = store.get_online_features("model", USERS, max_age={"rates": "1h"})
        assert response.statuses["usd"] == ["stale"] * 3


def test_a_bad_row_is_found_in_its_file(model: FeatureStore) -> None:
    (model.path / "rates.csv").write_text("at,usd,nok\n2026-01-02T00:00:00Z,1.25,x\n")
    with pytest.raises(FeatureKitError) as caught:
        model.materialize(["rates"])
    assert "rates.csv, line 2" in str(caught.value)


def test_training_sets_join_the_row_of_their_time(model: FeatureStore) -> None:
    times = pa.array([1767225600 + 3600 * hour for hour in (0, 30, -30)], pa.timestamp("s", "UTC"))
    labels = pa.table({"event_timestamp": times, "outcome": [1, 2, 3]})
    assert {each.equal for each in model.verify(["rates"]).features} == {1}
    job = model.get_historical_features(labels, ["rates:nok"])
    assert job.to_arrow()["nok"].to_pylist() == [12.0, 11.5, None]


def test_a_mapping_of_a_column_that_is_no_field_is_refused(tmp_path: Path) -> None:
    text = GLOBAL.replace("timestamp_field: at}", "timestamp_field: at, columns: {user_id: id}}")
    with pytest.raises(FeatureKitError, match="unknown field or join key 'user_id'"):
        applied_once(tmp_path, text)
    text = GLOBAL.replace("features: [rates]", "features: [{view: rates, join_keys: {a: b}}]")
    with pytest.raises(FeatureKitError, match="unknown join key 'a'"):
        applied_once(tmp_path, text)


def applied_once(folder: Path, text: str) -> None:
    with applied(folder, "memory://", text):
        pass


@pytest.mark.parametrize(
    "rows", ["usd,nok\n1,2\n3,4\n", "nok,usd,id\n2,1,a\n4,3,b\n"], ids=["two", "extra"]
)
def test_without_times_the_last_row_wins(valkey: Server, tmp_path: Path, rows: str) -> None:
    text = GLOBAL.replace(", timestamp_field: at", "")
    with applied(tmp_path, valkey.url, text) as store:
        (tmp_path / "rates.csv").write_text(rows)
        report = store.materialize(["rates"])[0]
        assert (report.rows_read, report.rows_written) == (2, 1)
        assert hashes(valkey) == {b"fs:_global:rates": {b"usd": b"3", b"nok": b"4"}}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "sql", "python"])
def test_every_source_needs_no_key(valkey: Server, tmp_path: Path, kind: str) -> None:
    table = pa.table({"usd": [1.0, 2.0], "nok": [3.0, 4.0]})
    pa.parquet.write_table(table, tmp_path / "rates.parquet")
    lines = [json.dumps(row) for row in table.to_pylist()]
    (tmp_path / "rates.jsonl").write_text("\n".join(lines))
    (tmp_path / "rates_source.py").write_text(
        "import pyarrow as pa\ndef rows():\n    return pa.table({'usd': [2.0], 'nok': [4.0]})\n"
    )
    source = {
        "parquet": "type: parquet, path: rates.parquet",
        "jsonl": "type: jsonl, path: rates.jsonl",
        "sql": 'type: sql, query: "select 2.0::double as usd, 4.0::double as nok"',
        "python": "type: python, callable: rates_source:rows",
    }[kind]
    text = GLOBAL.replace("type: csv, path: rates.csv, timestamp_field: at", source)
    with applied(tmp_path, valkey.url, text) as store:
        store.materialize(["rates"])
        assert hashes(valkey) == {b"fs:_global:rates": {b"usd": b"2", b"nok": b"4"}}
