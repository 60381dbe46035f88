"""Loads of six fields from Parquet, compared with sending the same bytes built in advance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from featurekit.bench.workload import entity_ids
from featurekit.lower.write_group import Dialect
from featurekit.ports import Chunk
from featurekit.runtime.load import LoadTarget
from featurekit.runtime.load_tables import encode_tables
from featurekit.sources import open_source
from featurekit.stores import open_store
from tests.benchmarks.environment import BenchRepo, bench_repo
from tests.benchmarks.results import Measurement

ROUNDS = 3
FIRST_US = 1_700_000_000_000_000

PING = """
import json, sys, time
import redis
client = redis.Redis(unix_socket_path=sys.argv[1])
times = []
print("ready", flush=True)
while True:
    start = time.perf_counter()
    client.ping()
    times.append(time.perf_counter() - start)
    time.sleep(0.001)
    if client.exists("done"):
        break
times.sort()
print(json.dumps([times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000]))
"""

# Runs between the two: a child's peak includes what its parent had at the fork.
PEAK = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(rows: int) -> Iterator[Measurement]:
    """Measure the rate, the latency of another client meanwhile, and the peak memory."""
    for transport in ("unix", "tcp"):
        with bench_repo(transport) as repo:
            write_rows(repo.root / "rows.parquet", rows)
            yield from _rates(repo, transport, rows)
    with bench_repo("unix") as repo:
        write_rows(repo.root / "rows.parquet", rows)
        yield from _pings(repo, rows)
    for count in (rows, 5 * rows):
        yield _memory(count)


def _rates(repo: BenchRepo, transport: str, rows: int) -> Iterator[Measurement]:
    store = open_store(repo.url, repo.root)
    chunks = _chunks(repo)
    before: list[float] = []
    ours: list[float] = []
    for _ in range(ROUNDS):
        start = perf_counter()
        for _chunk, refused in store.load(chunks):
            assert refused is None
        before.append(rows / (perf_counter() - start))
        start = perf_counter()
        [report] = repo.store.materialize(["six"])
        ours.append(rows / (perf_counter() - start))
        assert report.rows_written == rows
    store.close()
    work = f"load {rows:,} rows, {transport}"
    yield Measurement(
        work, "bytes built before", max(before), sorted(before)[ROUNDS // 2], 1, unit="rows/s"
    )
    share = max(ours) / max(before)
    yield Measurement(
        work, "materialize", max(ours), sorted(ours)[ROUNDS // 2], share, unit="rows/s"
    )


def _chunks(repo: BenchRepo) -> list[Chunk]:
    """Return the bytes of the whole load, in the chunks that `materialize` sends."""
    view = repo.store.compiled.view("six")
    assert view.source is not None
    scan = open_source(view.source, repo.root).scan(view)
    target = LoadTarget(view, Dialect(hsetex=True))
    return [each.chunk for each in encode_tables(target, scan, None, lambda _: "")]


def _pings(repo: BenchRepo, rows: int) -> Iterator[Measurement]:
    socket = repo.url.removeprefix("unix://")
    with subprocess.Popen(
        [sys.executable, "-c", PING, socket], stdout=subprocess.PIPE, text=True
    ) as pinging:
        assert pinging.stdout
        pinging.stdout.readline()
        repo.store.materialize(["six"])
        with open_client(repo.url) as call:
            call("SET", "done", 1)
        p50_ms, p99_ms = json.loads(pinging.stdout.readline())
    work = f"PING of another client, during a load of {rows:,} rows"
    yield Measurement(work, "median", p50_ms)
    yield Measurement(work, "99th percentile", p99_ms)


@contextmanager
def open_client(url: str) -> Iterator[Any]:
    """Yield a function that sends one command."""
    store = open_store(url, Path())
    try:
        yield store.call
    finally:
        store.close()


def _memory(rows: int) -> Measurement:
    with bench_repo("unix") as repo:
        write_rows(repo.root / "rows.parquet", rows)
        command = [sys.executable, "-m", "featurekit", "--repo", str(repo.root), "materialize"]
        output = subprocess.run(
            [sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True
        )
    unit = 1024 if sys.platform == "linux" else 1
    work = f"peak memory of `featurekit materialize`, {rows:,} rows"
    return Measurement(work, "whole process", int(output.stdout) * unit / 1e6, unit="MB")


def write_rows(path: Path, count: int) -> None:
    """Write a Parquet file of `count` entities, a row group at a time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(count)
    group = 100_000
    writer = None
    for start in range(0, count, group):
        n = min(group, count - start)
        table = pa.table(
            {
                "user_id": [each.replace("u", f"u{start // group:03d}") for each in entity_ids(n)],
                "event_timestamp": pa.array(
                    FIRST_US + draw.integers(0, 10**12, n), pa.timestamp("us", "UTC")
                ),
                "country": draw.choice(["NO", "SE", "DK"], n),
                "segment": draw.choice(["low", "medium", "high"], n),
                "account_age_days": draw.integers(0, 4000, n),
                "tx_count_7d": draw.integers(0, 60, n),
                "avg_amount_30d": draw.integers(0, 100_000, n) / 100,
                "risk": draw.random(n),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
