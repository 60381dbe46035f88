"""Reads from a cluster use all servers at once, and survive the failure of some."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import StoreUnavailableError
from featurekit.lower.scripts import ROW
from featurekit.lower.write_group import row_command
from featurekit.ports import AsyncOnlineStore, ReadOptions
from featurekit.stores.cluster.store import ClusterStore
from featurekit.wire import ErrorReply, command
from tests.cluster.conftest import opened
from tests.clusters import Cluster, Node, wait_for
from tests.promise.repos import applied
from tests.runtime.test_aliases import AIRPORTS, FOUND, ROWS, SERVED
from tests.runtime.test_aliases import fill as fill_airports
from tests.runtime.test_global_views import GLOBAL, RATES, USERS
from tests.runtime.test_global_views import check as check_global
from tests.stores.conftest import opened_async

KEYS = [b"fs:user:u%d" % number for number in range(60)] * 2
REQUESTS = [command(b"HMGET", key, b"n") for key in KEYS]
WIDE = [request + command(b"PTTL", key) for key, request in zip(KEYS, REQUESTS, strict=True)]
VALUES = [[key] for key in KEYS]
QUICK = ReadOptions(timeout_s=1, partial=True)

Read = Callable[..., list[Any]]


def fill(store: ClusterStore) -> None:
    store.run(KEYS, [command(b"HSET", key, b"n", key) for key in KEYS])


@pytest.fixture
def filled(store: ClusterStore) -> ClusterStore:
    """A store on a cluster of each kind, with a hash for each key."""
    fill(store)
    return store


class Loop:
    """An asyncio store, used from a thread."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._store: AsyncOnlineStore = opened_async(url)

    def read(self, *args: Any, **options: Any) -> list[Any]:
        return self._loop.run_until_complete(self._store.read(*args, **options))

    def close(self) -> None:
        self._loop.run_until_complete(self._store.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def read(request: pytest.FixtureRequest, valkeys: Cluster) -> Iterator[Read]:
    """The read method, sync and asyncio, of a store on a cluster with a hash for each key."""
    store = opened(valkeys.url)
    fill(store)
    other = Loop(valkeys.url)
    side: ClusterStore | Loop = other if request.param == "asyncio" else store
    assert side.read(KEYS, REQUESTS) == VALUES
    yield side.read
    other.close()
    store.close()


def test_a_read_keeps_order_and_repeats(filled: ClusterStore) -> None:
    assert filled.read(KEYS, REQUESTS) == VALUES
    assert filled.read(KEYS, REQUESTS, repr) == list(map(repr, VALUES))
    wide = filled.read(KEYS, WIDE, replies_per_request=2)
    assert (wide[::2], set(wide[1::2])) == (VALUES, {-1})


def test_asyncio_reads_keep_order_and_repeats(read: Read) -> None:
    assert read(KEYS, REQUESTS, repr) == list(map(repr, VALUES))
    wide = read(KEYS, WIDE, replies_per_request=2)
    assert (wide[::2], set(wide[1::2])) == (VALUES, {-1})


READS = {"hmget", "hgetall", "hget", "multi", "exec", "eval", "evalsha", "exists", "asking"}


def calls(node: Node) -> dict[str, int]:
    """How often a server carried out each command."""
    with node.client() as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


def test_each_server_gets_only_requests_for_its_own_keys(
    filled: ClusterStore, cluster: Cluster
) -> None:
    filled.read(KEYS, REQUESTS)
    shares = Counter(cluster.primary_of(key).port for key in KEYS)
    for node in cluster.nodes:
        node.ask("CONFIG", "RESETSTAT")
    filled.read(KEYS, REQUESTS)
    for node in cluster.primaries:
        assert shares[node.port] > 0
        asked = {name: count for name, count in calls(node).items() if name in READS}
        assert asked == {"hmget": shares[node.port]}


def blocked(node: Node) -> int:
    with node.client() as client:
        return int(client.info("clients")["blocked_clients"])


@pytest.fixture
def lists(valkeys: Cluster) -> dict[bytes, Node]:
    """A key of each primary, whose list is empty."""
    found: dict[int, bytes] = {}
    for number in range(100):
        key = b"list%d" % number
        found.setdefault(valkeys.primary_of(key).port, key)
    return {key: valkeys.at(port) for port, key in found.items()}


@pytest.mark.parametrize("side", ["threads", "asyncio"])
@pytest.mark.parametrize("warm", [True, False])
def test_all_servers_get_requests_before_any_reply_is_awaited(
    valkeys: Cluster, lists: dict[bytes, Node], side: str, *, warm: bool
) -> None:
    store = Loop(valkeys.url) if side == "asyncio" else opened(valkeys.url)
    if warm:
        store.read(list(lists), [command(b"LLEN", key) for key in lists])
    waits = [command(b"BLPOP", key, b"60") for key in lists]
    options = ReadOptions(timeout_s=60)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.read, list(lists), waits, options=options)
        wait_for(lambda: all(map(blocked, lists.values())), "all servers to be asked")
        for key, node in reversed(lists.items()):
            node.ask("LPUSH", key, "x")
        assert reading.result(60) == [[key, b"x"] for key in lists]
    store.close()


@pytest.mark.parametrize("side", ["threads", "asyncio"])
def test_replies_are_converted_while_other_servers_work(
    valkeys: Cluster, lists: dict[bytes, Node], side: str
) -> None:
    store = Loop(valkeys.url) if side == "asyncio" else opened(valkeys.url)
    store.read(list(lists), [command(b"LLEN", key) for key in lists])
    waits = [command(b"BLPOP", key, b"60") for key in lists]
    taken: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(
            store.read, list(lists), waits, taken.append, options=ReadOptions(60)
        )
        wait_for(lambda: all(map(blocked, lists.values())), "all servers to be asked")
        for count, (key, node) in enumerate(reversed(lists.items())):
            wait_for(partial(_has, taken, count), "the answer before")
            node.ask("LPUSH", key, "x")
        assert reading.result(60) == [None] * len(lists)
    assert taken == [[key, b"x"] for key in reversed(lists)]
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["threads", "asyncio"])
@pytest.mark.parametrize("keys", [KEYS * 4, KEYS[:1] * 200], ids=["all servers", "one server"])
def test_decoding_does_not_count_against_the_timeout(
    valkeys: Cluster, keys: list[bytes], side: str
) -> None:
    def slowly(reply: Any) -> int:
        time.sleep(0.002)
        return len(reply[0])

    url = f"{valkeys.url}?timeout=250ms&retries=0"
    store = Loop(url) if side == "asyncio" else opened(url)
    writer = opened(valkeys.url)
    writer.run(keys, [command(b"HSET", key, b"n", b"x" * 4000) for key in keys])
    writer.close()
    requests = [command(b"HMGET", key, b"n") for key in keys]
    for _ in range(2):  # without open connections and with them
        assert store.read(keys, requests, slowly) == [4000] * len(keys)
    with pytest.raises(StoreUnavailableError, match="of the call"):
        store.read(keys, requests, slowly, options=ReadOptions(timeout_s=0.1))
    store.close()


def _has(taken: list[Any], count: int) -> bool:
    return len(taken) == count


async def test_an_asyncio_read_that_is_cancelled_leaves_no_replies_behind(
    valkeys: Cluster, lists: dict[bytes, Node]
) -> None:
    store = opened_async(f"{valkeys.url}?coalesce=false")
    keys = list(lists)
    await store.read(keys, [command(b"LLEN", key) for key in keys])
    waits = [command(b"BLPOP", key, b"60") for key in keys]
    task = asyncio.create_task(store.read(keys, waits, options=ReadOptions(timeout_s=60)))
    while not all(map(blocked, lists.values())):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for key, node in lists.items():
        node.ask("RPUSH", key, "x", "y")
    assert await store.read(keys, [command(b"LLEN", key) for key in keys]) == [2] * len(keys)
    await store.close()


async def test_small_asyncio_reads_share_one_connection_to_each_server(valkeys: Cluster) -> None:
    store = opened_async(valkeys.url)
    keys = [b"k%d" % number for number in range(300)]
    requests = [command(b"ECHO", key) for key in keys]

    async def read(first: int) -> None:
        part = slice(first, first + 3)
        assert await store.read(keys[part], requests[part]) == keys[part]

    await asyncio.gather(*map(read, range(0, 300, 3)))
    stats = store.connection_stats
    assert (stats.open, stats.in_use, stats.retries) == (3, 0, 0)
    await store.close()
    assert store.connection_stats.open == 0


def unavailable(reply: Any) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "UNAVAILABLE"


def assert_others_are_there(rows: list[Any], cluster: Cluster, gone: Node) -> None:
    for key, row in zip(KEYS, rows, strict=True):
        if cluster.primary_of(key) is gone:
            assert unavailable(row)
            assert f"127.0.0.1:{gone.port}" in str(row)
        else:
            assert row == [key]


def test_a_silent_server_does_not_affect_rows_of_others(read: Read, valkeys: Cluster) -> None:
    silent = valkeys.primaries[0]
    with silent.stopped():
        rows = read(KEYS, REQUESTS, options=QUICK)
        with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{silent.port} within"):
            read(KEYS, REQUESTS, options=ReadOptions(timeout_s=0.3))
    assert_others_are_there(rows, valkeys, silent)
    assert read(KEYS, REQUESTS) == VALUES


def test_a_server_that_is_silent_from_the_start_does_not_affect_other_rows(
    valkeys: Cluster,
) -> None:
    store = opened(valkeys.url)
    fill(store)
    silent = valkeys.primaries[0]
    for side in (opened(valkeys.url), Loop(valkeys.url)):
        side.read([b"x"], [command(b"GET", b"x")])  # the topology is known
        with silent.stopped():
            rows = side.read(KEYS, WIDE, replies_per_request=2, options=QUICK)
        assert_others_are_there(rows[::2], valkeys, silent)
        assert all(
            unavailable(b) == unavailable(a) for a, b in zip(rows[::2], rows[1::2], strict=True)
        )
        side.close()
    store.close()


@pytest.mark.slow
def test_a_dead_server_does_not_affect_rows_of_others(valkeys: Cluster) -> None:
    url = f"{valkeys.url}?timeout=1s"
    store = opened(url)
    fill(store)
    sides: list[ClusterStore | Loop] = [store, Loop(url)]
    for side in sides:
        assert side.read(KEYS, REQUESTS) == VALUES
    dead = valkeys.primaries[0]
    dead.kill()
    found = []
    try:
        for side in sides:
            found.append(side.read(KEYS, REQUESTS, options=QUICK))
            with pytest.raises(StoreUnavailableError, match=f"redis://127.0.0.1:{dead.port}"):
                side.read(KEYS, REQUESTS)
            side.close()
    finally:
        dead.start()
        valkeys.wait_until_agreed()
    for rows in found:
        assert_others_are_there(rows, valkeys, dead)


def test_an_error_says_that_no_server_answers() -> None:
    store = opened("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(StoreUnavailableError, match=r"nothing listens at redis://127\.0\.0\.1:1"):
        store.read(KEYS, REQUESTS)
    assert all(map(unavailable, store.read(KEYS, REQUESTS, options=QUICK)))


@pytest.mark.parametrize("side", ["threads", "asyncio"])
def test_a_host_of_the_url_may_be_unavailable(valkeys: Cluster, side: str) -> None:
    fill(opened(valkeys.url))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
        hosts = f"127.0.0.1:1,127.0.0.1:{silent.getsockname()[1]}"
        url = f"{valkeys.url.replace('://', f'://{hosts},')}?timeout=1s"
        store = Loop(url) if side == "asyncio" else opened(url)
        assert store.read(KEYS, REQUESTS) == VALUES
        store.close()


def test_features_of_available_shards_are_served(shop: FeatureStore, cluster: Cluster) -> None:
    shop.write_batch("profile", {f"u{n}": {"country": "NO", "tx_count_7d": n} for n in range(60)})
    users = [{"user_id": f"u{n}"} for n in range(60)]
    shop.get_online_features("fraud_v1", users)
    silent = cluster.primaries[0]
    with silent.stopped():
        response = shop.get_online_features("fraud_v1", users, timeout=1, partial=True)
    for number, status in enumerate(response.statuses["tx_count_7d"]):
        gone = cluster.primary_of(f"fs:user:u{number}") is silent
        assert status == ("unavailable" if gone else "present")


def _gives(read: Read) -> bool:
    return read(KEYS, REQUESTS) == VALUES


def test_replicas_answer_where_the_url_says_so(valkeys: Cluster) -> None:
    fill(opened(valkeys.url))
    for node in valkeys.nodes:
        node.ask("CONFIG", "RESETSTAT")
    url = f"{valkeys.url}?read_from=replica"
    for side in (opened(url), Loop(url)):
        wait_for(partial(_gives, side.read), "the replicas to be in sync")
        side.close()
    primaries = valkeys.primaries
    assert all("hmget" not in calls(node) for node in primaries)
    assert all(calls(r)["hmget"] for node in primaries for r in valkeys.replicas_of(node))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["threads", "asyncio"])
def test_a_primary_answers_for_an_unavailable_replica(valkeys: Cluster, side: str) -> None:
    writer = opened(valkeys.url)
    fill(writer)
    url = f"{valkeys.url}?read_from=replica"
    store = Loop(url) if side == "asyncio" else opened(url)
    wait_for(partial(_gives, store.read), "the replicas to be in sync")
    [replica] = valkeys.replicas_of(valkeys.primaries[0])
    with replica.stopped():
        assert store.read(KEYS, REQUESTS, options=ReadOptions(timeout_s=2)) == VALUES
        assert store.read(KEYS, REQUESTS, options=QUICK) == VALUES
    replica.kill()
    try:
        assert store.read(KEYS, REQUESTS) == VALUES
    finally:
        replica.start()
        valkeys.wait_until_agreed()
        store.close()


def test_writes_go_to_primaries_when_reads_go_to_replicas(valkeys: Cluster) -> None:
    store = opened(f"{valkeys.url}?read_from=replica")
    fill(store)
    assert store.run(KEYS, REQUESTS) == VALUES
    store.close()


def test_no_write_goes_over_a_connection_that_reads_from_replicas(valkeys: Cluster) -> None:
    store = opened(f"{valkeys.url}?read_from=replica")
    fill(store)
    wait_for(partial(_gives, store.read), "the replicas to be in sync")
    store.run(KEYS[:1], [ROW.load])
    request = row_command(KEYS[0], {0: [(b"n", KEYS[0])]}, [], 9000, hsetex=True)
    heir = valkeys.replicas_of(valkeys.primary_of(KEYS[0]))[0]
    heir.ask("CLUSTER", "FAILOVER")
    wait_for(lambda: valkeys.primary_of(KEYS[0]) is heir, "the replica to take over")
    valkeys.wait_until_agreed()
    assert store.run(KEYS[:1], [request]) == [1]
    store.close()


def test_a_bounded_number_of_connections_is_shared(valkeys: Cluster) -> None:
    fill(opened(valkeys.url))
    store = opened(f"{valkeys.url}?max_connections=1&timeout=5s")
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(n for n in range(50) if store.read(KEYS, REQUESTS) != VALUES)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    store.close()


def test_a_cluster_reads_aliases_too(cluster: Cluster, tmp_path: Path) -> None:
    with applied(tmp_path, cluster.url, AIRPORTS) as store:
        fill_airports(store)
        response = store.get_online_features("flight_v1", ROWS)
        assert (response.to_dict(), response.found_by) == (SERVED, FOUND)


def test_a_cluster_joins_views_without_an_entity(cluster: Cluster, tmp_path: Path) -> None:
    with applied(tmp_path, cluster.url, GLOBAL) as store:
        (tmp_path / "rates.csv").write_text(RATES)
        store.materialize(["rates"])
        store.write_batch("profile", {"u1": {"age": 30}})
        store.stream_writer("load").write((), {"requests": 5})
        check_global(store.get_online_features("model", USERS))
        assert store.reset("_global") == 2
