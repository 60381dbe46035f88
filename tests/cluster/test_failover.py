"""A replica takes over when its primary dies or hangs during reads and loads."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from featurekit import FeatureStore
from featurekit.errors import LockedError, StoreUnavailableError
from tests.cluster.test_moves import USERS, assert_all_expire, table
from tests.clusters import NODE_TIMEOUT_MS, Cluster, Node, wait_for
from tests.promise.repos import applied

pytestmark = pytest.mark.slow

QUICKLY = "load_timeout=20s&timeout=500ms"


@pytest.fixture
def failing(valkeys: Cluster, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop on a cluster that is quick to have replicas take over."""
    for node in valkeys.nodes:
        node.ask("CONFIG", "SET", "cluster-node-timeout", 500)
        node.ask("CONFIG", "SET", "cluster-replica-no-failover", "no")
    with applied(tmp_path / "repo", f"{valkeys.url}?{QUICKLY}") as store:
        yield store
    for node in valkeys.nodes:
        if node.alive:
            node.resume()  # a test that failed may have left it hung
        else:
            node.start()
    valkeys.wait_until_agreed()
    for node in valkeys.nodes:
        node.ask("CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT_MS)
        node.ask("CONFIG", "SET", "cluster-replica-no-failover", "yes")


class Reading(threading.Thread):
    """Reads all the time, and minds what it gets."""

    def __init__(self, store: FeatureStore) -> None:
        super().__init__(daemon=True)
        self._reader = store.online_reader(["profile"])
        self._over = threading.Event()
        self.wrong: list[Any] = []
        self.failures = 0
        self.last_good = 0.0

    @override
    def run(self) -> None:
        while not self._over.is_set():
            some = random.sample(range(USERS), 50)
            try:
                rows = self._reader.read_many([f"u{n}" for n in some])
            except StoreUnavailableError:
                self.failures += 1
                continue
            self.last_good = time.monotonic()
            self.wrong += [
                (n, row)
                for n, row in zip(some, rows, strict=True)
                if row.found and (row.tx_count_7d % USERS != n or row.country != "NO")
            ]

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.parametrize("fate", ["killed", "hung"])
def test_loads_and_reads_survive_a_primary(
    failing: FeatureStore, valkeys: Cluster, fate: str
) -> None:
    failing.write_batch("profile", table(0))
    idle = FeatureStore(failing.path)
    assert len(idle.doctor()) > 5
    victim = random.choice(valkeys.primaries)
    [heir] = valkeys.replicas_of(victim)
    reading = Reading(failing)
    reading.start()
    strike = threading.Timer(0.05, victim.kill if fate == "killed" else victim.stop)
    strike.start()
    turn = 0
    while valkeys_role(heir) != "master" or turn < 3:
        turn += 1
        load(failing, turn)
    began = time.monotonic()
    wait_for(lambda: reading.last_good > began, "reads to go on")
    reading.end()
    victim.resume()
    assert reading.wrong == []
    assert failing.write_batch("profile", table(turn)).rows_written == USERS
    rows = failing.online_reader(["profile"]).read_many([f"u{n}" for n in range(USERS)])
    assert [row.tx_count_7d for row in rows] == [turn * USERS + n for n in range(USERS)]
    assert_all_expire(valkeys)
    assert idle.reset("user") == USERS  # it got no news meanwhile
    idle.close()


def load(store: FeatureStore, turn: int) -> None:
    """Load a table; again, if the new primary had not heard of the lock, as the error says to do."""
    for _ in range(3):
        with suppress(LockedError):
            assert store.write_batch("profile", table(turn)).rows_written == USERS
            return
    raise AssertionError("three loads in a row have lost their lock")


def valkeys_role(node: Node) -> str:
    with node.client() as client:
        return str(client.info("replication")["role"])


def test_asyncio_reads_and_events_find_the_new_primary(
    failing: FeatureStore, valkeys: Cluster
) -> None:
    victim = valkeys.primary_of("fs:user:u1")
    writer = failing.stream_writer("activity")

    async def walk() -> int:
        assert await writer.write_async("u1", {"tx_count_5m": 1})
        await asyncio.to_thread(victim.kill)
        late = time.monotonic() + 60
        count = 1
        while time.monotonic() < late:
            try:
                await writer.write_async("u1", {"tx_count_5m": count + 1})
                count += 1
                row = await failing.online_reader(["activity"]).read_async("u1")
            except StoreUnavailableError:
                await asyncio.sleep(0.01)
                continue
            if row.tx_count_5m == count:
                break
        await failing.close_async()
        return count

    assert asyncio.run(walk()) >= 2
    assert_all_expire(valkeys)
