"""What a store does when its server does not answer, or not in full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.ports import Chunk
from featurekit.stores import open_async_store
from featurekit.stores.redis import RedisStore
from featurekit.wire import Reply, command, text_command
from tests.fault_proxy import FaultProxy
from tests.servers import Server, running, valkey_binary
from tests.stores.conftest import opened

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
def test_a_cut_reply_is_asked_for_again(store: RedisStore, proxy: FaultProxy, count: int) -> None:
    proxy.to_client.cut_after(count)
    assert store.run(KEYS, GETS) == VALUES
    assert store.run(KEYS[:3], GETS[:3]) == VALUES[:3]


@pytest.mark.parametrize("count", [0, 1, 21, 300])
def test_a_cut_request_is_sent_again(store: RedisStore, proxy: FaultProxy, count: int) -> None:
    proxy.to_server.cut_after(count)
    assert store.run(KEYS, GETS) == VALUES
    assert store.run(KEYS[:3], GETS[:3]) == VALUES[:3]


def test_a_connection_gone_stale_is_replaced(store: RedisStore, proxy: FaultProxy) -> None:
    proxy.reset()
    assert store.run(KEYS, GETS) == VALUES
    proxy.reset()
    assert store.call("GET", "k1") == b"value of k1"


def test_replies_that_come_too_late_are_never_taken_for_others(
    store: RedisStore, proxy: FaultProxy
) -> None:
    proxy.to_client.delay = 0.3
    with pytest.raises(StoreUnavailableError, match="within 250 ms while waiting for replies"):
        store.run(KEYS[:1], GETS[:1])
    proxy.heal()
    assert store.run(KEYS[1:4], GETS[1:4]) == VALUES[1:4]


def test_a_black_hole_is_given_up_within_a_second(store: RedisStore, proxy: FaultProxy) -> None:
    proxy.to_server.drop = True
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.run(KEYS, GETS)
    assert time.monotonic() - began < 1


def test_a_black_hole_from_the_start_is_given_up_within_a_second(proxy: FaultProxy) -> None:
    proxy.to_server.drop = True
    store = opened(proxy.url.replace("//", "//user:pw@"))
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="while connecting") as caught:
        store.run(KEYS, GETS)
    assert time.monotonic() - began < 1
    assert "pw" not in str(caught.value)


def test_a_server_that_turns_everybody_away_is_named(store: RedisStore, proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{proxy.port}"):
        store.run(KEYS, GETS)
    proxy.heal()
    assert store.run(KEYS, GETS) == VALUES


def test_nobody_there_is_said_so() -> None:
    with pytest.raises(StoreUnavailableError, match="nothing listens at unix:///nowhere/s"):
        opened("unix:///nowhere/s").call("PING")


def test_a_call_is_never_sent_twice(store: RedisStore, proxy: FaultProxy) -> None:
    proxy.to_client.cut_after(1)
    with pytest.raises(StoreUnavailableError):
        store.call("INCR", "n")
    assert store.call("GET", "n") == b"1"


def test_without_retries_nothing_is_sent_twice(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?retries=0")
    store.run(KEYS, GETS)
    proxy.to_client.cut_after(1)
    with pytest.raises(StoreUnavailableError):
        store.run([b"n"], [command(b"INCR", b"n")])
    assert store.call("GET", "n") == b"1"
    store.close()


def test_an_interrupted_read_leaves_no_replies_behind(store: RedisStore) -> None:
    [link] = store._pool.idle
    link.sock.sendall(GETS[0])
    assert store.run(KEYS[1:3], GETS[1:3]) == VALUES[1:3]


def test_connections_are_bounded_where_the_url_says_so(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?max_connections=1&timeout=50ms")
    assert store._pool.permits
    store._pool.permits.acquire()
    with pytest.raises(StoreUnavailableError, match=r"all 1 connections .* in use for 50 ms"):
        store.run(KEYS, GETS)
    store.close()


def chunk(number: int) -> Chunk:
    rows = 500
    data = b"".join(text_command("SET", f"{number}:{row}", row) for row in range(rows))
    return Chunk(data, rows, rows, rows)


@pytest.mark.parametrize("way", ["to_server", "to_client"])
@pytest.mark.parametrize("count", [100, 1100, 9000])
def test_a_cut_load_sends_again_what_got_no_answer(
    store: RedisStore, proxy: FaultProxy, way: str, count: int
) -> None:
    getattr(proxy, way).cut_after(count)
    chunks = [chunk(number) for number in range(8)]
    assert list(store.load(chunks)) == [(chunk, None) for chunk in chunks]
    assert store.call("DBSIZE") == 8 * 500 + len(KEYS)


def test_a_load_that_is_cut_again_and_again_gives_up(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?load_timeout=300ms")
    proxy.to_client.cut_after(100, again=True)
    with pytest.raises(StoreUnavailableError, match="broke while connecting"):
        list(store.load(chunk(number) for number in range(3)))


def test_a_load_into_a_black_hole_gives_up(proxy: FaultProxy) -> None:
    store = opened(f"{proxy.url}?load_timeout=300ms")
    flow = store.load(chunk(number) for number in range(30))
    next(flow)
    proxy.to_server.drop = True
    with pytest.raises(StoreUnavailableError, match="within 300 ms while loading"):
        list(flow)


def test_a_load_survives_a_restart_of_its_server() -> None:
    with running(valkey_binary(), "--appendonly", "yes") as server:
        store = opened(server.url)
        flow = store.load(chunk(number) for number in range(40))
        next(flow)
        server.stop()
        server.start()
        assert len(list(flow)) == 39
        store.close()


async def test_asyncio_cut_reply_is_asked_for_again(proxy: FaultProxy) -> None:
    store = open_async_store(proxy.url, Path())
    await store.run(KEYS, GETS)
    for way in (proxy.to_client, proxy.to_server):
        for count in (0, 1, 200, 600):
            way.cut_after(count)
            assert await store.run(KEYS, GETS) == VALUES
            assert await store.run(KEYS[:3], GETS[:3]) == VALUES[:3]
    await store.close()


async def test_asyncio_black_hole_is_given_up_within_a_second(proxy: FaultProxy) -> None:
    store = open_async_store(proxy.url, Path())
    await store.run(KEYS, GETS)
    proxy.to_server.drop = True
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="no answer"):
        await store.run(KEYS, GETS)
    assert time.monotonic() - began < 1
    proxy.heal()
    assert await store.run(KEYS, GETS) == VALUES
    await store.close()


async def test_asyncio_read_that_is_cancelled_leaves_no_replies_behind(proxy: FaultProxy) -> None:
    store = open_async_store(f"{proxy.url}?timeout=5s", Path())
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


async def test_many_asyncio_reads_share_a_bounded_number_of_connections(proxy: FaultProxy) -> None:
    store = open_async_store(f"{proxy.url}?max_connections=4", Path())
    reads = [store.run([key], [get]) for key, get in zip(KEYS, GETS, strict=True)]
    assert [reply for [reply] in await asyncio.gather(*reads)] == VALUES
    assert proxy.connections <= 4
    await store.close()


def test_an_asyncio_store_may_be_used_from_one_loop_after_another(proxy: FaultProxy) -> None:
    store = open_async_store(proxy.url, Path())
    for _ in range(3):
        assert asyncio.run(store.run(KEYS, GETS)) == VALUES
