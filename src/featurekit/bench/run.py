"""Measure reads and loads of a store, next to reference clients of the same server.

Only ratios compare across machines, so featurekit and the reference clients take turns in one run.
The keys have their own prefix and a TTL, and are deleted at the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from featurekit.bench.timing import time_in_turns
from featurekit.bench.workload import (
    FIELDS,
    SIZES,
    TTL_MS,
    decode_by_hand,
    entity_ids,
    read_plan,
    sample_table,
    view_plan,
)
from featurekit.errors import RequestError
from featurekit.lower.read import requests_function
from featurekit.plan import ViewPlan
from featurekit.ports import OnlineStore, Scan, StoreHandle
from featurekit.repo import FeatureStore
from featurekit.runtime.load import LoadTarget, MaterializeReport, send_batches
from featurekit.runtime.reader import OnlineReader
from featurekit.wire import command

_BATCH_ROWS = 2048
_PIPELINE_ROWS = 500


@dataclass(frozen=True, slots=True)
class ReadBench:
    """Reads of ten features of some entities, by one thread.

    Attributes:
        entities: Entities in each read.
        p50_ms: Median time of a read.
        p99_ms: 99th percentile.
        of_prepared: The median time as a multiple of what prepared bytes take.
        over_pipeline: How many times as fast as a redis-py pipeline.
    """

    entities: int
    p50_ms: float
    p99_ms: float
    of_prepared: float
    over_pipeline: float


@dataclass(frozen=True, slots=True)
class LoadBench:
    """Loads of rows of ten fields from Arrow data, each row with its key's TTL.

    Attributes:
        rows: Rows in each load.
        rows_per_s: Rate of the median load.
        of_prepared: Share of the rate at which the server accepts the same bytes built in advance.
        over_pipeline: How many times as fast as a redis-py pipeline.
    """

    rows: int
    rows_per_s: float
    of_prepared: float
    over_pipeline: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The measurements, and the name and version of the server."""

    server: str
    reads: tuple[ReadBench, ...]
    load: LoadBench

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data."""
        return asdict(self)


def run_bench(store: FeatureStore, *, entities: int = 10_000, seconds: float = 5.0) -> BenchReport:
    """Measure reads and loads on the online store of a project.

    Args:
        store: A feature store whose online store is a server or a cluster. The benchmark's keys
            start with `{key_prefix}:@bench-`.
        entities: How many entities to write and read; at least 1000.
        seconds: Roughly how long to measure.

    Raises:
        RequestError: An argument is out of range.
        StoreError: The online store runs in this process, or does not answer.
    """
    if entities < max(SIZES):
        raise RequestError(f"entities must be at least {max(SIZES)}, not {entities}")
    if seconds <= 0:
        raise RequestError(f"seconds must be greater than 0, not {seconds}")
    prefix, handle = store.compiled.prefix, store.handle
    view = view_plan(f"{prefix}:@bench-{secrets.token_hex(4)}")
    table = sample_table(entities)
    online = handle.store
    online.check_writable(prefix)
    from featurekit.bench.reference_clients import reference_clients

    with _deleted_afterwards(online, view, entities), reference_clients(online) as clients:
        load = _bench_load(online, view, table, clients[1], seconds * 0.4)
        reads = [_bench_read(handle, view, size, clients, seconds * 0.2) for size in SIZES]
        return BenchReport(online.capabilities.server, tuple(reads), load)


def _bench_read(
    handle: StoreHandle, view: ViewPlan, size: int, clients: tuple[Any, Any], seconds: float
) -> ReadBench:
    prepared, redis_py = clients
    ids = entity_ids(size)
    keys = [view.key.key([each]) for each in ids]
    exchange = prepared.prepare(keys, requests_function(list(FIELDS))[0](keys))
    reader, names = OnlineReader(read_plan(view), handle), list(FIELDS)
    timings = time_in_turns(
        {
            "featurekit": (lambda: reader.read_many(ids))
            if size > 1
            else lambda: reader.read(ids[0]),
            "prepared": lambda: decode_by_hand(exchange()),
            "pipeline": lambda: decode_by_hand(redis_py.read(keys, names)),
        },
        seconds,
    )
    return ReadBench(
        size,
        timings.median("featurekit") * 1000,
        timings.p99("featurekit") * 1000,
        timings.ratio("featurekit", "prepared"),
        timings.ratio("pipeline", "featurekit"),
    )


def _bench_load(
    store: OnlineStore, view: ViewPlan, table: Any, redis_py: Any, seconds: float
) -> LoadBench:
    from featurekit.runtime.load_tables import encode_tables

    def prepare() -> Iterator[Any]:
        batches = iter(table.to_batches(_BATCH_ROWS))
        scan = Scan("native", batches, len(table))
        target = LoadTarget(view, store.capabilities)
        return encode_tables(target, scan, None, lambda _: "")

    chunks = [each.chunk for each in prepare()]
    rows = table.to_pylist()
    items = [(view.key.key([row.pop("user_id")]), row) for row in rows]
    timings = time_in_turns(
        {
            "featurekit": lambda: send_batches(
                store, prepare(), MaterializeReport("bench"), skip=False
            ),
            "prepared": lambda: list(store.load(chunks)),
            "pipeline": lambda: [
                redis_py.write(items[start : start + _PIPELINE_ROWS], TTL_MS)
                for start in range(0, len(items), _PIPELINE_ROWS)
            ],
        },
        seconds,
    )
    return LoadBench(
        len(table),
        len(table) / timings.median("featurekit"),
        timings.ratio("prepared", "featurekit"),
        timings.ratio("pipeline", "featurekit"),
    )


@contextmanager
def _deleted_afterwards(store: OnlineStore, view: ViewPlan, entities: int) -> Iterator[None]:
    """Delete the benchmark's keys after the block, also when it raises."""
    keys = [view.key.key([each]) for each in entity_ids(entities)]
    try:
        yield
    finally:
        for start in range(0, len(keys), 1000):
            some = keys[start : start + 1000]
            store.run(some, [command(b"UNLINK", key) for key in some])
