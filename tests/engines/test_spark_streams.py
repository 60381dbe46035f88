"""Stream views written by `foreachBatch` of Structured Streaming."""

from __future__ import annotations

import json
import pickle
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import BadEventError, FeatureKitError
from featurekit.spark import stream_writer
from tests.examples.places import ROOT
from tests.promise.repos import applied
from tests.servers import Server, patient

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _renew_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from the start of each test: the module may have been imported long ago."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    monkeypatch.setitem(globals(), "NOW", now)


VIEWS = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: activity
    entity: user
    stream: {ordering: event_time, refresh: 1m, ttl: 1h}
    fields: {n: {type: int64, min: 0}, s: string, at: timestamp, tags: 'array<string>', doc: json}
  - name: arrivals
    entity: user
    stream: {refresh: 1m, ttl: 1h}
    fields: {m: int64}
  - name: logged
    entity: user
    stream: {ordering: event_time, refresh: 1m, ttl: 1h, log: {path: log/logged}}
    fields: {k: int64}
  - {name: profile, entity: user, batch: {refresh: 1h}, fields: {b: int64}}
  - name: site
    stream: {ordering: event_time, refresh: 1m, ttl: 1h}
    fields: {visits: int64}
"""

COLUMNS = "user_id string, n long, event_timestamp timestamp"


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, VIEWS) as store:
        yield store


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def activity(store: FeatureStore, user: str, *fields: str) -> list[Any]:
    features = [f"activity:{field}" for field in fields]
    (row,) = store.get_online_features(features, [{"user_id": user}]).to_rows()
    return list(row.values())[1:]


def test_the_newest_event_of_an_entity_wins_in_any_order_and_when_it_is_delivered_again(
    store: FeatureStore, spark: Any
) -> None:
    writer = stream_writer(store, "activity")
    first = spark.createDataFrame(
        [(f"u{i % 7}", i, at(i * 31 % 60)) for i in range(60)], COLUMNS
    ).repartition(4)
    newest = max(range(0, 60, 7), key=lambda i: i * 31 % 60)
    assert writer(first, 0).written == 60
    assert activity(store, "u0", "n") == [newest]
    again = writer(first, 0)
    assert (again.written, again.dropped_older) == (7, 53)
    late = spark.createDataFrame([("u0", 1000, at(-5)), ("u0", 1001, at(-4))], COLUMNS)
    assert writer(late, 1).dropped_older == 2
    assert activity(store, "u0", "n") == [newest]
    assert (writer.total.written, writer.total.dropped_older) == (67, 55)
    assert store.streams.counters.events("activity").written == 67


def test_values_of_all_kinds_are_those_that_a_program_writes(
    store: FeatureStore, spark: Any
) -> None:
    schema = "user_id string, s string, at timestamp, tags array<string>, doc map<string, long>, event_timestamp timestamp"
    values = ("a\n\u00e4", NOW, ["x", ""], {"k": 1})
    frame = spark.createDataFrame([("a", *values, at(0)), ("b", *[None] * 4, at(0))], schema)
    spark.conf.set("spark.sql.session.timeZone", "Europe/Oslo")
    try:
        stream_writer(store, "activity")(frame, 0)
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    names = ("s", "at", "tags", "doc")
    store.stream_writer("activity").write(
        "c", dict(zip(names, values, strict=True)), event_timestamp=at(0)
    )
    assert activity(store, "a", *names) == activity(store, "c", *names) == list(values)
    with_n = spark.createDataFrame([("a", 5, at(1))], COLUMNS)
    stream_writer(store, "activity")(with_n, 1)
    assert activity(store, "a", "n", "s") == [5, values[0]]  # no column: left as it is
    stream_writer(store, "activity")(
        spark.createDataFrame(
            [("a", None, at(2))], "user_id string, s string, event_timestamp timestamp"
        ),
        2,
    )
    assert activity(store, "a", "n", "s") == [5, None]  # null deletes


def test_a_bad_event_stops_the_micro_batch_or_is_skipped_and_named(
    store: FeatureStore, spark: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("a", 1, at(0)), ("b", -1, at(0)), (None, 2, at(0)), ("d", 4, None)]
    frame = spark.createDataFrame(rows, COLUMNS)
    with pytest.raises(BadEventError, match=r"activity, user_id 'b', n.*-1") as error:
        stream_writer(store, "activity", tasks=1)(frame.where("user_id = 'b'"), 0)
    assert "Traceback" not in str(error.value)
    report = stream_writer(store, "activity", on_bad_event="skip")(frame, 1)
    assert (report.written, report.rejected) == (1, 3)
    reasons = sorted(report.reasons)
    assert "user_id 'b': n: " in reasons[0]
    assert "user_id 'd': event_timestamp: " in reasons[1]
    assert "user_id None: " in reasons[2]
    assert "rejected 3 events" in caplog.text
    assert activity(store, "a", "n") == [1]


def test_a_view_without_an_entity_and_an_empty_micro_batch_are_written(
    store: FeatureStore, spark: Any
) -> None:
    rows = [(i, at(i)) for i in range(5)]
    frame = spark.createDataFrame(rows, "visits long, event_timestamp timestamp").repartition(3)
    assert stream_writer(store, "site")(frame, 0).written == 5
    assert store.get_online_features(["site:visits"], [{}]).to_rows()[0]["visits"] == 4
    assert stream_writer(store, "site")(frame.where("visits > 9"), 1).written == 0


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("arrivals", "add `ordering: event_time`"),
        ("logged", "logs its events"),
        ("profile", "is a batch view"),
        ("none", "none"),
    ],
)
def test_views_that_cannot_be_written_safely_are_refused(
    store: FeatureStore, view: str, message: str
) -> None:
    with pytest.raises(FeatureKitError) as error:
        stream_writer(store, view)
    assert message in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("user_id string, n long", "no column 'event_timestamp'"),
        ("n long, event_timestamp timestamp", "join key 'user_id'"),
        (f"{COLUMNS}, nn long", "'nn' is not a field"),
        (f"{COLUMNS}, n long", "'n' occurs twice"),
    ],
)
def test_columns_that_are_missing_or_unknown_are_refused_before_anything_is_written(
    store: FeatureStore, spark: Any, columns: str, message: str
) -> None:
    with pytest.raises(FeatureKitError, match=message):
        stream_writer(store, "activity")(spark.createDataFrame([], columns), 0)


def test_a_store_in_memory_is_refused(tmp_path: Path, spark: Any) -> None:
    with (
        applied(tmp_path, "memory://", VIEWS) as store,
        pytest.raises(FeatureKitError, match="memory of this process"),
    ):
        stream_writer(store, "activity")


def test_a_writer_does_not_leave_the_process_with_the_password(store: FeatureStore) -> None:
    with pytest.raises(FeatureKitError, match="Spark Connect"):
        pickle.dumps(stream_writer(store, "activity"))


def test_tasks_leave_no_connection_open(store: FeatureStore, valkey: Server, spark: Any) -> None:
    writer = stream_writer(store, "activity")
    frame = spark.createDataFrame([(f"u{i}", i, at(0)) for i in range(20)], COLUMNS)

    def clients() -> int:
        with valkey.client() as client:
            return int(client.info("clients")["connected_clients"])

    writer(frame, 0)
    before = clients()
    for batch in range(5):
        writer(frame, batch)
    assert clients() <= before


def test_the_example_counts_payments_and_a_restarted_query_changes_nothing(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    example = ROOT / "examples" / "spark"
    start_query = runpy.run_path(str(example / "stream.py"))["start_query"]
    folder = tmp_path / "payments"
    folder.mkdir()

    def write(name: str, *amounts: float) -> None:
        rows = [{"user_id": "u1", "time": NOW.isoformat(), "amount": each} for each in amounts]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(store: FeatureStore) -> list[Any]:
        query = start_query(spark, store, folder, tmp_path / "checkpoint")
        try:
            query.processAllAvailable()
        finally:
            query.stop()
        (row,) = store.get_online_features(["payments"], [{"user_id": "u1"}]).to_rows()
        return [row["payments_5m"], row["amount_5m"]]

    with FeatureStore(example, url=patient(valkey.url)) as store:
        store.apply()
        write("a.json", 1.5, 2)
        assert run(store) == [2, 3.5]
        (last,) = (tmp_path / "checkpoint" / "commits").glob("0")
        last.unlink()  # as if it was killed before the commit
        write("b.json", 4)
        assert run(store) == [3, 7.5]
