"""The status of running workers, and their dead letters."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import RequestError, StoreError
from featurekit.repo import heartbeats
from featurekit.runtime.worker import WorkerOptions
from tests.servers import Server
from tests.streams.repositories import repository
from tests.streams.worker_processes import emit, ended, until, worker

KEY = "featurekit:{shop}:workers"
QUICK = StreamOptions("w1", worker=WorkerOptions(wait_s=0.02, report_interval_s=0.1))


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send heartbeats often, so that tests need not wait."""
    monkeypatch.setattr(heartbeats, "INTERVAL_S", 0.05)


@contextmanager
def working(store: FeatureStore) -> Iterator[None]:
    """Workers in this process while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: store.streams.run(options=QUICK, stop=stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("often")
def test_workers_report_their_counts_and_disappear_when_they_end(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 10)
    client.xadd("activity-events", {"user_id": "u1", "count": "x"})
    with working(store):
        until(lambda: [w.read for w in store.streams.workers()] == [11, 0])
        activity, session = store.streams.workers()
        assert (activity.view, session.view, activity.name) == ("activity", "session", "w1")
        assert (activity.host, activity.pid) == (socket.gethostname(), os.getpid())
        assert (activity.written, activity.rejected, activity.trouble) == (10, 1, "")
        assert "count: " in activity.error
        assert activity.started_ms <= activity.at_ms
        assert activity.age_ms < 60_000
        until(lambda: store.streams.workers()[0].lag == 0)
    assert store.streams.workers() == []
    assert client.exists(KEY) == 0


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
@pytest.mark.slow
def test_a_worker_that_dies_disappears_by_its_ttl(
    store: FeatureStore, client: redis.Redis, tmp_path: Path
) -> None:
    with worker(tmp_path, "--consumer", "a") as first, worker(tmp_path, "--consumer", "b") as two:
        until(lambda: len(store.streams.workers()) == 4)
        ttls = client.hpttl(KEY, "activity@a", "session@a")
        assert all(0 < ttl <= heartbeats.TTL_MS for ttl in ttls)
        two.send_signal(signal.SIGKILL)
        assert ended(first)[0] == 0
        assert {w.name for w in store.streams.workers()} == {"b"}


@pytest.mark.usefixtures("often")
def test_the_status_of_a_worker_contains_its_problem(
    store: FeatureStore, client: redis.Redis
) -> None:
    with working(store):
        until(lambda: client.exists("activity-events"))  # created with the worker's group
        client.delete("activity-events")
        until(lambda: "was deleted" in store.streams.workers()[0].error)


@pytest.mark.usefixtures("often")
def test_a_worker_without_permission_for_heartbeats_still_works(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    keys = ["fs:*", "activity-events*", "session-events*", "featurekit:prefix:fs"]
    keys += [f"featurekit:{{shop}}:{name}" for name in ("registry", "store", "applies")]
    client.acl_setuser("shy", enabled=True, passwords=["+p"], keys=keys, commands=["+@all"])
    url = server.url.replace("unix://", "unix://shy:p@")
    emit(client, 0, 10)
    with repository(tmp_path, url) as store, working(store):
        until(lambda: client.exists("fs:user:u9"))
        with pytest.raises(StoreError, match="heartbeats cannot be read"):
            store.streams.workers()
    client.acl_deluser("shy")
    assert client.exists(KEY) == 0


def test_heartbeats_of_another_version_are_ignored(
    store: FeatureStore, client: redis.Redis
) -> None:
    client.hset(KEY, mapping={"a": "{", "b": "[]", "c": "5", "d": '{"name": "x"}', "e": b"\xff"})
    assert store.streams.workers() == []


def test_dead_letters_are_newest_first_with_reason_and_original_fields(
    store: FeatureStore, client: redis.Redis
) -> None:
    ids = [
        client.xadd("activity-events", {"user_id": "u1", "count": "x", "@id": "7"}),
        client.xadd("activity-events", {"user_id": "u2", b"\xff": b"\xfe"}),
    ]
    store.streams.run(["activity"], StreamOptions(once=True))
    client.xadd("activity-events:dead", {"by": "hand"})
    hand, second, first = store.streams.dead_letters("activity")
    assert (hand.reason, hand.event_id, hand.fields) == ("", "", {"by": "hand"})
    assert second.fields == {"user_id": "u2", "\\xff": "\\xfe"}
    assert first.fields == {"user_id": "u1", "count": "x", "@id": "7"}
    assert [first.event_id.encode(), second.event_id.encode()] == ids
    assert "count: " in first.reason
    assert int(first.id.split("-")[0]) == first.at_ms
    assert store.streams.dead_letters("activity", 1) == [hand]
    assert store.streams.dead_letters("session") == []


def test_a_view_without_a_stream_has_no_dead_letters(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="has no stream source"):
        store.streams.dead_letters("delays")
