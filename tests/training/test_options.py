"""Options of training sets, in Python and on the command line, and snapshots of each kind of view."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError, SourceError
from featurekit.history_ports import AsOf
from tests.cli.running import run, run_json
from tests.training.test_histories import CLICKS, ROWS, labels
from tests.training.test_point_in_time import open_store

VIEWS = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: scores
    entity: user
    batch:
      refresh: 1h
      ttl: 1d
      schedule: {every: 1h, at: "00:00", takes: 10m}
      source: {type: parquet, path: scores.parquet, timestamp_field: at, created_timestamp_field: created}
    fields: {score: {type: int64, max: 100}}
  - name: weekly
    entity: user
    batch: {refresh: 1h, lookback: 1h, ttl: 1d, expires: field, source: {type: csv, path: weekly.csv, timestamp_field: at}}
    fields: {orders: {type: int64, default: 0}}
  - name: clicks
    entity: user
    stream:
      refresh: 1m
      ttl: 10m
      batch_source: {type: jsonl, path: clicks.jsonl, timestamp_field: at, created_timestamp_field: arrived}
    fields: {clicks: int64}
  - name: ordered
    entity: user
    stream:
      refresh: 1m
      ttl: 10m
      ordering: event_time
      batch_source: {type: jsonl, path: ordered.jsonl, timestamp_field: at, created_timestamp_field: arrived}
    fields: {taps: int64}
  - name: computed
    entity: user
    batch:
      refresh: 24h
      lookback: 2d
      expires: field
      source: {type: python, callable: "snapshot_rows:rows", timestamp_field: day}
    fields: {age: int64}
  - name: written
    entity: user
    batch: {refresh: 24h, batch_source: {type: csv, path: written.csv, timestamp_field: at}, expires: field}
    fields: {segment: string}
feature_services:
  - {name: model, features: [scores]}
"""
WRITTEN = "user_id,at,segment\n1,2026-06-01T00:00:00Z,a\n3,2026-06-02T00:00:00Z,b\n3,2026-06-03T00:00:00Z,c\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    monkeypatch.delitem(sys.modules, "snapshot_rows", raising=False)
    times = labels("01T12:00:00", "01T12:20:00", "01T14:00:00")["event_timestamp"]
    created = labels("01T12:30:00", "01T12:30:00", "01T14:00:00")["event_timestamp"]
    table = {"user_id": [1, 2, 2], "at": times, "created": created, "score": [41, 50, 51]}
    pq.write_table(pa.table(table), tmp_path / "scores.parquet")
    (tmp_path / "weekly.csv").write_text("user_id,at,orders\n1,2026-06-01T12:00:00Z,3\n")
    (tmp_path / "clicks.jsonl").write_text(CLICKS.lstrip())
    (tmp_path / "ordered.jsonl").write_text(
        '{"user_id": 1, "at": "2026-06-02T12:00:00Z", "arrived": "2026-06-02T12:03:00Z", "taps": 7}\n'
        '{"user_id": 4, "at": "2026-06-02T12:00:00Z", "arrived": "2026-06-02T12:09:00Z", "taps": 8}\n'
    )
    (tmp_path / "snapshot_rows.py").write_text(ROWS)
    (tmp_path / "written.csv").write_text(WRITTEN)
    return open_store(tmp_path, VIEWS)


def ages(store: FeatureStore, view: str, column: str, table: Any, **options: Any) -> list[Any]:
    """Return pairs of the value and its status of a view that may be two minutes old."""
    job = store.get_historical_features(
        table, [view], max_age={view: "2m"}, statuses=True, **options
    )
    found = job.to_arrow()
    assert set(job.metadata["features"][0]["statuses"]) == {
        "present",
        "default",
        "missing",
        "stale",
    }
    assert sum(job.metadata["features"][0]["statuses"].values()) == table.num_rows
    return list(
        zip(found[column].to_pylist(), found[f"{column}__status"].to_pylist(), strict=True)
    )


def test_values_older_than_the_maximum_age_are_stale(store: FeatureStore) -> None:
    # A load writes the row at 13:10, at 14:10, and so on.
    table = labels("01T13:09:00", "01T13:12:00", "01T13:12:00.001", "01T14:10:01")
    assert ages(store, "scores", "score", table) == [
        (None, "missing"),
        (41, "present"),
        (None, "stale"),
        (41, "present"),
    ]
    # Without a schedule loads renew the value as long as they take its row, here for an hour.
    table = labels("01T11:00:00", "01T13:02:00", "01T13:02:00.001", "02T13:00:00.001")
    assert ages(store, "weekly", "orders", table) == [
        (0, "default"),
        (3, "present"),
        (0, "stale"),
        (0, "default"),
    ]
    # The TTL of events counts from their times, and so does their age.
    table = labels("02T12:02:00", "02T12:02:01", "02T12:05:01")
    assert ages(store, "clicks", "clicks", table) == [
        (7, "present"),
        (None, "stale"),
        (None, "stale"),
    ]
    table = labels("02T12:02:59", "02T12:03:00")
    assert ages(store, "ordered", "taps", table) == [(None, "missing"), (None, "stale")]
    assert ages(store, "ordered", "taps", table, as_of="event_time") == [(None, "stale")] * 2


def test_a_maximum_age_of_another_view_is_refused(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="scores"):
        store.get_historical_features(labels("01T13:00:00"), ["weekly"], max_age={"scores": "2m"})


def test_filter_by_created_timestamp_means_as_of_created(store: FeatureStore) -> None:
    table = labels("01T12:29:59", "01T12:30:00")

    def scores(**options: Any) -> list[Any]:
        job = store.get_historical_features(table, "model", **options)
        return [*job.to_arrow()["score"].to_pylist(), job.metadata["views"][0]["as_of"]]

    assert scores(filter_by_created_timestamp=True) == [None, 41, "created"]
    assert scores(filter_by_created_timestamp=True, as_of="created") == [None, 41, "created"]
    assert scores(as_of="event_time") == [41, 41, "event_time"]
    assert scores() == [None, None, "schedule"]
    with pytest.raises(RequestError, match="means as_of='created', not 'schedule'"):
        scores(filter_by_created_timestamp=True, as_of="schedule")
    with pytest.raises(SourceError, match="no created_timestamp_field"):
        store.get_historical_features(
            table, ["weekly"], filter_by_created_timestamp=True
        ).to_arrow()


def test_the_command_obeys_its_options(store: FeatureStore, tmp_path: Path) -> None:
    out = tmp_path / "train"

    def command(*arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        document = run_json(
            "--repo",
            str(tmp_path),
            "training-set",
            "model",
            *arguments,
            "--output",
            str(out),
            "--overwrite",
        )
        return document, pq.read_table(out / "data.parquet").to_pylist()

    sql = (
        "SELECT 1::BIGINT AS user_id, TIMESTAMPTZ '2026-06-01 12:40Z' AS event_timestamp, 'x' AS y"
    )
    for as_of, score in (("event_time", 41), ("created", 41), ("schedule", None)):
        document, rows = command("--labels", sql, "--as-of", as_of)
        assert document["views"][0]["as_of"] == as_of
        assert [(row["y"], row["score"]) for row in rows] == [("x", score)]
    _, rows = command(
        "--labels", sql.replace("12:40", "13:13"), "--max-age", "scores=2m", "--statuses"
    )
    assert [(row["score"], row["score__status"]) for row in rows] == [(None, "stale")]

    _, rows = command("--end", "2026-06-01T13:30:00Z")
    assert [(row["user_id"], row["score"]) for row in rows] == [(1, 41), (2, 50)]
    assert {row["event_timestamp"] for row in rows} == {datetime(2026, 6, 1, 13, 30, tzinfo=UTC)}
    _, rows = command("--start", "2026-06-01T12:10:00Z", "--end", "2026-06-01T13:30:00Z")
    assert [(row["user_id"], row["score"]) for row in rows] == [(2, 50)]

    table = pq.read_table(tmp_path / "scores.parquet")
    bad = table.set_column(3, "score", pa.array([101, 50, 51]))
    pq.write_table(bad, tmp_path / "scores.parquet")
    document, rows = command("--end", "2026-06-01T13:30:00Z", "--on-bad-row", "skip")
    assert [(row["user_id"], row["score"]) for row in rows] == [(1, None), (2, 50)]
    assert document["views"][0]["rows_rejected"] == 1
    for arguments in ((), ("--on-bad-row", "fail")):
        found = run(
            *("--repo", str(tmp_path), "training-set", "model", "--end", "2026-06-01T13:30:00Z"),
            *(*arguments, "--output", str(tmp_path / "not")),
        )
        assert found.exit_code == 1
        assert "101" in found.output
        assert not (tmp_path / "not").exists()
    wrong = ("--labels", "FROM nowhere", "--output", str(tmp_path / "not"))
    found = run("--repo", str(tmp_path), "training-set", "model", *wrong)
    assert found.exit_code == 1
    assert "nowhere" in found.output


@pytest.mark.parametrize(
    ("view", "end", "wanted"),
    [
        ("clicks", "2026-06-02T12:05:30Z", [(1, 7)]),
        ("clicks", "2026-06-02T12:01:00Z", [(1, None)]),
        ("ordered", "2026-06-02T12:08:00Z", [(1, 7), (4, None)]),
        ("ordered", "2026-06-02T12:09:00Z", [(1, 7), (4, 8)]),
        ("computed", "2026-06-02T12:00:00Z", [(1, 42)]),
        ("computed", "2026-06-06T12:00:00Z", [(1, None), (2, 50)]),
        ("written", "2026-06-02T12:00:00Z", [(1, "a"), (3, "b")]),
        ("written", "2026-06-04T12:00:00Z", [(1, "a"), (3, "c")]),
    ],
)
def test_a_snapshot_has_the_entities_of_a_history(
    store: FeatureStore, view: str, end: str, wanted: list[tuple[int, Any]]
) -> None:
    found = store.get_historical_features(None, [view], end_date=end).to_arrow()
    assert [(row[0], row[2]) for row in (tuple(r.values()) for r in found.to_pylist())] == wanted


def test_a_snapshot_has_the_entities_of_all_views(store: FeatureStore) -> None:
    end = datetime(2026, 6, 2, 12, 5, 30, tzinfo=UTC)
    views = ["clicks", "computed", "written", "scores"]
    job = store.get_historical_features(
        None, views, end_date=end, start_date=end - timedelta(days=9)
    )
    assert [
        tuple(row.values())[:1] + tuple(row.values())[2:] for row in job.to_arrow().to_pylist()
    ] == [
        (1, 7, 42, "a", 41),
        (2, None, None, None, 51),
        (3, None, None, "b", None),
    ]


def test_a_row_without_a_time_hides_no_other(store: FeatureStore, tmp_path: Path) -> None:
    times = labels("01T12:00:00", "01T13:00:00")
    table = {
        "user_id": [1, 1],
        "at": pa.array([times["event_timestamp"][0].as_py(), None], pa.timestamp("us", "UTC")),
        "created": [times["event_timestamp"][1]] * 2,
        "score": [41, 42],
    }
    pq.write_table(pa.table(table), tmp_path / "scores.parquet")
    expected: dict[AsOf, list[int | None]] = {"created": [None, 41], "event_time": [41, 41]}
    for as_of, wanted in expected.items():
        job = store.get_historical_features(times, "model", as_of=as_of)
        assert job.to_arrow()["score"].to_pylist() == wanted
        assert job.metadata["views"][0]["rows_incomplete"] == 1
