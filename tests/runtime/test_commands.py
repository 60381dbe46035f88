from __future__ import annotations

import math
from itertools import groupby

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from tests.promise.repos import commands, names
from tests.servers import Server

FEATURES = ["profile:country", "activity:device", "profile:tx_count_7d"]
IDS = [f"u{i}" for i in range(100)]


def test_a_read_is_one_hmget_for_each_entity_and_nothing_else(
    shop: FeatureStore, valkey: Server
) -> None:
    reader = shop.online_reader(FEATURES)
    reader.read("u1")
    with commands(valkey) as seen:
        reader.read_many(IDS)
        shop.get_online_features(FEATURES, {"user_id": IDS})
    assert names(seen) == {"HMGET": 200}
    assert seen[7] == ["HMGET", "fs:user:u7", "country", "device", "tx_count_7d"]


async def test_an_asyncio_read_sends_the_same_commands(shop: FeatureStore, valkey: Server) -> None:
    reader = shop.online_reader(FEATURES)
    await reader.read_async("u1")
    with commands(valkey) as seen:
        await reader.read_many_async(IDS)
    assert names(seen) == {"HMGET": 100}
    await shop.close_async()


def test_all_entities_take_one_round_trip(shop: FeatureStore, valkey: Server) -> None:
    rows = [{"user_id": user, "merchant_id": 7} for user in IDS[:50]]
    shop.get_online_features("both", rows[:1])
    with valkey.client() as client:
        before = client.info("stats")["total_reads_processed"]
        client.ping()
        cost = client.info("stats")["total_reads_processed"] - before
        shop.get_online_features("both", rows)
        after = client.info("stats")["total_reads_processed"]
    assert after - before - cost - 1 == 1
    with commands(valkey) as seen:
        shop.get_online_features("both", rows)
    assert names(seen) == {"HMGET": 100}
    assert seen[0] == ["HMGET", "fs:user:u0", "tx_count_7d", "country"]
    assert seen[50] == ["HMGET", "fs:merchant:7", "sales", "country"]


def test_freshness_requests_ttls_in_the_same_round_trip(
    shop: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        client.hset("fs:user:u1", "device", "d")
        client.hpexpire("fs:user:u1", 600_000, "device")
        client.hset("fs:user:forever", "country", "NO")
    reader = shop.online_reader(FEATURES, freshness=True)
    reader.read("u1")
    with commands(valkey) as seen:
        row, lone, none = reader.read_many(["u1", "forever", "unknown"])
    assert [p[0] for p in seen] == ["HPTTL", "PTTL", "HMGET"] * 3
    assert 540 < row.freshness["device"] <= 600
    assert 86_300 < row.freshness["country"] <= 86_400
    assert lone.freshness == {"country": math.inf, "device": None, "tx_count_7d": None}
    assert set(none.freshness.values()) == {None}
    answer = reader.get([{"user_id": "u1"}])
    assert 540 < answer.freshness["device"][0] <= 600  # type: ignore[operator]


@pytest.mark.parametrize("form", ["dict", "arrow"])
def test_a_load_is_two_commands_for_each_row_in_small_transactions(
    shop: FeatureStore, valkey: Server, form: str
) -> None:
    rows = {f"n{i}": {"country": "NO", "tx_count_7d": i, "tags": ["a"]} for i in range(200)}
    table = pa.Table.from_pylist([{"user_id": user, **row} for user, row in rows.items()])
    shop.write_batch("profile", rows)
    with commands(valkey) as seen:
        shop.write_batch("profile", rows if form == "dict" else table)
    counts = names(seen)
    assert counts["HSET"] == counts["PEXPIRE"] == 200
    assert counts["MULTI"] == counts["EXEC"] <= 200
    assert not {"HDEL", "EXISTS", "HGETALL", "HSETEX", "UNLINK"} & set(counts)
    if form == "arrow":
        assert counts["MULTI"] == 7
        blocks = [list(g) for is_exec, g in groupby(seen, lambda p: p[0] == "EXEC") if not is_exec]
        assert max(len([p for p in block if p[0] == "HSET"]) for block in blocks) == 32


def test_a_load_without_rows_writes_nothing(shop: FeatureStore, valkey: Server) -> None:
    with commands(valkey) as seen:
        assert shop.write_batch("profile", {}).rows_written == 0
    assert not {"HSET", "PEXPIRE", "HDEL", "MULTI"} & set(names(seen))


def test_only_inspect_reads_whole_hashes(shop: FeatureStore, valkey: Server) -> None:
    with commands(valkey) as seen:
        found = shop.inspect("user", "u1")
    assert names(seen)["HGETALL"] == 1
    assert found.found
    assert found.key == "fs:user:u1"
