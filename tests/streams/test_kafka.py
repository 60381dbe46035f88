"""Kafka topics, on the mock cluster of the client library."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import StreamUnavailableError
from featurekit.ports import Consumer as GroupMember
from featurekit.ports import EventSource
from featurekit.runtime.worker import StreamReport, WorkerOptions
from featurekit.streams import kafka, open_stream
from tests.servers import Server
from tests.streams.repositories import repository
from tests.streams.worker_processes import counts, forked, until

pytestmark = pytest.mark.slow

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: activity
    entity: user
    stream:
      refresh: 1m
      source: {type: kafka, topic: TOPIC, bootstrap_servers: 'SERVERS', columns: {user_id: uid}}
    fields: {count: int64, price: decimal, device: string}
"""

SETTINGS = {
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "500",
    "reconnect.backoff.max.ms": "200",
}
PACE = WorkerOptions(batch_size=50, wait_s=0.2, min_retry_s=0.05, max_retry_s=0.2)


class Cluster:
    """A mock cluster; it lives as long as the producer that hosts it."""

    def __init__(self) -> None:
        host = {"bootstrap.servers": "x", "test.mock.num.brokers": "1", "linger.ms": "0"}
        self.producer = Producer({**host, "log_level": "0"})
        brokers = self.producer.list_topics(timeout=60).brokers.values()
        self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        self.topics = 0

    def topic(self) -> str:
        self.topics += 1
        return f"t{self.topics}"

    def emit(self, topic: str, first: int, count: int) -> None:
        for i in range(first, first + count):
            event = {"uid": f"u{i}", "count": i, "device": None}
            self.send(topic, json.dumps(event).encode())
        assert self.producer.flush(60) == 0

    def send(self, topic: str, value: bytes | None, key: bytes | None = None) -> None:
        self.producer.produce(topic, value=value, key=key)
        self.producer.poll(0)

    def read(self, topic: str, count: int) -> list[Any]:
        """All messages of a topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "look",
                "auto.offset.reset": "earliest",
                "log_level": "0",
            }
        )
        consumer.subscribe([topic])
        found: list[Any] = []
        late = time.monotonic() + 60
        while len(found) < count and time.monotonic() < late:
            found += [m for m in consumer.consume(count, 0.2) if not m.error()]
        consumer.close()
        return found


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


@pytest.fixture
def client(valkey: Server) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


def drain(store: FeatureStore) -> StreamReport:
    [report] = store.streams.run(options=StreamOptions(once=True, worker=PACE))
    return report


def source(store: FeatureStore) -> EventSource:
    view = store.compiled.view("activity")
    assert view.stream is not None
    return open_stream(view, view.stream, GroupMember("r"), lambda: store.handle.store, SETTINGS)


def take(source: EventSource, most: int) -> list[Any]:
    """Read once; empty while the consumer joins the group."""
    with suppress(StreamUnavailableError):
        return list(source.read(most, 0.2))
    return []


def read_all(source: EventSource, count: int) -> list[Any]:
    """Read until there are `count` messages."""
    events: list[Any] = []
    while len(events) < count:
        events += take(source, 100)
    return events


def test_messages_become_fields_or_unchanged_dead_letters(
    store: FeatureStore, cluster: Cluster, topic: str, client: redis.Redis
) -> None:
    bad = [b"{", b"\xff", b"[1]", b"", b'{"uid": "u1", "count": "x"}', b'{"count": 1}']
    for value in bad:
        cluster.send(topic, value, b"key")
    cluster.send(topic, None, b"tomb")
    cluster.send(topic, b'{"uid": "u2", "count": 2, "price": 12345678901234567.10, "more": {}}')
    cluster.emit(topic, 10, 300)
    report = drain(store)
    assert (report.read, report.written, report.rejected, report.lag) == (308, 301, 7, 0)
    assert counts(client, 310)[10:] == list(range(10, 310))
    assert client.hgetall("fs:user:u2") == {b"count": b"2", b"price": b"12345678901234567.1"}
    dead = cluster.read(f"{topic}.dead", 7)
    assert sorted(m.value() or b"" for m in dead) == sorted([*bad, b""])
    headers = {m.value(): dict(m.headers()) for m in dead if m.key() == b"key"}
    assert headers[bad[4]]["reason"] == b"count: 'x' is not an int64"
    assert headers[bad[4]]["position"].startswith(f"{topic}/".encode())
    assert dead[0].key() in (b"key", b"tomb")


def test_the_newest_dead_letters_are_shown(
    store: FeatureStore, cluster: Cluster, topic: str
) -> None:
    assert store.streams.dead_letters("activity") == []
    for number in range(9):
        cluster.send(topic, b'{"uid": "u%d", "count": "x"}' % number, b"k%d" % number)
        cluster.producer.flush(60)
    drain(store)
    letters = store.streams.dead_letters("activity", 4)
    assert len(letters) == 4
    assert [each.at_ms for each in letters] == sorted((e.at_ms for e in letters), reverse=True)
    values = {each.fields["key"]: each.fields["value"] for each in letters}
    assert all(values[key] == f'{{"uid": "u{key[1:]}", "count": "x"}}' for key in values)
    assert {each.reason for each in letters} == {"count: 'x' is not an int64"}
    assert letters[0].event_id.startswith(f"{topic}/")
    assert letters[0].id.startswith(f"{topic}.dead/")


def test_dead_letters_of_unreachable_brokers_are_unavailable(
    valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "REQUEST_TIMEOUT_S", 0.3)
    definitions = DEFINITIONS.replace("TOPIC", "t").replace("SERVERS", "localhost:1")
    with (
        repository(tmp_path, valkey.url, definitions) as store,
        pytest.raises(StreamUnavailableError, match="dead letters cannot be read"),
    ):
        store.streams.dead_letters("activity")


def test_unacknowledged_messages_are_read_again(
    store: FeatureStore, cluster: Cluster, topic: str
) -> None:
    cluster.emit(topic, 0, 100)
    first = source(store)
    events = read_all(first, 100)
    done = [event for event in events if event.id.startswith(f"{topic}/0/")]
    first.acknowledge(done)
    assert first.lag() == 100 - len(done)
    first.close()
    second = source(store)
    again = read_all(second, 100 - len(done))
    second.acknowledge(again)
    second.close()
    assert {e.id for e in again} == {e.id for e in events} - {e.id for e in done}


def test_partitions_move_between_workers_without_loss(
    store: FeatureStore, cluster: Cluster, topic: str, client: redis.Redis
) -> None:
    stop, stop_first = threading.Event(), threading.Event()
    reports: list[StreamReport] = []

    def work(stop: threading.Event) -> None:
        how = StreamOptions(worker=PACE)
        reports.extend(store.streams.run(options=how, stop=stop))

    first = threading.Thread(target=work, args=(stop_first,))
    first.start()
    cluster.emit(topic, 0, 500)
    until(lambda: min(counts(client, 500)) >= 0)
    second = threading.Thread(target=work, args=(stop,))
    second.start()
    for turn in range(1, 8):
        cluster.emit(topic, turn * 500, 500)
        time.sleep(0.3)
    stop_first.set()
    first.join()
    cluster.emit(topic, 4000, 500)
    until(lambda: counts(client, 4500) == list(range(4500)))
    stop.set()
    second.join()


def test_a_killed_worker_loses_nothing(
    store: FeatureStore, cluster: Cluster, topic: str, client: redis.Redis
) -> None:
    cluster.emit(topic, 0, 3000)
    with forked(partial(store.streams.run, (), StreamOptions(worker=PACE))):  # type: ignore[arg-type]
        until(lambda: max(counts(client, 3000)) > 100)
    until(lambda: drain(store).lag == 0)
    assert counts(client, 3000) == list(range(3000))


@pytest.mark.parametrize("code", ["OOM", "NOREPLICAS", "READONLY"])
def test_a_worker_holds_its_first_batch_until_the_store_accepts_writes(
    store: FeatureStore, cluster: Cluster, topic: str, client: redis.Redis, code: str
) -> None:
    refuse, accept = {
        "OOM": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        "NOREPLICAS": (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
        ),
        "READONLY": ("REPLICAOF localhost 1", "REPLICAOF NO ONE"),
    }[code]
    cluster.emit(topic, 0, 50)
    reports: list[StreamReport] = []
    stop = threading.Event()
    how = StreamOptions(worker=replace(PACE, report_interval_s=0.1))
    running = threading.Thread(
        target=lambda: store.streams.run(options=how, stop=stop, on_report=reports.append)
    )
    execute: Any = client.execute_command
    execute(*refuse.split())
    try:
        running.start()
        until(lambda: any(report.trouble.count(code) for report in reports))
        assert running.is_alive()
    finally:
        execute(*accept.split())
    until(lambda: counts(client, 50) == list(range(50)))
    stop.set()
    running.join()


def test_messages_that_retention_deleted_are_counted_as_lost(
    store: FeatureStore, cluster: Cluster, topic: str
) -> None:
    def emit(count: int, size: int) -> None:
        for i in range(count):
            event = json.dumps({"uid": f"u{i}", "device": "x" * size}).encode()
            cluster.producer.produce(topic, value=event, partition=0)
        assert cluster.producer.flush(20) == 0

    emit(10, 10)
    assert drain(store).lost == 0
    emit(100, 100_000)  # a partition of the mock cluster keeps 5 MB
    look = Consumer({"bootstrap.servers": cluster.servers, "group.id": "look"})
    first, end = look.get_watermark_offsets(TopicPartition(topic, 0), timeout=60)
    look.close()
    assert (first > 10, end) == (True, 110)
    report = drain(store)
    assert (report.read, report.lost) == (110 - first, first - 10)


def test_a_new_group_may_start_at_the_end(
    cluster: Cluster, valkey: Server, tmp_path: Path
) -> None:
    topic = cluster.topic()
    cluster.emit(topic, 0, 10)
    definitions = DEFINITIONS.replace("TOPIC", f"{topic}, start: latest")
    with repository(
        tmp_path, valkey.url, definitions.replace("SERVERS", cluster.servers)
    ) as store:
        late = source(store)
        until(lambda: take(late, 10) == [] and late.lag() == 0)
        events: list[Any] = []
        for i in range(10, 200):  # where the end is, is found out when the first is fetched
            cluster.emit(topic, i, 1)
            if events := take(late, 10):
                break
        late.close()
    assert events
    assert min(event.columns["count"] for event in events) >= 10


def test_a_worker_reports_and_awaits_an_unreachable_broker(valkey: Server, tmp_path: Path) -> None:
    definitions = DEFINITIONS.replace("TOPIC", "t").replace("SERVERS", "127.0.0.1:1")
    with repository(tmp_path, valkey.url, definitions) as store:
        reader = source(store)
        with pytest.raises(StreamUnavailableError, match="topic t"):
            reader.read(10, 0.2)
        reader.close()
        stop = threading.Event()
        reports: list[StreamReport] = []
        how = StreamOptions(worker=WorkerOptions(wait_s=0.2, report_interval_s=0.3, grace_s=0.5))
        thread = threading.Thread(
            target=lambda: store.streams.run(options=how, stop=stop, on_report=reports.append)
        )
        thread.start()
        until(lambda: any("brokers" in report.trouble for report in reports))
        stop.set()
        thread.join()
