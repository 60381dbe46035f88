from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from featurekit import FeatureStore
from featurekit.types import codec_of, parse_dtype
from featurekit.types.arrow import to_arrow
from tests.lower.strategies import ids, values
from tests.promise.repos import ALL_TYPES, TYPES, applied, hashes
from tests.servers import Server

pytestmark = pytest.mark.slow

Rows = dict[str, dict[str, Any]]

DTYPES = {name: parse_dtype(dtype) for name, dtype in TYPES.items()}
ON_SERVERS = settings(
    max_examples=8,
    phases=[Phase.generate],  # to shrink a failure takes minutes; leave this out to do so
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Rows of all types by id, of some density of nulls."""
    rows: Rows = {}
    for user in draw(st.lists(ids, min_size=1, max_size=40, unique=True)):
        rows[user] = {
            name: draw(st.none() | values(dtype)) if draw(st.integers(0, 3)) else None
            for name, dtype in DTYPES.items()
        }
    return rows


def table_of(rows: Rows) -> Any:
    columns = {
        name: to_arrow(dtype, [r[name] for r in rows.values()]) for name, dtype in DTYPES.items()
    }
    return pa.table({"user_id": pa.array(rows, pa.string()), **columns})


def bytes_of(rows: Rows) -> dict[bytes, dict[bytes, bytes]]:
    """What `HGETALL` shall show."""
    return {
        f"fs:user:{user}".encode(): stored
        for user, row in rows.items()
        if (
            stored := {
                name.encode(): codec_of(dtype).encode(row[name])
                for name, dtype in DTYPES.items()
                if row[name] is not None
            }
        )
    }


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Any:
    source = "{type: parquet, path: rows.parquet}"
    with applied(tmp_path, server.url, ALL_TYPES.replace("SOURCE", source)) as store:
        yield store


@ON_SERVERS
@given(rows=tables())
def test_what_a_parquet_file_holds_is_read_back_with_its_types(
    store: FeatureStore, server: Server, rows: Rows
) -> None:
    pq.write_table(table_of(rows), store.path / "rows.parquet")
    store.reset()
    [report] = store.materialize()
    assert report.rows_written == report.entities == len(rows)
    assert hashes(server) == bytes_of(rows)
    users = [*rows, "nobody", *rows]
    read = store.get_online_features("all", {"user_id": users}).to_rows()
    assert [row["user_id"] for row in read] == users
    for found in read:
        expected = rows.get(found["user_id"], dict.fromkeys(DTYPES))
        for name, dtype in DTYPES.items():
            if expected[name] is None:
                assert found[name] is None
            else:
                assert codec_of(dtype).encode(found[name]) == codec_of(dtype).encode(
                    expected[name]
                )
                assert dtype.kind == "vector" or type(found[name]) is type(expected[name])


def test_batches_of_one_row_take_no_more_memory_than_others(shop: FeatureStore) -> None:
    rows = 20_000
    table = pa.table({"user_id": [f"u{i}" for i in range(rows)], "risk": [0.5] * rows})
    table = table.append_column("model", pa.nulls(rows, pa.string()))
    for data in (table.to_reader(max_chunksize=1), iter(table.to_batches(max_chunksize=1))):
        assert shop.write_batch("scores", data).rows_written == rows


def lines_of(rows: Rows) -> list[str]:
    return [
        json.dumps(
            {"user_id": user}
            | {
                name: None if row[name] is None else codec_of(dtype).to_json(row[name])
                for name, dtype in DTYPES.items()
            }
        )
        for user, row in rows.items()
    ]


WAYS: dict[str, Callable[[FeatureStore, Rows], object]] = {
    "dict": lambda store, rows: store.write_batch("everything", rows),
    "arrow": lambda store, rows: store.write_batch("everything", table_of(rows)),
    "batches": lambda store, rows: store.write_batch(
        "everything", iter(table_of(rows).to_batches(max_chunksize=3))
    ),
    "pandas": lambda store, rows: store.write_batch(
        "everything", table_of(rows).to_pandas(types_mapper=pd.ArrowDtype)
    ),
    "polars": lambda store, rows: store.write_batch("everything", pl.from_arrow(table_of(rows))),
    "lines": lambda store, rows: store.write_jsonl("everything", lines_of(rows)),
}


@settings(ON_SERVERS, max_examples=15)
@given(rows=tables())
def test_every_way_of_writing_rows_gives_the_same_hashes(
    valkey: Server, tmp_path: Path, rows: Rows
) -> None:
    with applied(tmp_path, valkey.url, ALL_TYPES.replace(", source: SOURCE", "")) as store:
        for way, write in WAYS.items():
            store.reset()
            write(store, rows)
            assert hashes(valkey) == bytes_of(rows), way


def csv_of(rows: Rows) -> str:
    """Rows as CSV: nulls as nothing, all else in quotes."""
    lines = [",".join(["user_id", *DTYPES])]
    for user, row in rows.items():
        cells = [_quoted(user)]
        for name, dtype in DTYPES.items():
            value = row[name]
            if value is None:
                cells.append("")
            elif dtype.kind == "vector":
                cells.append(_quoted(json.dumps(codec_of(dtype).to_json(value))))
            else:
                cells.append(_quoted(codec_of(dtype).encode(value).decode()))
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@settings(ON_SERVERS, max_examples=15)
@given(rows=tables())
def test_files_of_text_give_the_same_hashes(valkey: Server, tmp_path: Path, rows: Rows) -> None:
    for row in rows.values():
        row["a_bytes"] = None  # text cannot hold all bytes
    for kind, text in (("csv", csv_of(rows)), ("jsonl", "\n".join(lines_of(rows)))):
        source = f"{{type: {kind}, path: rows.{kind}}}"
        definitions = ALL_TYPES.replace("SOURCE", source)
        with applied(tmp_path, valkey.url, definitions) as store:
            (tmp_path / f"rows.{kind}").write_text(text, encoding="utf-8", newline="")
            store.reset()
            store.materialize()
            assert hashes(valkey) == bytes_of(rows), kind
