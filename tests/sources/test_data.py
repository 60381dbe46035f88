"""SQL queries, Python functions and Arrow data as sources."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import SourceError
from featurekit.plan import ParquetSourcePlan, PythonSourcePlan, SourcePlan, SqlSourcePlan
from featurekit.sources import ArrowSource


def query(text: str, **more: Any) -> SourcePlan:
    return SqlSourcePlan(query=text, **more)


def test_a_query_reads_files_relative_to_the_repository(repo: Any) -> None:
    (repo.root / "data").mkdir()
    pq.write_table(pa.table({"user_id": ["a"], "n": [1]}), repo.root / "data/x.parquet")
    repo.write("data/x.csv", "user_id,n\nb,2\n")
    read = repo.read(
        query(
            "WITH rows AS (FROM 'data/x.parquet' UNION ALL FROM read_csv('data/*.csv')) "
            "SELECT * FROM rows; -- all rows"
        )
    )
    assert read.column("n") == [1, 2]


def test_sums_of_ints_are_ints_unless_they_do_not_fit(repo: Any) -> None:
    repo.fields = {"n": "int64", "m": "int64", "d": "decimal"}
    read = repo.read(
        query(
            "SELECT 'a' AS user_id, sum(i) AS n, sum(i) * 10000000000000000000 AS m, sum(i) AS d "
            "FROM range(5) t(i)"
        )
    )
    assert [str(read.schema.field(n).type) for n in repo.fields] == [
        "int64",
        "decimal128(38, 0)",
        "decimal128(38, 0)",
    ]


def test_duckdb_types_become_arrow_types(repo: Any) -> None:
    repo.fields = dict.fromkeys(["v", "u", "j", "e"], "string")
    read = repo.read(
        query(
            "SELECT 'a' AS user_id, [1, 2]::FLOAT[2] AS v, uuid() AS u, '{\"x\": 1.0}'::JSON AS j, "
            "'x'::ENUM('x', 'y') AS e"
        )
    )
    assert read.schema.field("v").type.list_size == 2
    assert read.schema.field("u").type == read.schema.field("j").type == pa.string()
    assert read.rows[0]["j"] == '{"x": 1.0}'
    assert read.rows[0]["e"] == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1; SELECT 2", "the query has 2 statements, expected one"),
        ("CREATE TABLE x (a INT)", "the query is a CREATE statement, expected SELECT"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM nowhere", "Table with name nowhere does not exist"),
        ("FROM 'nix.parquet'", "No files found that match the pattern"),
        ("SELECT 1 AS n", "no column 'user_id'"),
        ("SELECT 'a' AS user_id, 'x'::INT AS n", "Could not convert string 'x' to INT32"),
    ],
)
def test_an_error_says_why_a_query_fails(repo: Any, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        repo.read(query(text))


MODULE = """
import pyarrow as pa

def table(start_ms, view):
    return pa.table({"user_id": ["a"], "n": [start_ms], "ts": ["2026-01-01"], "more": [view]})

def parts(start, end):
    for i in range(3):
        yield pa.record_batch({"user_id": ["a"], "n": [i]})

def nothing():
    return iter(())

def fails():
    raise ValueError("no luck")

def fails_late():
    yield pa.record_batch({"user_id": ["a"], "n": [1]})
    fails()

def another_type():
    yield pa.record_batch({"user_id": ["a"], "n": [1]})
    yield pa.record_batch({"user_id": ["a"], "n": ["x"]})

def another_order():
    yield pa.record_batch({"user_id": ["a"], "n": [1]})
    yield pa.record_batch({"n": [2], "user_id": ["b"]})

def words():
    return "words"

def mixed():
    yield pa.table({"user_id": ["a"], "n": [1]})
    yield 7
"""


@pytest.fixture
def module(repo: Any) -> Any:
    repo.write("rows_of_users.py", MODULE)
    yield lambda name, **more: PythonSourcePlan(callable=f"rows_of_users:{name}", **more)
    sys.modules.pop("rows_of_users", None)


def test_a_function_gets_the_arguments_it_declares(repo: Any, module: Any) -> None:
    before = sys.path[:]
    assert repo.read(module("table"), start_ms=5).rows == [{"user_id": "a", "n": 5}]
    assert repo.read(module("parts")).rows == [{"user_id": "a", "n": 2}]
    assert repo.read(module("nothing")).rows == []
    assert repo.read(module("another_order")).rows[1] == {"user_id": "b", "n": 2}
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tabel", "no function 'tabel'"),
        ("words", "found str, expected Arrow data"),
        ("mixed", "found int, expected Arrow data"),
        ("fails", r"rows_of_users:fails, rows_of_users.py:\d+: ValueError: no luck"),
        ("fails_late", r"rows_of_users:fails_late, rows_of_users.py:\d+: ValueError: no luck"),
        ("another_type", "column 'n' is string, but int64 in the first batch"),
    ],
)
def test_an_error_says_why_a_function_returns_no_rows(
    repo: Any, module: Any, name: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        repo.read(module(name))


def test_an_error_names_a_missing_module(repo: Any) -> None:
    with pytest.raises(SourceError, match="cannot be imported: No module named 'nix_there'"):
        repo.read(PythonSourcePlan(callable="nix_there:rows"))


ROWS = {"user_id": ["a", "a", "b"], "n": [1, 2, None]}


@pytest.mark.parametrize(
    "data",
    [
        lambda: pa.table(ROWS),
        lambda: pa.table(ROWS).to_reader(),
        lambda: pa.table(ROWS).to_batches(),
        lambda: pl.DataFrame(ROWS),
        lambda: pd.DataFrame(ROWS, index=["x", "y", "z"]),
        lambda: duckdb.connect().sql(
            "FROM (VALUES ('a', 1), ('a', 2), ('b', NULL)) t(user_id, n)"
        ),
    ],
    ids=["table", "reader", "batches", "polars", "pandas", "duckdb"],
)
def test_all_kinds_of_arrow_data_are_sources(
    repo: Any, read_data: Callable[..., Any], data: Callable[[], object]
) -> None:
    read = read_data(ArrowSource(data()), repo.view(None))
    assert {row["user_id"]: row["n"] for row in read.rows} == {"a": 2, "b": None}
    assert read.rows_read == 3


def test_arrow_data_uses_the_timestamps_and_columns_of_the_view(
    repo: Any, read_data: Callable[..., Any]
) -> None:
    view = repo.view(
        ParquetSourcePlan(
            paths=("x",), timestamp_field="ts", columns=(("n", "N"), ("user_id", "uid"))
        )
    )
    day = [datetime(2026, 1, d, tzinfo=UTC) for d in (2, 1)]
    read = read_data(ArrowSource(pa.table({"user_id": [*"aa"], "N": [1, 2], "ts": day})), view)
    assert read.rows == [{"user_id": "a", "n": 1, "event_timestamp": day[0]}]
    read = read_data(ArrowSource(pa.table({"uid": [*"aa"], "n": [1, 2]})), view)
    assert read.rows == [{"user_id": "a", "n": 2}]


def test_arrow_data_with_an_undeclared_column_is_refused(
    repo: Any, read_data: Callable[..., Any]
) -> None:
    data = pa.table({"user_id": ["a"], "n": [1], "m": [1]})
    with pytest.raises(SourceError, match="no field or join key 'm' in the view"):
        read_data(ArrowSource(data), repo.view(None))


def test_temporary_files_are_deleted_whether_a_scan_is_read_or_not(
    repo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = query("SELECT 'a' || i AS user_id, i AS n FROM range(5000) t(i)")
    unread = repo.open(plan).scan(repo.view(plan))
    half = repo.open(plan).scan(repo.view(plan))
    next(half.batches)
    assert len(list(tmp_path.iterdir())) == 2
    half.batches.close()
    del unread
    parts = ArrowSource(iter([pa.table({"user_id": ["a"], "n": [1]}), 7]))
    with pytest.raises(SourceError, match="found int"):
        parts.scan(repo.view(None))
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_two_columns_with_one_name_are_refused(repo: Any, read_data: Callable[..., Any]) -> None:
    data = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array([1]), pa.array([2])], ["user_id", "n", "n"]
    )
    with pytest.raises(SourceError, match="two columns are named 'n'"):
        read_data(ArrowSource(data), repo.view(None))
