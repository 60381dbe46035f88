"""Time limits of calls: deadlines, waits for connections, and checks of idle connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.ports import ConnectionStats, ReadOptions
from featurekit.stores import open_async_store
from featurekit.stores.deadline import Deadline
from featurekit.wire import UNAVAILABLE, ErrorReply, command
from tests.fault_proxy import FaultProxy
from tests.servers import Server
from tests.stores.conftest import opened, store_and_pool

KEYS = [b"k"]
GETS = [command(b"GET", b"k")]
SOON = ReadOptions(timeout_s=0.05)
LATE_S = 0.4
"""Well above 50 ms, for machines under load, and below every other limit."""


@pytest.fixture
def proxy(valkey: Server) -> Iterator[FaultProxy]:
    with FaultProxy(valkey.socket) as proxy:
        yield proxy


def break_proxy(proxy: FaultProxy, fault: str) -> None:
    proxy.to_server.drop = fault == "dropped"
    proxy.to_client.delay = 0.04 if fault == "slow" else 0.0


CASES = [("dropped", "//"), ("dropped", "//ann:pw@"), ("slow", "//default:any@")]


@pytest.mark.parametrize("used", [True, False], ids=["open", "new"])
@pytest.mark.parametrize(("fault", "login"), CASES)
def test_a_read_ends_by_its_deadline(
    proxy: FaultProxy, fault: str, login: str, *, used: bool
) -> None:
    store = opened(f"{proxy.url if used else proxy.url.replace('//', login)}?retries=3&timeout=2s")
    if used:
        store.read(KEYS, GETS)
    break_proxy(proxy, fault)
    if used and fault == "slow":
        proxy.to_client.delay = 1.0
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        store.read(KEYS, GETS, options=SOON)
    assert time.monotonic() - began < LATE_S
    store.close()


@pytest.mark.parametrize("used", [True, False], ids=["open", "new"])
async def test_an_asyncio_read_ends_by_its_deadline(proxy: FaultProxy, *, used: bool) -> None:
    store = open_async_store(f"{proxy.url}?retries=3&timeout=2s", Path())
    if used:
        await store.read(KEYS, GETS)
    break_proxy(proxy, "dropped")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        await store.read(KEYS, GETS, options=SOON)
    assert time.monotonic() - began < LATE_S
    await store.close()


def test_a_long_deadline_exceeds_the_timeout_of_the_store(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?timeout=20ms&connect_timeout=1s")
    store.read(KEYS, GETS, options=ReadOptions(timeout_s=2))
    proxy.to_client.delay = 0.1
    assert store.read(KEYS, GETS, options=ReadOptions(timeout_s=2)) == [None]
    store.close()


def test_a_reply_in_parts_ends_by_the_deadline(proxy: FaultProxy, valkey: Server) -> None:
    with valkey.client() as client:
        client.set("k", b"x" * 10_000_000)
    store = opened(f"{proxy.url}?timeout=5s")
    store.run([b"no"], [command(b"GET", b"no")])
    proxy.to_client.delay = 0.02
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        store.read(KEYS, GETS, options=SOON)
    assert time.monotonic() - began < LATE_S
    store.close()


def test_a_partial_read_ends_by_its_deadline_without_an_error(proxy: FaultProxy) -> None:
    store = opened(proxy.url)
    proxy.to_server.drop = True
    [reply] = store.read(KEYS, GETS, options=ReadOptions(timeout_s=0.05, partial=True))
    assert isinstance(reply, ErrorReply)
    assert reply.code == UNAVAILABLE
    store.close()


def test_the_deadline_includes_the_wait_for_a_connection(proxy: FaultProxy) -> None:
    store, pool = store_and_pool(f"{proxy.url}?max_connections=1&timeout=5s")
    permit = pool.acquire_permit(Deadline(1))
    with pytest.raises(StoreUnavailableError, match="stayed in use for the 50 ms of the call"):
        store.read(KEYS, GETS, options=SOON)
    permit.release()
    store.close()


async def test_the_deadline_includes_the_wait_for_an_asyncio_connection(proxy: FaultProxy) -> None:
    store = open_async_store(f"{proxy.url}?max_connections=1&timeout=5s", Path())
    await store.read(KEYS, GETS)
    proxy.to_client.delay = 0.3
    first = asyncio.create_task(store.run(KEYS, GETS))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match="stayed in use for the 50 ms of the call"):
        await store.read(KEYS, GETS, options=SOON)
    assert await first == [None]
    await store.close()


def test_an_idle_connection_that_was_cut_is_replaced_silently(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?retries=0&health_check=1ms")
    store.run(KEYS, GETS)
    proxy.reset()
    time.sleep(0.01)
    assert store.run(KEYS, GETS) == [None]
    store.close()


def test_an_idle_connection_is_checked_before_it_is_used(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?retries=0&health_check=1ms&connect_timeout=50ms")
    store.run(KEYS, GETS)
    time.sleep(0.01)
    break_proxy(proxy, "dropped")
    with pytest.raises(StoreUnavailableError, match="while connecting"):
        store.run(KEYS, GETS)
    proxy.heal()
    assert store.run(KEYS, GETS) == [None]
    store.close()


async def test_an_idle_asyncio_connection_is_checked_before_it_is_used(proxy: FaultProxy) -> None:
    store = open_async_store(
        f"{proxy.url}?retries=0&health_check=1ms&connect_timeout=50ms", Path()
    )
    await store.run(KEYS, GETS)
    await asyncio.sleep(0.01)
    break_proxy(proxy, "dropped")
    with pytest.raises(StoreUnavailableError, match="while connecting"):
        await store.run(KEYS, GETS)
    proxy.heal()
    assert await store.run(KEYS, GETS) == [None]
    await store.close()


def test_a_store_counts_its_connections(proxy: FaultProxy) -> None:
    store, pool = store_and_pool(f"{proxy.url}?max_connections=1&timeout=50ms")
    store.run(KEYS, GETS)
    proxy.reset()
    store.run(KEYS, GETS)
    permit = pool.acquire_permit(Deadline(1))
    with pytest.raises(StoreUnavailableError):
        store.run(KEYS, GETS)
    permit.release()
    assert store.connection_stats == ConnectionStats(
        round_trips=3, retries=1, connects=2, waits=1, open=1, in_use=0
    )
    store.close()
    assert store.connection_stats.open == 0


async def test_an_asyncio_store_counts_its_connections(proxy: FaultProxy) -> None:
    store = open_async_store(proxy.url, Path())
    await asyncio.gather(*(store.run(KEYS, GETS) for _ in range(3)))
    assert store.connection_stats == ConnectionStats(round_trips=3, connects=3, open=3)
    await store.close()
    assert store.connection_stats.open == 0
