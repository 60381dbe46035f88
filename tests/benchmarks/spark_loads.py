"""Loads of six fields on Spark, `local[2]`, compared with the local loader; memory of a task."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.benchmarks.environment import BenchRepo, bench_repo
from tests.benchmarks.loads import write_rows
from tests.benchmarks.results import Measurement
from tests.engines.local_cluster import own

ROUNDS = 3


def measure(rows: int) -> Iterator[Measurement]:
    """Measure the rate of twice `rows` in a warm session, and the memory of a task; nothing without pyspark."""
    if importlib.util.find_spec("pyspark") is None:
        return
    with session() as spark:
        with bench_repo("unix") as repo:
            yield from _rates(repo, spark, 2 * rows)
        for count in (rows, 5 * rows):
            with bench_repo("unix") as repo:
                yield _memory(repo, spark, count)


@contextmanager
def session() -> Iterator[Any]:
    """Open a Spark session on two cores."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", "3g")
    builder = builder.config("spark.driver.extraJavaOptions", "-XX:+UseParallelGC")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def _rates(repo: BenchRepo, spark: Any, rows: int) -> Iterator[Measurement]:
    write_rows(repo.root / "rows.parquet", rows)
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    seconds: dict[str, list[float]] = {"materialize": [], "Spark": []}
    repo.store.materialize(["six"], engine=spark)  # starts workers, and compiles what runs often
    for _ in range(ROUNDS):
        for name, engine in (("materialize", "duckdb"), ("Spark", spark)):
            start = perf_counter()
            [report] = repo.store.materialize(["six"], engine=engine)
            seconds[name].append(perf_counter() - start)
            assert report.rows_written == rows
    local = min(seconds["materialize"])
    for name, times in seconds.items():
        best, middle = rows / min(times), rows / sorted(times)[ROUNDS // 2]
        share = local / min(times)
        yield Measurement(
            f"load {rows:,} rows in a warm session", name, best, middle, share, unit="rows/s"
        )


def _memory(repo: BenchRepo, spark: Any, rows: int) -> Measurement:
    """Return the peak memory of the Python worker that writes all rows as one partition."""
    write_rows(repo.root / "rows.parquet", rows)
    spark.conf.set("spark.sql.shuffle.partitions", "1")
    peaks = [0]

    def look(_: Any) -> None:
        for process in own("worker"):
            status = Path(f"/proc/{process}/status")
            lines = status.read_text().splitlines() if status.exists() else []
            peaks.extend(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    repo.store.materialize(["six"], engine=spark, on_progress=look)
    work = f"peak memory of a task on Spark, {rows:,} rows in one partition"
    return Measurement(work, "Python worker", max(peaks) * 1024 / 1e6, unit="MB")
