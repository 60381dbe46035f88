"""Files whose names DuckDB would expand as globs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.sources.conftest import Repo

from featurekit.errors import SourceError
from featurekit.plan import (
    CsvSourcePlan,
    FileSourcePlan,
    JsonlSourcePlan,
    ParquetSourcePlan,
    SqlSourcePlan,
)

NAMES = ["a[1]", "a1", "b*", "bx", "c?", "cx", "[!a]", "[a-b]]", "**", "it's", "q\\x", "é[1]"]
FORMATS: dict[str, type[FileSourcePlan]] = {
    ".parquet": ParquetSourcePlan,
    ".csv": CsvSourcePlan,
    ".jsonl": JsonlSourcePlan,
}


def put(path: Path, user_id: str, n: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"user_id": [user_id], "n": [n]}), path)
    elif path.suffix == ".csv":
        path.write_text(f'user_id,n\n"{user_id}",{n}\n')
    else:
        path.write_text(f'{{"user_id": "{n}", "n": 1}}\n')


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("path", [".", "*{}", "d"])
def test_each_file_of_a_folder_or_glob_is_read_once(repo: Repo, suffix: str, path: str) -> None:
    folder = repo.root / "d" if path == "d" else repo.root
    for n, name in enumerate(NAMES):
        put(folder / f"{name}{suffix}", name, n)
    read = repo.read(FORMATS[suffix](paths=(path.format(suffix),)))
    assert read.rows_read == len(read.rows) == len(NAMES)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_named_exactly_is_the_one_that_is_read(
    repo: Repo, suffix: str, name: str
) -> None:
    for n, each in enumerate(NAMES):
        put(repo.root / f"{each}{suffix}", each, n)
    read = repo.read(FORMATS[suffix](paths=(f"{name}{suffix}",)))
    (row,) = read.rows
    expected = f'{{"user_id": "{NAMES.index(name)}", "n": 1}}' if suffix == ".jsonl" else name
    assert row["json" if suffix == ".jsonl" else "user_id"] == expected


def test_a_partition_folder_with_brackets_is_read_with_its_value(repo: Repo) -> None:
    for n in ("[1]", "1"):
        (repo.root / f"d/n={n}").mkdir(parents=True)
        pq.write_table(pa.table({"user_id": [f"u{n}"]}), repo.root / f"d/n={n}/x.parquet")
    repo.fields = {"n": "string"}
    plan = ParquetSourcePlan(paths=("d",), hive_partitioning=True)
    assert repo.read(plan).column("n") == ["1", "[1]"]


@pytest.mark.parametrize("folder", ["r[1]", "r*", "r?"])
def test_the_repository_may_be_in_a_folder_with_such_a_name(tmp_path: Path, folder: str) -> None:
    for name, n in ((folder, 1), ("r1", 2)):
        (tmp_path / name / "d").mkdir(parents=True)
        put(tmp_path / name / "d/x.parquet", "a", n)
    repo = Repo(tmp_path / folder, {"user_id": "string"}, {"n": "int64"})
    for path in ("d", "d/*.parquet", "d/x.parquet"):
        assert repo.read(ParquetSourcePlan(paths=(path,))).column("n") == [1]
    for path in ("d/x.parquet", "d/*.parquet"):
        assert repo.read(SqlSourcePlan(query=f"FROM '{path}'")).column("n") == [1]
    with pytest.raises(SourceError, match=r"no file d/y\.parquet") as caught:
        repo.read(ParquetSourcePlan(paths=("d/y.parquet",)))
    assert "did you mean 'x.parquet'" in caught.value.hint


def test_a_bad_row_is_located_in_the_right_file(repo: Repo) -> None:
    put(repo.root / "a1.parquet", "other", 1)
    put(repo.root / "a[1].parquet", "a", 1)
    plan = ParquetSourcePlan(paths=("*.parquet",))
    source: Any = repo.open(plan)
    assert source.locate(repo.view(plan), {"user_id": "a"}) == "a[1].parquet, row 1"
