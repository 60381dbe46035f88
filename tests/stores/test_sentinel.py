"""Stores on a service that sentinels watch: who is asked, what is said, and who is never written to."""

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
from featurekit.stores import open_async_store
from featurekit.stores.redis import RedisStore
from featurekit.wire import Reply, command
from tests.promise.repos import applied
from tests.sentinels import Watched, free_ports, until, watched
from tests.servers import Server, valkey_binary
from tests.stores.conftest import opened
from tests.stores.test_deadlines import LATE_S, SOON
from tests.stores.test_faults import chunk

KEYS = [b"k"]
GET = [command(b"GET", b"k")]


def set_to(value: bytes) -> list[bytes]:
    return [command(b"SET", b"k", value)]


@pytest.fixture
def store(steady: Watched) -> Iterator[RedisStore]:
    store = opened(steady.url)
    yield store
    store.close()


def written(store: RedisStore, value: bytes) -> Reply:
    """The answer to a write that is tried until it is taken."""
    replies: list[Reply] = []

    def taken() -> bool:
        try:
            replies.extend(store.run(KEYS, set_to(value)))
        except StoreUnavailableError:
            return False
        return True

    until(taken)
    return replies[0]


async def written_beside(store: AsyncOnlineStore, value: bytes) -> Reply:
    """As `written`."""
    while True:
        with suppress(StoreUnavailableError):
            return (await store.run(KEYS, set_to(value)))[0]
        await asyncio.sleep(0.02)


def value_at(server: Server) -> object:
    with server.client() as client:
        return client.get("k")


async def test_a_sentinel_that_is_not_there_is_passed_over(
    store: RedisStore, steady: Watched
) -> None:
    assert store.run(KEYS, set_to(b"1")) == [b"OK"]
    beside = open_async_store(steady.url, Path())
    assert await beside.read(KEYS, GET) == [b"1"]
    await beside.close()
    store.check_writable("fs")
    assert list(store.load([chunk(1)])) == [(chunk(1), None)]
    assert value_at(steady.first) == b"1"
    [port] = [port for port, server in steady.servers.items() if server is steady.first]
    assert store.describe() == f"{steady.url}, whose primary is 127.0.0.1:{port}"


async def test_reads_are_a_replicas_where_the_url_says_so(steady: Watched) -> None:
    url = f"{steady.url}?read_from=replica"
    store, beside = opened(url), open_async_store(url, Path())
    store.run(KEYS, set_to(b"of the primary"))
    with steady.second.client() as client:
        until(lambda: client.get("k") == b"of the primary")
        client.config_set("replica-read-only", "no")
        client.set("k", "of the replica")
    assert store.read(KEYS, GET) == await beside.read(KEYS, GET) == [b"of the replica"]
    assert store.run(KEYS, GET) == await beside.run(KEYS, GET) == [b"of the primary"]
    steady.second.stop()
    assert store.read(KEYS, GET) == await beside.read(KEYS, GET) == [b"of the primary"]
    steady.second.start()
    with steady.second.client() as client:
        until(lambda: client.get("k") == b"of the primary")
        client.config_set("replica-read-only", "no")
        client.set("k", "of the replica")
    until(lambda: store.read(KEYS, GET) == [b"of the replica"])
    store.close()
    await beside.close()


async def test_a_store_goes_on_without_its_sentinels(store: RedisStore, steady: Watched) -> None:
    beside = open_async_store(steady.url, Path())
    assert store.run(KEYS, set_to(b"1")) == await beside.run(KEYS, set_to(b"1")) == [b"OK"]
    steady.sentinel.stop()
    with steady.first.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert store.run(KEYS, set_to(b"2")) == await beside.run(KEYS, set_to(b"3")) == [b"OK"]
    steady.sentinel.start()
    await beside.close()


async def test_a_read_is_over_by_its_deadline_though_the_sentinels_hang(steady: Watched) -> None:
    store, beside = opened(steady.url), open_async_store(steady.url, Path())
    steady.freeze(steady.sentinel)
    try:
        began = time.monotonic()
        with pytest.raises(
            StoreUnavailableError, match=r"no sentinel answers|asking the sentinels"
        ):
            store.read(KEYS, GET, options=SOON)
        with pytest.raises(
            StoreUnavailableError, match=r"no sentinel answers|asking the sentinels"
        ):
            await beside.read(KEYS, GET, options=SOON)
        assert time.monotonic() - began < 2 * LATE_S
    finally:
        steady.thaw(steady.sentinel)
    await beside.close()


def test_a_service_can_be_measured(steady: Watched, tmp_path: Path) -> None:
    with applied(tmp_path, f"{steady.url}?timeout=5s") as shop:
        assert run_bench(shop, entities=1000, seconds=0.1).reads


def test_an_unknown_service_is_told_with_those_that_are_known(steady: Watched) -> None:
    with pytest.raises(StoreError, match="does not watch the service 'mian'") as caught:
        opened(steady.url.replace("/main", "/mian")).call("PING")
    assert "did you mean 'main'?" in caught.value.hint
    assert not isinstance(caught.value, StoreUnavailableError)


def test_a_server_that_is_no_sentinel_is_told_so(steady: Watched, valkey: Server) -> None:
    [port] = [port for port, server in steady.servers.items() if server is steady.first]
    with pytest.raises(StoreError, match=f"127.0.0.1:{port} is not a sentinel"):
        opened(f"redis+sentinel://127.0.0.1:{port}/main").call("PING")


def test_no_sentinel_is_told_with_all_addresses() -> None:
    one, two = free_ports(2)
    with pytest.raises(StoreUnavailableError, match=f"at 127.0.0.1:{one}, 127.0.0.1:{two}"):
        opened(f"redis+sentinel://127.0.0.1:{one},127.0.0.1:{two}/main").call("PING")


def test_sentinels_have_a_login_of_their_own() -> None:
    with watched(valkey_binary(), password="s3cret") as pair:
        store = opened(f"{pair.url}?sentinel_password=s3cret")
        assert store.call("PING") == b"PONG"
        store.close()
        with pytest.raises(StoreError, match="refused the login") as caught:
            opened(f"{pair.url}?sentinel_password=wr0ng").call("PING")
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(StoreError, match="requires a password") as caught:
            opened(pair.url).call("PING")
        assert "FEATUREKIT_SENTINEL_PASSWORD" in caught.value.hint


async def test_a_primary_that_was_demoted_is_never_written_to_in_silence() -> None:
    with watched(valkey_binary()) as pair:
        # A store goes on with what it knows while sentinels are silent: a busy machine's are not.
        patient = f"{pair.url}?timeout=5s&connect_timeout=5s"
        store, unaware = opened(pair.url), opened(patient)
        beside = open_async_store(patient, Path())
        for each in (store, unaware):
            assert each.run(KEYS, set_to(b"1")) == [b"OK"]
        assert await beside.run(KEYS, set_to(b"1")) == [b"OK"]
        old = pair.primary
        pair.freeze(old)
        with pytest.raises(StoreUnavailableError):
            store.run(KEYS, set_to(b"lost"))
        until(lambda: pair.primary is not old)
        pair.thaw(old)
        for number, each in enumerate((store, unaware)):
            assert written(each, b"%d" % number) == b"OK"
            assert value_at(pair.primary) == b"%d" % number
            each.close()
        assert await written_beside(beside, b"async") == b"OK"
        assert value_at(pair.primary) == b"async"
        assert value_at(old) in (b"1", b"lost")
        await beside.close()


def test_a_load_goes_through_a_fail_over_that_somebody_asked_for() -> None:
    with watched(valkey_binary()) as pair:
        store = opened(pair.url)
        flow = store.load(chunks_until(lambda: pair.primary is pair.second))
        next(flow)
        pair.asked("sentinel_failover")
        assert [replies for _, replies in flow if replies is not None] == []
        assert pair.primary is pair.second
        store.close()


def chunks_until(holds: Callable[[], bool]) -> Iterator[Chunk]:
    """Chunks until something holds, and some more."""
    late = 0.0
    for number in itertools.count():
        yield chunk(number % 10)
        late = late or (holds() and time.monotonic() + 1.5)
        if late and time.monotonic() > late:
            return


async def test_readonly_is_no_answer() -> None:
    with watched(valkey_binary()) as pair:
        store, beside = opened(pair.url), open_async_store(pair.url, Path())
        written(store, b"1")
        await beside.run(KEYS, set_to(b"1"))
        old, new = pair.primary, pair.replica
        [port] = [port for port, server in pair.servers.items() if server is new]
        with new.client() as client, old.client() as other:
            client.replicaof("NO", "ONE")
            other.replicaof("127.0.0.1", str(port))
        with pytest.raises(StoreUnavailableError, match="is a replica"):
            store.run(KEYS, set_to(b"2"))
        with pytest.raises(StoreUnavailableError, match="is a replica"):
            await beside.run(KEYS, set_to(b"2"))
        with pytest.raises(StoreUnavailableError, match="is a replica"):
            store.call("SET", "k", "2")
        store.close()
        await beside.close()
