"""Loads of views with a `lookback`, and what they have in common with training sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError, SourceError

REPO = "project: shop\ndefinitions: [f.yaml]\nonline_store: {{url: 'memory://{name}'}}\n"
DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch:
      refresh: 1h
      ttl: 3h
      lookback: 2h
      source: {type: jsonl, path: rows.jsonl, timestamp_field: at}
    fields: {age: int64}
"""
NOW = datetime.now(UTC)
AGES_H = {"new": 1, "old": 3, "future": -1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    """A view with rows of an hour ago, of three hours ago and of the future."""
    (tmp_path / "featurerepo.yaml").write_text(REPO.format(name=tmp_path.name))
    (tmp_path / "f.yaml").write_text(DEFINITIONS)
    rows = [
        {"user_id": user, "age": hours, "at": (NOW - timedelta(hours=hours)).isoformat()}
        for user, hours in AGES_H.items()
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with FeatureStore(tmp_path) as store:
        store.apply()
        yield store


def ages(store: FeatureStore) -> list[Any]:
    return store.get_online_features(["profile:age"], {"user_id": list(AGES_H)}).to_dict()["age"]


def trained(store: FeatureStore, **options: Any) -> list[Any]:
    """The same, as a training set has it for a label of now."""
    times = pa.array([datetime.now(UTC)] * len(AGES_H), pa.timestamp("us", "UTC"))
    labels = pa.table({"user_id": list(AGES_H), "event_timestamp": times})
    found = store.get_historical_features(labels, ["profile:age"], **options).to_arrow()["age"]
    return list(found.to_pylist())


def test_a_load_takes_rows_of_its_lookback_and_none_of_the_future(store: FeatureStore) -> None:
    [report] = store.materialize()
    assert (report.rows_read, report.rows_future, report.rows_written) == (2, 1, 1)
    assert ages(store) == [1, None, None]
    assert report.window_start_ms == report.started_ms - 7_200_000
    assert report.window_end_ms is None


def test_a_training_set_has_what_the_load_wrote(store: FeatureStore) -> None:
    store.materialize()
    assert trained(store, as_of="loads") == ages(store) == [1, None, None]


def test_a_start_or_an_end_replaces_the_lookback_and_is_logged(store: FeatureStore) -> None:
    early, late = (NOW - timedelta(hours=hours) for hours in (4, 2))
    window = {"start": early, "end": late}
    for names, expected in {
        ("start",): [1, 3, None],
        ("end",): [None, 3, None],
        ("start", "end"): [None, 3, None],
    }.items():
        store.reset()
        start, end = (window[name] if name in names else None for name in ("start", "end"))
        [report] = store.materialize(start=start, end=end, allow_older=True)
        assert ages(store) == expected
        logged = next(iter(store._registry_store.history.loads(["profile"])))
        for name in ("start", "end"):
            bound = int(window[name].timestamp() * 1000) if name in names else None
            assert getattr(report, f"window_{name}_ms") == bound
            assert getattr(logged, f"window_{name}_ms") == bound


def test_rows_of_a_program_have_no_lookback(store: FeatureStore) -> None:
    store.write_batch("profile", {"old": {"age": 9}})
    assert ages(store) == [None, 9, None]


def test_a_load_of_a_part_of_the_source_does_not_prune(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="has a `lookback`: an entity whose rows are older"):
        store.materialize(prune=True)


PARTITIONED = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: visits
    entity: user
    batch:
      refresh: 24h
      expires: field
      source: {type: FORM, path: rows/, timestamp_field: at, hive_partitioning: true}
    fields: {count: {type: int64, min: 0}, site: string, day: date}
  - name: pruned
    entity: user
    batch:
      refresh: 24h
      expires: field
      source: {type: FORM, path: rows/, timestamp_field: at, hive_partitioning: true, date_partition_column: day,
        columns: {count2: count, site2: site, day2: day}}
    fields: {count2: {type: int64, min: 0}, site2: string, day2: date}
"""
WINDOWS: list[tuple[str | None, str | None]] = [
    (None, None),
    ("2026-06-03", None),
    ("2026-06-03T23:59:59.999Z", "2026-06-05"),
    ("2026-06-02T12:00:00Z", "2026-06-02T12:00:00.001Z"),
    (None, "2026-06-03T00:00:00.001Z"),
    ("2026-06-20", "2026-06-21"),
]


@pytest.mark.parametrize("form", ["parquet", pytest.param("csv", marks=pytest.mark.slow)])
def test_a_load_of_some_days_opens_their_folders_and_writes_the_same(
    tmp_path: Path, form: str
) -> None:
    (tmp_path / "featurerepo.yaml").write_text(REPO.format(name=f"{tmp_path.name}{form}"))
    (tmp_path / "f.yaml").write_text(PARTITIONED.replace("FORM", form))
    for day in range(1, 7):
        folder = tmp_path / f"rows/day=2026-06-{day:02}"
        folder.mkdir(parents=True)
        times = ("T00:00:00Z", "T12:00:00Z", "T23:59:59.999999Z")
        rows = {
            "user_id": ["u1", f"u{day}", f"x{day}"],
            "at": [f"2026-06-{day:02}{time}" for time in times],
            "count": [day, 10 * day, 100 * day],
        }
        if day > 3:
            rows["site"] = ["a", "b", "c"]
        table = pa.table(rows)
        if form == "csv":
            pyarrow.csv.write_csv(table, folder / "a.csv")
        else:
            at = table["at"].cast(pa.timestamp("us", "UTC"))
            pq.write_table(table.set_column(1, "at", at), folder / "a.parquet")
    users = [*(f"u{n}" for n in range(1, 7)), *(f"x{n}" for n in range(1, 7))]
    with FeatureStore(tmp_path) as store:
        store.apply()
        reader = store.online_reader(["visits", "pruned"])
        for start, end in WINDOWS:
            store.reset()
            whole, pruned = store.materialize(start=start, end=end, allow_older=True)
            counts = (whole.rows_read, whole.rows_written, whole.rows_superseded)
            assert counts == (pruned.rows_read, pruned.rows_written, pruned.rows_superseded)
            for row in reader.read_many(users):
                assert (row.count, row.site, row.day) == (row.count2, row.site2, row.day2)
        loads = {load.view: load.source_identity for load in store.load_history()}
        assert loads["visits"] == loads["pruned"]
        for day in (1, 5):
            (tmp_path / f"rows/day=2026-06-0{day}/a.{form}").write_bytes(b"\xff\xfe is not read")
        store.materialize("pruned", start="2026-06-02", end="2026-06-04", allow_older=True)
        with pytest.raises(SourceError):
            store.materialize("pruned", start="2026-06-05")
