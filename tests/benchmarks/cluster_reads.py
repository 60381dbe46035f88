"""Reads and a load on three primaries, compared with one server and with redis-py's cluster client."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import redis.asyncio
from redis.asyncio.cluster import ClusterNode

from featurekit import FeatureStore
from featurekit.bench.reference_clients import PreparedClusterClient, RedisPyClient
from featurekit.bench.timing import time_in_turns
from featurekit.bench.workload import SIZES, decode_by_hand, entity_ids, sample_table
from featurekit.lower.read import requests_function
from featurekit.stores.url import StoreUrl
from tests.benchmarks.environment import bench_repo, write_definitions
from tests.benchmarks.reads import NAMES, PREFIX, Act, time_in_turns_async
from tests.benchmarks.results import Measurement, measurements
from tests.clusters import Cluster
from tests.servers import valkey_binary


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure reads of each size, and a load, on a cluster and on one server of the same kind."""
    with bench_repo("tcp") as repo, _cluster_store() as store:
        table = sample_table(20_000)
        for each in (repo.store, store):
            each.write_batch("ten", table)
        for size in SIZES:
            yield from _sync(repo.store, store, size, seconds)
        for size in SIZES:
            yield from asyncio.run(_async(repo.store, store, size, seconds))
        yield from _loads(repo.store, store, table)


@contextmanager
def _cluster_store() -> Iterator[FeatureStore]:
    cluster = Cluster(valkey_binary(), 3, 0)
    try:
        with tempfile.TemporaryDirectory(prefix="fk") as folder:
            write_definitions(Path(folder), f"{cluster.url}?timeout=10s")
            with FeatureStore(folder) as store:
                store.apply()
                yield store
    finally:
        cluster.remove()


def _sync(
    single: FeatureStore, store: FeatureStore, size: int, seconds: float
) -> Iterator[Measurement]:
    ids = entity_ids(size)
    keys = [PREFIX + each.encode() for each in ids]
    url = StoreUrl.parse(store.handle.url)
    prepared, plain = PreparedClusterClient(url), RedisPyClient(url)
    exchange = prepared.prepare(keys, requests_function(NAMES)[0](keys))
    ours, theirs = store.online_reader("all_ten"), single.online_reader("all_ten")
    expected = decode_by_hand(exchange())
    assert [tuple(row.to_dict().values()) for row in ours.read_many(ids)] == expected
    result = time_in_turns(
        {
            "prepared bytes": lambda: decode_by_hand(exchange()),
            "cluster": lambda: ours.read_many(ids),
            "one server": lambda: theirs.read_many(ids),
            "cluster pipeline": lambda: decode_by_hand(plain.read(keys, NAMES)),
        },
        seconds,
    )
    prepared.close()
    plain.close()
    work = f"read {size}, three primaries"
    yield from measurements(work, result, "prepared bytes", "cluster pipeline")
    yield Measurement(
        work, "cluster over one server", result.ratio("cluster", "one server"), unit="x"
    )


async def _async(
    single: FeatureStore, store: FeatureStore, size: int, seconds: float
) -> list[Measurement]:
    ids = entity_ids(size)
    keys = [PREFIX + each.encode() for each in ids]
    url = StoreUrl.parse(store.handle.url)
    nodes = [ClusterNode(*address) for address in url.hosts]
    ours, theirs = store.online_reader("all_ten"), single.online_reader("all_ten")
    async with redis.asyncio.RedisCluster(startup_nodes=nodes) as client:

        async def cluster() -> object:
            return await ours.read_many_async(ids)

        async def one_server() -> object:
            return await theirs.read_many_async(ids)

        async def pipeline() -> object:
            commands: Any = client.pipeline()
            for key in keys:
                commands.hmget(key, NAMES)
            return decode_by_hand(await commands.execute())

        acts: dict[str, Act] = {
            "cluster": cluster,
            "one server": one_server,
            "cluster pipeline": pipeline,
        }
        result = await time_in_turns_async(acts, seconds)
    for each in (single, store):
        await each.close_async()
    work = f"read {size}, three primaries, asyncio"
    ratio = result.ratio("cluster", "one server")
    rows = list(measurements(work, result, "", "cluster pipeline"))
    return [*rows, Measurement(work, "cluster over one server", ratio, unit="x")]


def _loads(single: FeatureStore, store: FeatureStore, table: Any) -> Iterator[Measurement]:
    for name, each in {"cluster": store, "one server": single}.items():
        rates = []
        for _ in range(3):
            start = perf_counter()
            each.write_batch("ten", table)
            rates.append(len(table) / (perf_counter() - start))
        yield Measurement(
            f"load {len(table):,} rows", name, max(rates), sorted(rates)[1], unit="rows/s"
        )
