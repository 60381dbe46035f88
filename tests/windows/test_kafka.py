"""Windows over topics, on the mock cluster of the client library."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition

from featurekit import FeatureStore, StreamOptions
from featurekit.ports import Consumer, EventSource
from featurekit.streams import open_stream
from tests.servers import Server
from tests.streams.repositories import repository
from tests.streams.test_kafka import PACE, SETTINGS, Cluster, read_all

pytestmark = pytest.mark.slow

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: tx
    entity: user
    stream:
      refresh: 1m
      source: {type: kafka, topic: TOPIC, bootstrap_servers: 'SERVERS', group: g, event_timestamp_field: at}
      log: {path: log/tx}
    inputs: {amount: int64}
    fields:
      n_24h: {type: int64, aggregate: count, window: 24h}
      sum_1h: {type: int64, aggregate: sum, of: amount, window: 1h}
"""
USERS = 7


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def topic(cluster: Cluster) -> str:
    return cluster.topic()


@pytest.fixture
def store(
    cluster: Cluster, topic: str, valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"FEATUREKIT_KAFKA_{name.replace('.', '_').upper()}", value)
    definitions = DEFINITIONS.replace("TOPIC", topic).replace("SERVERS", cluster.servers)
    with repository(tmp_path, valkey.url, definitions) as store:
        yield store


def emit(cluster: Cluster, topic: str, count: int) -> Counter[str]:
    """Send events; return how many each user has. They are spread over the partitions."""
    users: Counter[str] = Counter()
    now_ms = time.time_ns() // 1_000_000
    for number in range(count):
        user = f"u{number % USERS}"
        users[user] += 1
        event = {"user_id": user, "amount": 1, "at": now_ms - number}
        cluster.send(topic, json.dumps(event).encode(), str(number).encode())
    assert cluster.producer.flush(10) == 0
    return users


def run(store: FeatureStore) -> Any:
    [report] = store.streams.run(options=StreamOptions(once=True, worker=PACE))
    return report


def stored(server: Server) -> dict[str, Any]:
    with server.client() as client:
        return {key.decode(): client.hgetall(key) for key in client.scan_iter("fs:user:*")}


def counts(server: Server) -> dict[str, int]:
    return {
        key.rpartition(":")[2]: sum(
            int(tile or 0) for tile in fields[b"n_24h"].partition(b":")[2].split(b",")
        )
        for key, fields in stored(server).items()
    }


def mark(server: Server) -> dict[bytes, int]:
    with server.client() as client:
        return {part: int(ms) for part, ms in client.hgetall("fs:@mark:tx").items()}


def commit(cluster: Cluster, topic: str, offset: int) -> None:
    """Set the committed offsets of the group back."""
    settings = {"enable.auto.commit": "false", "group.id": "g", **SETTINGS}
    consumer = KafkaConsumer({"bootstrap.servers": cluster.servers, **settings})
    consumer.subscribe([topic])
    while not consumer.assignment():  # only members may commit
        consumer.poll(0.1)
    places = [TopicPartition(topic, number, offset) for number in range(4)]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def test_a_topic_that_is_read_again_counts_once(
    store: FeatureStore, cluster: Cluster, topic: str, valkey: Server
) -> None:
    users = emit(cluster, topic, 300)
    assert run(store).written == 300
    assert counts(valkey) == dict(users)
    before = stored(valkey)
    commit(cluster, topic, 0)
    report = run(store)
    assert (report.written, report.repeated) == (0, 300)
    assert stored(valkey) == before
    users += emit(cluster, topic, 50)
    commit(cluster, topic, 3)
    assert run(store).written == 50
    assert counts(valkey) == dict(users)


def test_the_mark_has_a_time_for_each_partition(
    store: FeatureStore, cluster: Cluster, topic: str, valkey: Server
) -> None:
    emit(cluster, topic, 40)
    start_ms = time.time_ns() // 1_000_000
    run(store)
    times = mark(valkey)
    assert sorted(times) == [b"0", b"1", b"2", b"3"]
    assert min(times.values()) >= start_ms


def test_what_a_group_has_done_decides_what_is_replayed(
    store: FeatureStore, cluster: Cluster, topic: str, valkey: Server
) -> None:
    users = emit(cluster, topic, 200)
    run(store)
    before = stored(valkey)
    commit(cluster, topic, 30)
    report = store.streams.replay("tx", "2020-01-01")
    assert report.written == 4 * 30
    assert report.left == 200 - 4 * 30
    assert run(store).written == 200 - 4 * 30
    assert counts(valkey) == dict(users)
    assert stored(valkey).keys() == before.keys()
    with valkey.client() as client:
        assert b"@replay" not in client.hkeys("fs:@mark:tx")


def opened(store: FeatureStore) -> EventSource:
    view = store.compiled.view("tx")
    assert view.stream is not None
    return open_stream(view, view.stream, Consumer("r"), lambda: store.handle.store, SETTINGS)


def test_the_progress_of_a_consumer_ends_at_its_last_message(
    store: FeatureStore, cluster: Cluster, topic: str
) -> None:
    emit(cluster, topic, 40)
    source = opened(store)
    first = read_all(source, 40)
    assert len(first) == 40
    progress = source.progress(10**15)
    assert progress is not None
    assert set(progress.times.values()) == {10**15}
    emit(cluster, topic, 40)
    progress = source.progress(10**15)
    assert progress is not None
    assert progress.parts == {"0", "1", "2", "3"}
    newest_ms = max(event.arrived_ms for event in first)
    assert min(progress.times.values()) <= newest_ms
    source.close()
