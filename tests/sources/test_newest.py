"""Which rows of a source are loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import SourceError
from featurekit.plan import ParquetSourcePlan

DAY_MS = 86_400_000
T0 = 1_767_225_600_000  # 2026-01-01T00:00:00Z
TIMED = ParquetSourcePlan(paths=("rows.parquet",), timestamp_field="ts")


def day(number: int) -> datetime:
    return datetime(2026, 1, number)  # noqa: DTZ001 - the tests need times without a zone


def put(repo: Any, name: str = "rows.parquet", **columns: Any) -> None:
    pq.write_table(pa.table(columns), repo.root / name)


def test_the_newest_row_of_each_entity_is_kept_regardless_of_its_position(repo: Any) -> None:
    put(repo, user_id=["a", "b", "a"], n=[3, 7, 1], ts=[day(3), day(1), day(1)])
    read = repo.read(TIMED)
    assert {row["user_id"]: row["n"] for row in read.rows} == {"a": 3, "b": 7}
    assert read.rows_read == 3


def test_the_created_column_and_then_arrival_break_ties(repo: Any) -> None:
    same = [day(1)] * 5
    put(repo, user_id=[*"aabbb"], n=[1, 2, 3, 4, 5], ts=same, made=[2, 1, 1, 1, None])
    plan = ParquetSourcePlan(
        paths=("rows.parquet",), timestamp_field="ts", created_timestamp_field="made"
    )
    assert repo.read(plan).column("n") == [1, 4]


def test_without_a_timestamp_field_the_last_row_of_the_last_file_wins(repo: Any) -> None:
    put(repo, "2.parquet", user_id=["a"], n=[2])
    put(repo, "1.parquet", user_id=["a", "a"], n=[1, 0])
    read = repo.read(ParquetSourcePlan(paths=("*.parquet",)))
    assert read.rows == [{"user_id": "a", "n": 2}]


def test_rows_without_a_key_or_a_time_are_all_kept(repo: Any) -> None:
    put(
        repo,
        user_id=[None, None, "a", "a", "a", "a"],
        n=[1, 2, 3, 4, 5, 6],
        ts=[day(1), day(1), None, None, day(1), day(2)],
    )
    read = repo.read(TIMED)
    assert read.column("n") == [1, 2, 3, 4, 6]
    assert repo.read(TIMED, T0, T0 + DAY_MS).column("n") == [1, 2, 3, 4, 5]
    assert read.rows_read == 6


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_a_time_range_includes_its_start_and_excludes_its_end(
    repo: Any, unit: str, zone: str | None
) -> None:
    at = pa.array([T0 - 1000, T0, T0 + 1000], pa.timestamp("ms")).cast(pa.timestamp(unit))
    if zone:
        at = at.cast(pa.timestamp(unit, zone))
    put(repo, user_id=[*"abc"], n=[1, 2, 3], ts=at)
    read = repo.read(TIMED, T0, T0 + 1000)
    assert read.rows == [
        {"user_id": "b", "n": 2, "event_timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    ]
    assert read.rows_read == 1
    assert read.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")


def test_dates_and_iso_texts_are_times_and_other_texts_are_null(repo: Any) -> None:
    put(repo, user_id=[*"ab"], n=[1, 2], ts=[day(1).date(), None])
    assert repo.read(TIMED, T0, T0 + 1).rows_read == 2
    texts = [
        "2026-01-02T01:00:00+01:00",
        "2026-01-02 00:00:01",
        "2026-01-02",
        "soon",
        "2026-13-01",
    ]
    put(repo, user_id=[*"abcde"], n=[1, 2, 3, 4, 5], ts=texts)
    times = {row["user_id"]: row["event_timestamp"] for row in repo.read(TIMED).rows}
    second = datetime(2026, 1, 2, tzinfo=UTC)
    assert times == {"a": second, "b": second.replace(second=1), "c": second, "d": None, "e": None}


def test_numbers_are_not_times(repo: Any) -> None:
    put(repo, user_id=["a"], n=[1], ts=[T0])
    with pytest.raises(SourceError, match="timestamp_field 'ts' is BIGINT, not a time") as caught:
        repo.read(TIMED)
    assert "make_timestamp" in caught.value.hint


def test_a_time_range_requires_a_timestamp_field(repo: Any) -> None:
    put(repo, user_id=["a"], n=[1])
    with pytest.raises(SourceError, match="needs a timestamp_field"):
        repo.read(ParquetSourcePlan(paths=("rows.parquet",)), start_ms=T0)


def test_composite_keys_distinguish_entities(repo: Any) -> None:
    repo.keys = {"user_id": "string", "day": "int64"}
    put(repo, user_id=[*"aab"], day=[1, 2, 1], n=[1, 2, 3])
    assert repo.read(ParquetSourcePlan(paths=("rows.parquet",))).column("n") == [1, 2, 3]


@pytest.mark.parametrize("entities", [40_000, 30_000, 500])
def test_many_rows_equal_the_result_of_one_query(repo: Any, entities: int) -> None:
    path = repo.root / "rows.parquet"
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT 'u' || (hash(i) % {entities}) AS user_id, i AS n, "
            "TIMESTAMP '2026-01-01' + to_seconds((hash(i + 7) % 50)::DOUBLE) AS ts "
            f"FROM range(60000) t(i)) TO '{path}' (ROW_GROUP_SIZE 4096)"
        )
        expected = db.execute(
            f"SELECT n FROM '{path}' QUALIFY row_number() "
            "OVER (PARTITION BY user_id ORDER BY ts DESC, n DESC) = 1 ORDER BY n"
        ).fetchall()
    read = repo.read(TIMED)
    assert read.column("n") == [n for (n,) in expected]
    assert read.rows_read == 60_000


def test_a_source_that_changes_between_two_passes_is_an_error(repo: Any) -> None:
    put(repo, user_id=[*"ab"], n=[1, 2])
    plan = ParquetSourcePlan(paths=("rows.parquet",))
    scan = repo.open(plan).scan(repo.view(plan), None, None)
    put(repo, user_id=[*"abc"], n=[1, 2, 3])
    with pytest.raises(SourceError):
        list(scan.batches)
