"""Reads and writes of slots that are migrating return and keep the right values."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typing_extensions import override

from featurekit import FeatureStore
from featurekit.errors import StoreUnavailableError
from featurekit.ports import ReadOptions
from featurekit.stores.cluster.topology import slot_of
from featurekit.wire import command
from tests.cluster.conftest import opened
from tests.cluster.test_reads import KEYS, REQUESTS, VALUES, WIDE, Loop, fill, unavailable
from tests.clusters import Cluster, Node
from tests.promise.repos import applied, immortal

KEY = KEYS[0]
SLOT = slot_of(KEY)


def other(cluster: Cluster, node: Node) -> Node:
    """Return another primary."""
    return next(each for each in cluster.primaries if each is not node)


def errors_seen(cluster: Cluster, name: str) -> int:
    """Return how often the servers have sent a kind of error."""
    found = 0
    for node in cluster.nodes:
        with node.client() as client:
            found += int(client.info("errorstats").get(f"errorstat_{name}", {}).get("count", 0))
    return found


@contextmanager
def moving(cluster: Cluster) -> Iterator[tuple[Node, Node]]:
    """During the block, the keys of a slot have moved but the slot has not."""
    target = other(cluster, cluster.primary_of(KEY))
    source = cluster.begin_move(SLOT, target)
    cluster.move_keys(SLOT, source, target)
    try:
        yield source, target
    finally:
        cluster.move_keys(SLOT, source, target)
        cluster.end_move(SLOT, target)


@pytest.mark.parametrize("side", ["threads", "asyncio"])
def test_a_slot_that_has_moved_is_followed(cluster: Cluster, side: str) -> None:
    store = Loop(cluster.url) if side == "asyncio" else opened(cluster.url)
    fill(opened(cluster.url))
    assert store.read(KEYS, REQUESTS, repr) == list(map(repr, VALUES))
    cluster.move(SLOT, other(cluster, cluster.primary_of(KEY)))
    moved = errors_seen(cluster, "MOVED")
    for _ in range(3):
        assert store.read(KEYS, REQUESTS, repr) == list(map(repr, VALUES))
        assert store.read(KEYS, WIDE, replies_per_request=2)[::2] == VALUES
    # One for each of the two requests for the key; then the move is known.
    assert errors_seen(cluster, "MOVED") == moved + 2
    store.close()


@pytest.mark.parametrize("side", ["threads", "asyncio"])
def test_a_migrating_slot_is_read_where_its_keys_are(cluster: Cluster, side: str) -> None:
    store = Loop(cluster.url) if side == "asyncio" else opened(cluster.url)
    fill(opened(cluster.url))
    assert store.read(KEYS, REQUESTS) == VALUES
    with moving(cluster):
        asked = errors_seen(cluster, "ASK")
        assert store.read(KEYS, REQUESTS, repr) == list(map(repr, VALUES))
        wide = store.read(KEYS, WIDE, replies_per_request=2)
        assert (wide[::2], set(wide[1::2])) == (VALUES, {-1})
        assert store.read([KEY + b"{%b}" % KEY], [command(b"HMGET", KEY, b"absent")]) == [[None]]
        assert errors_seen(cluster, "ASK") > asked
    store.close()


def test_rows_are_written_whole_while_their_slot_migrates(
    shop: FeatureStore, cluster: Cluster
) -> None:
    activity = shop.stream_writer("activity")
    shop.write_batch("profile", {"u0": {"country": "SE", "tags": ["a"]}})
    assert activity.write("u0", {"tx_count_5m": 1})
    with moving(cluster) as (_, target):
        target.ask("SCRIPT", "FLUSH")
        asked = errors_seen(cluster, "ASK")
        shop.write_batch("profile", {"u0": {"country": "NO", "tx_count_7d": 7}})
        assert activity.write("u0", {"tx_count_5m": 2, "device": None})
        assert activity.write_many([("u0", {"tx_count_5m": n}) for n in range(9)]).written == 9
        assert errors_seen(cluster, "ASK") > asked
        row = shop.online_reader("fraud_v1").read("u0")
        assert (row.country, row.tx_count_7d, row.tags, row.tx_count_5m) == ("NO", 7, [], 8)
        assert shop.inspect("user", "u0").key_ttl_ms is not None
    assert_all_expire(cluster)


def assert_all_expire(cluster: Cluster) -> None:
    for node in cluster.primaries:
        with node.client() as client:
            assert [key for key in immortal(client) if key.startswith(b"fs:")] == []


def test_a_lost_script_is_loaded_again(shop: FeatureStore, cluster: Cluster) -> None:
    shop.write_batch("profile", {"u0": {"country": "SE"}})
    for node in cluster.nodes:
        node.ask("SCRIPT", "FLUSH")
    rows = {f"u{n}": {"country": "NO", "tx_count_7d": n} for n in range(2000)}
    assert shop.write_batch("profile", rows).rows_written == 2000
    for node in cluster.nodes:
        node.ask("SCRIPT", "FLUSH")
    assert shop.stream_writer("activity").write("u0", {"tx_count_5m": 2, "device": None})
    found = shop.online_reader("fraud_v1").read_many(list(rows))
    assert [row.tx_count_7d for row in found] == list(range(2000))
    assert_all_expire(cluster)


def test_an_unserved_slot_fails_only_its_own_rows(valkeys: Cluster) -> None:
    store = opened(f"{valkeys.url}?timeout=1s")
    fill(store)
    owner = valkeys.primary_of(KEY)
    owner.ask("CLUSTER", "DELSLOTS", SLOT)
    try:
        with pytest.raises(
            StoreUnavailableError, match="answers CLUSTERDOWN Hash slot not served"
        ):
            store.read(KEYS, REQUESTS)
        rows = store.read(KEYS, REQUESTS, options=ReadOptions(timeout_s=1, partial=True))
    finally:
        owner.ask("CLUSTER", "ADDSLOTS", SLOT)
    for key, row in zip(KEYS, rows, strict=True):
        assert unavailable(row) if slot_of(key) == SLOT else row == [key]
    assert store.read(KEYS, REQUESTS) == VALUES
    store.close()


USERS = 6000


def table(turn: int) -> pa.Table:
    tags = pa.array([[str(turn)]] * USERS, pa.list_(pa.string()))
    return pa.table(
        {
            "user_id": [f"u{n}" for n in range(USERS)],
            "country": ["NO"] * USERS,
            "tx_count_7d": [turn * USERS + n for n in range(USERS)],
            "tags": tags,
        }
    )


class Mover(threading.Thread):
    """Moves random slots back and forth, and leaves each half-moved for a moment."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._over = threading.Event()
        self._slots = [slot_of(b"fs:user:u%d" % n) for n in range(0, USERS, 40)]
        self.moves = 0

    @override
    def run(self) -> None:
        while not self._over.is_set():
            self._move(random.choice(self._slots))
            self.moves += 1

    def _move(self, slot: int) -> None:
        cluster = self._cluster
        target = other(cluster, cluster.owner_of(slot))
        source = cluster.begin_move(slot, target)
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1)
        if keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        self._over.wait(0.02)
        cluster.move_keys(slot, source, target)
        cluster.end_move(slot, target)

    def end(self) -> None:
        self._over.set()
        self.join()
        assert self.moves


@pytest.fixture
def patient_shop(cluster: Cluster, tmp_path: Path) -> Iterator[FeatureStore]:
    """A shop whose reads tolerate a busy machine."""
    with applied(tmp_path / "repo", f"{cluster.url}?timeout=10s") as store:
        yield store


@pytest.mark.slow
async def test_asyncio_reads_share_connections_while_slots_move(
    patient_shop: FeatureStore, cluster: Cluster
) -> None:
    patient_shop.write_batch("profile", table(1))
    reader = patient_shop.online_reader(["profile"])
    end = time.monotonic() + 10
    reads = 0

    async def read() -> None:
        nonlocal reads
        while time.monotonic() < end:
            number = random.randrange(USERS)
            row = await reader.read_async(f"u{number}")
            assert (row.tx_count_7d, row.tags) == (USERS + number, ["1"])
            reads += 1

    mover = Mover(cluster)
    mover.start()
    try:
        await asyncio.gather(*(read() for _ in range(32)))
    finally:
        mover.end()
    await patient_shop.close_async()
    assert reads > USERS
    assert errors_seen(cluster, "MOVED")


@pytest.mark.slow
def test_loads_and_reads_go_on_while_slots_move(
    patient_shop: FeatureStore, cluster: Cluster
) -> None:
    shop = patient_shop
    shop.write_batch("profile", table(0))
    reader = shop.online_reader(["profile"])
    wrong: list[Any] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            some = random.sample(range(USERS), 100)
            for number, row in zip(some, reader.read_many([f"u{n}" for n in some]), strict=True):
                turn, rest = divmod(row.tx_count_7d, USERS)
                if not row.found or rest != number or row.tags != [str(turn)]:
                    wrong.append((number, row))

    mover, reading = Mover(cluster), threading.Thread(target=read)
    mover.start()
    reading.start()
    try:
        for turn in (1, 2, 3):
            assert shop.write_batch("profile", table(turn)).rows_written == USERS
            rows = reader.read_many([f"u{n}" for n in range(USERS)])
            assert [row.tx_count_7d for row in rows] == [turn * USERS + n for n in range(USERS)]
    finally:
        stop.set()
        reading.join()
        mover.end()
    assert wrong == []
    assert errors_seen(cluster, "ASK")
    assert errors_seen(cluster, "MOVED")
    assert_all_expire(cluster)
