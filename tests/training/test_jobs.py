"""Labels and their refusals, the forms of the result, and what a job writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, FeatureKitError, RequestError, SourceError
from tests.cli.running import run, run_json
from tests.training.test_point_in_time import open_store

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
VIEWS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields: {age: {type: int64, max: 100}}
  - name: plain
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: parquet, path: rows.parquet}}
    fields: {size: int64}
  - name: written
    entity: user
    batch: {refresh: 1h, expires: field}
    fields: {height: int64}
  - name: function
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: python, callable: "m:rows", timestamp_field: at}}
    fields: {weight: int64}
  - name: clicks
    entity: user
    stream: {refresh: 1h}
    fields: {clicks: int64}
feature_services:
  - {name: model, features: [profile]}
  - {name: live, features: [profile, clicks]}
"""


def write_rows(folder: Path, rows: list[tuple[str | None, Any, int]], unit: str = "us") -> None:
    users, times, ages = zip(*rows, strict=True)
    table = {"user_id": users, "at": pa.array(times, pa.timestamp(unit, "UTC")), "age": ages}
    pq.write_table(pa.table({n: pa.array(v) for n, v in table.items()}), folder / "rows.parquet")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write_rows(tmp_path, [("007", NOON, 41), ("7", NOON, 42), ("7", NOON + HOUR, 43)])
    return open_store(tmp_path, VIEWS)


def labels(users: list[str | None], times: list[Any], **columns: Any) -> Any:
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            **columns,
        }
    )


THREE = labels(["7", "007", "7"], [NOON + 2 * HOUR, NOON - HOUR, NOON])


def test_labels_come_in_every_form(store: FeatureStore, tmp_path: Path) -> None:
    pq.write_table(THREE, tmp_path / "l.parquet")
    (tmp_path / "l.csv").write_text(
        "user_id,event_timestamp\n7,2026-06-01T16:00:00+02:00\n007,2026-06-01T11:00:00Z\n7,2026-06-01T12:00:00Z\n"
    )
    frame = THREE.to_pandas()
    forms = [
        THREE,
        frame,
        polars.from_arrow(THREE),
        tmp_path / "l.parquet",
        str(tmp_path / "l.csv"),
    ]
    for form in forms:
        job = store.get_historical_features(form, "model")
        assert job.to_arrow()["age"].to_pylist() == [43, None, 42]
        assert job.to_polars()["age"].to_list() == [43, None, 42]
        assert str(job.to_df()["age"].dtype) == "int64[pyarrow]"
        assert list(job.to_df().columns) == ["user_id", "event_timestamp", "age"]
    result = store.get_historical_features(frame, "model").to_df()
    pandas.testing.assert_frame_equal(result[list(frame.columns)], frame)


def test_columns_of_labels_are_untouched(store: FeatureStore) -> None:
    table = labels(
        ["7", "7", "x"],
        [NOON, NOON, NOON],
        kind=pa.array(["a", None, "a"]).dictionary_encode(),
        pause=pa.array([1, 2, 3], pa.duration("s")),
        half=pa.array([1, 2, 3], pa.float16()),
    )
    local = table["event_timestamp"].cast(pa.timestamp("ns", "Europe/Oslo"))
    table = table.set_column(1, "event_timestamp", local)
    result = store.get_historical_features(table, "model").to_arrow()
    assert result.select(table.schema.names) == table
    assert result["age"].to_pylist() == [42, 42, None]


def test_no_labels_give_the_same_columns(store: FeatureStore) -> None:
    some = store.get_historical_features(THREE, "model", statuses=True).to_arrow()
    none = store.get_historical_features(THREE.slice(0, 0), "model", statuses=True).to_arrow()
    assert none.num_rows == 0
    assert none.schema == some.schema


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (labels(["7", None], [NOON, NOON]), "labels, row 2, join key user_id"),
        (labels(["7", ""], [NOON, NOON]), "labels, row 2, join key user_id"),
        (
            labels(["7", "7"], [NOON, None]),
            "labels, row 2, event_timestamp: the label has no time",
        ),
        (
            pa.table({"user_id": ["7"], "event_timestamp": [NOON.replace(tzinfo=None)]}),
            "labels, row 1, event_timestamp: 2026-06-01 12:00:00 has no time zone",
        ),
        (pa.table({"user_id": ["7"]}), "no column 'event_timestamp'"),
        (pa.table({"event_timestamp": [NOON]}), "no column 'user_id'"),
        (pa.table({"user_id": [7], "event_timestamp": [NOON]}), "7 is not a string"),
        (labels(["7"], [NOON], age=[1]), "also the name of a feature"),
        ([1], "the labels are a list"),
    ],
)
def test_wrong_labels_are_refused(store: FeatureStore, table: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        store.get_historical_features(table, "model").to_arrow()


def test_a_label_column_may_be_named_like_a_feature_with_full_names(store: FeatureStore) -> None:
    table = labels(["7"], [NOON], age=["own"])
    job = store.get_historical_features(table, "model", full_feature_names=True)
    assert job.to_arrow().select(["age", "profile__age"]).to_pylist() == [
        {"age": "own", "profile__age": 42}
    ]


@pytest.mark.parametrize(
    ("features", "as_of", "message"),
    [
        ("live", None, "feature view clicks: .* no history of its events"),
        (["plain"], None, "feature view plain: .* have no times"),
        (["written"], None, "feature view written: .* no history of its rows"),
        ("model", "schedule", "feature view profile: the view has no schedule"),
        ("model", "now", "'now' is unknown"),
    ],
)
def test_what_is_not_there_yet_is_refused(
    store: FeatureStore, features: Any, as_of: Any, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        store.get_historical_features(THREE, features, as_of=as_of).to_arrow()


def test_as_of_created_needs_times_of_creation(store: FeatureStore) -> None:
    with pytest.raises(SourceError, match="no created_timestamp_field"):
        store.get_historical_features(THREE, "model", as_of="created").to_arrow()


def test_numbers_of_creation_order_rows_of_one_time(tmp_path: Path) -> None:
    query = "SELECT '7' user_id, DATE '2026-06-01' AS day, c::HUGEINT AS created, c AS age FROM range(9) r(c)"
    source = (
        f'{{type: sql, query: "{query}", timestamp_field: day, created_timestamp_field: created}}'
    )
    old = "{type: parquet, path: rows.parquet, timestamp_field: at}"
    store = open_store(tmp_path, VIEWS.replace(old, source, 1))
    job = store.get_historical_features(THREE, "model")
    assert job.to_arrow()["age"].to_pylist() == [8, None, 8]
    assert job.metadata["views"][0]["as_of"] == "event_time"
    with pytest.raises(SourceError, match="'created' holds no times"):
        store.get_historical_features(THREE, "model", as_of="created").to_arrow()


def test_rows_are_not_rounded_into_the_past(store: FeatureStore, tmp_path: Path) -> None:
    noon_ns = int(NOON.timestamp()) * 10**9
    write_rows(tmp_path, [("7", noon_ns - 1, 1), ("7", noon_ns + 1999, 2)], "ns")
    times = pa.array([noon_ns - 1000, noon_ns - 1, noon_ns + 999, noon_ns + 2000])
    table = pa.table(
        {"user_id": ["7"] * 4, "event_timestamp": times.cast(pa.timestamp("ns", "UTC"))}
    )
    result = store.get_historical_features(table, "model").to_arrow()
    assert result["age"].to_pylist()[1:] == [1, 1, 2]
    assert result["event_timestamp"] == table["event_timestamp"]


def test_only_rows_that_labels_need_are_checked(store: FeatureStore, tmp_path: Path) -> None:
    write_rows(tmp_path, [("7", NOON, 1), ("x", NOON, 101), (None, NOON, 3), ("7", None, 4)])
    job = store.get_historical_features(THREE, "model")
    assert job.to_arrow()["age"].to_pylist() == [1, None, 1]
    assert job.metadata["views"][0]["rows_incomplete"] == 2
    with pytest.raises(BadRowError, match=r"row 2 of its source, age: .*101"):
        store.get_historical_features(labels(["x"], [NOON]), "model").to_arrow()


def test_a_job_is_lazy_and_runs_once(store: FeatureStore, tmp_path: Path) -> None:
    job = store.get_historical_features(tmp_path / "later.parquet", "model")
    with pytest.raises(SourceError, match=r"later\.parquet"):
        job.to_arrow()
    pq.write_table(THREE, tmp_path / "later.parquet")
    first = job.to_arrow()
    (tmp_path / "rows.parquet").unlink()
    assert job.to_arrow() == first


def test_the_same_inputs_give_the_same_files(store: FeatureStore, tmp_path: Path) -> None:
    documents = []
    for name in ("a", "b"):
        folder = store.get_historical_features(THREE, "model").persist(tmp_path / name)
        assert sorted(path.name for path in folder.iterdir()) == ["data.parquet", "manifest.json"]
        documents.append(json.loads((folder / "manifest.json").read_text()))
    assert (tmp_path / "a/data.parquet").read_bytes() == (tmp_path / "b/data.parquet").read_bytes()
    assert [d.pop("created_at")[:2] for d in documents] == ["20", "20"]
    assert documents[0] == documents[1]
    assert documents[0]["features"][0]["statuses"] == {"present": 2, "default": 0, "missing": 1}
    job = store.get_historical_features(THREE, "model")
    with pytest.raises(RequestError, match="has a training set already"):
        job.persist(tmp_path / "a")
    job.persist(tmp_path / "a", allow_overwrite=True)
    with pytest.raises(RequestError, match="s3a://bucket/train is not a folder of this machine"):
        job.persist("s3a://bucket/train")


def test_the_command_writes_a_training_set(store: FeatureStore, tmp_path: Path) -> None:
    pq.write_table(THREE, tmp_path / "l.parquet")
    files = ["--labels", str(tmp_path / "l.parquet"), "--output", str(tmp_path / "train")]
    arguments = ["training-set", "model", *files]
    repo = ["--repo", str(tmp_path)]
    found = run(*repo, *arguments, "--statuses")
    assert found.exit_code == 0, found.output
    assert "event_time" in found.output
    assert pq.read_table(tmp_path / "train/data.parquet")["age"].to_pylist() == [43, None, 42]
    assert run(*repo, *arguments).exit_code == 1
    document = run_json(*repo, *arguments, "--overwrite")
    assert document["labels"]["rows"] == 3


def test_errors_are_featurekit_errors(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"no")
    with pytest.raises(FeatureKitError):
        store.get_historical_features(THREE, "model").to_arrow()


def test_a_view_is_joined_once_for_each_alias(tmp_path: Path) -> None:
    write_rows(tmp_path, [("a", NOON, 41), ("b", NOON, 42), ("b", NOON + HOUR, 43)])
    store = open_store(tmp_path, VIEWS)
    pairs = pa.table(
        {
            "buyer": ["b", "a", "c"],
            "seller": ["a", "b", "b"],
            "event_timestamp": pa.array(
                [NOON, NOON + HOUR, NOON + HOUR], pa.timestamp("us", "UTC")
            ),
        }
    )
    items = [
        {"view": "profile", "as": name, "join_keys": {"user_id": name}}
        for name in ("buyer", "seller")
    ]
    job = store.get_historical_features(pairs, items, statuses=True)
    table = job.to_arrow()
    assert table["buyer__age"].to_pylist() == [42, 41, None]
    assert table["seller__age"].to_pylist() == [41, 43, 43]
    assert table["buyer__age__status"].to_pylist() == ["present", "present", "missing"]
    assert [view["alias"] for view in job.metadata["views"]] == ["buyer", "seller"]
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    files = ["--labels", str(tmp_path / "pairs.parquet"), "--output", str(tmp_path / "out")]
    texts = [json.dumps(item) for item in items]
    document = run_json("--repo", str(tmp_path), "training-set", *texts, *files)
    assert [each["name"] for each in document["features"]] == ["buyer__age", "seller__age"]
