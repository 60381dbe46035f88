"""The log of accepted events: `stream.log`."""

from __future__ import annotations

import asyncio
import pickle
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import ValueRefusedError
from featurekit.repo.histories import history_of
from featurekit.runtime.row_log import MAX_ROWS
from featurekit.runtime.worker import WorkerOptions
from tests.promise.repos import applied
from tests.servers import Server, patient

YAML = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: route, join_keys: {origin: string, number: int64}}
feature_views:
  - name: activity
    entity: user
    stream:
      refresh: 1m
      ttl: 5m
      source: {type: redis_stream, stream: logged-events}
      log: {path: log/activity}
    fields:
      clicks: int64
      amount: decimal
      seen: timestamp
      tags: array<string>
      vector: vector<float32, 2>
  - name: delays
    entity: route
    stream: {refresh: 1m, ttl: 5m, ordering: event_time, log: {path: 'log/${DELAYS_FOLDER}'}}
    fields: {minutes: float64}
"""

META = ("_sent_fields", "event_timestamp", "_arrived_at", "_position")


def logged(folder: Path) -> pa.Table:
    """Return the rows of complete files, in the order of their writes."""
    files = sorted(folder.glob("*/*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


def test_accepted_events_are_logged_as_they_were_stored(valkey: Server, tmp_path: Path) -> None:
    seen = datetime(2026, 11, 28, 9, 0, 0, 5, tzinfo=UTC)
    before = datetime.now(UTC)
    with applied(tmp_path, valkey.url, YAML) as store:
        writer = store.stream_writer("activity")
        tags = ["a"]
        values = {
            "clicks": 3,
            "amount": Decimal("1.50"),
            "seen": seen,
            "tags": tags,
            "vector": [1, 2],
        }
        assert writer.write("u1", values)
        tags.append("changed later")
        at = datetime.now(UTC) - timedelta(seconds=10)
        writer.write_many([("u2", {"clicks": None, "amount": None}), ("u:%3", {"clicks": 1}, at)])
        with pytest.raises(ValueRefusedError):
            writer.write("u4", {"clicks": "x"})
        writer.write("u5", {"clicks": 1}, event_timestamp=at - timedelta(hours=1))  # has expired
        writer.write("u6", {})  # says nothing
        asyncio.run(writer.write_async("u7", {"clicks": 7}))
        asyncio.run(writer.write_many_async([("u8", {"clicks": 8})]))
        assert writer.has_log
    table = logged(tmp_path / "log" / "activity")
    names = ["user_id", "clicks", "amount", "seen", "tags", "vector", *META]
    assert table.column_names == names
    rows = table.to_pylist()
    assert [row["user_id"] for row in rows] == ["u1", "u2", "u:%3", "u7", "u8"]
    first, deleted, timed, *_ = rows
    assert {name: first[name] for name in values} == values | {"tags": ["a"], "vector": [1.0, 2.0]}
    assert first["_sent_fields"] == [*values]
    assert (first["event_timestamp"], first["_position"]) == (None, None)
    assert before <= first["_arrived_at"] + timedelta(milliseconds=1) <= datetime.now(UTC)
    assert (deleted["clicks"], deleted["_sent_fields"]) == (None, ["clicks", "amount"])
    assert timed["event_timestamp"] == at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_a_dropped_event_is_not_logged_and_a_path_may_have_a_variable(
    valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYS_FOLDER", "of_delays")
    now = datetime.now(UTC)
    with applied(tmp_path, valkey.url, YAML) as store:
        writer = store.stream_writer("delays")
        for entity, age_s in ((("a:b", 7), 5), (("a:b", 7), 9), (("a:b", 8), 5)):
            at = now - timedelta(seconds=age_s)
            writer.write(entity, {"minutes": 1.5}, event_timestamp=at)
        copy = pickle.loads(pickle.dumps(writer))
        copy.write(("c", 9), {"minutes": 2}, event_timestamp=now)
        copy.close()
    rows = logged(tmp_path / "log" / "of_delays").to_pylist()
    assert sorted((r["origin"], r["number"]) for r in rows) == [("a:b", 7), ("a:b", 8), ("c", 9)]


def test_a_worker_logs_the_position_of_an_event(valkey: Server, tmp_path: Path) -> None:
    fast = WorkerOptions(wait_s=0.02, report_interval_s=30.0)
    with applied(tmp_path, valkey.url, YAML) as store, valkey.client() as client:
        ids = [
            client.xadd("logged-events", {"user_id": user, "clicks": clicks})
            for user, clicks in (("u1", "1"), ("u2", "bad"), ("u3", "3"))
        ]
        store.streams.run(["activity"], StreamOptions(once=True, worker=fast))
    rows = logged(tmp_path / "log" / "activity").to_pylist()
    positions = [(row["user_id"], row["clicks"], row["_position"]) for row in rows]
    assert positions == [("u1", 1, ids[0].decode()), ("u3", 3, ids[2].decode())]
    assert rows[0]["event_timestamp"] is not None  # that of the entry's id


def test_the_log_is_the_history_of_a_view_without_another(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, YAML) as store:
        store.stream_writer("activity").write("u1", {"clicks": 3})
        source = history_of(store.compiled.view("activity"))
        assert source is not None
        assert source.sent_fields_column == "_sent_fields"
    with FeatureStore(tmp_path) as store:
        at = datetime.now(UTC)
        labels = pa.table({"user_id": ["u1", "u2"], "event_timestamp": [at, at]})
        table = store.get_historical_features(labels, ["activity:clicks"]).to_arrow()
        assert table["clicks"].to_pylist() == [3, None]


def test_rows_are_dropped_and_counted_when_the_folder_cannot_be_written(
    valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("not a folder")
    with applied(tmp_path, valkey.url, YAML) as store:
        assert store.stream_writer("activity").write("u1", {"clicks": 3})
        store.close()
        counts = store.metrics(views=False).logs["activity"]
        assert (counts.written, counts.dropped) == (0, 1)
    assert "rows are not logged" in caplog.text


def test_a_full_buffer_drops_events_and_counts_them(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, YAML) as store:
        store.stream_writer("activity").write("u1", {"clicks": 3})
        log: Any = store._logs.of_events(store.compiled.view("activity"))
        with log.log._file_lock:  # as while a disk is slow
            for number in range(2 * MAX_ROWS + 10):
                log.add(b"fs:user:u1", {"clicks": number}, None, None)
        store.close()
        counts = store.metrics(views=False).logs["activity"]
    assert counts.dropped >= 5
    assert counts.written + counts.dropped == 2 * MAX_ROWS + 11
    assert logged(tmp_path / "log" / "activity").num_rows == counts.written


def test_a_registry_that_is_not_trusted_writes_no_log(
    valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with applied(tmp_path, valkey.url, YAML, registry="online"):
        pass
    for folder, text in (("other", YAML.replace("log/activity", "elsewhere")), ("same", YAML)):
        root = tmp_path / folder
        root.mkdir()
        for name in ("featurerepo.yaml", "features.yaml"):
            (root / name).write_text((tmp_path / name).read_text())
        (root / "features.yaml").write_text(text)
        with FeatureStore(root) as store:
            assert store.stream_writer("activity").has_log == (folder == "same")
    with FeatureStore.from_registry(
        patient(valkey.url), "shop", root=tmp_path / "registry"
    ) as store:
        assert store.stream_writer("activity").write("u1", {"clicks": 3})
    assert not (tmp_path / "registry").exists()
    assert "'activity' is not logged" in caplog.text


def test_a_writer_without_a_log_has_none(valkey: Server, tmp_path: Path) -> None:
    plain = YAML.replace("log: {path: log/activity}", "")
    with applied(tmp_path, valkey.url, plain) as store:
        writer = store.stream_writer("activity")
        writer.write("u1", {"clicks": time.time_ns() % 9})
        assert not writer.has_log
    assert not (tmp_path / "log").exists()
