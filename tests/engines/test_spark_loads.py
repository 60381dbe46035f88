"""Loads on Spark: the same rows give the same bytes as in this process."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, FeatureKitError, RequestError, SourceError
from tests.promise.repos import applied
from tests.servers import Server

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 1, tzinfo=UTC)

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, ttl: 30d, source: SOURCE}
    fields: FIELDS
"""

FIELDS = """{n: int64, x: {type: float64, allow_nan: true}, s: string, b: bool, d: date, at: timestamp,
      amount: decimal, tags: 'array<string>', doc: json, raw: bytes}"""


def view(source: str, fields: str = FIELDS) -> str:
    return VIEW.replace("SOURCE", source).replace("FIELDS", fields)


def stored(valkey: Server) -> dict[bytes, Any]:
    with valkey.client() as client:
        return {key: client.hgetall(key) for key in client.keys("fs:user:*")}


def both(store: FeatureStore, valkey: Server, spark: Any, **options: Any) -> tuple[Any, Any]:
    """Return the reports of both engines, whose stores must be equal."""
    results = []
    for engine in ("duckdb", spark):
        with valkey.client() as client:
            if keys := client.keys("fs:user:*"):
                client.delete(*keys)
        (report,) = store.materialize(engine=engine, allow_older=True, **options)
        results.append((report, stored(valkey)))
    (local, expected), (remote, found) = results
    assert found == expected
    for name in ("read", "written", "superseded", "rejected", "future"):
        assert getattr(remote, f"rows_{name}") == getattr(local, f"rows_{name}"), name
    assert remote.newest_event_ms == local.newest_event_ms
    return local, remote


def random_rows(seed: int, rows: int = 400) -> Any:
    pick = random.Random(seed)

    def some(*values: Any) -> list[Any]:
        return [pick.choice(values) for _ in range(rows)]

    nan, inf = float("nan"), float("inf")
    times = [NOW + timedelta(hours=pick.randrange(6), microseconds=700) for _ in range(rows)]
    return pa.table(
        {
            "user_id": [f"u{pick.randrange(60)}" for _ in range(rows)],
            "t": pa.array(times, pa.timestamp("us", "UTC")),
            "created": pa.array(some(None, nan, -inf, inf, 0.0, -0.0, 1.5), pa.float64()),
            "n": pa.array(some(None, 0, -(2**63), 2**63 - 1, 7), pa.int64()),
            "x": pa.array(some(None, nan, inf, -0.0, 1e300, 0.1), pa.float64()),
            "s": some(None, "", "ä\r\n", "x" * 50),
            "b": some(None, *(n > 0 for n in range(2))),
            "d": pa.array(some(None, datetime(1582, 10, 10).date(), datetime(9999, 1, 1).date())),  # noqa: DTZ001
            "at": pa.array(
                some(None, NOW, NOW + timedelta(microseconds=1)), pa.timestamp("us", "UTC")
            ),
            "amount": pa.array(some(None, Decimal("1.50"), Decimal("-0.01")), pa.decimal128(7, 2)),
            "tags": pa.array(some(None, [], ["a", "b"]), pa.list_(pa.string())),
            "doc": pa.array(some(None, {"a": 1}, {"a": None}), pa.struct({"a": pa.int64()})),
            "raw": pa.array(some(None, b"", b"\x00\xff"), pa.binary()),
        }
    )


PARQUET = "{type: parquet, path: data, timestamp_field: t, created_timestamp_field: created}"


def test_random_rows_of_all_types_give_the_same_bytes_in_any_time_zone(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    (tmp_path / "data" / "b").mkdir(parents=True)
    for i, name in enumerate(("z", "b/a", "b-c")):
        pq.write_table(random_rows(i), tmp_path / "data" / f"{name}.parquet")
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Europe/Oslo")
    try:
        with applied(tmp_path, valkey.url, view(PARQUET)) as store:
            both(store, valkey, spark)
            window = (NOW + timedelta(hours=1), NOW + timedelta(hours=4))
            both(store, valkey, spark, start=window[0], end=window[1])
        assert spark.conf.get("spark.sql.session.timeZone") == "Europe/Oslo"
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def test_rows_without_key_or_time_are_rejected_one_by_one(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    rows = {"user_id": ["a", None, "b", None, "c"], "n": [1, 2, -3, 4, 5]}
    times = pa.array([NOW, NOW, NOW, None, None], pa.timestamp("us"))
    pq.write_table(pa.table({**rows, "t": times}), tmp_path / "rows.parquet")
    source = "{type: parquet, path: rows.parquet, timestamp_field: t}"
    with applied(tmp_path, valkey.url, view(source, "{n: {type: int64, min: 0}}")) as store:
        local, remote = both(store, valkey, spark, on_bad_row="skip")
        assert remote.rows_rejected == 4
        columns = ["user_id", "n", "_reasons"]
        expected, found = (
            pq.read_table(report.rejects_path, columns=columns).to_pylist()
            for report in (local, remote)
        )
        assert sorted(map(str, found)) == sorted(map(str, expected))
        with pytest.raises(
            BadRowError, match=r"profile, rows.parquet, row \d, .*user_id"
        ) as error:
            store.materialize(engine=spark, allow_older=True)
        assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_texts_follow_featurekits_own_rules(
    tmp_path: Path, valkey: Server, spark: Any, form: str
) -> None:
    rows = [
        {
            "user_id": f"u{i % 40}",
            "n": i,
            "s": 'a "b",\n' if i % 5 else "",
            "t": NOW + timedelta(hours=i % 7),
        }
        for i in range(200)
    ]
    for part in range(2):
        texts = [{**row, "t": f"{row['t']:%Y-%m-%dT%H:%M:%SZ}"} for row in rows[part::2]]
        if form == "jsonl":
            text = "".join(json.dumps(row) + "\n" for row in texts)
        else:
            lines = [
                ",".join('"' + str(c).replace('"', '""') + '"' for c in r.values()) for r in texts
            ]
            text = "\r\n".join(["user_id,n,s,t", *lines, ""])
        (tmp_path / f"{part}.{form}").write_bytes(text.encode())
    source = f"{{type: {form}, path: '*.{form}', timestamp_field: t}}"
    with applied(tmp_path, valkey.url, view(source, "{n: int64, s: string}")) as store:
        both(store, valkey, spark)


def test_queries_and_tables_of_spark_are_loaded(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    pq.write_table(random_rows(1).drop(["created"]), tmp_path / "rows.parquet")
    spark.read.parquet(str(tmp_path / "rows.parquet")).createOrReplaceTempView("profiles")
    sql = "{type: sql, dialect: spark, query: 'select * from profiles where n > :low', parameters: {low: '5'}, timestamp_field: t}"
    table = "{type: table, table: profiles, timestamp_field: t}"
    with applied(tmp_path, valkey.url, view(table)) as store:
        (report,) = store.materialize(engine=spark)
        assert report.rows_written == 60
        with pytest.raises(SourceError, match="catalog"):
            store.materialize()
    with applied(tmp_path, valkey.url, view(sql)) as store:
        (report,) = store.materialize(engine=spark, allow_older=True)
        assert 0 < report.rows_read < 400
        with pytest.raises(SourceError, match="dialect: spark"):
            store.materialize()


def test_the_file_names_the_engine_and_refuses_passwords_in_settings(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    pq.write_table(random_rows(1, 20), tmp_path / "data.parquet")
    definitions = view(PARQUET.replace("path: data", "path: data.parquet"))
    with applied(tmp_path, valkey.url, definitions):
        pass
    config = tmp_path / "featurerepo.yaml"
    text = config.read_text()
    config.write_text(text + "engine: spark\nengines: {spark: {master: 'local[2]'}}\n")
    with FeatureStore(tmp_path) as store:
        with pytest.raises(RequestError, match="does not prune"):
            store.materialize(prune=True)
        assert store.materialize()[0].rows_read == 20
        assert store.materialize(engine="duckdb")[0].rows_read == 20
    config.write_text(text + "engines: {spark: {conf: {a: 'redis://:secret@h'}}}\n")
    with pytest.raises(FeatureKitError, match="URL with a password") as error:
        FeatureStore(tmp_path)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{type: sql, query: select 1}", "DuckDB's SQL"),
        ("{type: python, callable: 'a:b'}", "one process"),
        ("{type: csv, path: 's3a://b/x.csv'}", "not a file that tasks can open"),
        ("{type: table, table: no_such_table}", "no_such_table"),
        ("{type: parquet, path: none.parquet}", "no file none.parquet"),
    ],
)
def test_what_spark_cannot_read_is_refused(
    tmp_path: Path, valkey: Server, spark: Any, source: str, message: str
) -> None:
    with applied(tmp_path, valkey.url, view(source)) as store:
        with pytest.raises(FeatureKitError, match=message):
            store.materialize(engine=spark)
        assert stored(valkey) == {}


def test_engines_that_do_not_exist_and_pruning_are_refused(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    with applied(tmp_path, valkey.url, view(PARQUET)) as store:
        with pytest.raises(RequestError, match="no engine 'dask'"):
            store.materialize(engine="dask")
        with pytest.raises(RequestError, match="does not prune"):
            store.materialize(engine=spark, prune=True)
