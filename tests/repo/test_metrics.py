"""The metrics of a store: reads, values by status, events and loads."""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore, Metrics, StreamOptions
from featurekit.errors import BadEventError, BadRowError, StoreUnavailableError, ValueRefusedError
from featurekit.repo import serving
from tests.promise.repos import applied
from tests.servers import Server, running, valkey_binary
from tests.streams.repositories import repository

NONE = dict.fromkeys(("present", "default", "missing", "invalid", "unavailable", "stale"), 0)
FEATURES = ["profile:tx_count_7d", "profile:country", "activity:device"]


@pytest.fixture
def shop(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop with ten users; only `u1` has a device. Nothing is counted but the load."""
    with applied(tmp_path, valkey.url) as store:
        store.write_batch(
            "profile", {f"u{i}": {"country": "NO", "tx_count_7d": i} for i in range(10)}
        )
        store.stream_writer("activity").write("u1", {"device": "d"})
        yield store


def counted(store: FeatureStore, view: str) -> dict[str, int]:
    """Return the non-zero counts of a view's values by status."""
    return {status: n for status, n in store.metrics().features[view].items() if n}


def test_values_are_counted_by_view_and_status(shop: FeatureStore) -> None:
    shop.get_online_features(FEATURES, {"user_id": ["u1", "u2", "nobody"]})
    shop.online_reader(FEATURES).read_many(["u1", "nobody"])
    assert counted(shop, "profile") == {"present": 6, "default": 2, "missing": 2}
    assert counted(shop, "activity") == {"present": 2, "missing": 3}
    read = shop.metrics().reads["features"]
    assert (read.calls, read.entities, read.nothing, read.failures) == (2, 5, 2, 0)
    assert read.latency.calls == 2
    assert 0 < read.latency.seconds < 60


@pytest.mark.parametrize("features", [FEATURES, "fraud_v1"])
@pytest.mark.parametrize("freshness", [False, True])
def test_unreadable_values_are_counted_once(
    shop: FeatureStore, valkey: Server, features: Any, *, freshness: bool
) -> None:
    with valkey.client() as client:
        client.hset("fs:user:u1", "country", b"\xff")
        client.hdel("fs:user:u1", "tx_count_7d", "device")
        client.set("fs:user:text", "no hash")
    answer = shop.get_online_features(
        features, {"user_id": ["u1", "text", "u2"]}, freshness=freshness
    )
    rows = shop.online_reader(features, freshness=freshness).read_many(["u1", "text", "u2"])
    told = [status for statuses in answer.statuses.values() for status in statuses]
    told += [status for row in rows for status in row.statuses.values()]
    views = shop.metrics().features.values()
    assert {s: sum(view[s] for view in views) for s in NONE} == {s: told.count(s) for s in NONE}


async def test_asyncio_reads_are_counted(shop: FeatureStore) -> None:
    await shop.get_online_features_async("fraud_v1", {"user_id": ["u1", "nobody"]})
    await shop.online_reader("fraud_v1").read_async("u1")
    read = shop.metrics().reads["fraud_v1"]
    assert (read.calls, read.entities) == (2, 3)
    assert (await shop.metrics_async()).reads == {"fraud_v1": read}
    assert sum(counted(shop, "profile").values()) == 9
    await shop.close_async()


def test_a_server_that_is_away_is_counted_as_failures_or_as_unavailable(tmp_path: Path) -> None:
    with running(valkey_binary()) as server, applied(tmp_path, server.url) as store:
        server.stop()
        with pytest.raises(StoreUnavailableError):
            store.get_online_features(FEATURES, {"user_id": ["u1"]})
        store.get_online_features(FEATURES, {"user_id": ["u1"]}, partial=True)
        with pytest.raises(StoreUnavailableError):
            store.write_batch("profile", {"u1": {}})
        told = store.metrics()
        assert (told.reads["features"].failures, told.reads["features"].calls) == (1, 1)
        assert told.features["profile"] == NONE | {"unavailable": 2}
        assert told.loads["profile"].failures == 1


def test_reads_of_dropped_readers_stay_counted(
    shop: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MAX_READERS", 2)
    monkeypatch.setattr("featurekit.runtime.counters.MAX_READERS", 2)
    features = ["profile:tx_count_7d", "profile:country", "profile:tags"]
    gc.freeze()  # exclude the objects of other tests from collection
    lists = [features[:1], features[:2], features, features[1:], features[2:]]
    for _ in range(3):
        for wanted in lists:
            shop.get_online_features(wanted, {"user_id": ["u1"]})
        shop.refresh()
        gc.collect()
    gc.unfreeze()
    assert len(shop._counters.readers) < 3 * len(lists)
    assert shop.metrics().reads["features"].calls == 15
    assert sum(shop.metrics().features["profile"].values()) == 3 * 9


def test_concurrent_reads_are_all_counted(shop: FeatureStore) -> None:
    reader = shop.online_reader(FEATURES)

    def read(_: int) -> None:
        for _ in range(200):
            reader.read_many(["u1", "nobody"])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))
    finally:
        sys.setswitchinterval(before)
    read_now = shop.metrics().reads["features"]
    assert (read_now.calls, read_now.entities, read_now.latency.calls) == (1600, 3200, 1600)
    assert counted(shop, "profile") == {"present": 3200, "default": 1600, "missing": 1600}


def test_a_child_process_and_an_unpickled_store_start_at_zero(shop: FeatureStore) -> None:
    reader = shop.online_reader(FEATURES)
    reader.read_many(["u1", "nobody"])
    pid = os.fork()
    if not pid:
        reader.read("nobody")
        told = shop.metrics()
        entities, missing = told.reads["features"].entities, told.features["profile"]["missing"]
        os._exit(0 if (entities, missing, told.loads["profile"].loads) == (1, 1, 0) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert shop.metrics().reads["features"].entities == 2
    with pickle.loads(pickle.dumps(shop)) as copy:
        assert copy.metrics().reads == copy.metrics().loads == {}
    copied = pickle.loads(pickle.dumps(reader))
    assert copied.read("u1").tx_count_7d == 1
    copied.close()


def test_loads_are_counted_by_view(shop: FeatureStore) -> None:
    with pytest.raises(BadRowError):
        shop.write_batch("profile", {"u1": {"tx_count_7d": -5}})
    report = shop.write_batch("profile", {"u1": {}, "u2": {"tx_count_7d": -5}}, on_bad_row="skip")
    assert report.rows_rejected == 1
    loads = shop.metrics().loads["profile"]
    assert (loads.loads, loads.failures, loads.rows_written, loads.rows_rejected) == (2, 1, 11, 1)
    assert loads.seconds > 0


def test_events_are_counted_by_view(shop: FeatureStore) -> None:
    writer = shop.stream_writer("activity")
    writer.write_many([("u1", {"device": "x"}), ("u2", {"device": 5})], on_bad_event="skip")
    with pytest.raises(BadEventError):
        writer.write_many([("u2", {"device": 5})])
    with pytest.raises(ValueRefusedError):
        writer.write("u2", {"device": 5})
    shop.streams.push(
        "activity", [['{"user_id": "u3", "device": "y"}', "{}"]], on_bad_event="skip"
    )
    events = shop.metrics().events["activity"]
    assert (events.written, events.rejected, events.dead_letters) == (3, 4, 0)


def test_events_of_a_worker_are_counted_and_its_dead_letters(
    valkey: Server, tmp_path: Path
) -> None:
    with repository(tmp_path, valkey.url) as store, valkey.client() as client:
        for event in ({"count": "1"}, {"count": "many"}, {"count": "-1"}, {"user_id": ""}):
            client.xadd("activity-events", {"user_id": "u1", "kind": "k"} | event)
        store.streams.run(["activity"], StreamOptions(once=True))
        events = store.metrics().events["activity"]
    assert (events.written, events.rejected, events.dead_letters) == (1, 3, 3)


def test_a_snapshot_contains_the_state_of_each_view(shop: FeatureStore) -> None:
    told = shop.metrics().views
    assert {name: view.state for name, view in told.items() if view.kind == "batch"} == {
        "profile": "on time", "scores": "never", "shop": "never", "delays": "never"
    }  # fmt: skip
    assert shop.metrics(views=False).views == {}
    assert 0 <= (told["profile"].age_ms or -1) < 60_000
    assert (told["profile"].refresh_ms, told["shop"].age_ms) == (12 * 3600 * 1000, None)


def test_a_snapshot_omits_the_states_if_the_store_does_not_reply(
    valkey: Server, tmp_path: Path
) -> None:
    url = f"{valkey.url}?timeout=100ms&retries=0"
    with applied(tmp_path, url, registry="online") as store, valkey.client() as client:
        store.write_batch("profile", {"u1": {"country": "NO"}})
        assert store.metrics().views["profile"].state == "on time"
        client.client_pause(700)
        assert store.metrics().views == {}


def test_a_snapshot_contains_connection_statistics(shop: FeatureStore) -> None:
    before = shop.metrics(views=False).store.round_trips
    shop.get_online_features(FEATURES, {"user_id": ["u1", "u2"]})
    told = shop.metrics(views=False).store
    assert (told.round_trips - before, told.retries, told.in_use) == (1, 0, 0)
    assert told.open == told.connects >= 1


def test_a_snapshot_before_the_first_apply_has_no_views(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        (tmp_path / "registry.json").unlink()
        store.refresh()
        assert store.metrics().views == {}


def test_snapshots_serialize_and_add_up(shop: FeatureStore) -> None:
    shop.get_online_features("fraud_v1", {"user_id": ["u1", "nobody"]})
    one = shop.metrics()
    other = Metrics.from_json(one.to_json())
    assert other == one == pickle.loads(pickle.dumps(one))
    assert json.loads(one.to_json()) == json.loads(json.dumps(one.to_dict()))
    both = sum([one, other], Metrics())
    assert both.reads["fraud_v1"].entities == 4
    assert both.reads["fraud_v1"].latency.calls == 2
    assert both.features["profile"]["missing"] == 2 * one.features["profile"]["missing"]
    assert both.loads["profile"].rows_written == 20
    assert both.views == one.views
