"""Loads whose partitions are written by tasks of the caller."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, FeatureKitError, LockedError, RequestError
from featurekit.partitions import open_load, write_partition
from tests.examples.documents import blocks
from tests.examples.places import ROOT
from tests.promise.repos import applied, hashes
from tests.servers import Server

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, max_rejected: 0.5}
    fields: {n: {type: int64, min: 0}, name: string}
  - {name: live, entity: user, stream: {refresh: 1m}, fields: {m: int64}}
"""

SPARK = ROOT / "docs" / "spark.md"


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, VIEW) as store:
        yield store


def table(rows: range, n: int = 0) -> Any:
    return pa.table(
        {
            "user_id": [f"u{i}" for i in rows],
            "other": rows,
            "n": [n + i for i in rows],
            "name": ["x"] * len(rows),
        }
    )


def write(ticket: bytes, rows: range, n: int = 0) -> Any:
    """Write a block of rows in a task, as an engine calls it."""
    return write_partition(pickle.loads(ticket), table(rows, n).to_batches(max_chunksize=10))


def test_tasks_of_other_processes_write_a_load_that_is_recorded_once(
    store: FeatureStore, valkey: Server
) -> None:
    store.write_batch("profile", table(range(100)).drop(["other"]))
    expected = hashes(valkey)
    store.reset()
    with ProcessPoolExecutor(2) as pool, open_load(store, "profile") as load:
        ticket = pickle.dumps(load.ticket)
        pool.submit(write, ticket, range(50)).result()  # an attempt whose report was lost
        for report in pool.map(write, [ticket] * 2, [range(50), range(50, 100)]):
            load.add(report)
    assert hashes(valkey) == expected
    assert (load.report.rows_read, load.report.rows_written) == (100, 100)
    (record, _) = store.load_history("profile")
    assert (record.rows_written, record.error) == (100, "")
    with pytest.raises(LockedError):  # a task that is late
        write(ticket, range(5), 1000)
    assert hashes(valkey) == expected


def test_bad_rows_are_errors_or_are_counted(store: FeatureStore) -> None:
    with pytest.raises(BadRowError, match="-1"), open_load(store, "profile") as load:
        write(pickle.dumps(load.ticket), range(5), -1)
    with open_load(store, "profile", on_bad_row="skip") as load:
        load.add(write(pickle.dumps(load.ticket), range(5), -1))
    assert (load.report.rows_written, load.report.rows_rejected) == (4, 1)
    with pytest.raises(BadRowError), open_load(store, "profile", on_bad_row="skip") as load:
        load.add(write(pickle.dumps(load.ticket), range(5), -4))  # max_rejected


def test_what_cannot_be_written_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="stream view"), open_load(store, "live"):
        pass
    with open_load(store, "profile") as load:
        with pytest.raises(RequestError, match="no column 'name'"):
            write_partition(load.ticket, table(range(5)).drop(["name"]).to_batches())
        with pytest.raises(LockedError, match="is loading"), open_load(store, "profile"):
            pass
    (tmp_path / "memory").mkdir()
    with (
        applied(tmp_path / "memory", "memory://", VIEW) as memory,
        pytest.raises(FeatureKitError, match="memory of this process"),
        open_load(memory, "profile"),
    ):
        pass


class Rows:
    """The rows of a file, as Ray Data has them: blocks to which a function is applied."""

    def __init__(self, blocks: list[Any]) -> None:
        self._blocks = blocks

    def map_batches(self, function: Any, **_: Any) -> Rows:
        return Rows([function(block) for block in self._blocks])

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for block in self._blocks:
            yield from block.to_pylist()


def test_the_recipe_for_ray_loads_a_file(
    store: FeatureStore, valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe,) = (block.text for block in blocks(SPARK) if "import ray" in block.text)
    rows = table(range(40)).drop(["other"])
    pq.write_table(rows, tmp_path / "profile.parquet")
    if importlib.util.find_spec("ray") is None:
        module: Any = ModuleType("ray")
        parts = [rows.slice(start, 10) for start in range(0, 40, 10)]
        module.data = SimpleNamespace(read_parquet=lambda _: Rows(parts))
        monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {"__name__": "recipe"})
    (record,) = store.load_history("profile")
    assert record.rows_written == 40
    assert len(hashes(valkey)) == 40
