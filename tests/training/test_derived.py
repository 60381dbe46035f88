"""Derived features of training sets equal those of reads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError
from tests.cli.running import run
from tests.training.test_point_in_time import open_store

VIEWS = """
entities: [{name: user, join_keys: {user_id: string}}]
requests:
  - name: transaction
    fields: {amount: {type: float64, min: 0}, country: {type: string, default: "NO"}, pieces: int64}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 24h, source: {type: parquet, path: profile.parquet, timestamp_field: at}}
    fields:
      average: float64
      count: {type: int64, default: 3}
      home: string
      seen: timestamp
      scores: array<float64>
      weight: float32
  - name: risk
    derived: {from: [profile, transaction]}
    fields:
      ratio: {type: float64, expr: "amount / nullif(average, 0)", default: 1}
      abroad: {type: bool, expr: "country <> home"}
      more: {type: int64, expr: "count * pieces + 1"}
      few: {type: int32, expr: "count * 2000000000"}
      score: {type: float64, expr: "scores[1] * weight"}
      place: {type: string, expr: "lower(coalesce(home, 'nowhere')) || '!'"}
      day: {type: date, expr: "cast(seen as date)"}
      twice: {type: float64, expr: "ratio * 2"}
      is_high: {type: bool, expr: "ratio > 2 and count >= 3"}
  - name: times
    derived: {from: [profile]}
    fields:
      idle_hours: {type: float64, expr: "(epoch(now) - epoch(seen)) / 3600"}
      hour_of_day: {type: int64, expr: "hour(now)"}
  - name: activity
    entity: user
    stream: {refresh: 1m, batch_source: {type: parquet, path: clicks.parquet, timestamp_field: at}}
    fields: {clicks: int64}
  - name: busy
    derived: {from: [activity, profile]}
    fields:
      is_busy: {type: bool, expr: "clicks > 3", default: false}
      clicks_of_home: {type: string, expr: "home || cast(clicks as string)"}
  - name: scored
    derived: {from: [profile, transaction]}
    fields:
      score_now: {type: float64, callable: "scores:score", inputs: [average, amount, now], default: -1}
      word: {type: string, callable: "scores:word", inputs: [home]}
feature_services: [{name: risk_v1, features: [risk, "profile:count"]}]
"""
FUNCTIONS = """
def score(average, amount, now):
    return amount / average + now.year

def word(home):
    return None if home is None else {"NO": "Norway", "SE": 7}[home]
"""
NOW = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")


def draw_rows(rng: random.Random, count: int) -> dict[str, Any]:
    def draw(*values: Any) -> list[Any]:
        return [rng.choice([None, *values]) for _ in range(count)]

    seen = [NOW - timedelta(seconds=rng.randrange(10**6)) for _ in range(5)]
    return {
        "user_id": [f"u{i}" for i in range(count)],
        "at": pa.array([NOW - timedelta(days=1)] * count, TIME),
        "average": pa.array(draw(0.0, 2.5, -1e300, 3.3), pa.float64()),
        "count": pa.array(draw(0, 7, 2**62, -1), pa.int64()),
        "home": pa.array(draw("NO", "SE", "", "Æ"), pa.string()),
        "seen": pa.array(draw(*seen), TIME),
        "scores": pa.array(draw([], [0.5], [1e308, 2.0]), pa.list_(pa.float64())),
        "weight": pa.array(draw(0.1, 2.5, 3e38), pa.float32()),
    }


def draw_labels(rng: random.Random, users: Sequence[str], count: int) -> Any:
    return pa.table(
        {
            "user_id": [rng.choice([*users, "unknown"]) for _ in range(count)],
            "event_timestamp": pa.array([NOW] * count, TIME),
            "amount": pa.array(
                [rng.choice([0.0, 9.5, 1e300]) for _ in range(count)], pa.float64()
            ),
            "country": pa.array(
                [rng.choice([None, "NO", "SE"]) for _ in range(count)], pa.string()
            ),
            "pieces": pa.array(
                [rng.choice([None, 0, 2, 2**61]) for _ in range(count)], pa.int64()
            ),
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "scores.py").write_text(FUNCTIONS)
    store = open_store(tmp_path, VIEWS)
    rng = random.Random(5)
    rows = draw_rows(rng, 40)
    pq.write_table(pa.table(rows), tmp_path / "profile.parquet")
    return store


def label(**values: Any) -> Any:
    columns = {"user_id": "u0", "event_timestamp": NOW, "amount": 5.0, "pieces": 1} | values
    return pa.table({name: [value] for name, value in columns.items() if value is not ...})


def test_derived_features_equal_those_of_reads(store: FeatureStore) -> None:
    store.materialize(["profile"])
    rng = random.Random(17)
    labels = draw_labels(rng, [f"u{i}" for i in range(40)], 200)
    table = store.get_historical_features(labels, "risk_v1", statuses=True).to_arrow()
    rows = labels.drop_columns(["event_timestamp"]).to_pylist()
    response = store.get_online_features("risk_v1", rows)
    statuses = response.statuses
    for name, values in response.to_dict().items():
        if name in statuses:
            assert table[name].to_pylist() == values, name
            assert table[f"{name}__status"].to_pylist() == statuses[name], name
    assert len(set(statuses["ratio"])) == len(set(statuses["few"])) == 2


def test_now_is_the_time_of_the_label(store: FeatureStore) -> None:
    times = [NOW + timedelta(hours=hours, microseconds=7) for hours in range(20)]
    users = [f"u{i}" for i in range(20)]
    labels = pa.table({"user_id": users, "event_timestamp": pa.array(times, TIME)})
    seen = store.get_historical_features(labels, ["profile:seen"]).to_arrow()["seen"].to_pylist()
    table = store.get_historical_features(labels, ["times"]).to_arrow()
    assert table["hour_of_day"].to_pylist() == [at.hour for at in times]
    assert table["idle_hours"].to_pylist() == [
        None if each is None else (at - each) / timedelta(microseconds=1) / 1e6 / 3600
        for at, each in zip(times, seen, strict=True)
    ]
    assert table.column_names == ["user_id", "event_timestamp", "idle_hours", "hour_of_day"]


def test_values_of_the_request_are_columns_of_the_labels(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match=r"no column 'pieces' \(request data\)"):
        store.get_historical_features(label(pieces=...), ["risk"]).to_arrow()
    for bad, reason in (("5", "'5' is not a float64"), (-1.0, "-1")):
        with pytest.raises(RequestError, match=rf"labels, row 1, amount: {reason}"):
            store.get_historical_features(label(amount=bad), ["risk"]).to_arrow()
    with pytest.raises(RequestError, match=r"no column 'amount' \(request data\)"):
        store.get_historical_features(None, ["risk"])
    job = store.get_historical_features(label(country="SE"), ["risk:abroad", "risk:ratio"])
    assert job.to_arrow()["country"].to_pylist() == ["SE"]
    assert job.metadata["request_data"] == {"country": "string", "amount": "float64"}
    assert job.metadata["features"][1]["expr"] == "amount / nullif(average, 0)"


def test_a_text_of_a_request_in_csv_stays_a_text(store: FeatureStore, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("user_id,event_timestamp,country\nu1,2026-11-20T08:30:00Z,007\n")
    job = store.get_historical_features(str(labels), ["risk:abroad"])
    assert job.to_arrow()["country"].to_pylist() == ["007"]


def test_a_text_among_numbers_in_csv_is_refused_at_its_row(
    store: FeatureStore, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    rows = [f"u1,2026-11-20T08:30:00Z,{amount}\n" for amount in ("100", "", "many", "5")]
    labels.write_text("user_id,event_timestamp,amount\n" + "".join(rows))
    job = store.get_historical_features(str(labels), ["risk:ratio"])
    with pytest.raises(RequestError, match="labels, row 3, amount: 'many' is not a float64"):
        job.to_arrow()


def test_a_stale_input_makes_a_derived_feature_stale(store: FeatureStore, tmp_path: Path) -> None:
    at = pa.array([NOW - timedelta(minutes=2)], TIME)
    pq.write_table(
        pa.table({"user_id": ["u0"], "at": at, "clicks": [7]}), tmp_path / "clicks.parquet"
    )

    def read(**options: Any) -> tuple[list[Any], dict[str, int]]:
        job = store.get_historical_features(label(), ["busy"], statuses=True, **options)
        row = job.to_arrow().drop_columns(["user_id", "event_timestamp", "amount", "pieces"])
        return list(row.to_pylist()[0].values()), job.metadata["features"][0]["statuses"]

    values, counts = read(max_age={"activity": "1m"})
    assert values == [False, None, "stale", "stale"]
    assert counts == {"present": 0, "default": 0, "missing": 0, "stale": 1}
    values, counts = read()
    assert (values[0], values[2]) == (True, "present")
    assert counts == {"present": 1, "default": 0, "missing": 0}


def test_sql_gives_the_derived_features_of_a_job(store: FeatureStore, tmp_path: Path) -> None:
    labels = draw_labels(random.Random(4), [f"u{i}" for i in range(40)], 200)
    pq.write_table(labels, tmp_path / "labels.parquet")
    features = [f"risk:{n}" for n in ("ratio", "abroad", "more", "few", "place", "day", "is_high")]
    features += ["times", "profile:count", "risk:twice"]
    path = str(tmp_path / "labels.parquet")
    job = store.get_historical_features(path, features, statuses=True, as_of="event_time")
    with duckdb.connect() as connection:
        found = connection.sql(job.to_sql()).to_arrow_table()
    wanted = job.to_arrow()
    assert found.column_names == wanted.column_names
    for name in wanted.column_names:
        assert found[name].to_pylist() == wanted[name].to_pylist(), name
    assert found.schema.field("few").type == pa.int32()


def test_sql_refuses_what_it_cannot_compute_by_name(store: FeatureStore, tmp_path: Path) -> None:
    pq.write_table(label(), tmp_path / "labels.parquet")
    path = str(tmp_path / "labels.parquet")
    with pytest.raises(RequestError, match=r"to_sql\(\) does not call scores:word"):
        store.get_historical_features(path, ["scored:word"], as_of="event_time").to_sql()
    pq.write_table(label(amount="5"), tmp_path / "labels.parquet")
    with pytest.raises(RequestError, match="does not make a float64 of a VARCHAR"):
        store.get_historical_features(path, ["risk:ratio"], as_of="event_time").to_sql()
    pq.write_table(label(amount=-5.0), tmp_path / "labels.parquet")
    sql = store.get_historical_features(path, ["risk:ratio"], as_of="event_time").to_sql()
    with duckdb.connect() as connection, pytest.raises(duckdb.Error, match="does not fit, amount"):
        connection.sql(sql).fetchall()


def test_verify_computes_derived_features_from_the_inputs_that_were_served(
    store: FeatureStore,
) -> None:
    store.materialize(["profile"])
    report = store.verify(["risk", "times"], sample=60)
    checks = {check.name: check for check in report.features}
    assert report.differences == 0
    assert {"profile:average", "profile:seen", "risk:place", "times:idle_hours"} <= set(checks)
    assert "risk:ratio" not in checks  # it needs a value of the request
    assert checks["risk:place"].equal > 40
    assert "risk:ratio" in report.left_out
    assert not report.not_compared
    assert not set(report.left_out) & set(checks)
    assert ("risk", "inputs") in {(view.name, view.as_of) for view in report.views}


@pytest.mark.slow
def test_compare_sends_the_request_data_of_the_training_set(
    store: FeatureStore, tmp_path: Path
) -> None:
    store.materialize(["profile"])
    labels = draw_labels(random.Random(3), [f"u{i}" for i in range(40)], 300)
    store.get_historical_features(labels, "risk_v1", statuses=True).persist(tmp_path / "train")
    report = store.compare(tmp_path / "train", "risk_v1")
    names = {"ratio", "abroad", "more", "place"}
    assert names <= {feature.name for feature in report.features}
    assert not names & set(report.drifted)  # a date is older at the read than at the label
    with pytest.raises(RequestError, match="missing request value"):
        store.compare(tmp_path / "train", "risk_v1", keys="store")


def test_functions_are_called_as_a_read_calls_them(store: FeatureStore, tmp_path: Path) -> None:
    store.materialize(["profile"])
    labels = draw_labels(random.Random(3), [f"u{i}" for i in range(40)], 100)
    job = store.get_historical_features(labels, ["scored", "profile:home"], statuses=True)
    table = job.to_arrow()
    rows = labels.drop_columns(["event_timestamp"]).to_pylist()
    response = store.get_online_features(
        ["scored:word"], [{"user_id": r["user_id"]} for r in rows]
    )
    assert table["word"].to_pylist() == response.to_dict()["word"]
    statuses = table["word__status"].to_pylist()
    assert statuses == response.statuses["word"]
    assert {"present", "missing", "invalid"} == set(statuses)  # SE is 7, and others have no word
    counts = job.metadata["features"][0]["statuses"]
    assert counts["present"]
    assert counts["invalid"]
    assert set(table["score_now"].to_pylist()) >= {-1.0}
    assert job.metadata["features"][0]["callable"] == "scores:score"
    assert {"scored:word"} <= {each.name for each in store.verify(["scored"], sample=30).features}
    (tmp_path / "scores.py").write_text(FUNCTIONS + "#")
    with (
        FeatureStore(tmp_path) as other,
        pytest.raises(RequestError, match="version that was applied"),
    ):
        other.get_historical_features(labels, ["scored"])


def test_the_command_says_that_features_are_derived(store: FeatureStore, tmp_path: Path) -> None:
    pq.write_table(label(country="NO"), tmp_path / "labels.parquet")
    files = ("--labels", str(tmp_path / "labels.parquet"), "--output", str(tmp_path / "out"))
    found = run("--repo", str(tmp_path), "training-set", "risk_v1", *files)
    assert found.exit_code == 0, found.output
    assert ["abroad", "risk", "derived"] in [line.split()[:3] for line in found.output.split("\n")]
