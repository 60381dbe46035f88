"""Replays: windows filled again from the log, so that nothing counts twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import LockedError, RequestError, SourceError
from featurekit.runtime.lock import ViewLock
from featurekit.runtime.replay import replay
from featurekit.runtime.worker import WorkerOptions
from tests.servers import Server
from tests.streams.repositories import repository

DEFINITIONS = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: pair, join_keys: {a: string, b: int64}}
feature_views:
  - name: tx
    entity: user
    stream:
      refresh: 1m
      source: {type: redis_stream, stream: tx, event_timestamp_field: at}
      log: {path: log/tx}
    inputs: {amount: int64, shop: string}
    fields:
      count_1h: {type: int64, aggregate: count, window: 1h, tile: 5m}
      sum_24h: {type: int64, aggregate: sum, of: amount, window: 24h}
  - name: pushed
    entity: pair
    stream:
      refresh: 1m
      once: {event_id: id}
      log: {path: log/pushed}
    inputs: {amount: float64}
    fields: {n_1h: {type: int64, aggregate: count, window: 1h}}
  - name: bare
    entity: user
    stream:
      refresh: 1m
      once: none
      log: {path: log/bare}
    inputs: {amount: float64}
    fields: {n_1h: {type: int64, aggregate: count, window: 1h}}
  - name: unlogged
    entity: user
    stream: {refresh: 1m, once: none}
    inputs: {amount: float64}
    fields: {m_1h: {type: int64, aggregate: count, window: 1h}}
  - name: plain
    entity: user
    stream: {refresh: 1m}
    fields: {x: int64}
"""

START = "2020-01-01"
ONCE = StreamOptions(once=True, worker=WorkerOptions(wait_s=0.05))


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """An applied repository on each kind of server."""
    with repository(tmp_path, server.url, DEFINITIONS) as store:
        yield store


def add(server: Server, count: int) -> None:
    """Add events to the stream."""
    with server.client() as client:
        for number in range(count):
            client.xadd("tx", {"user_id": f"u{number % 3}", "amount": number, "shop": "a"})


def windows(server: Server) -> dict[str, Any]:
    """All that is stored of windows."""
    with server.client() as client:
        return {
            f"{key.decode()}:{field.decode()}": data
            for key in client.scan_iter("fs:user:*")
            for field, data in client.hgetall(key).items()
        }


def mark(server: Server) -> dict[bytes, bytes]:
    with server.client() as client:
        return dict(client.hgetall("fs:@mark:tx"))


def test_a_replay_restores_what_the_worker_wrote(store: FeatureStore, server: Server) -> None:
    add(server, 200)
    store.streams.run(["tx"], ONCE)
    before = windows(server)
    with server.client() as client:
        client.hset("fs:user:u1", "count_1h", "nonsense")
        client.hset("fs:user:u9", "sum_24h", "nonsense")
    report = store.streams.replay("tx", START)
    assert (report.written, report.left, report.emptied) == (200, 0, 4)
    assert windows(server) == before
    assert b"@replay" not in mark(server)
    assert store.streams.run(["tx"], ONCE)[0].written == 0
    assert windows(server) == before
    store.reset()
    assert mark(server).keys() == {b"@reset"}
    assert store.streams.replay("tx", START).written == 200
    assert not mark(server)
    assert windows(server) == before


def test_what_the_worker_reads_again_is_left_to_it(store: FeatureStore, server: Server) -> None:
    add(server, 60)
    store.streams.run(["tx"], ONCE)
    before = windows(server)
    with server.client() as client:
        [group] = client.xinfo_groups("tx")
        entries = client.xrange("tx")
        # The last entries were written and logged, and must be read again all the same.
        client.xgroup_setid("tx", group["name"], entries[49][0])
    report = store.streams.replay("tx", START)
    assert (report.written, report.left) == (50, 10)
    assert store.streams.run(["tx"], ONCE)[0].written == 10
    assert windows(server) == before


def test_entries_that_are_pending_are_left_to_the_worker(
    store: FeatureStore, server: Server
) -> None:
    add(server, 10)
    store.streams.run(["tx"], ONCE)
    before = windows(server)
    with server.client() as client:
        [group] = client.xinfo_groups("tx")
        entries = client.xrange("tx")
        client.xgroup_setid("tx", group["name"], entries[6][0])
        client.xreadgroup(group["name"], "other", {"tx": ">"}, count=3)
    report = store.streams.replay("tx", START)
    assert (report.written, report.left) == (7, 3)
    options = StreamOptions(once=True, claim_after_ms=1, worker=ONCE.worker)
    assert store.streams.run(["tx"], options)[0].written == 3
    assert windows(server) == before


def test_a_replay_begins_at_a_time(store: FeatureStore, server: Server) -> None:
    now_ms = time.time_ns() // 1_000_000
    with server.client() as client:
        for age in (0, 30_000, 7_200_000):
            client.xadd("tx", {"user_id": "u", "amount": 1, "at": now_ms - age})
    store.streams.run(["tx"], ONCE)
    assert store.streams.replay("tx", now_ms - 60_000).written == 2
    tiles = windows(server)["fs:user:u:sum_24h"].partition(b":")[2]
    assert sum(map(int, tiles.split(b","))) == 2


def test_pushed_events_are_replayed_by_their_ids(store: FeatureStore, server: Server) -> None:
    writer = store.stream_writer("pushed")
    events: Any = [(("x", 1), {"amount": 0.5, "id": number % 60}) for number in range(100)]
    assert writer.write_many(events).written == 60
    writer.close()
    with server.client() as client:
        before = client.hgetall("fs:pair:x:1")
        client.hset("fs:pair:x:1", "n_1h", "nonsense")
        report = store.streams.replay("pushed", START)
        assert (report.written, report.emptied) == (60, 1)
        assert client.hget("fs:pair:x:1", "n_1h") == before[b"n_1h"]
    assert writer.write_many(events).repeated == 100


def test_a_log_without_positions_is_refused_before_anything_is_emptied(
    store: FeatureStore, server: Server
) -> None:
    writer = store.stream_writer("bare")
    assert writer.write("u", {"amount": 1.0})
    writer.close()
    before = windows(server)
    with pytest.raises(RequestError, match="no position"):
        store.streams.replay("bare", START)
    assert windows(server) == before


def test_what_cannot_be_replayed_is_refused(store: FeatureStore, server: Server) -> None:
    for view, problem in [("unlogged", "no log"), ("plain", "no windows")]:
        with pytest.raises(RequestError, match=problem):
            store.streams.replay(view, START)
    add(server, 1)
    with pytest.raises(SourceError, match="no files"):
        store.streams.replay("tx", START)


def test_a_replay_and_the_workers_of_its_view_exclude_each_other(
    store: FeatureStore, server: Server
) -> None:
    handle: Any = store.streams.handle
    with ViewLock(handle.store, "fs", "tx", handle.now_ms), pytest.raises(LockedError):
        store.streams.run(["tx"], ONCE)
    stop, started = threading.Event(), threading.Event()
    options = StreamOptions(worker=WorkerOptions(wait_s=0.05, report_interval_s=0.05))
    worker = threading.Thread(
        target=store.streams.run,
        args=(["tx"], options),
        kwargs={"stop": stop, "on_report": lambda _report: started.set()},
    )
    worker.start()
    started.wait(20)
    while not store.streams.workers():
        time.sleep(0.01)
    with pytest.raises(RequestError, match="is running"):
        store.streams.replay("tx", START)
    stop.set()
    worker.join()


def test_windows_stay_stale_after_a_replay_that_failed(
    store: FeatureStore, server: Server
) -> None:
    add(server, 10)
    store.streams.run(["tx"], ONCE)
    before, view = windows(server), store.compiled.view("tx")

    def damaged() -> Iterator[Any]:
        yield "u1", {"amount": 1}, time.time_ns() // 1_000_000, "1-1"
        raise SourceError("the file is damaged")

    handle: Any = store.streams.handle
    assert view.windows is not None
    with pytest.raises(SourceError):
        replay(view, view.windows, handle, damaged(), lambda _position: True)
    assert mark(server)[b"@replay"] == b"0"
    store.streams.run(["tx"], ONCE)
    assert mark(server)[b"@replay"] == b"0"
    assert store.streams.replay("tx", START).written == 10
    assert windows(server) == before
    assert b"@replay" not in mark(server)


def test_the_status_says_up_to_when_events_are_applied(
    store: FeatureStore, server: Server
) -> None:
    def status() -> Any:
        return next(each for each in store.status() if each.view == "tx")

    add(server, 3)
    store.streams.run(["tx"], ONCE)
    first = status()
    assert first.state == "on time"
    assert first.stream.mark_age_ms < 60_000
    now_ms = time.time_ns() // 1_000_000
    assert now_ms + 23 * 3_600_000 < first.stream.warming_until_ms <= now_ms + 24 * 3_600_000
    with server.client() as client:
        client.hset("fs:@mark:tx", "group", now_ms - 400_000)
        late = status()
        assert late.state == "silent"
        assert late.reason == (
            "its events are applied up to 6m40s ago, expected 5m: its windows are stale"
        )
        causes = {each.field: each.cause for each in store.why("user", "u0")}
        assert causes["count_1h"] == causes["sum_24h"] == "no live mark"
        client.hset("fs:@mark:tx", "7", 0)
        assert status().state == "silent"
        assert status().stream.mark_age_ms is None
    store.streams.run(["tx"], ONCE)
    assert status().state == "on time"
    [explanation] = [each for each in store.why("user", "nobody") if each.field == "sum_24h"]
    assert explanation.cause == "no event"
    assert "in the last 1d" in explanation.text


def test_a_deletion_wins_over_a_replay_of_the_events_before_it(
    store: FeatureStore, server: Server
) -> None:
    add(server, 30)
    store.streams.run(["tx"], ONCE)
    assert store.delete("user", ["u1", "nobody"]).entities == 1
    report = store.streams.replay("tx", START)
    assert (report.written, report.deleted) == (20, 10)
    with server.client() as client:
        assert not client.exists("fs:user:u1")
        assert client.hvals("fs:@deleted")
        assert all(
            ms > 90 * 86_400_000
            for ms in client.hpttl("fs:@deleted", *client.hkeys("fs:@deleted"))
        )
        while time.time_ns() // 1_000_000 <= max(map(int, client.hvals("fs:@deleted"))):
            time.sleep(0.001)
    add(server, 3)
    store.streams.run(["tx"], ONCE)
    before = windows(server)
    report = store.streams.replay("tx", START)
    assert (report.written, report.deleted) == (23, 10)
    assert windows(server) == before
