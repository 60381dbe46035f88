"""Training sets on Spark, `local[2]`, compared with DuckDB; also with a key that has 30 % of the rows."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurekit import FeatureStore
from tests.benchmarks.results import Measurement
from tests.benchmarks.spark_loads import session
from tests.benchmarks.training import HISTORY_ROWS, write_data
from tests.engines.local_cluster import processes

ROUNDS = 3
SKEW = 0.3


def measure(labels: int) -> Iterator[Measurement]:
    """Measure the CPU time of both engines in turns in a warm session; nothing without pyspark."""
    if importlib.util.find_spec("pyspark") is None:
        return
    with session() as spark:
        spark.conf.set("spark.sql.shuffle.partitions", "8")
        for skew, what in ((0.0, ""), (SKEW, f", one key has {SKEW:.0%} of both")):
            with tempfile.TemporaryDirectory(prefix="fk") as folder:
                write_data(Path(folder), labels, HISTORY_ROWS * labels, skew=skew)
                work = f"training set, {labels:,} labels, {HISTORY_ROWS * labels:,} rows{what}"
                yield from _compare(Path(folder), spark, work)


def _compare(folder: Path, spark: Any, work: str) -> Iterator[Measurement]:
    seconds: dict[str, list[float]] = {"DuckDB": [], "Spark": []}
    with FeatureStore(folder) as store:
        store.apply(allow_breaking=True)
        _build(store, folder, spark)  # starts workers, and compiles what runs often
        for _ in range(ROUNDS):
            for name, engine in (("DuckDB", "duckdb"), ("Spark", spark)):
                start = cpu_s()
                _build(store, folder, engine)
                seconds[name].append(cpu_s() - start)
    local = sorted(seconds["DuckDB"])[ROUNDS // 2]
    for name, times in seconds.items():
        middle = sorted(times)[ROUNDS // 2]
        yield Measurement(work, name, min(times), middle, middle / local, unit="CPU s")


def _build(store: FeatureStore, folder: Path, engine: Any) -> None:
    labels = folder / "labels.parquet"
    with store.get_historical_features(
        labels, ["view0"], as_of="event_time", engine=engine
    ) as job:
        job.persist(folder / "train", allow_overwrite=True)


def cpu_s() -> float:
    """Return the CPU time of this process, the JVM and the Python workers, ended ones included."""
    found = processes()
    ticks = 0
    for process in found:
        ancestor = process
        while ancestor in found and ancestor != os.getpid():
            ancestor = found[ancestor][0]
        if ancestor == os.getpid():
            try:
                stat = Path(f"/proc/{process}/stat").read_text()
            except OSError:
                continue
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
