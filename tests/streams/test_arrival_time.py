"""Stream views with `ordering: arrival`: values expire their TTL after the event's time, if known."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from featurekit import FeatureStore, StreamOptions, StreamWriter
from featurekit.errors import ValueRefusedError
from featurekit.runtime.worker import StreamReport, WorkerOptions
from tests.promise.repos import near
from tests.servers import Server
from tests.streams.repositories import repository, stored, ttl_ms

KEY = "fs:user:u1"
MINUTE = 60_000
FAST = WorkerOptions(wait_s=0.02, report_interval_s=30.0, min_retry_s=0.01, max_retry_s=0.05)

NAMED = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: activity
    entity: user
    stream:
      refresh: 1m
      ttl: 5m
      max_ahead: 10m
      source: {type: redis_stream, stream: named-events, event_timestamp_field: at}
    fields: {count: int64, device: string}
"""


@pytest.fixture
def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def writer(store: FeatureStore) -> StreamWriter:
    return store.stream_writer("activity")


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def drain(store: FeatureStore) -> StreamReport:
    [report] = store.streams.run(["activity"], StreamOptions(once=True, worker=FAST))
    return report


@pytest.mark.parametrize(
    "values",
    [
        {"count": 1, "device": "a"},
        {"count": 1, "failed": 2, "device": None},
    ],
)
def test_the_ttl_counts_from_the_time_of_the_event(
    writer: StreamWriter, server: Server, now_ms: int, values: dict[str, Any]
) -> None:
    assert writer.write("u1", values, event_timestamp=now_ms - 4 * MINUTE)
    assert near(ttl_ms(server, KEY, "count"), MINUTE)
    if "failed" in values:
        assert near(ttl_ms(server, KEY, "failed"), 11 * MINUTE)
    assert writer.write("u1", values)
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)


def test_the_last_event_to_arrive_wins_whatever_its_time(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"count": 1}, event_timestamp=now_ms)
    assert writer.write("u1", {"count": 2}, event_timestamp=now_ms - MINUTE)
    assert stored(server, KEY) == {b"count": b"2"}


def test_an_event_past_its_deadline_is_dropped_and_leaves_newer_values(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    writer.write("u1", {"count": 1, "failed": 1})
    assert not writer.write("u1", {"count": 9}, event_timestamp=now_ms - 6 * MINUTE)
    report = writer.write_many(
        [
            ("u1", {"count": 9}, now_ms - 6 * MINUTE),
            ("u1", {"count": 9, "failed": 2}, now_ms - 6 * MINUTE),
        ]
    )
    assert (report.written, report.dropped_expired) == (1, 1)
    assert stored(server, KEY) == {b"count": b"1", b"failed": b"2"}
    assert near(ttl_ms(server, KEY, "failed"), 9 * MINUTE)


def test_the_ttl_of_a_call_counts_from_the_event_too(
    writer: StreamWriter, server: Server, now_ms: int
) -> None:
    hour = timedelta(hours=1)
    assert writer.write("u1", {"count": 1}, ttl=hour, event_timestamp=now_ms - 10 * MINUTE)
    assert near(ttl_ms(server, KEY, "count"), 50 * MINUTE)


async def test_asyncio_writes_count_from_the_event_too(
    store: FeatureStore, writer: StreamWriter, server: Server, now_ms: int
) -> None:
    assert await writer.write_async("u1", {"count": 1}, event_timestamp=now_ms - 4 * MINUTE)
    assert not await writer.write_async("u1", {"count": 2}, event_timestamp=now_ms - 6 * MINUTE)
    assert near(ttl_ms(server, KEY, "count"), MINUTE)
    await store.close_async()


def test_pushed_events_may_have_a_time(store: FeatureStore, server: Server, now_ms: int) -> None:
    lines = [
        json.dumps({"user_id": "u1", "count": 1, "event_timestamp": now_ms - 4 * MINUTE}),
        json.dumps({"user_id": "u1", "count": 2, "event_timestamp": now_ms - 6 * MINUTE}),
    ]
    report = store.streams.push("activity", [lines])
    assert (report.written, report.dropped_expired) == (1, 1)
    assert near(ttl_ms(server, KEY, "count"), MINUTE)


def test_the_id_of_an_entry_is_its_time(
    store: FeatureStore, server: Server, client: redis.Redis, now_ms: int
) -> None:
    old: dict[Any, Any] = {"user_id": "u2", "count": "1"}
    client.xadd("activity-events", old, id=f"{now_ms - 6 * MINUTE}-0")
    client.xadd("activity-events", {**old, "user_id": "u1"}, id=f"{now_ms - 4 * MINUTE}-0")
    report = drain(store)
    assert (report.read, report.written, report.dropped_expired) == (2, 1, 1)
    assert near(ttl_ms(server, KEY, "count"), MINUTE)
    assert stored(server, "fs:user:u2") == {}


def test_an_id_before_2000_is_no_time(
    store: FeatureStore, server: Server, client: redis.Redis
) -> None:
    client.xadd("activity-events", {"user_id": "u1", "count": "1"}, id="1-1")
    assert drain(store).written == 1
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)


def test_the_own_field_of_an_event_counts_where_the_yaml_names_it(
    tmp_path: Path, server: Server, client: redis.Redis, now_ms: int
) -> None:
    events: list[dict[Any, Any]] = [
        {"user_id": "u1", "count": "1", "at": str(now_ms - 4 * MINUTE)},
        {"user_id": "u2", "count": "1", "at": str(now_ms - 6 * MINUTE)},
        {"user_id": "u3", "count": "1", "at": str(now_ms + 11 * MINUTE)},
        {"user_id": "u4", "count": "1", "at": "yesterday"},
        {"user_id": "u5", "count": "1"},
        {"user_id": "u6", "count": "1", "at": str(now_ms + 9 * MINUTE)},
    ]
    with repository(tmp_path, server.url, NAMED) as store:
        for event in events:
            client.xadd("named-events", event)
        report = drain(store)
        counts = (report.written, report.dropped_expired, report.rejected)
        assert counts == (3, 1, 2)
        assert near(ttl_ms(server, KEY, "count"), MINUTE)
        assert near(ttl_ms(server, "fs:user:u5", "count"), 5 * MINUTE)
        reasons = [letter.reason for letter in store.streams.dead_letters("activity")]
        assert any("above max_ahead (600 seconds)" in reason for reason in reasons)
        assert any("is not a time" in reason for reason in reasons), reasons


def test_a_key_event_timestamp_is_no_time_unless_the_yaml_names_it(
    store: FeatureStore, server: Server, client: redis.Redis, now_ms: int
) -> None:
    old: dict[Any, Any] = {"user_id": "u1", "count": "1", "event_timestamp": "1"}
    client.xadd("activity-events", old)
    assert drain(store).written == 1
    assert near(ttl_ms(server, KEY, "count"), 5 * MINUTE)


def test_a_time_too_far_ahead_is_refused(writer: StreamWriter, now_ms: int) -> None:
    with pytest.raises(ValueRefusedError, match="above max_ahead"):
        writer.write("u1", {"count": 1}, event_timestamp=now_ms + 23 * 60 * MINUTE)
