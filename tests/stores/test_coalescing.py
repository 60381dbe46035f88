"""Small calls of one event loop share a connection, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import pickle
import random
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.ports import AsyncOnlineStore, ReadOptions
from featurekit.stores import connection, shared_connection
from featurekit.wire import ErrorReply, Reply, text_command
from tests.fault_proxy import FaultProxy
from tests.servers import Server
from tests.stores.conftest import opened_async

KEY = b"k"


@pytest.fixture
def proxy(valkey: Server) -> Iterator[FaultProxy]:
    with FaultProxy(valkey.socket) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: FaultProxy) -> AsyncIterator[AsyncOnlineStore]:
    store = opened_async(proxy.url)
    await echo(store, "first")
    yield store
    await store.close()


async def echo(store: AsyncOnlineStore, text: str, timeout_s: float = 0.0) -> str:
    request = text_command("ECHO", text)
    [reply] = await store.read([KEY], [request], options=ReadOptions(timeout_s))
    return str(reply.decode())


async def test_concurrent_calls_take_one_connection_and_few_round_trips(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    before = proxy.round_trips
    texts = [str(number) for number in range(200)]
    assert await asyncio.gather(*(echo(store, text) for text in texts)) == texts
    assert proxy.connections == 1
    assert proxy.round_trips - before < 10
    stats = store.connection_stats
    assert (stats.connects, stats.open, stats.in_use) == (1, 1, 0)


async def test_calls_that_come_while_the_first_one_connects_wait_for_it(proxy: FaultProxy) -> None:
    store = opened_async(proxy.url)
    assert await asyncio.gather(*(echo(store, str(n)) for n in range(50))) == [
        str(n) for n in range(50)
    ]
    assert proxy.connections == 1
    await store.close()


async def test_a_call_that_is_cancelled_while_it_connects_fails_no_other(
    proxy: FaultProxy,
) -> None:
    store = opened_async(proxy.url)
    proxy.to_client.delay = 0.05
    tasks = [asyncio.create_task(echo(store, str(n))) for n in range(5)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == ["1", "2", "3", "4"]
    await store.close()


async def test_without_coalescing_each_call_has_a_connection(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?coalesce=false")
    await asyncio.gather(*(echo(store, str(n)) for n in range(3)))
    assert proxy.connections == 3
    await store.close()


async def storm(store: AsyncOnlineStore, calls: int, seed: int) -> int:
    """Make calls from 64 tasks, cancel a third at random moments; return how many got replies."""
    rng = random.Random(seed)
    numbers, answered = iter(range(calls)), 0

    async def client() -> None:
        nonlocal answered
        for number in numbers:
            task = asyncio.create_task(echo(store, f"{seed}-{number}"))
            if rng.random() < 1 / 3:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            try:
                assert await task == f"{seed}-{number}"
                answered += 1
            except asyncio.CancelledError:
                pass

    await asyncio.gather(*(client() for _ in range(64)))
    return answered


async def test_no_reply_is_mixed_up_when_a_third_of_the_calls_is_cancelled(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    assert await storm(store, 20_000, 1) > 10_000
    assert proxy.connections == 1


@pytest.mark.slow
async def test_no_reply_of_a_million_is_mixed_up_in_a_storm_of_cancellations(
    valkey: Server,
) -> None:
    store = opened_async(valkey.url)
    assert await storm(store, 1_000_000, 2) > 500_000
    assert store.connection_stats.connects == 1
    await store.close()


async def test_cuts_during_a_storm_mix_up_no_reply(proxy: FaultProxy) -> None:
    sizes = (1, 100, 1000, 7)
    # On a busy machine all cuts may hit one call.
    store = opened_async(f"{proxy.url}?retries={len(sizes)}&timeout=10s")

    async def cut() -> None:
        for size in sizes:
            await asyncio.sleep(0.05)
            proxy.to_client.cut_after(size)

    cutting = asyncio.create_task(cut())
    for seed in range(5):
        await storm(store, 2000, seed)
    await cutting
    assert await echo(store, "after") == "after"
    await store.close()


async def test_an_error_reply_concerns_one_call(store: AsyncOnlineStore) -> None:
    bad = store.read([KEY], [text_command("HGET", "k")])
    texts = await asyncio.gather(echo(store, "a"), bad, echo(store, "b"))
    assert (texts[0], texts[2]) == ("a", "b")
    assert isinstance(texts[1][0], ErrorReply)


async def test_an_error_of_decoding_concerns_one_call(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    def refuse(reply: Reply) -> Reply:
        raise StoreError(f"invalid: {reply!r}")

    three = [text_command("ECHO", text) for text in "xyz"]
    bad = store.read([KEY] * 3, three, refuse)
    texts = await asyncio.gather(echo(store, "a"), bad, echo(store, "b"), return_exceptions=True)
    assert (texts[0], texts[2]) == ("a", "b")
    assert isinstance(texts[1], StoreError)
    assert await echo(store, "c") == "c"
    assert proxy.connections == 1


async def test_a_call_with_a_short_timeout_keeps_its_place_and_fails_no_other(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    proxy.to_client.delay = 0.1
    patient = asyncio.create_task(echo(store, "patient"))
    with pytest.raises(StoreUnavailableError, match="within the 20 ms of the call"):
        await echo(store, "impatient", timeout_s=0.02)
    assert await patient == "patient"
    proxy.heal()
    assert await echo(store, "next") == "next"
    assert proxy.connections == 1


async def test_a_slow_server_has_as_long_as_with_retries_and_the_call_is_not_sent_again(
    proxy: FaultProxy,
) -> None:
    store = opened_async(f"{proxy.url}?timeout=800ms")
    await echo(store, "first")
    proxy.to_client.delay = 0.6
    early = [asyncio.create_task(echo(store, str(n))) for n in range(2)]
    assert await asyncio.gather(*early) == ["0", "1"]
    assert proxy.connections == 1
    await store.close()


async def test_calls_on_a_silent_connection_are_sent_again_on_another(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?timeout=3s")
    await echo(store, "first")
    proxy.to_server.drop = True
    tasks = [asyncio.create_task(echo(store, str(n))) for n in range(20)]
    await asyncio.sleep(0.1)
    proxy.heal()
    assert await asyncio.gather(*tasks) == [str(n) for n in range(20)]
    assert store.connection_stats.retries == 20
    assert proxy.connections == 2
    await store.close()


async def test_calls_on_a_cut_connection_are_sent_again_on_another(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    proxy.to_client.cut_after(30)
    texts = [str(n) for n in range(100)]
    assert await asyncio.gather(*(echo(store, text) for text in texts)) == texts
    assert proxy.connections == 2


async def test_a_server_that_is_gone_fails_all_calls_within_their_limits(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    proxy.refuse()
    results = await asyncio.gather(*(echo(store, "x") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailableError) for result in results)
    proxy.heal()
    assert await echo(store, "back") == "back"


async def test_large_calls_take_connections_of_their_own(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    many = [text_command("ECHO", str(n)) for n in range(shared_connection.MAX_REPLIES + 1)]
    wide = [text_command("ECHO", "x" * (shared_connection.MAX_REQUEST_BYTES + 1))]
    await asyncio.gather(
        *(store.read([KEY] * len(many), many), store.read([KEY], wide), echo(store, "small"))
    )
    assert proxy.connections == 3


@pytest.mark.parametrize("limit", ["MAX_CALLS", "MAX_BYTES_UNDER_WAY"])
async def test_calls_beyond_the_bounds_take_connections_of_their_own(
    limit: str, store: AsyncOnlineStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_connection, limit, 5)
    texts = [str(n) for n in range(20)]
    assert await asyncio.gather(*(echo(store, text) for text in texts)) == texts
    assert proxy.connections > 1


async def test_a_connection_that_was_idle_for_long_is_checked_once(proxy: FaultProxy) -> None:
    store = opened_async(f"{proxy.url}?health_check=1ms")
    await echo(store, "first")
    await asyncio.sleep(0.01)
    assert await asyncio.gather(*(echo(store, str(n)) for n in range(5))) == list("01234")
    assert proxy.connections == 1
    proxy.reset()
    await asyncio.sleep(0.01)
    assert await echo(store, "next") == "next"
    assert store.connection_stats.retries == 0
    await store.close()


async def test_calls_under_way_end_after_the_store_was_closed(
    store: AsyncOnlineStore, proxy: FaultProxy
) -> None:
    proxy.to_client.delay = 0.05
    tasks = [asyncio.create_task(echo(store, str(n))) for n in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*tasks) == list("01234")
    assert proxy.connections == 1
    assert store.connection_stats.open == 0


def test_each_loop_has_a_connection_that_closes_with_it(proxy: FaultProxy) -> None:
    store = opened_async(proxy.url)

    async def read() -> None:
        assert await asyncio.gather(*(echo(store, str(n)) for n in range(5))) == list("01234")

    for _ in range(3):
        asyncio.run(read())
    assert proxy.connections == 3
    assert store.connection_stats.open == 0
    gc.collect()


def test_loops_of_several_threads_have_stores_of_their_own(valkey: Server) -> None:
    failures: list[BaseException] = []

    def run(seed: int) -> None:
        async def main() -> None:
            store = opened_async(valkey.url)
            await storm(store, 2000, seed)
            await store.close()

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


async def test_a_store_pickles_as_its_url(store: AsyncOnlineStore) -> None:
    copy = pickle.loads(pickle.dumps(store))
    assert await echo(copy, "copy") == "copy"
    assert copy.describe() == store.describe()
    await copy.close()


async def test_the_replies_to_a_large_call_are_converted_in_slices(
    store: AsyncOnlineStore,
) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    seen: list[int] = []

    def convert(reply: Reply) -> Reply:
        seen.append(turns)
        return reply

    many = [text_command("ECHO", str(n)) for n in range(5000)]
    replies = await store.read([KEY] * len(many), many, convert)
    counting.cancel()
    assert replies == [str(n).encode() for n in range(5000)]
    assert max(seen.count(turn) for turn in set(seen)) <= connection.SLICE_REPLIES
