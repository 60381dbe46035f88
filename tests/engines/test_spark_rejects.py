"""Rows and lines that do not fit, on Spark: the same errors, the same rejected rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import FeatureKitError
from tests.engines.test_spark_loads import both, view
from tests.promise.repos import applied
from tests.servers import Server

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 1, tzinfo=UTC)

LINES = {
    "csv": [
        "user_id,n,t",
        "a,1,2026-11-01",
        '"b"x,2,2026-11-01',
        "c,-3,2026-11-01",
        "d,4,2026-11-01,5",
    ],
    "jsonl": [
        '{"user_id": "a", "n": 1, "t": "2026-11-01"}',
        '{"user_id": "b", "n":',
        '{"user_id": "c", "n": -3, "t": "2026-11-01"}',
        "[1]",
    ],
}


def rejected(report: Any) -> list[str]:
    rows = pq.read_table(report.rejects_path).drop_columns(["_source_row", "_load"]).to_pylist()
    return sorted(map(str, rows))


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_lines_that_cannot_be_read_are_refused_or_rejected_as_locally(
    tmp_path: Path, valkey: Server, spark: Any, form: str
) -> None:
    (tmp_path / f"a.{form}").write_text("\n".join(LINES[form]) + "\n")
    (tmp_path / f"b.{form}").write_text("\n".join(LINES[form][:2]).replace("a", "e") + "\n")
    source = f"{{type: {form}, path: '*.{form}', timestamp_field: t}}"
    fields = "{n: {type: int64, min: 0}}"
    with applied(tmp_path, valkey.url, view(source, fields)) as store:
        local, remote = both(store, valkey, spark, on_bad_row="skip")
        assert remote.rows_rejected == local.rows_rejected > 0
        assert rejected(remote) == rejected(local)
        errors = []
        for engine in ("duckdb", spark):
            with pytest.raises(FeatureKitError) as error:
                store.materialize(engine=engine, allow_older=True)
            errors.append((type(error.value), str(error.value), error.value.hint))
        assert errors[0] == errors[1]


def test_tasks_that_reject_more_rows_than_allowed_stop_and_the_load_fails(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    rows = 100_000
    users = pa.array(range(rows)).cast(pa.string())
    table = pa.table({"user_id": users, "n": pa.repeat(pa.scalar(-1), rows)})
    pq.write_table(table, tmp_path / "rows.parquet")
    definitions = view("{type: parquet, path: rows.parquet}", "{n: {type: int64, min: 0}}")
    definitions = definitions.replace("ttl: 30d", "ttl: 30d, max_rejected: 0.01")
    with (
        applied(tmp_path, valkey.url, definitions) as store,
        pytest.raises(FeatureKitError, match="rows rejected, more than max_rejected") as error,
    ):
        store.materialize(engine=spark, on_bad_row="skip")
    rejected = int(str(error.value).partition(" of 100000 rows")[0].split()[-1])
    assert 1000 < rejected < rows
