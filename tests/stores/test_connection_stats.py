"""The connection counters of stores."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurekit.ports import Chunk, ConnectionStats
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.wire import command
from tests.fault_proxy import FaultProxy
from tests.servers import PATIENT, Server
from tests.stores.conftest import opened, opened_async

PINGS = ([b"k"], [command(b"PING")])


@pytest.fixture(params=["server", "memory://traffic"])
def handle(request: pytest.FixtureRequest, valkey: Server) -> Iterator[LazyStoreHandle]:
    url = valkey.url if request.param == "server" else request.param
    handle = LazyStoreHandle(url, Path(), PATIENT)
    yield handle
    handle.close()


def test_round_trips_and_connections_are_counted(handle: LazyStoreHandle) -> None:
    assert handle.connection_stats == ConnectionStats()
    for _ in range(3):
        handle.store.run(*PINGS)
    assert handle.connection_stats == ConnectionStats(round_trips=3, connects=1, open=1)
    list(handle.store.load([Chunk(command(b"PING"), 1, 1, 1)]))
    assert handle.connection_stats.open == handle.connection_stats.connects
    handle.close()
    assert (handle.connection_stats.open, handle.connection_stats.in_use) == (0, 0)


def test_counters_include_event_loops(handle: LazyStoreHandle) -> None:
    async def work(*, close: bool) -> ConnectionStats:
        await handle.async_store().run(*PINGS)
        stats = handle.connection_stats
        if close:
            await handle.close_async()
        return stats

    handle.store.run(*PINGS)
    stats = [asyncio.run(work(close=close)) for close in (False, True, False)]
    assert [each.round_trips for each in stats] == [2, 3, 4]
    assert handle.connection_stats.round_trips == 4
    assert handle.connection_stats.open == 1
    assert not handle._stores_by_loop


def test_connections_in_use_are_counted(valkey: Server) -> None:
    store = opened(f"{valkey.url}?max_connections=2")
    with ThreadPoolExecutor(4) as pool:
        blocked = [pool.submit(store.call, "BLPOP", "nothing", "0.2") for _ in range(4)]
        seen = [0]
        while not all(each.done() for each in blocked):
            seen.append(store.connection_stats.in_use)
            time.sleep(0.01)
    assert max(seen) == 2
    assert store.connection_stats == ConnectionStats(round_trips=4, connects=2, waits=2, open=2)
    store.close()


def test_retries_are_counted(valkey: Server) -> None:
    with FaultProxy(valkey.socket) as proxy:
        store = opened(proxy.url)
        store.run(*PINGS)
        proxy.reset()
        store.run(*PINGS)
        assert store.connection_stats == ConnectionStats(
            round_trips=3, retries=1, connects=2, open=1
        )
        store.close()


async def test_asyncio_retries_are_counted(valkey: Server) -> None:
    with FaultProxy(valkey.socket) as proxy:
        store = opened_async(proxy.url)
        await store.run(*PINGS)
        proxy.to_client.cut_after(0)
        await store.run(*PINGS)
        assert store.connection_stats == ConnectionStats(
            round_trips=3, retries=1, connects=2, open=1
        )
        await store.close()
        assert store.connection_stats.open == 0


def test_a_child_process_has_its_own_counters(valkey: Server) -> None:
    store = opened(valkey.url)
    store.run(*PINGS)
    pid = os.fork()
    if not pid:
        none = store.connection_stats == ConnectionStats()
        store.run(*PINGS)
        one = store.connection_stats == ConnectionStats(round_trips=1, connects=1, open=1)
        os._exit(0 if none and one else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.connection_stats == ConnectionStats(round_trips=1, connects=1, open=1)
    store.close()
