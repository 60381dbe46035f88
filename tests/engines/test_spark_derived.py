"""Derived features of training sets on Spark; what it does not compute is refused by name."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import RequestError
from featurekit.spark import stream_writer
from tests.engines.test_spark_training import check_equal
from tests.promise.repos import applied
from tests.training.test_derived import FUNCTIONS, NOW, TIME, VIEWS, draw_labels, draw_rows
from tests.training.test_point_in_time import open_store

pytestmark = pytest.mark.slow

MORE = """
  - name: sums
    derived: {from: [transaction]}
    fields: {double: {type: float64, expr: "amount * 2"}}
"""


def test_derived_features_equal_those_of_duckdb(tmp_path: Path, spark: Any) -> None:
    rng = random.Random(3)
    (tmp_path / "scores.py").write_text(FUNCTIONS)
    users = [f"u{i}" for i in range(40)]
    pq.write_table(pa.table(draw_rows(rng, 40)), tmp_path / "profile.parquet")
    clicks = {"user_id": users, "clicks": range(40)}
    times = pa.array([NOW - timedelta(minutes=2)] * 40, TIME)
    pq.write_table(pa.table({**clicks, "at": times}), tmp_path / "clicks.parquet")
    views = VIEWS.replace("feature_services:", f"{MORE.lstrip(chr(10))}feature_services:")
    labels = draw_labels(rng, users, 200)
    with open_store(tmp_path, views) as store:
        features = ["risk", "times", "busy", "sums", "profile:count"]
        found = check_equal(store, spark, labels, features, max_age={"activity": "1m"})
        assert "stale" in found["is_busy__status"].to_pylist()
        features = ["risk", "sums"]
        local = store.get_historical_features(labels, features).to_arrow()
        with store.get_historical_features(
            spark.createDataFrame(labels), features, engine=spark
        ) as job:
            remote = job.to_arrow()
        assert sorted(map(str, remote.to_pylist())) == sorted(map(str, local.to_pylist()))
        bad = labels.set_column(2, "amount", pa.array([1.0] * 199 + [-1.0]))
        for data, where in (
            (bad, "labels, row 200, amount"),
            (spark.createDataFrame(bad), "labels, amount"),
        ):
            with pytest.raises(RequestError, match=f"^{where}: -1"):
                store.get_historical_features(data, features, engine=spark).to_arrow()
        lacking = labels.drop_columns(["pieces"])
        with pytest.raises(RequestError, match=r"no column 'pieces' \(request data\)"):
            store.get_historical_features(lacking, features, engine=spark).to_arrow()


UNSUPPORTED = """
entities: [{name: user, join_keys: {user_id: string}}]
requests: [{name: transaction, fields: {amount: float64}}]
feature_views:
  - name: recent
    entity: user
    stream:
      refresh: 1m
      batch_source: {type: parquet, path: events.parquet, timestamp_field: at}
    inputs: {price: float64}
    fields: {total: {type: float64, aggregate: sum, of: price, window: 1h}}
  - {name: profile, entity: user, batch: {refresh: 1h, source: {type: parquet, path: p.parquet, timestamp_field: at}}, fields: {n: int64}}
  - name: scored
    derived: {from: [transaction]}
    fields: {score: {type: float64, callable: "scores:score", inputs: [amount]}}
"""


def test_windows_and_functions_are_refused_by_name(tmp_path: Path, spark: Any) -> None:
    (tmp_path / "scores.py").write_text("def score(amount):\n    return amount\n")
    labels = pa.table(
        {"user_id": ["a"], "amount": [1.0], "event_timestamp": pa.array([NOW], TIME)}
    )
    with applied(tmp_path, "memory://", UNSUPPORTED) as store:
        for features, message in (
            (["recent"], "feature view recent: Spark does not aggregate events in windows"),
            (["scored", "profile"], "feature score: it is computed by scores:score"),
        ):
            with pytest.raises(RequestError, match=message):
                store.get_historical_features(labels, features, engine=spark)
        with pytest.raises(RequestError, match="does not add events to windows"):
            stream_writer(store, "recent")
