"""Files that other processes replace or change while a load reads them."""

from __future__ import annotations

import dataclasses
import os
import random
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.sources.conftest import Repo

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, FileSourcePlan, JsonlSourcePlan, ParquetSourcePlan

ENTITIES = 3000
FORMATS: dict[str, FileSourcePlan] = {
    "parquet": ParquetSourcePlan(paths=("rows.parquet",), timestamp_field="ts"),
    "csv": CsvSourcePlan(paths=("rows.csv",), timestamp_field="ts"),
    "jsonl": JsonlSourcePlan(paths=("rows.jsonl",), timestamp_field="ts"),
}


def write(path: Path, generation: int) -> None:
    """Write an old row (n = 2g) and a new row (n = 2g + 1) of each entity, in random order."""
    rows = [
        (f"u{i}", 2 * generation + age, f"2026-01-0{1 + age}T00:00:00Z")
        for i in range(ENTITIES)
        for age in (0, 1)
    ]
    random.shuffle(rows)
    if path.suffix == ".parquet":
        keys, values, times = zip(*rows, strict=True)
        pq.write_table(pa.table({"user_id": keys, "n": values, "ts": times}), path)
    elif path.suffix == ".csv":
        lines = [f"{key},{n},{ts}" for key, n, ts in rows]
        path.write_text("\n".join(["user_id,n,ts", *lines, ""]))
    else:
        path.write_text("".join(f'{{"user_id":"{k}","n":{n},"ts":"{t}"}}\n' for k, n, t in rows))


def replace(path: Path, generation: int) -> None:
    temporary = path.with_name(f"new.{path.suffix}")
    write(temporary.with_suffix(path.suffix), generation)
    temporary.with_suffix(path.suffix).replace(path)


@pytest.mark.parametrize("form", FORMATS)
def test_no_row_of_a_file_that_was_replaced_after_the_first_pass_is_used(
    repo: Repo, form: str
) -> None:
    path, plan = repo.root / f"rows.{form}", FORMATS[form]
    write(path, 1)
    scan = repo.open(plan).scan(repo.view(plan))
    replace(path, 2)
    with pytest.raises(SourceError, match=rf"rows\.{form} changed while it was read"):
        next(scan.batches)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_overwritten_in_place_with_its_old_times_is_noticed(
    repo: Repo, form: str
) -> None:
    path, plan = repo.root / f"rows.{form}", FORMATS[form]
    write(path, 1)
    before = path.stat()
    scan = repo.open(plan).scan(repo.view(plan))
    content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SourceError, match="changed while it was read"):
        next(scan.batches)


def test_a_file_that_is_removed_after_the_first_pass_is_an_error_of_that_file(repo: Repo) -> None:
    path, plan = repo.root / "rows.parquet", FORMATS["parquet"]
    write(path, 1)
    scan = repo.open(plan).scan(repo.view(plan))
    path.unlink()
    with pytest.raises(SourceError, match=r"rows\.parquet changed while it was read"):
        list(scan.batches)


@pytest.mark.parametrize("form", FORMATS)
def test_rows_that_are_used_while_a_file_is_replaced_again_and_again_are_the_newest(
    repo: Repo, form: str
) -> None:
    path, plan = repo.root / f"rows.{form}", FORMATS[form]
    write(path, 1)
    stop = threading.Event()
    messages: set[str] = set()

    def keep_replacing() -> None:
        generation = 1
        while not stop.wait(random.uniform(0, 0.1)):
            replace(path, generation := generation + 1)

    other = threading.Thread(target=keep_replacing)
    other.start()
    try:
        for _ in range(8):
            used: set[int] = set()
            try:
                for batch in repo.open(plan).scan(repo.view(plan)).batches:
                    used |= {_number(row) for row in batch.to_pylist()}
            except SourceError as error:
                messages.add(error.message)
            assert {n % 2 for n in used} <= {1}
            assert len(used) <= 1
        assert messages <= {f"rows.{form} changed while it was read"}
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_at_a_url_is_read_in_one_pass(repo: Repo, form: str) -> None:
    path = repo.root / f"rows.{form}"
    plan = dataclasses.replace(FORMATS[form], paths=(f"file://{path}",))
    write(path, 1)
    scan = repo.open(plan).scan(repo.view(plan))
    path.unlink()
    rows = [row for batch in scan.batches for row in batch.to_pylist()]
    assert {_number(row) for row in rows} == {3}
    assert len(rows) == ENTITIES


def _number(row: dict[str, object]) -> int:
    text = row.get("json")
    return int(str(row["n"]) if text is None else str(text).split('"n":')[1].split(",")[0])
