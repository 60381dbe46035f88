"""Which rows of a source are loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import SourceError
from featurekit.plan import CsvSourcePlan, JsonlSourcePlan, ParquetSourcePlan
from featurekit.ports import TimeRange

DAY_MS = 86_400_000
T0 = 1_767_225_600_000  # 2026-01-01T00:00:00Z
CREATED = ParquetSourcePlan(
    paths=("rows.parquet",), timestamp_field="ts", created_timestamp_field="made"
)
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
    assert repo.read(CREATED).column("n") == [1, 4]


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
    scan = repo.open(plan).scan(repo.view(plan))
    put(repo, user_id=[*"abc"], n=[1, 2, 3])
    with pytest.raises(SourceError):
        list(scan.batches)


@pytest.mark.parametrize("made", [[9, 10], ["9", "10"], ["9.5", "1e1"], [9.0, 10.0]])
def test_created_numbers_order_as_numbers(repo: Any, made: list[Any]) -> None:
    put(repo, user_id=[*"aa"], n=[9, 10], ts=[day(1)] * 2, made=made[::-1])
    assert repo.read(CREATED).column("n") == [9]
    put(repo, user_id=[*"aa"], n=[9, 10], ts=[day(1)] * 2, made=made)
    assert repo.read(CREATED).column("n") == [10]


def test_created_categories_order_as_numbers_and_nan_comes_first(repo: Any) -> None:
    made = pa.array(["10", "9"]).dictionary_encode()
    put(repo, user_id=[*"aa"], n=[10, 9], ts=[day(1)] * 2, made=made)
    assert repo.read(CREATED).column("n") == [10]
    put(repo, user_id=[*"aa"], n=[10, 9], ts=[day(1)] * 2, made=[10.0, float("nan")])
    assert repo.read(CREATED).column("n") == [10]


@pytest.mark.parametrize("numbers", [("10", "9"), ("9007199254740993", "9007199254740992")])
def test_created_numbers_of_text_files_order_as_numbers(
    repo: Any, numbers: tuple[str, str]
) -> None:
    new, old = numbers
    repo.write("r.csv", f"user_id,n,ts,made\na,10,2026-01-01,{new}\na,9,2026-01-01,{old}\n")
    csv = CsvSourcePlan(paths=("r.csv",), timestamp_field="ts", created_timestamp_field="made")
    assert repo.read(csv).column("n") == ["10"]
    line = '{{"user_id": "a", "n": {}, "ts": "2026-01-01", "made": {}}}\n'
    repo.write("r.jsonl", line.format(10, new) + line.format(9, f'"{old}"'))
    jsonl = JsonlSourcePlan(
        paths=("r.jsonl",), timestamp_field="ts", created_timestamp_field="made"
    )
    assert '"n": 10' in repo.read(jsonl).rows[0]["json"]


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (["v2", "v1"], "'made' contains 'v1', which is neither a number nor a time"),
        (["1", "2026-01-01"], "'made' contains numbers and times"),
        ([True, False], "'made' is BOOLEAN, not a time or a number"),
    ],
)
def test_a_created_column_without_an_order_is_refused(
    repo: Any, made: list[Any], problem: str
) -> None:
    put(repo, user_id=[*"aa"], n=[1, 2], ts=[day(1)] * 2, made=made)
    with pytest.raises(SourceError, match=problem):
        repo.read(CREATED)


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-01-02 03:00:00+00", 3),  # Postgres
        ("2026-01-02 03:00:00.123-05:30", 8),
        ("2026-01-02 03:00:00 UTC", 3),  # BigQuery
        ("2026-01-02 03:00:00.123456 UTC", 3),
        ("2026-01-02 03:00:00.000 +0000", 3),  # Snowflake
        ("2026-01-02 03:00:00.000 -0800", 11),
        ("2026-01-02 03:00:00.000 Z", 3),
        ("2026-01-02T03:00:00.000000000Z", 3),
        ("2026-01-02 03:00:00+99", None),
        ("2026-01-02 03:00:00 PST", None),
    ],
)
def test_times_may_be_spelled_as_databases_do(repo: Any, text: str, hour: int | None) -> None:
    put(repo, user_id=["a"], n=[1], ts=[text])
    (row,) = repo.read(TIMED).rows
    assert (row["event_timestamp"] and row["event_timestamp"].hour) == hour


@pytest.mark.parametrize("kind", ["timestamp", "zoned", "date", "text"])
def test_rows_of_the_future_are_counted_and_left_out(repo: Any, kind: str) -> None:
    times: list[Any] = [day(1), day(3), day(4), day(1), day(5)]
    if kind == "zoned":
        times = [time.replace(tzinfo=UTC) for time in times]
    elif kind != "timestamp":
        times = [time.date() if kind == "date" else time.isoformat() for time in times]
    put(repo, user_id=[*"aaabc"], n=[1, 2, 3, 4, 5], ts=times)
    plan, view = TIMED, repo.view(TIMED)
    scan = repo.open(plan).scan(view, TimeRange(latest_ms=T0 + 2 * DAY_MS))
    rows = [row["n"] for batch in scan.batches for row in batch.to_pylist()]
    assert (sorted(rows), scan.rows_read, scan.rows_future) == ([2, 4], 5, 2)
    assert repo.read(TIMED).column("n") == [3, 4, 5]


def test_a_row_of_this_millisecond_is_not_of_the_future(repo: Any) -> None:
    times = pa.array([T0 * 1000 + 999, T0 * 1000 + 1000], pa.timestamp("us"))
    put(repo, user_id=[*"ab"], n=[1, 2], ts=times)
    scan = repo.open(TIMED).scan(repo.view(TIMED), TimeRange(latest_ms=T0))
    assert [batch.to_pylist()[0]["n"] for batch in scan.batches] == [1]


def test_many_rows_of_the_future_leave_the_incomplete_ones(repo: Any) -> None:
    put(
        repo,
        user_id=[None, *"abcdefg"],
        n=[0, 1, 2, 3, 4, 5, 6, 7],
        ts=[day(1), None, day(1), *[day(9)] * 5],
    )
    scan = repo.open(TIMED).scan(repo.view(TIMED), TimeRange(latest_ms=T0))
    rows = [row["n"] for batch in scan.batches for row in batch.to_pylist()]
    assert (sorted(rows), scan.rows_future) == ([0, 1, 2], 5)


def test_a_member_that_no_line_has_is_refused_by_name(repo: Any) -> None:
    repo.write("r.jsonl", '{"user_id": "a", "amount": 1}\n{"user_id": "b", "t": null}\n')
    plan = JsonlSourcePlan(paths=("r.jsonl",), columns=(("n", "amuont"),))
    with pytest.raises(SourceError, match=r"no row has the member 'amuont' \(field n\)") as caught:
        repo.read(plan)
    assert "did you mean 'amount'" in caught.value.hint
    assert "absent: null" in caught.value.hint
    assert repo.read(replace(plan, absent="null")).rows_read == 2
    assert repo.read(replace(plan, columns=(("n", "t"),))).rows_read == 2
    missing_key = replace(plan, absent="null", columns=(("user_id", "uid"),))
    with pytest.raises(SourceError, match=r"member 'uid' \(join key user_id\)\n"):
        repo.read(missing_key)


def test_a_rare_member_is_found_and_an_empty_file_has_nothing_to_refuse(repo: Any) -> None:
    repo.write("r.jsonl", '{"user_id": "a"}\n' * 5000 + '{"user_id": "b", "n": 1}\n')
    plan = JsonlSourcePlan(paths=("r.jsonl",))
    assert repo.read(plan).rows_read == 5001
    repo.write("r.jsonl", "")
    assert repo.read(plan).rows_read == 0
