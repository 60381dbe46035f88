"""Workers on Redis streams, in this process: the result of each kind of event."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import RequestError, StreamError, UnknownNameError
from featurekit.runtime.worker import StreamReport, WorkerOptions
from tests.servers import Server
from tests.streams.repositories import repository, stored, ttl_ms
from tests.streams.worker_processes import counts, emit, newest, until

FAST = WorkerOptions(wait_s=0.02, report_interval_s=30.0, min_retry_s=0.01, max_retry_s=0.05)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def drain(store: FeatureStore, view: str = "activity", **options: object) -> StreamReport:
    """Run a worker until no events are left."""
    how = StreamOptions(once=True, worker=FAST, **options)  # type: ignore[arg-type]
    [report] = store.streams.run([view], how)
    return report


def pending(client: redis.Redis) -> int:
    summary = client.xpending("activity-events", "shop-activity")
    assert isinstance(summary, dict)
    return int(summary["pending"])


def dead_letters(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    entries: Any = client.xrange(stream)
    return [entry for _, entry in entries]


def test_entries_become_fields_and_are_acknowledged(
    store: FeatureStore, server: Server, client: redis.Redis
) -> None:
    emit(client, 0, 1234)
    report = drain(store)
    assert (report.read, report.written, report.rejected, report.lag) == (1234, 1234, 0, 0)
    assert counts(client) == newest(1234)
    assert 290_000 < ttl_ms(server, "fs:user:u1", "count") <= 300_000
    assert (pending(client), client.xlen("activity-events")) == (0, 1234)
    assert drain(store).read == 0


def test_reading_all_events_again_changes_nothing(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 500)
    drain(store)
    before = stored_all(client)
    client.xgroup_setid("activity-events", "shop-activity", "0")
    assert drain(store).read == 500
    assert stored_all(client) == before


def stored_all(client: redis.Redis) -> dict[bytes, object]:
    return {key: client.hgetall(key) for key in client.scan_iter("fs:*")}


def test_events_that_do_not_fit_become_dead_letters(
    store: FeatureStore, server: Server, client: redis.Redis
) -> None:
    bad: list[dict[bytes, bytes]] = [
        {b"user_id": b"u1", b"count": b"many"},
        {b"user_id": b"u1", b"count": b"-1"},
        {b"count": b"1"},
        {b"user_id": b"", b"count": b"1"},
        {b"user_id": b"u1", b"device": b"\xff"},
        {b"\xff": b"\xfe", b"user_id": b"u1"},
    ]
    ids: list[Any] = [client.xadd("activity-events", entry) for entry in bad]  # type: ignore[arg-type]
    client.xadd("activity-events", {"user_id": "u2", "count": 2, "other": "x"})
    client.xadd("activity-events", {"user_id": "u3", "other": "x"})
    client.set("fs:user:u4", "text")
    bad.append({b"user_id": b"u4", b"count": b"1"})
    ids.append(client.xadd("activity-events", bad[-1]))  # type: ignore[arg-type]
    report = drain(store)
    assert (report.read, report.written, report.rejected, report.ignored) == (9, 1, 7, 1)
    dead = dead_letters(client, "activity-events:dead")
    by_id = {entry.pop(b"@id"): (entry.pop(b"@reason"), entry) for entry in dead}
    assert [by_id[i][1] for i in ids] == bad
    reasons = [by_id[i][0].decode() for i in ids]
    assert reasons[0] == "count: 'many' is not an int64"
    assert reasons[1] == "count: -1 is below min 0"
    assert reasons[2] == "user_id: missing join key"
    assert "WRONGTYPE" in reasons[6]
    assert len(report.reasons) == 3
    assert (pending(client), stored(server, "fs:user:u2")) == (0, {b"count": b"2"})


@pytest.mark.parametrize("score", ["", ".", "1.2.3", "9" * 400, "9" * 5000, "nan", "1e999"])
def test_texts_that_look_like_numbers_become_dead_letters(
    tmp_path: Path, server: Server, client: redis.Redis, score: str
) -> None:
    with repository(tmp_path, server.url, ORDERED) as store:
        client.xadd("scores", {"user_id": "u1", "event_timestamp": "1", "score": score})
        client.xadd("scores", {"user_id": "u1", "event_timestamp": score, "score": "1"})
        report = drain(store, "scores")
        assert (report.read, report.rejected) == (2, 2)


ORDERED = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: scores
    entity: user
    stream:
      refresh: 1m
      ordering: event_time
      source: {type: redis_stream, stream: scores}
    fields: {score: float64}
"""


def test_a_time_with_a_lone_surrogate_becomes_a_dead_letter(
    store: FeatureStore, client: redis.Redis
) -> None:
    body = '{"uid": "u1", "type": "session", "at": "\\ud800", "step": 1}'
    client.xadd("session-events", {"body": body})
    assert drain(store, "session").rejected == 1
    [dead] = dead_letters(client, "session-events:dead")
    assert dead[b"@reason"] == b"event_timestamp: '\\ud800' is not a time"


def test_an_entity_with_a_damaged_event_time_does_not_stop_the_others(
    store: FeatureStore, server: Server, client: redis.Redis
) -> None:
    client.hset("fs:user:u3", "@session", "2026-11-22")
    now_ms = time.time_ns() // 1_000_000
    for number in range(1000):
        event = {"uid": f"u{number}", "type": "session", "at": now_ms, "step": number}
        client.xadd("session-events", {"body": json.dumps(event)})
    report = drain(store, "session")
    assert (report.read, report.written, report.rejected) == (1000, 999, 1)
    [dead] = dead_letters(client, "session-events:dead")
    assert dead[b"@reason"].startswith(b"fs:user:u3: BADTIME field @session")
    assert stored(server, "fs:user:u3") == {b"@session": b"2026-11-22"}
    client.delete("fs:user:u3")


def test_json_entries_are_mapped_filtered_and_ordered(
    store: FeatureStore, server: Server, client: redis.Redis
) -> None:
    now_ms = time.time_ns() // 1_000_000
    events: list[object] = [
        {"type": "session", "uid": "u1", "at": now_ms, "step": 2, "page": None},
        {"type": "session", "uid": "u1", "at": now_ms - 1, "step": 1},
        {"type": "login", "uid": "u1", "at": now_ms + 1, "step": 9},
        {"type": "session", "uid": "u2", "at": "2026-01-01T00:00:00Z", "step": 3},
        {"type": "session", "uid": "u3", "at": f"{now_ms}", "score": 1, "more": [1]},
        {"type": "session", "uid": "u4", "step": 3},
        {"type": "session", "uid": "u4", "at": now_ms, "step": "3"},
        [1],
    ]
    for event in events:
        client.xadd("session-events", {"body": json.dumps(event)})
    client.xadd("session-events", {"body": "{"})
    client.xadd("session-events", {"text": "{}"})
    report = drain(store, "session")
    assert (report.written, report.dropped_older, report.dropped_expired) == (2, 1, 1)
    assert (report.ignored, report.rejected) == (1, 5)
    assert stored(server, "fs:user:u1") == {b"step": b"2", b"@session": b"%d" % now_ms}
    assert stored(server, "fs:user:u3") == {b"score": b"1", b"@session": b"%d" % now_ms}
    dead = dead_letters(client, "session-events:dead")
    assert {entry[b"@reason"].decode() for entry in dead} == {
        "event_timestamp: an event of a view with `ordering: event_time` must have a time",
        "step: '3' is not an int64",
        "expected a JSON object, found [1]",
        "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "the entry has no field 'body'",
    }


def test_events_of_a_dead_consumer_are_claimed(store: FeatureStore, client: redis.Redis) -> None:
    emit(client, 0, 700)
    client.xgroup_create("activity-events", "shop-activity", "0")
    client.xreadgroup("shop-activity", "gone", {"activity-events": ">"}, count=600)
    assert drain(store, claim_after_ms=60_000).read == 100
    assert pending(client) == 600
    assert drain(store, claim_after_ms=1).read == 600
    assert (pending(client), counts(client)[0]) == (0, 500)


def test_a_consumer_with_the_same_name_continues_its_events(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 700)
    client.xgroup_create("activity-events", "shop-activity", "0")
    client.xreadgroup("shop-activity", "w1", {"activity-events": ">"}, count=600)
    assert drain(store, consumer="w1").read == 700
    assert (pending(client), counts(client)) == (0, newest(700))


def test_pending_entries_that_were_trimmed_do_not_block(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 10)
    client.xgroup_create("activity-events", "shop-activity", "0")
    client.xreadgroup("shop-activity", "w1", {"activity-events": ">"})
    client.xtrim("activity-events", maxlen=4, approximate=False)
    report = drain(store, consumer="w1")
    assert (report.read, report.lost) == (4, 6)
    assert store.metrics().events["activity"].lost == 6
    assert pending(client) == 0


def test_trimmed_entries_of_a_dead_consumer_are_counted_as_lost(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 10)
    client.xgroup_create("activity-events", "shop-activity", "0")
    client.xreadgroup("shop-activity", "gone", {"activity-events": ">"})
    client.xtrim("activity-events", maxlen=3, approximate=False)
    report = drain(store, claim_after_ms=1)
    assert (report.written, report.lost, pending(client)) == (3, 7, 0)


def test_entries_trimmed_before_they_were_read_are_counted_as_lost(
    store: FeatureStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    emit(client, 0, 10)
    assert drain(store).lost == 0
    emit(client, 10, 100)
    client.xtrim("activity-events", maxlen=30, approximate=False)
    report = drain(store)
    assert (report.read, report.lost, report.lag) == (30, 70, 0)
    assert "activity: 70 events were deleted from the source" in caplog.text
    emit(client, 110, 5)
    assert drain(store).lost == 0


def test_a_group_that_begins_in_a_trimmed_stream_has_lost_nothing(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 100)
    client.xtrim("activity-events", maxlen=30, approximate=False)
    report = drain(store)
    assert (report.read, report.lost) == (30, 0)


def test_entries_that_were_trimmed_are_lost_once_for_all_workers_of_a_group(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 10)
    drain(store)
    emit(client, 10, 4000)
    client.xtrim("activity-events", maxlen=3000, approximate=False)
    reports: list[StreamReport] = []

    def work(name: str) -> None:
        how = StreamOptions(
            consumer=name, once=True, worker=WorkerOptions(batch_size=50, wait_s=0.02)
        )
        reports.extend(store.streams.run(["activity"], how))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.read for report in reports) == 3000
    assert sum(report.lost for report in reports) == 1000


def test_a_consumer_that_leaves_is_deleted(store: FeatureStore, client: redis.Redis) -> None:
    emit(client, 0, 10)
    drain(store)
    assert client.xinfo_consumers("activity-events", "shop-activity") == []


def test_a_stream_that_is_deleted_is_read_again_from_its_start(
    store: FeatureStore, client: redis.Redis
) -> None:
    stop = threading.Event()
    how = StreamOptions(worker=FAST)
    running = threading.Thread(target=lambda: store.streams.run(["activity"], how, stop=stop))
    running.start()
    emit(client, 0, 100)
    until(lambda: counts(client) == newest(100))
    client.delete("activity-events")
    emit(client, 100, 100)
    until(lambda: counts(client) == newest(200))
    stop.set()
    running.join()


def test_two_workers_share_a_group(store: FeatureStore, client: redis.Redis) -> None:
    emit(client, 0, 4000)
    reports: list[StreamReport] = []

    def work(name: str) -> None:
        how = StreamOptions(
            consumer=name, once=True, worker=WorkerOptions(batch_size=50, wait_s=0.02)
        )
        reports.extend(store.streams.run(["activity"], how))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.read for report in reports) == 4000
    assert all(report.read > 0 for report in reports)
    assert pending(client) == 0


def test_all_views_with_a_source_run_at_once(store: FeatureStore, client: redis.Redis) -> None:
    emit(client, 0, 10)
    reports = store.streams.run(options=StreamOptions(once=True, worker=FAST))
    assert {report.view: report.read for report in reports} == {"activity": 10, "session": 0}


def test_a_view_without_a_stream_source_is_refused(store: FeatureStore) -> None:
    for view, kind in (
        ("profile", RequestError),
        ("delays", RequestError),
        ("nope", UnknownNameError),
    ):
        with pytest.raises(kind):
            store.streams.run([view])


def test_a_key_that_is_not_a_stream_ends_the_worker(
    store: FeatureStore, client: redis.Redis
) -> None:
    client.set("activity-events", "text")
    with pytest.raises(StreamError, match="WRONGTYPE"):
        store.streams.run()


def test_a_worker_waits_for_a_full_store_and_loses_nothing(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 2000)
    reports: list[StreamReport] = []
    stop = threading.Event()
    how = StreamOptions(worker=WorkerOptions(wait_s=0.02, report_interval_s=0.1, max_retry_s=0.1))
    store.stream_writer("activity").write("u1", {"count": 0})
    client.config_set("maxmemory", 1)
    try:
        running = threading.Thread(
            target=lambda: store.streams.run(
                ["activity"], how, stop=stop, on_report=reports.append
            )
        )
        running.start()
        until(lambda: any(report.trouble for report in reports))
    finally:
        client.config_set("maxmemory", 0)
    until(lambda: counts(client) == newest(2000))
    stop.set()
    running.join()
    assert client.exists("activity-events:dead") == 0
    assert reports[-1].trouble == ""


@pytest.mark.parametrize(
    ("setting", "refusing", "code"),
    [("maxmemory", 1, "OOM"), ("min-replicas-to-write", 1, "NOREPLICAS")],
)
def test_a_worker_holds_its_first_batch_until_the_store_accepts_writes(
    store: FeatureStore, client: redis.Redis, setting: str, refusing: int, code: str
) -> None:
    emit(client, 0, 100)
    client.xgroup_create("activity-events", "shop-activity", "0")
    reports: list[StreamReport] = []
    stop = threading.Event()
    how = StreamOptions(worker=WorkerOptions(wait_s=0.02, report_interval_s=0.1, max_retry_s=0.1))
    client.config_set(setting, refusing)
    try:
        running = threading.Thread(
            target=lambda: store.streams.run(
                ["activity"], how, stop=stop, on_report=reports.append
            )
        )
        running.start()
        until(lambda: any(code in report.trouble for report in reports))
        assert running.is_alive()
    finally:
        client.config_set(setting, 0)
    until(lambda: counts(client) == newest(100))
    stop.set()
    running.join()
    assert client.exists("activity-events:dead") == 0


def test_a_worker_that_fails_does_not_set_the_stop_event_of_its_caller(
    store: FeatureStore, client: redis.Redis
) -> None:
    client.set("activity-events", "text")
    stop = threading.Event()
    with pytest.raises(StreamError, match="WRONGTYPE"):
        store.streams.run(stop=stop)
    assert not stop.is_set()


def test_a_worker_waits_for_a_revoked_permission(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    client.acl_setuser("w", enabled=True, passwords=["+p"], keys="*", commands=["+@all"])
    url = server.url.replace("unix://", "unix://w:p@")
    stop = threading.Event()
    reports: list[StreamReport] = []
    how = StreamOptions(worker=WorkerOptions(wait_s=0.02, report_interval_s=0.1, max_retry_s=0.1))
    try:
        with repository(tmp_path / "w", url) as store:
            running = threading.Thread(
                target=lambda: store.streams.run(
                    ["activity"], how, stop=stop, on_report=reports.append
                )
            )
            running.start()
            emit(client, 0, 100)
            until(lambda: counts(client) == newest(100))
            has_hsetex = store.handle.store.capabilities.hsetex
            refused = ["hsetex"] if has_hsetex else ["hset", "hpexpire"]
            client.acl_setuser("w", enabled=True, commands=[f"-{name}" for name in refused])
            emit(client, 100, 100)
            until(lambda: any("NOPERM" in report.trouble for report in reports))
            client.acl_setuser("w", enabled=True, commands=[f"+{name}" for name in refused])
            until(lambda: counts(client) == newest(200))
            stop.set()
            running.join()
    finally:
        client.acl_deluser("w")
    assert client.exists("activity-events:dead") == 0


def test_a_report_contains_rate_lag_and_age(store: FeatureStore, client: redis.Redis) -> None:
    emit(client, 0, 100)
    reports: list[StreamReport] = []
    how = StreamOptions(once=True, worker=FAST)
    store.streams.run(["activity"], how, on_report=reports.append)
    [report] = reports
    document = report.to_dict()
    assert (document["read"], document["lag"]) == (100, 0)
    assert isinstance(document["newest_age_ms"], int)
    assert isinstance(document["events_per_second"], float)
    assert document["events_per_second"] > 0
