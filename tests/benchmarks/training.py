"""Training sets, compared with `join_asof` of polars and `merge_asof` of pandas: CPU time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.results import Measurement

HISTORY_ROWS = 6
"""Rows of the history for each label."""

ENTITIES = 200_000
VIEWS = 4
DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000
GROUP_ROWS = 500_000

VIEW = """
  - name: view{i}
    entity: user{i}
    batch:
      refresh: 1h
      ttl: 2d
      source: {{type: parquet, path: rows.parquet, timestamp_field: event_timestamp, created_timestamp_field: created}}
    fields: {{a: int64, b: float64, c: string, d: int64, e: bool}}
"""

FEATUREKIT = """
import pyarrow.compute, pyarrow.dataset
from featurekit import FeatureStore
store = FeatureStore(".")
store.apply(allow_breaking=True)
job = store.get_historical_features(
    "labels.parquet", [f"view{i}" for i in range(VIEWS)], full_feature_names=True, as_of=AS_OF
)
"""
PERSIST = 'job.persist("train", allow_overwrite=True)'
POLARS = """
labels = pl.scan_parquet("labels.parquet").with_row_index("rid").sort("event_timestamp")
rows = pl.scan_parquet("rows.parquet").drop("created").sort("event_timestamp")
found = labels.join_asof(rows, on="event_timestamp", by="user_id", check_sortedness=False)
found.sort("rid").sink_parquet("polars.parquet")
"""
PANDAS = """
labels = pd.read_parquet("labels.parquet").sort_values("event_timestamp", kind="stable")
rows = pd.read_parquet("rows.parquet").drop(columns="created")
rows = rows.sort_values("event_timestamp", kind="stable")
found = pd.merge_asof(labels, rows, on="event_timestamp", by="user_id")
found.sort_values("label_id").to_parquet("pandas.parquet")
"""


def _featurekit(views: int, as_of: str) -> tuple[str, str]:
    return FEATUREKIT.replace("VIEWS", str(views)).replace("AS_OF", repr(as_of)), PERSIST


METHODS = {
    "polars join_asof": ("import polars as pl", POLARS),
    "pandas merge_asof": ("import pandas as pd, pyarrow.parquet", PANDAS),
    "featurekit, event_time": _featurekit(1, "event_time"),
    "featurekit, created": _featurekit(1, "created"),
    "featurekit, event_time, four views": _featurekit(4, "event_time"),
}
"""What is prepared, and what is measured."""

MEASURED = """
import json, resource, time
{prepared}
start = time.process_time()
{work}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([time.process_time() - start, peak]))
"""

# Runs between the two: a child's peak includes what its parent had at the fork.
BETWEEN = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]], cwd=sys.argv[2], check=True)
"""


def measure(labels: int) -> Iterator[Measurement]:
    """Measure each method, without imports; then ten times as many labels."""
    with tempfile.TemporaryDirectory(prefix="fk") as folder:
        write_data(Path(folder), labels, HISTORY_ROWS * labels)
        first = None
        for name, method in METHODS.items():
            cpu_s, peak_mb = _run(method, Path(folder))
            first = first or cpu_s
            work = f"training set, {labels:,} labels, {HISTORY_ROWS * labels:,} rows"
            yield Measurement(work, name, cpu_s, of_lower_bound=cpu_s / first, unit="CPU s")
            yield Measurement(work, name, peak_mb, unit="MB")
        write_labels(Path(folder), 10 * labels)
        cpu_s, peak_mb = _run(METHODS["featurekit, event_time"], Path(folder))
        work = f"training set, {10 * labels:,} labels, {HISTORY_ROWS * labels:,} rows"
        yield Measurement(work, "featurekit, event_time", cpu_s, unit="CPU s")
        yield Measurement(work, "featurekit, event_time", peak_mb, unit="MB")


def _run(method: tuple[str, str], folder: Path) -> tuple[float, float]:
    """Return the CPU time in seconds and the peak memory in MB of a program."""
    program = MEASURED.format(prepared=method[0], work=method[1])
    command = [sys.executable, "-c", BETWEEN, program, str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    cpu_s, peak = json.loads(output.stdout)
    return cpu_s, peak * (1024 if sys.platform == "linux" else 1) / 1e6


def write_data(folder: Path, labels: int, rows: int, *, skew: float = 0.0) -> None:
    """Write a repository, labels of 30 days, and rows of 37 days that begin 7 days before.

    One user has a share `skew` of the labels and of the rows, beside what is drawn for all.
    """
    (folder / "featurerepo.yaml").write_text(
        "project: benchmarks\ndefinitions: [views.yaml]\nregistry: registry.json\n"
        "online_store: {url: 'memory://', key_prefix: b}\n"
    )
    entities = ", ".join(
        f"{{name: user{i}, join_keys: {{user_id: string}}}}" for i in range(VIEWS)
    )
    views = "".join(VIEW.format(i=i) for i in range(VIEWS))
    (folder / "views.yaml").write_text(f"entities: [{entities}]\nfeature_views:{views}")
    write_labels(folder, labels, skew=skew)
    draw = _generator(2)

    def history(_start: int, n: int) -> dict[str, Any]:
        import pyarrow as pa

        at = START_US + draw.integers(0, 37 * DAY_US, n)
        return {
            "user_id": _users(draw, n, skew),
            "event_timestamp": _times(at),
            "created": _times(at + draw.integers(0, DAY_US // 4, n)),
            "a": draw.integers(0, 10**9, n),
            "b": pa.array(draw.random(n), mask=draw.random(n) < 0.1),
            "c": draw.choice(["NO", "SE", "DK"], n),
            "d": draw.integers(0, 60, n),
            "e": draw.integers(0, 2, n).astype(bool),
        }

    _write(folder / "rows.parquet", rows, history)


def write_labels(folder: Path, count: int, *, skew: float = 0.0) -> None:
    """Write labels in random order."""
    import numpy as np

    draw = _generator(1)

    def labels(start: int, n: int) -> dict[str, Any]:
        at = START_US + 7 * DAY_US + draw.integers(0, 30 * DAY_US, n)
        return {
            "label_id": np.arange(start, start + n),
            "user_id": _users(draw, n, skew),
            "event_timestamp": _times(at),
            "y": draw.integers(0, 2, n),
        }

    _write(folder / "labels.parquet", count, labels)


def _generator(seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed)


def _users(draw: Any, count: int, skew: float) -> Any:
    import numpy as np

    numbers = draw.integers(0, ENTITIES, count)
    if skew:
        numbers[draw.random(count) < skew] = 0
    return np.char.add("u", numbers.astype("U6"))


def _times(values: Any) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.timestamp("us", "UTC"))


def _write(path: Path, count: int, columns: Callable[[int, int], dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, count, GROUP_ROWS):
        table = pa.table(columns(start, min(GROUP_ROWS, count - start)))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
