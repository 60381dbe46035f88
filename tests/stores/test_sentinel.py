"""Stores behind Sentinel: discovery, reads from replicas, failover and errors."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from featurekit.bench import run_bench
from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.ports import AsyncOnlineStore, Chunk
from featurekit.stores.redis import RedisStore
from featurekit.wire import Reply, command
from tests.promise.repos import applied
from tests.sentinels import SentinelGroup, free_ports, sentinel_group, until
from tests.servers import Server, valkey_binary
from tests.stores.conftest import opened, opened_async
from tests.stores.test_deadlines import LATE_S, SOON
from tests.stores.test_faults import chunk

KEYS = [b"k"]
GET = [command(b"GET", b"k")]


def set_to(value: bytes) -> list[bytes]:
    return [command(b"SET", b"k", value)]


@pytest.fixture
def store(stable_group: SentinelGroup) -> Iterator[RedisStore]:
    store = opened(stable_group.url)
    yield store
    store.close()


def write_until_accepted(store: RedisStore, value: bytes) -> Reply:
    """Return the reply to a write, which is repeated until it succeeds."""
    replies: list[Reply] = []

    def taken() -> bool:
        try:
            replies.extend(store.run(KEYS, set_to(value)))
        except StoreUnavailableError:
            return False
        return True

    until(taken)
    return replies[0]


async def write_async_until_accepted(store: AsyncOnlineStore, value: bytes) -> Reply:
    """Return the reply to a write, which is repeated until it succeeds."""
    while True:
        with suppress(StoreUnavailableError):
            return (await store.run(KEYS, set_to(value)))[0]
        await asyncio.sleep(0.02)


def value_at(server: Server) -> object:
    with server.client() as client:
        return client.get("k")


async def test_a_missing_sentinel_is_skipped(
    store: RedisStore, stable_group: SentinelGroup
) -> None:
    assert store.run(KEYS, set_to(b"1")) == [b"OK"]
    async_store = opened_async(stable_group.url)
    assert await async_store.read(KEYS, GET) == [b"1"]
    await async_store.close()
    store.check_writable("fs")
    assert list(store.load([chunk(1)])) == [(chunk(1), None)]
    assert value_at(stable_group.first) == b"1"
    [port] = [
        port for port, server in stable_group.servers.items() if server is stable_group.first
    ]
    assert store.describe() == f"{stable_group.url}, whose primary is 127.0.0.1:{port}"


async def test_replicas_answer_reads_if_the_url_says_so(stable_group: SentinelGroup) -> None:
    url = f"{stable_group.url}?read_from=replica"
    store, async_store = opened(url), opened_async(url)
    store.run(KEYS, set_to(b"of the primary"))
    with stable_group.second.client() as client:
        until(lambda: client.get("k") == b"of the primary")
        client.config_set("replica-read-only", "no")
        client.set("k", "of the replica")
    assert store.read(KEYS, GET) == await async_store.read(KEYS, GET) == [b"of the replica"]
    assert store.run(KEYS, GET) == await async_store.run(KEYS, GET) == [b"of the primary"]
    stable_group.second.stop()
    assert store.read(KEYS, GET) == await async_store.read(KEYS, GET) == [b"of the primary"]
    stable_group.second.start()
    with stable_group.second.client() as client:
        until(lambda: client.get("k") == b"of the primary")
        client.config_set("replica-read-only", "no")
        client.set("k", "of the replica")
    until(lambda: store.read(KEYS, GET) == [b"of the replica"])
    store.close()
    await async_store.close()


async def test_a_store_works_while_its_sentinels_are_down(
    store: RedisStore, stable_group: SentinelGroup
) -> None:
    async_store = opened_async(stable_group.url)
    assert store.run(KEYS, set_to(b"1")) == await async_store.run(KEYS, set_to(b"1")) == [b"OK"]
    stable_group.sentinel.stop()
    with stable_group.first.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert store.run(KEYS, set_to(b"2")) == await async_store.run(KEYS, set_to(b"3")) == [b"OK"]
    stable_group.sentinel.start()
    await async_store.close()


async def test_a_read_ends_by_its_deadline_if_the_sentinels_hang(
    stable_group: SentinelGroup,
) -> None:
    store, async_store = opened(stable_group.url), opened_async(stable_group.url)
    stable_group.freeze(stable_group.sentinel)
    try:
        began = time.monotonic()
        with pytest.raises(
            StoreUnavailableError, match=r"no sentinel answers|asking the sentinels"
        ):
            store.read(KEYS, GET, options=SOON)
        with pytest.raises(
            StoreUnavailableError, match=r"no sentinel answers|asking the sentinels"
        ):
            await async_store.read(KEYS, GET, options=SOON)
        assert time.monotonic() - began < 2 * LATE_S
    finally:
        stable_group.thaw(stable_group.sentinel)
    await async_store.close()


@pytest.mark.slow
def test_bench_runs_behind_sentinel(stable_group: SentinelGroup, tmp_path: Path) -> None:
    with applied(tmp_path, stable_group.url) as shop:
        assert run_bench(shop, entities=1000, seconds=0.1).reads


def test_the_error_for_an_unknown_service_suggests_a_known_one(
    stable_group: SentinelGroup,
) -> None:
    with pytest.raises(StoreError, match="does not watch the service 'mian'") as caught:
        opened(stable_group.url.replace("/main", "/mian")).call("PING")
    assert "did you mean 'main'?" in caught.value.hint
    assert not isinstance(caught.value, StoreUnavailableError)


def test_the_error_says_that_a_server_is_not_a_sentinel(
    stable_group: SentinelGroup, valkey: Server
) -> None:
    [port] = [
        port for port, server in stable_group.servers.items() if server is stable_group.first
    ]
    with pytest.raises(StoreError, match=f"127.0.0.1:{port} is not a sentinel"):
        opened(f"redis+sentinel://127.0.0.1:{port}/main").call("PING")


def test_the_error_without_sentinels_lists_all_addresses() -> None:
    one, two = free_ports(2)
    with pytest.raises(StoreUnavailableError, match=f"at 127.0.0.1:{one}, 127.0.0.1:{two}"):
        opened(f"redis+sentinel://127.0.0.1:{one},127.0.0.1:{two}/main").call("PING")


def test_sentinels_have_their_own_login() -> None:
    with sentinel_group(valkey_binary(), password="s3cret") as pair:
        store = opened(f"{pair.url}?sentinel_password=s3cret")
        assert store.call("PING") == b"PONG"
        store.close()
        with pytest.raises(StoreError, match="refused the login") as caught:
            opened(f"{pair.url}?sentinel_password=wr0ng").call("PING")
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(StoreError, match="requires a password") as caught:
            opened(pair.url).call("PING")
        assert "FEATUREKIT_SENTINEL_PASSWORD" in caught.value.hint


@pytest.mark.slow
async def test_a_write_to_a_demoted_primary_is_never_lost_silently() -> None:
    with sentinel_group(valkey_binary()) as pair:
        store, unaware = opened(f"{pair.url}?timeout=1s&retries=0"), opened(pair.url)
        async_store = opened_async(pair.url)
        for each in (store, unaware):
            assert each.run(KEYS, set_to(b"1")) == [b"OK"]
        assert await async_store.run(KEYS, set_to(b"1")) == [b"OK"]
        old = pair.primary
        pair.freeze(old)
        with pytest.raises(StoreUnavailableError):
            store.run(KEYS, set_to(b"lost"))
        until(lambda: pair.primary is not old)
        pair.thaw(old)
        for number, each in enumerate((store, unaware)):
            assert write_until_accepted(each, b"%d" % number) == b"OK"
            assert value_at(pair.primary) == b"%d" % number
            each.close()
        assert await write_async_until_accepted(async_store, b"async") == b"OK"
        assert value_at(pair.primary) == b"async"
        assert value_at(old) in (b"1", b"lost")
        await async_store.close()


@pytest.mark.slow
def test_a_load_survives_a_requested_failover() -> None:
    with sentinel_group(valkey_binary()) as pair:
        store = opened(pair.url)
        results = store.load(chunks_until(lambda: pair.primary is pair.second))
        next(results)
        pair.query_sentinel("sentinel_failover")
        assert [replies for _, replies in results if replies is not None] == []
        assert pair.primary is pair.second
        store.close()


def chunks_until(holds: Callable[[], bool]) -> Iterator[Chunk]:
    """Yield chunks until a condition holds, and for a moment longer."""
    deadline = 0.0
    for number in itertools.count():
        yield chunk(number % 10)
        deadline = deadline or (holds() and time.monotonic() + 1.5)
        if deadline and time.monotonic() > deadline:
            return


async def test_readonly_counts_as_unanswered() -> None:
    with sentinel_group(valkey_binary()) as pair:
        store, async_store = opened(pair.url), opened_async(pair.url)
        write_until_accepted(store, b"1")
        await async_store.run(KEYS, set_to(b"1"))
        old, new = pair.primary, pair.replica
        [port] = [port for port, server in pair.servers.items() if server is new]
        with new.client() as client, old.client() as other:
            client.replicaof("NO", "ONE")
            other.replicaof("127.0.0.1", str(port))
        with pytest.raises(StoreUnavailableError, match="is a replica"):
            store.run(KEYS, set_to(b"2"))
        with pytest.raises(StoreUnavailableError, match="is a replica"):
            await async_store.run(KEYS, set_to(b"2"))
        with pytest.raises(StoreUnavailableError, match="is a replica"):
            store.call("SET", "k", "2")
        store.close()
        await async_store.close()
