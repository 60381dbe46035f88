"""Loads, stream writes and reads follow a failover, and every key still expires."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import StoreError, StoreUnavailableError
from tests.conftest import KINDS
from tests.promise.repos import applied, immortal
from tests.promise.test_interruptions import SOURCED, write_sources
from tests.sentinels import SentinelGroup, sentinel_group

pytestmark = pytest.mark.slow

USERS = 60_000
FOLLOWED_WITHIN_S = 30.0


@pytest.fixture(params=[kind for kind in KINDS if kind in ("valkey", "redis8")])
def pair(request: pytest.FixtureRequest) -> Iterator[SentinelGroup]:
    with sentinel_group(KINDS[str(request.param)][0]) as pair:
        yield pair


def seconds_until_it_works(act: Callable[[], object]) -> float:
    """Retry while the store is unavailable; return how long that took."""
    began = time.monotonic()
    while True:
        try:
            act()
        except StoreUnavailableError:
            assert time.monotonic() - began < FOLLOWED_WITHIN_S
            time.sleep(0.02)
        else:
            return time.monotonic() - began


def test_everything_follows_a_primary_that_dies(pair: SentinelGroup, tmp_path: Path) -> None:
    write_sources(tmp_path, USERS)
    with applied(tmp_path, pair.url, SOURCED) as store:
        writer = store.stream_writer("activity")
        writer.write("u1", {"tx_count_5m": 1})
        reader = store.online_reader("fraud_v1")
        reader.read("u1")
        faults: list[Exception] = []
        load = threading.Thread(target=loaded, args=(store, faults))
        load.start()
        with pair.first.client() as client:
            while client.dbsize() < USERS / 20:
                time.sleep(0.001)
        pair.first.stop()
        assert load.is_alive()
        seconds_until_it_works(lambda: writer.write("u1", {"tx_count_5m": 2}))
        seconds_until_it_works(lambda: reader.read("u1"))
        assert reader.read("u1").tx_count_5m == 2
        load.join()
        assert faults == []
        assert pair.primary is pair.second
        with pair.second.client() as client:
            assert immortal(client) == []
        store.materialize(["profile"])
        assert asyncio.run(read_twice(store)) == [2, 2]


def loaded(store: FeatureStore, faults: list[Exception]) -> None:
    try:
        store.materialize(["profile", "scores"])
    except StoreError as error:
        faults.append(error)


async def read_twice(store: FeatureStore) -> list[object]:
    reader = store.online_reader("fraud_v1")
    rows = [await reader.read_async("u1") for _ in range(2)]
    await store.close_async()
    return [row.tx_count_5m for row in rows]
