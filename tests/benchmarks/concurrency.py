"""Single reads by many tasks or threads at once, compared with bare clients and redis-py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hiredis
import redis.asyncio
from typing_extensions import override

from featurekit import FeatureStore
from featurekit.bench.reference_clients import PreparedClient, redis_py_options
from featurekit.bench.timing import time_in_turns
from featurekit.bench.workload import decode_by_hand, entity_ids, sample_table
from featurekit.lower.read import requests_function
from featurekit.stores.url import StoreUrl
from tests.benchmarks.environment import BenchRepo, bench_repo
from tests.benchmarks.reads import NAMES, PREFIX, time_in_turns_async
from tests.benchmarks.results import Measurement, measurements

TASKS, THREADS = (1, 8, 32, 128), (1, 8, 32)
READS = 20
"""Reads of each task or thread in one measured turn, one after another."""

ONE = entity_ids(1)[0]
REQUEST = requests_function(NAMES)[0]([PREFIX + ONE.encode()])[0]


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure single reads over TCP, by tasks of one event loop and by threads."""
    with bench_repo("tcp") as repo:
        repo.store.write_batch("ten", sample_table(100))
        for tasks in TASKS:
            yield from asyncio.run(_tasks(repo, tasks, seconds))
        for threads in THREADS:
            yield from _threads(repo, threads, seconds)


class BareCoalescingClient(asyncio.BufferedProtocol):
    """One connection for many calls, without time limits, retries or bounds: the lower bound."""

    def __init__(self) -> None:
        self._reader, self._buffer = hiredis.Reader(notEnoughData=...), bytearray(1 << 16)
        self._unsent: list[bytes] = []
        self._waiters: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None

    @override
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # takes any buffer
        while (reply := self._reader.gets()) is not ...:
            self._waiters.popleft().set_result(decode_by_hand([reply]))

    def read(self) -> asyncio.Future[Any]:
        """Read the features of one entity."""
        waiter = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(REQUEST)
        self._waiters.append(waiter)
        return waiter

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()

    def _flush(self) -> None:
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()


async def _tasks(repo: BenchRepo, tasks: int, seconds: float) -> list[Measurement]:
    url = StoreUrl.parse(repo.url)
    alone = FeatureStore(repo.root, url=f"{repo.url}?coalesce=false&timeout=10s")
    reader, apart = repo.store.online_reader("all_ten"), alone.online_reader("all_ten")
    loop = asyncio.get_running_loop()
    _, bare = await loop.create_connection(BareCoalescingClient, url.host, url.port)
    async with redis.asyncio.Redis(**redis_py_options(url), max_connections=256) as client:

        async def plain() -> object:
            return decode_by_hand([await client.hmget("b:user:" + ONE, NAMES)])  # type: ignore[list-item]

        reads: dict[str, Callable[[], Awaitable[object]]] = {
            "bare coalescing client": bare.read,
            "reader": lambda: reader.read_async(ONE),
            "coalesce=false": lambda: apart.read_async(ONE),
            "redis-py": plain,
        }
        acts = {name: _by_tasks(read, tasks) for name, read in reads.items()}
        result = await time_in_turns_async(acts, seconds)
    bare.close()
    await repo.store.close_async()
    await alone.close_async()
    work = f"{tasks * READS} single reads, {tasks} tasks"
    return list(measurements(work, result, "bare coalescing client", "redis-py"))


def _by_tasks(
    read: Callable[[], Awaitable[object]], tasks: int
) -> Callable[[], Awaitable[object]]:
    async def client() -> None:
        for _ in range(READS):
            await read()

    async def act() -> object:
        return await asyncio.gather(*(client() for _ in range(tasks)))

    return act


def _threads(repo: BenchRepo, threads: int, seconds: float) -> Iterator[Measurement]:
    url = StoreUrl.parse(repo.url)
    reader = repo.store.online_reader("all_ten")
    bare = [PreparedClient(url) for _ in range(threads)]

    def read_bare(number: int) -> None:
        for _ in range(READS):
            decode_by_hand(bare[number].exchange(REQUEST, 1))

    def read(number: int) -> None:
        for _ in range(READS):
            reader.read(ONE)

    with ThreadPoolExecutor(threads) as pool:
        numbers = range(threads)
        result = time_in_turns(
            {
                "bare sockets": lambda: list(pool.map(read_bare, numbers)),
                "reader": lambda: list(pool.map(read, numbers)),
            },
            seconds,
        )
    for client in bare:
        client.close()
    work = f"{threads * READS} single reads, {threads} threads"
    yield from measurements(work, result, "bare sockets", "")
