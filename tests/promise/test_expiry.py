from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import RequestError
from tests.promise.repos import FRAUD, applied, immortal
from tests.sentinels import until
from tests.servers import Server

HOUR_MS = 3_600_000
USER = "fs:user:u1"


def owner_rows(count: int) -> dict[str, dict[str, Any]]:
    return {f"u{i}": {"country": "NO", "tx_count_7d": i, "tags": ["a"]} for i in range(count)}


def test_a_batch_write_sets_the_ttl_of_the_key_but_not_of_fields(
    store: FeatureStore, client: redis.Redis
) -> None:
    store.write_batch("profile", owner_rows(100))
    for i in range(100):
        assert 24 * HOUR_MS - 10_000 < client.pttl(f"fs:user:u{i}") <= 24 * HOUR_MS
    assert client.httl(USER, "country", "tx_count_7d", "tags") == [-1, -1, -1]
    assert client.hgetall(USER) == {b"country": b"NO", b"tx_count_7d": b"1", b"tags": b'["a"]'}
    assert len(list(client.scan_iter("fs:user:*"))) == 100
    assert not immortal(client)


def test_the_next_load_renews_the_keys_ttl(store: FeatureStore, client: redis.Redis) -> None:
    store.write_batch("profile", owner_rows(3))
    client.pexpire(USER, 5000)
    store.write_batch("profile", owner_rows(3))
    assert client.pttl(USER) > 23 * HOUR_MS


def test_a_view_that_expires_by_field_does_not_change_the_ttl_of_the_key(
    store: FeatureStore, client: redis.Redis
) -> None:
    store.write_batch("profile", owner_rows(3))
    client.pexpire(USER, 10 * HOUR_MS)
    store.write_batch("scores", pa.table({"user_id": ["u1"], "risk": [0.5], "model": ["m"]}))
    assert 9 * HOUR_MS < client.pttl(USER) <= 10 * HOUR_MS
    risk, model, country = client.hpttl(USER, "risk", "model", "country")
    assert HOUR_MS < risk <= 2 * HOUR_MS
    assert 0 < model <= HOUR_MS
    assert country == -1
    store.write_batch("profile", owner_rows(3))
    assert client.hpttl(USER, "risk", "model")[0] > HOUR_MS


def test_a_key_without_an_owner_expires_with_its_fields(
    store: FeatureStore, client: redis.Redis
) -> None:
    store.write_batch("scores", {"u1": {"risk": 0.5, "model": "m"}})
    assert client.pttl(USER) == -1
    assert -1 not in client.hpttl(USER, "risk", "model")
    assert not immortal(client)


def test_null_and_missing_fields_of_a_row_are_deleted(
    store: FeatureStore, client: redis.Redis
) -> None:
    store.write_batch("profile", owner_rows(3))
    store.write_batch("scores", {"u1": {"risk": 0.5, "model": "m"}})
    store.write_batch("profile", {"u1": {"country": None, "tags": ["b"]}})
    assert client.hgetall(USER) == {b"tags": b'["b"]', b"risk": b"0.5", b"model": b"m"}
    store.write_batch("scores", {"u1": {"risk": None, "model": "m2"}})
    assert client.hgetall(USER) == {b"tags": b'["b"]', b"model": b"m2"}


def test_a_row_of_nulls_leaves_no_key(store: FeatureStore, client: redis.Redis) -> None:
    nulls = {"u1": {"country": None}, "new": {}}
    store.write_batch("profile", owner_rows(3))
    report = store.write_batch("profile", nulls)
    assert report.rows_written == 2
    assert client.exists(USER, "fs:user:new") == 0
    store.write_batch("scores", {"u9": {}})
    assert client.exists("fs:user:u9") == 0


def test_a_removed_field_is_deleted_by_the_next_load(
    server: Server, tmp_path: Any, client: redis.Redis
) -> None:
    with applied(tmp_path, server.url) as store:
        store.write_batch("profile", owner_rows(3))
        store.write_batch("scores", {"u1": {"risk": 0.5, "model": "m"}})
    thinner = FRAUD.replace("      country: string\n      tx", "      tx").replace(
        "      model: string\n", ""
    ).replace(", 'profile:country', 'shop:country'", "")  # fmt: skip
    with applied(tmp_path, server.url, thinner) as store:
        assert store.compiled.view("profile").retired == ("country", "model")
        store.write_batch("profile", {"u1": {"tx_count_7d": 5}})
        assert client.hgetall(USER) == {b"tx_count_7d": b"5", b"risk": b"0.5"}
        table = pa.table(
            {
                "user_id": ["u2"],
                "tx_count_7d": [6],
                "tags": pa.array([["z"]], pa.list_(pa.string())),
            }
        )
        store.write_batch("profile", table)
        assert client.hgetall("fs:user:u2") == {b"tx_count_7d": b"6", b"tags": b'["z"]'}


def test_the_entity_disappears_if_the_refresher_stops(
    server: Server, tmp_path: Any, client: redis.Redis
) -> None:
    brief = FRAUD.replace("refresh: 12h, ttl: 24h", "refresh: 100ms, ttl: 200ms")
    with applied(tmp_path, server.url, brief) as store:

        def is_found() -> bool:
            return store.get_online_features("fraud_v1", [{"user_id": "u1"}]).found == [True]

        def is_written_and_found() -> bool:
            store.write_batch("profile", owner_rows(3))
            return is_found()

        until(is_written_and_found)
        until(lambda: not is_found())
        response = store.get_online_features("fraud_v1", [{"user_id": "u1"}])
        assert response.statuses["country"] == ["missing"]
        assert response.to_dict()["tx_count_7d"] == [0]


def stream_write(client: redis.Redis, key: str, count: int) -> None:
    """Write a stream event with plain commands."""
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hset(key, mapping={"tx_count_5m": count, "device": f"d{count}"})
        pipeline.hpexpire(key, 300_000, "tx_count_5m", "device")
        pipeline.execute()


def test_a_load_does_not_change_stream_fields_or_their_ttls(
    store: FeatureStore, client: redis.Redis
) -> None:
    stream_write(client, USER, 7)
    client.hpexpire(USER, 200_000, "device")
    for _ in range(3):
        store.write_batch("profile", owner_rows(3))
        store.write_batch("scores", {"u1": {"risk": 0.1}})
    assert client.hmget(USER, "tx_count_5m", "device") == [b"7", b"d7"]
    count, device = client.hpttl(USER, "tx_count_5m", "device")
    assert 290_000 < count <= 300_000
    assert 190_000 < device <= 200_000


def test_concurrent_loads_and_stream_writes_lose_nothing(
    store: FeatureStore, server: Server, client: redis.Redis
) -> None:
    stop = threading.Event()
    last: dict[str, int] = {}

    def stream() -> None:
        with server.client() as other:
            for turn in range(100_000):
                key = f"fs:user:u{turn % 40}"
                stream_write(other, key, turn)
                last[key] = turn
                if stop.is_set() and turn > 80:
                    return

    thread = threading.Thread(target=stream)
    thread.start()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        store.write_batch("profile", owner_rows(40))
        store.write_batch("scores", {f"u{i}": {"risk": 0.5} for i in range(40)})
    stop.set()
    thread.join()
    for i in range(40):
        key = f"fs:user:u{i}"
        names = ["country", "tags", "risk", "tx_count_5m", "device"]
        stored = [b"NO", b'["a"]', b"0.5", b"%d" % last[key], b"d%d" % last[key]]
        assert client.hmget(key, *names) == stored
        assert [ttl > 0 for ttl in client.hpttl(key, *names)] == [False, False, True, True, True]
        assert client.pttl(key) > 0


@pytest.mark.parametrize("write", ["dict", "lines", "arrow", "materialize"])
def test_a_batch_write_into_a_stream_view_is_refused(shop: FeatureStore, write: str) -> None:
    writes: dict[str, Callable[[], object]] = {
        "dict": lambda: shop.write_batch("activity", {"u1": {"tx_count_5m": 1}}),
        "lines": lambda: shop.write_jsonl("activity", ['{"user_id": "u1"}']),
        "arrow": lambda: shop.write_batch("activity", pa.table({"user_id": ["u1"]})),
        "materialize": lambda: shop.materialize(["activity"]),
    }
    with pytest.raises(RequestError, match="activity"):
        writes[write]()


def test_the_newest_row_of_each_entity_wins(store: FeatureStore, client: redis.Redis) -> None:
    rows = 3000
    table = pa.table(
        {
            "user_id": [f"u{i % 1000}" for i in range(rows)],
            "country": ["NO"] * rows,
            "tx_count_7d": list(range(rows)),
            "tags": pa.array([["a"]] * rows, pa.list_(pa.string())),
            "t": pa.array(
                [(rows - i) * 1_000_000 for i in range(rows)], pa.timestamp("us", "UTC")
            ),
        }
    )
    pq.write_table(table, store.path / "users.parquet")
    [report] = store.materialize()
    assert (report.rows_read, report.rows_written, report.rows_superseded) == (3000, 1000, 2000)
    assert client.hget("fs:user:u7", "tx_count_7d") == b"7"
    [report] = store.materialize(start=0, end=1_000_001, allow_older=True)
    assert (report.rows_read, report.rows_written) == (1000, 1000)
    assert client.hget("fs:user:u7", "tx_count_7d") == b"2007"
