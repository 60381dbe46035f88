"""The file of rejected rows: what it has, and that it can be corrected and loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import (
    BadRowError,
    FeatureKitError,
    OlderRowsError,
    RequestError,
    SourceError,
)
from tests.cli.running import run
from tests.promise.repos import applied
from tests.servers import Server

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {SOURCE, timestamp_field: at, columns: {age: AGE}}}
    fields: {age: {type: int64, min: 0}, score: float64, tags: 'array<int64>'}
"""
CSV_VIEW = VIEW.replace("SOURCE", "type: csv, path: rows.csv")


def rejected(store: FeatureStore, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Load with skip; return the report, and the rows of the file of rejects by number."""
    [report] = store.materialize(on_bad_row="skip", **options)
    rows = pq.read_table(report.rejects_path).to_pylist()
    return report, sorted(rows, key=lambda row: row["_source_row"])


def ages(store: FeatureStore, *ids: str) -> list[object]:
    rows = store.get_online_features(["profile:age"], [{"user_id": i} for i in ids]).to_rows()
    return [row["age"] for row in rows]


def write_parquet(path: Path, valkey: Server) -> None:
    valkey.client().set("fs:user:taken", "text")
    table = pa.table(
        {
            "user_id": ["good", "taken", "bad", None],
            "AGE": [1, 2, -3, 4],
            "score": [0.5, 0.5, float("nan"), 0.5],
            "tags": pa.array([[1], None, [2], [3]], pa.list_(pa.int64())),
            "at": pa.array([1] * 4, pa.timestamp("us", "UTC")),
            "unused": ["x"] * 4,
        }
    )
    pq.write_table(table, path)


def test_a_file_of_rejects_has_all_rejected_rows_with_all_reasons(
    tmp_path: Path, valkey: Server
) -> None:
    definitions = VIEW.replace("SOURCE", "type: parquet, path: rows.parquet")
    with applied(tmp_path, valkey.url, definitions) as store:
        write_parquet(tmp_path / "rows.parquet", valkey)
        report, rows = rejected(store)
    assert (report.rows_written, report.rows_rejected) == (1, 3)
    assert [*rows[0]] == [
        "user_id", "AGE", "score", "tags", "at", "_reasons", "_source_row", "_line", "_load",
    ]  # fmt: skip
    assert [(row["_source_row"], row["AGE"], row["_line"]) for row in rows] == [
        (2, 2, None), (3, -3, None), (4, 4, None),
    ]  # fmt: skip
    assert rows[0]["_reasons"][0].startswith("fs:user:taken: WRONGTYPE")
    assert rows[1]["_reasons"] == [
        "age: -3 is below min 0",
        "score: nan is not finite; `allow_nan: true` allows it",
    ]
    assert rows[2]["_reasons"] == ["join key user_id: null is not allowed"]
    assert len(report.reasons) == 3
    assert sum(report.reason_counts.values()) == 4


def test_a_corrected_file_of_rejects_loads(tmp_path: Path, valkey: Server) -> None:
    definitions = VIEW.replace("SOURCE", "type: parquet, path: rows.parquet")
    with applied(tmp_path, valkey.url, definitions) as store:
        write_parquet(tmp_path / "rows.parquet", valkey)
        report, _ = rejected(store)
        rejects = pq.read_table(report.rejects_path).to_pandas()
        rejects = rejects[rejects["user_id"] == "bad"]
        rejects["AGE"], rejects["score"] = 3, 0.75
        rejects.to_parquet(tmp_path / "corrected.parquet")
        [report] = store.materialize(["profile"], from_file=tmp_path / "corrected.parquet")
        assert (report.rows_read, report.rows_written) == (1, 1)
        assert ages(store, "bad", "good") == [3, 1]
        with pytest.raises(RequestError, match="one view"):
            store.materialize(from_file=tmp_path / "corrected.parquet")
        with pytest.raises(SourceError, match=r"no file .*nothing\.parquet"):
            store.materialize(["profile"], from_file="nothing.parquet")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rejects_of_texts_are_texts_that_load_when_corrected(
    tmp_path: Path, valkey: Server, form: str
) -> None:
    definitions = VIEW.replace("SOURCE", f"type: {form}, path: rows.{form}")
    rows: list[dict[str, Any]] = [
        {"user_id": "a", "AGE": 1, "score": 0.5, "tags": [1, 2], "at": "2026-01-01T00:00:00Z"},
        {"user_id": "b", "AGE": "x", "score": 1.5, "tags": [3], "at": "2026-01-01T00:00:00Z"},
    ]
    if form == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = 'user_id,AGE,score,tags,at\na,1,0.5,"[1,2]",2026-01-01\nb,x,1.5,[3],2026-01-01\n'
    (tmp_path / f"rows.{form}").write_text(text)
    with applied(tmp_path, valkey.url, definitions) as store:
        report, [row] = rejected(store)
        assert (row["AGE"], row["score"], row["tags"]) == ("x", "1.5", "[3]")
        assert (row["_source_row"], row["_line"]) == (2, None)
        assert row["_reasons"] == [f"age: {'x'!r} is not an int64"]
        table = pq.read_table(report.rejects_path)
        for corrected in (pa.array(["7"]), pa.array([7])):
            at = table.schema.get_field_index("AGE")
            pq.write_table(table.set_column(at, "AGE", corrected), tmp_path / "corrected.parquet")
            result = run(
                "--repo", str(tmp_path), "materialize", "profile",
                "--from", str(tmp_path / "corrected.parquet"),
            )  # fmt: skip
            assert result.exit_code == 0, result.output
        response = store.get_online_features(["profile"], [{"user_id": "b"}]).to_rows()[0]
        assert (response["age"], response["score"], response["tags"]) == (7, 1.5, [3])


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_lines_that_cannot_be_read_are_rejected_with_their_text(
    tmp_path: Path, valkey: Server, form: str
) -> None:
    definitions = VIEW.replace("SOURCE", f"type: {form}, path: rows.{form}")
    row = b'{"user_id": "%b", "AGE": %b, "score": 0.5, "tags": [], "at": "2026-01-01"}'
    row = b"%b,%b,0.5,[],2026-01-01" if form == "csv" else row
    good = row % (b"a", b"1")
    lines = [b"user_id,AGE,score,tags,at"] if form == "csv" else []
    lines += [good, good[:9], row % (b"caf\xe9", b"1"), row % (b"c", b"true")]
    (tmp_path / f"rows.{form}").write_bytes(b"\n".join(lines))
    with applied(tmp_path, valkey.url, definitions) as store:
        with pytest.raises(FeatureKitError, match=f"rows.{form}:"):
            store.materialize()
        report, rows = rejected(store)
        assert (report.rows_read, report.rows_written, report.rows_rejected) == (4, 1, 3)
        assert report.rows_superseded == 0
        assert [row["_source_row"] for row in rows] == [2, 3, 4]
        assert rows[0]["_line"] == good[:9].decode()
        assert r"caf\xe9" in rows[1]["_line"]
        assert rows[1]["_reasons"] == [
            f"rows.{form}:{3 + (form == 'csv')}: bytes that are not UTF-8"
        ]
        assert ages(store, "a", "c") == [1, None]
        with pytest.raises(SourceError, match="2 rows have only `_line`"):
            store.materialize(["profile"], from_file=report.rejects_path)


def newer_and_rejected(tmp_path: Path, store: FeatureStore) -> Path:
    """Load a new row of `b`, reject old rows of `a`, and of one without a time; return the rejects."""
    (tmp_path / "rows.csv").write_text(
        "user_id,AGE,score,tags,at\na,x,1,[1],2026-01-01\nb,7,1,[1],2026-01-09\nb,8,1,[1],soon\n"
    )
    report, _ = rejected(store)
    return Path(report.rejects_path)


def corrected(rejects: Path, user: str, **columns: str) -> Path:
    """Write the rows of one user with other values, as pandas does; return the file."""
    frame = pq.read_table(rejects).to_pandas()
    frame = frame[frame["user_id"] == user].assign(**columns)
    path = rejects.with_name("corrected.parquet")
    frame.to_parquet(path)
    return path


def test_corrected_rows_complete_the_last_load_although_they_are_older(
    tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path, valkey.url, CSV_VIEW) as store:
        rejects = newer_and_rejected(tmp_path, store)
        for age in (3, 4):
            [report] = store.materialize(
                ["profile"], from_file=corrected(rejects, "a", AGE=str(age))
            )
            assert report.rows_written == 1
            assert ages(store, "a", "b") == [age, 7]


def test_a_corrected_time_or_key_never_overwrites_a_newer_row(
    tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path, valkey.url, CSV_VIEW) as store:
        rejects = newer_and_rejected(tmp_path, store)
        path = corrected(rejects, "b", at="2026-01-05")
        with pytest.raises(OlderRowsError, match="the oldest row is of 2026-01-05"):
            store.materialize(["profile"], from_file=path)
        assert ages(store, "b") == [7]
        store.materialize(["profile"], from_file=corrected(rejects, "b", at="2026-01-10"))
        assert ages(store, "b") == [8]


def test_corrected_rows_of_an_earlier_load_never_overwrite_a_newer_row(
    tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path, valkey.url, CSV_VIEW) as store:
        rejects = newer_and_rejected(tmp_path, store)
        (tmp_path / "rows.csv").write_text("user_id,AGE,score,tags,at\na,9,1,[],2026-01-09\n")
        store.materialize()
        path = corrected(rejects, "a", AGE="3")
        with pytest.raises(OlderRowsError, match="allow_older"):
            store.materialize(["profile"], from_file=path)
        assert ages(store, "a") == [9]
        store.materialize(["profile"], from_file=path, allow_older=True)
        assert ages(store, "a") == [3]


def test_corrected_rows_of_a_backfill_are_compared_with_newer_rows(
    tmp_path: Path, valkey: Server
) -> None:
    with applied(tmp_path, valkey.url, CSV_VIEW) as store:
        newer_and_rejected(tmp_path, store)
        report, _ = rejected(store, missing_only=True)
        path = corrected(Path(report.rejects_path), "a", AGE="3")
        with pytest.raises(OlderRowsError):
            store.materialize(["profile"], from_file=path)


def test_rows_of_a_program_are_in_the_file_of_rejects(tmp_path: Path, valkey: Server) -> None:
    definitions = VIEW.replace("SOURCE", "type: parquet, path: rows.parquet")
    valkey.client().set("fs:user:taken", "text")
    lines = ['{"user_id": "taken"}', '{"user_id": "a", "age": -1}', '{"user_id": "b"', "{}"]
    with applied(tmp_path, valkey.url, definitions) as store:
        report = store.write_jsonl("profile", lines, on_bad_row="skip")
        table = pq.read_table(report.rejects_path)
        rows = sorted(table.to_pylist(), key=lambda row: row["_source_row"])
        assert [row["_source_row"] for row in rows] == [1, 2, 3, 4]
        assert [row["_line"] for row in rows] == [None, None, '{"user_id": "b"', None]
        assert [row["user_id"] for row in rows] == ["taken", "a", None, None]
        assert [row["AGE"] for row in rows] == [None, "-1", None, None]
        assert "WRONGTYPE" in rows[0]["_reasons"][0]
        with pytest.raises(SourceError, match="1 rows have only `_line`"):
            store.materialize(["profile"], from_file=report.rejects_path)


def test_the_command_prints_the_most_frequent_reasons(tmp_path: Path, valkey: Server) -> None:
    definitions = VIEW.replace("SOURCE", "type: jsonl, path: rows.jsonl")
    lines = [
        {"user_id": f"u{i}", "AGE": -i, "score": 1, "tags": [], "at": "2026-01-01"}
        for i in range(5)
    ]
    lines.append(lines[0] | {"user_id": "x", "score": "high"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with applied(tmp_path, valkey.url, definitions):
        result = run("--repo", str(tmp_path), "materialize", "--on-bad-row", "skip")
    assert result.exit_code == 1
    assert "rejected: profile: 4 rows: age: -1 is below min 0" in result.stderr
    assert "rejected: profile: 1 row: score: 'high' is not a float64" in result.stderr


def test_a_file_of_rejects_that_cannot_be_written_is_one_error(
    tmp_path: Path, valkey: Server
) -> None:
    definitions = VIEW.replace("SOURCE", "type: parquet, path: rows.parquet")
    (tmp_path / "taken").write_text("")
    with applied(tmp_path, valkey.url, definitions) as store:
        write_parquet(tmp_path / "rows.parquet", valkey)
        for path in (tmp_path / "taken" / "r.parquet", Path("/dev/full")):
            with pytest.raises(BadRowError, match="their file cannot be written"):
                store.materialize(on_bad_row="skip", rejects=path)
