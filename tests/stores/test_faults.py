"""Stores whose server does not answer, or whose connection breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.ports import Chunk
from featurekit.stores import open_store
from featurekit.stores.deadline import Deadline
from featurekit.stores.redis import RedisStore
from featurekit.wire import Reply, command, text_command
from tests.fault_proxy import FaultProxy
from tests.servers import Server, running, valkey_binary
from tests.stores.conftest import opened, opened_async, store_and_pool

KEYS = [b"k%d" % i for i in range(50)]
GETS = [command(b"GET", key) for key in KEYS]
VALUES: list[Reply] = [b"value of " + key for key in KEYS]


@pytest.fixture
def proxy(valkey: Server) -> Iterator[FaultProxy]:
    with valkey.client() as client:
        client.mset({key: b"value of " + key for key in KEYS})
    with FaultProxy(valkey.socket) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy) -> Iterator[RedisStore]:
    store = opened(proxy.url)
    assert store.run(KEYS, GETS) == VALUES
    yield store
    store.close()


@pytest.mark.parametrize("count", [0, 1, 5, 200, 600])
def test_a_call_is_sent_again_when_its_reply_is_cut(
    store: RedisStore, proxy: FaultProxy, count: int
) -> None:
    proxy.to_client.cut_after(count)
    assert store.run(KEYS, GETS) == VALUES
    assert store.run(KEYS[:3], GETS[:3]) == VALUES[:3]


@pytest.mark.parametrize("count", [0, 1, 21, 300])
def test_a_call_is_sent_again_when_its_request_is_cut(
    store: RedisStore, proxy: FaultProxy, count: int
) -> None:
    proxy.to_server.cut_after(count)
    assert store.run(KEYS, GETS) == VALUES
    assert store.run(KEYS[:3], GETS[:3]) == VALUES[:3]


def test_a_stale_connection_is_replaced(store: RedisStore, proxy: FaultProxy) -> None:
    proxy.reset()
    assert store.run(KEYS, GETS) == VALUES
    proxy.reset()
    assert store.call("GET", "k1") == b"value of k1"


def test_late_replies_are_never_returned_to_another_call(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?timeout=1s")
    store.run(KEYS, GETS)
    proxy.to_client.delay = 3
    with pytest.raises(StoreUnavailableError, match="no answer"):
        store.run(KEYS[:1], GETS[:1])
    proxy.heal()
    assert store.run(KEYS[1:4], GETS[1:4]) == VALUES[1:4]
    store.close()


def test_a_silent_server_fails_a_call_by_default(proxy: FaultProxy) -> None:
    proxy.to_server.drop = True
    store = open_store(proxy.url, Path())
    with pytest.raises(StoreUnavailableError):
        store.run(KEYS, GETS)


def test_a_server_that_is_silent_at_first_fails_a_call_in_time(proxy: FaultProxy) -> None:
    proxy.to_server.drop = True
    store = opened(f"{proxy.url.replace('//', '//user:pw@')}?connect_timeout=100ms")
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="while connecting") as caught:
        store.run(KEYS, GETS)
    assert time.monotonic() - began < 30
    assert "pw" not in str(caught.value)


def test_the_error_names_a_server_that_resets_connections(
    store: RedisStore, proxy: FaultProxy
) -> None:
    proxy.refuse()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{proxy.port}"):
        store.run(KEYS, GETS)
    proxy.heal()
    assert store.run(KEYS, GETS) == VALUES


def test_the_error_says_that_nothing_listens() -> None:
    with pytest.raises(StoreUnavailableError, match="nothing listens at unix:///nowhere/s"):
        opened("unix:///nowhere/s").call("PING")


def test_a_call_is_never_sent_twice(store: RedisStore, proxy: FaultProxy) -> None:
    proxy.to_client.cut_after(1)
    with pytest.raises(StoreUnavailableError):
        store.call("INCR", "n")
    assert store.call("GET", "n") == b"1"


def test_without_retries_a_request_is_not_sent_twice(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?retries=0")
    store.run(KEYS, GETS)
    proxy.to_client.cut_after(1)
    with pytest.raises(StoreUnavailableError):
        store.run([b"n"], [command(b"INCR", b"n")])
    assert store.call("GET", "n") == b"1"
    store.close()


def test_an_interrupted_read_leaves_no_replies_behind(proxy: FaultProxy) -> None:
    store, pool = store_and_pool(proxy.url)
    store.run(KEYS, GETS)
    [connection] = pool.idle
    connection.sock.sendall(GETS[0])
    assert store.run(KEYS[1:3], GETS[1:3]) == VALUES[1:3]


def test_max_connections_limits_the_connections(proxy: FaultProxy) -> None:
    store, pool = store_and_pool(f"{proxy.url}?max_connections=1&timeout=50ms")
    permit = pool.acquire_permit(Deadline(1))
    with pytest.raises(StoreUnavailableError, match=r"all 1 connections .* in use for 50 ms"):
        store.run(KEYS, GETS)
    permit.release()
    store.close()


def chunk(number: int) -> Chunk:
    rows = 500
    data = b"".join(text_command("SET", f"{number}:{row}", row) for row in range(rows))
    return Chunk(data, rows, rows, rows)


@pytest.mark.parametrize("way", ["to_server", "to_client"])
@pytest.mark.parametrize("count", [100, 1100, 9000])
def test_a_cut_load_sends_unanswered_chunks_again(
    store: RedisStore, proxy: FaultProxy, way: str, count: int
) -> None:
    getattr(proxy, way).cut_after(count)
    chunks = [chunk(number) for number in range(8)]
    assert list(store.load(chunks)) == [(chunk, None) for chunk in chunks]
    assert store.call("DBSIZE") == 8 * 500 + len(KEYS)


def test_a_load_that_is_cut_repeatedly_fails(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?load_timeout=300ms")
    proxy.to_client.cut_after(100, again=True)
    with pytest.raises(StoreUnavailableError, match="broke while connecting"):
        list(store.load(chunk(number) for number in range(3)))


def test_a_load_into_a_silent_server_fails(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?load_timeout=300ms")
    results = store.load(chunk(number) for number in range(30))
    next(results)
    proxy.to_server.drop = True
    with pytest.raises(StoreUnavailableError, match="within 300 ms while loading"):
        list(results)


def test_a_load_survives_a_restart_of_its_server() -> None:
    with running(valkey_binary(), "--appendonly", "yes") as server:
        store = opened(server.url)
        results = store.load(chunk(number) for number in range(40))
        next(results)
        server.stop()
        server.start()
        assert len(list(results)) == 39
        store.close()


async def test_an_asyncio_call_is_sent_again_when_it_is_cut(proxy: FaultProxy) -> None:
    store = opened_async(proxy.url)
    await store.run(KEYS, GETS)
    for way in (proxy.to_client, proxy.to_server):
        for count in (0, 1, 200, 600):
            way.cut_after(count)
            assert await store.run(KEYS, GETS) == VALUES
            assert await store.run(KEYS[:3], GETS[:3]) == VALUES[:3]
    await store.close()


async def test_a_silent_server_fails_an_asyncio_call_in_time(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?timeout=1s&connect_timeout=1s")
    await store.run(KEYS, GETS)
    proxy.to_server.drop = True
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="no answer"):
        await store.run(KEYS, GETS)
    assert time.monotonic() - began < 30
    proxy.heal()
    assert await store.run(KEYS, GETS) == VALUES
    await store.close()


async def test_a_cancelled_asyncio_read_leaves_no_replies_behind(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?timeout=5s")
    await store.run(KEYS, GETS)
    proxy.to_client.delay = 0.05
    task = asyncio.create_task(store.run(KEYS[:1], GETS[:1]))
    while proxy.to_server.passed < sum(map(len, GETS)) + len(GETS[0]):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.run(KEYS[1:4], GETS[1:4]) == VALUES[1:4]
    await store.close()


async def test_concurrent_asyncio_reads_share_limited_connections(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?max_connections=4")
    reads = [store.run([key], [get]) for key, get in zip(KEYS, GETS, strict=True)]
    assert [reply for [reply] in await asyncio.gather(*reads)] == VALUES
    assert proxy.connections <= 4
    await store.close()


def test_an_asyncio_store_may_be_used_from_one_loop_after_another(proxy: FaultProxy) -> None:
    store = opened_async(proxy.url)
    for _ in range(3):
        assert asyncio.run(store.run(KEYS, GETS)) == VALUES
