"""Count the payments of each user in windows of five minutes, and write the counts to a stream view.

python stream.py FOLDER: reads the JSON Lines files that appear in a folder. For a Kafka topic, replace
`spark.readStream...` by `format("kafka")` and `from_json`, as Spark's guide shows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as Spark's documentation has it

from featurekit import FeatureStore
from featurekit.spark import stream_writer


def start_query(spark: SparkSession, store: FeatureStore, folder: Path, checkpoint: Path) -> Any:
    """Start the query, which runs until it is stopped."""
    payments = spark.readStream.schema("user_id string, time timestamp, amount double").json(
        str(folder)
    )
    counts = (
        payments.withWatermark("time", "1 minute")
        .groupBy("user_id", F.window("time", "5 minutes"))
        .agg(
            F.count("*").alias("payments_5m"),
            F.sum("amount").alias("amount_5m"),
            F.max("time").alias("event_timestamp"),
        )
        .drop("window")
    )
    return (
        counts.writeStream.outputMode("update")
        .foreachBatch(stream_writer(store, "payments"))
        .option("checkpointLocation", str(checkpoint))
        .start()
    )


if __name__ == "__main__":
    here = Path(__file__).parent
    session = SparkSession.builder.appName("payments").getOrCreate()
    with FeatureStore(here) as feature_store:
        feature_store.apply()
        start_query(
            session, feature_store, Path(sys.argv[1]), here / "checkpoint"
        ).awaitTermination()
