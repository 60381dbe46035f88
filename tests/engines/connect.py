"""A load and a training set on Spark Connect; prints what happened as JSON.

python -m tests.engines.connect REPOSITORY PORT
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit import FeatureStore


def training_set(store: FeatureStore, engine: Any) -> list[Any]:
    """Return the rows of a training set of a few labels."""
    moment = pa.array([datetime.now(UTC)] * 3, pa.timestamp("us", "UTC"))
    labels = pa.table({"user_id": ["u1", "u2", "nobody"], "event_timestamp": moment})
    with store.get_historical_features(labels, ["profile"], engine=engine) as job:
        table = job.to_arrow().drop_columns(["event_timestamp"])
        return list(table.to_pylist())


def main() -> None:
    from pyspark.sql import SparkSession

    session = SparkSession.builder.remote(f"sc://localhost:{sys.argv[2]}").getOrCreate()
    session.conf.set("spark.sql.adaptive.enabled", "true")
    with FeatureStore(Path(sys.argv[1])) as store:
        (report,) = store.materialize(engine=session)
        result = {
            "session": type(session).__module__,
            "written": report.rows_written,
            "training": training_set(store, session),
            "training_here": training_set(store, "duckdb"),
        }
    sys.stdout.write(f"RESULT {json.dumps(result)}\n")
    session.stop()


if __name__ == "__main__":
    main()
