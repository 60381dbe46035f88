"""Reads of 1, 100 and 1000 entities of ten fields, compared with prepared bytes and redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any

import redis.asyncio

from featurekit.bench.reference_clients import PreparedClient, RedisPyClient, redis_py_options
from featurekit.bench.timing import TURN_S, Timings, time_in_turns
from featurekit.bench.workload import FIELDS, SIZES, decode_by_hand, entity_ids, sample_table
from featurekit.lower.read import requests_function
from featurekit.stores.url import StoreUrl
from tests.benchmarks.environment import BenchRepo, bench_repo
from tests.benchmarks.results import Measurement, measurements

NAMES = list(FIELDS)
PREFIX = b"b:user:"
Act = Callable[[], Awaitable[object]]


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure each kind of read, over each transport, with each number of entities."""
    for transport in ("unix", "tcp"):
        with bench_repo(transport) as repo:
            repo.store.write_batch("ten", sample_table(max(SIZES)))
            for size in SIZES:
                yield from _sync(repo, transport, size, seconds)
            for size in SIZES:
                yield from asyncio.run(_async(repo, transport, size, seconds))


def _sync(repo: BenchRepo, transport: str, size: int, seconds: float) -> Iterator[Measurement]:
    store, ids = repo.store, entity_ids(size)
    reader, rows = store.online_reader("all_ten"), [{"user_id": each} for each in ids]
    keys = [PREFIX + each.encode() for each in ids]
    data = b"".join(requests_function(NAMES)[0](keys))
    url = StoreUrl.parse(repo.url)
    prepared, plain = PreparedClient(url), RedisPyClient(url)
    expected = decode_by_hand(prepared.exchange(data, size))
    assert [tuple(row.to_dict().values()) for row in reader.read_many(ids)] == expected
    assert decode_by_hand(plain.read(keys, NAMES)) == expected
    result = time_in_turns(
        {
            "prepared bytes": lambda: decode_by_hand(prepared.exchange(data, size)),
            "reader": (lambda: reader.read_many(ids)) if size > 1 else lambda: reader.read(ids[0]),
            "to_dict": lambda: store.get_online_features("all_ten", rows).to_dict(),
            "pipeline": lambda: decode_by_hand(plain.read(keys, NAMES)),
            "MULTI pipeline": lambda: decode_by_hand(plain.read(keys, NAMES, transaction=True)),
        },
        seconds,
    )
    prepared.close()
    plain.close()
    yield from measurements(f"read {size}, {transport}", result, "prepared bytes", "pipeline")


async def _async(repo: BenchRepo, transport: str, size: int, seconds: float) -> list[Measurement]:
    store, ids = repo.store, entity_ids(size)
    reader, rows = store.online_reader("all_ten"), [{"user_id": each} for each in ids]
    keys = [PREFIX + each.encode() for each in ids]
    options: dict[str, Any] = redis_py_options(StoreUrl.parse(repo.url))

    async with redis.asyncio.Redis(**options) as client:

        async def pipeline() -> object:
            commands = client.pipeline(transaction=False)
            for key in keys:
                commands.hmget(key, NAMES)  # type: ignore[unused-awaitable]  # only queues
            return decode_by_hand(await commands.execute())

        async def to_dict() -> object:
            return (await store.get_online_features_async("all_ten", rows)).to_dict()

        async def one() -> object:
            return await reader.read_async(ids[0])

        async def many() -> object:
            return await reader.read_many_async(ids)

        acts: dict[str, Act] = {
            "reader": many if size > 1 else one,
            "to_dict": to_dict,
            "pipeline": pipeline,
        }
        result = await time_in_turns_async(acts, seconds)
    await store.close_async()
    return list(measurements(f"read {size}, {transport}, asyncio", result, "", "pipeline"))


async def time_in_turns_async(acts: dict[str, Act], seconds: float) -> Timings:
    """Time coroutine functions; see `featurekit.bench.timing.time_in_turns`."""
    turns: dict[str, list[list[float]]] = {name: [] for name in acts}
    for act in acts.values():
        await act()
    end = perf_counter() + seconds
    while perf_counter() < end:
        for name, act in acts.items():
            times = []
            turn_ends = perf_counter() + TURN_S
            while (start := perf_counter()) < turn_ends:
                await act()
                times.append(perf_counter() - start)
            turns[name].append(times)
    return Timings(turns)
