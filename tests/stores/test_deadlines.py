"""Time limits of calls: deadlines, waits for connections, and checks of idle connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.ports import ConnectionStats, ReadOptions
from featurekit.stores.deadline import Deadline
from featurekit.wire import UNAVAILABLE, ErrorReply, command
from tests.fault_proxy import FaultProxy
from tests.servers import Server
from tests.stores.conftest import opened, opened_async, store_and_pool

KEYS = [b"k"]
GETS = [command(b"GET", b"k")]
SOON = ReadOptions(timeout_s=0.05)
LATE_S = 15.0
"""Well above 50 ms, for machines under load, and below the timeouts of the stores."""


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
    store = opened(
        f"{proxy.url if used else proxy.url.replace('//', login)}?retries=3&timeout=60s&connect_timeout=60s"
    )
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
    store = opened_async(f"{proxy.url}?retries=3&timeout=60s&connect_timeout=60s")
    if used:
        await store.read(KEYS, GETS)
    break_proxy(proxy, "dropped")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        await store.read(KEYS, GETS, options=SOON)
    assert time.monotonic() - began < LATE_S
    await store.close()


def test_a_long_deadline_exceeds_the_timeout_of_the_store(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?timeout=20ms")
    store.read(KEYS, GETS, options=ReadOptions(timeout_s=60))
    proxy.to_client.delay = 0.1
    assert store.read(KEYS, GETS, options=ReadOptions(timeout_s=60)) == [None]
    store.close()


def test_a_reply_in_parts_ends_by_the_deadline(proxy: FaultProxy, valkey: Server) -> None:
    with valkey.client() as client:
        client.set("k", b"x" * 10_000_000)
    store = opened(f"{proxy.url}?timeout=60s")
    store.run([b"no"], [command(b"GET", b"no")])
    proxy.to_client.delay = 0.02
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        store.read(KEYS, GETS, options=SOON)
    assert time.monotonic() - began < LATE_S
    store.close()


LARGE = 300
LARGE_KEYS, LARGE_GETS = [b"k"] * LARGE, GETS * LARGE


def decode_slowly(reply: Any) -> int:
    time.sleep(0.002)
    return len(reply)


@pytest.fixture
def large(valkey: Server) -> Server:
    """A server whose value is large enough for a read of many to arrive in parts."""
    with valkey.client() as client:
        client.set("k", b"x" * 2000)
    return valkey


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_decoding_does_not_count_against_the_timeout(
    large: Server, proxy: FaultProxy, scheme: str
) -> None:
    store = opened(f"{large.url if scheme == 'unix' else proxy.url}?timeout=500ms&retries=0")
    assert store.read(LARGE_KEYS, LARGE_GETS, decode_slowly) == [2000] * LARGE
    store.close()


async def test_decoding_does_not_count_against_the_timeout_of_asyncio_reads(large: Server) -> None:
    store = opened_async(f"{large.url}?timeout=500ms&retries=0")
    assert await store.read(LARGE_KEYS, LARGE_GETS, decode_slowly) == [2000] * LARGE
    reads = [store.read(LARGE_KEYS, LARGE_GETS, decode_slowly) for _ in range(3)]
    assert await asyncio.gather(*reads) == [[2000] * LARGE] * 3
    await store.close()


def test_threads_that_decode_at_the_same_time_do_not_time_out(large: Server) -> None:
    def decode(reply: Any) -> int:
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        return len(reply)

    store = opened(f"{large.url}?timeout=500ms&retries=0")
    with ThreadPoolExecutor(3) as threads:
        reads = [threads.submit(store.read, LARGE_KEYS, LARGE_GETS, decode) for _ in range(3)]
        assert [read.result() for read in reads] == [[2000] * LARGE] * 3
    store.close()


def test_decoding_counts_against_the_deadline_of_a_call(large: Server) -> None:
    store = opened(f"{large.url}?timeout=60s&retries=0")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        store.read(LARGE_KEYS, LARGE_GETS, decode_slowly, options=SOON)
    assert time.monotonic() - began < LATE_S
    store.close()


async def test_decoding_counts_against_the_deadline_of_an_asyncio_call(large: Server) -> None:
    store = opened_async(f"{large.url}?timeout=60s&retries=0")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within the 50 ms of the call"):
        await store.read(LARGE_KEYS, LARGE_GETS, decode_slowly, options=SOON)
    assert time.monotonic() - began < LATE_S
    await store.close()


def test_a_server_that_stops_while_its_replies_are_decoded_is_noticed(
    large: Server, proxy: FaultProxy
) -> None:
    def stop(reply: Any) -> int:
        proxy.to_client.drop = True
        return decode_slowly(reply)

    store = opened(f"{proxy.url}?timeout=500ms&retries=0")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within 500 ms"):
        store.read(LARGE_KEYS * 10, LARGE_GETS * 10, stop)
    assert time.monotonic() - began < LATE_S + LARGE * 10 * 0.002
    store.close()


async def test_a_server_that_stops_while_an_event_loop_decodes_is_noticed(
    large: Server, proxy: FaultProxy
) -> None:
    def stop(reply: Any) -> int:
        proxy.to_client.drop = True
        return decode_slowly(reply)

    store = opened_async(f"{proxy.url}?timeout=500ms&retries=0")
    with pytest.raises(StoreUnavailableError, match="within 500 ms"):
        await asyncio.wait_for(store.read(LARGE_KEYS * 10, LARGE_GETS * 10, stop), 60)
    await store.close()


def test_replies_that_trickle_end_with_the_timeout(large: Server, proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?timeout=500ms&retries=0")
    store.run(KEYS, GETS)
    proxy.to_client.delay = 0.03
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="within 500 ms"):
        store.read(LARGE_KEYS * 10, LARGE_GETS * 10)
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
    store, pool = store_and_pool(f"{proxy.url}?max_connections=1&timeout=60s")
    permit = pool.acquire_permit(Deadline(1))
    with pytest.raises(StoreUnavailableError, match="stayed in use for the 50 ms of the call"):
        store.read(KEYS, GETS, options=SOON)
    permit.release()
    store.close()


async def test_the_deadline_includes_the_wait_for_an_asyncio_connection(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?max_connections=1&timeout=60s&coalesce=false")
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
    store = opened(f"{proxy.url}?retries=0&health_check=1ms&connect_timeout=500ms")
    store.run(KEYS, GETS)
    time.sleep(0.01)
    break_proxy(proxy, "dropped")
    with pytest.raises(StoreUnavailableError, match="while connecting"):
        store.run(KEYS, GETS)
    proxy.heal()
    assert store.run(KEYS, GETS) == [None]
    store.close()


async def test_an_idle_asyncio_connection_is_checked_before_it_is_used(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?retries=0&health_check=1ms&connect_timeout=500ms")
    await store.run(KEYS, GETS)
    await asyncio.sleep(0.01)
    break_proxy(proxy, "dropped")
    with pytest.raises(StoreUnavailableError, match="while connecting"):
        await store.run(KEYS, GETS)
    proxy.heal()
    assert await store.run(KEYS, GETS) == [None]
    await store.close()


def test_a_store_counts_its_connections(proxy: FaultProxy) -> None:
    store, pool = store_and_pool(f"{proxy.url}?max_connections=1&timeout=500ms")
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
    store = opened_async(f"{proxy.url}?coalesce=false")
    await asyncio.gather(*(store.run(KEYS, GETS) for _ in range(3)))
    assert store.connection_stats == ConnectionStats(round_trips=3, connects=3, open=3)
    await store.close()
    assert store.connection_stats.open == 0
