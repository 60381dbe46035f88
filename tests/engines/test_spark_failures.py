"""Loads on Spark that are cancelled, lose their lock, or lose an executor."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.engines.spark import write_in_task
from featurekit.errors import LockedError
from featurekit.partitions import open_load
from tests.clusters import Cluster
from tests.engines.settings import JAVA_OPTIONS
from tests.examples.places import ROOT
from tests.promise.repos import applied
from tests.servers import Server, running, valkey_binary

pytestmark = pytest.mark.slow

ROWS, GROUP = 120_000, 10_000

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields: {n: int64, s: string}
"""


def write_rows(folder: Path) -> None:
    table = pa.table(
        {
            "user_id": [f"u{i}" for i in range(ROWS)],
            "n": range(ROWS),
            "s": [f"text {i % 97}" for i in range(ROWS)],
            "at": pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC")), ROWS),
        }
    )
    pq.write_table(table, folder / "rows.parquet", row_group_size=GROUP)


class Watched:
    """The servers of a store, as seen from outside."""

    def __init__(self, asks: list[Callable[..., Any]]) -> None:
        self._asks = asks

    def ask(self, *args: Any) -> list[Any]:
        return [ask(*args) for ask in self._asks]

    @property
    def entities(self) -> int:
        """The number of hashes of entities."""
        count = "return #redis.call('KEYS', 'fs:user:*')"
        return sum(self.ask("EVAL", count, 0))

    def wait_for_rows(self) -> None:
        """Wait until a load has written some rows."""
        deadline = time.monotonic() + 300
        while not self.entities:
            assert time.monotonic() < deadline, "no row was written"
            time.sleep(0.002)

    def is_still(self, seconds: float) -> bool:
        """Return whether no row is written for a while."""
        before = self._rows_written()
        time.sleep(seconds)
        return self._rows_written() == before

    def _rows_written(self) -> int:
        stats = self.ask("INFO", "commandstats")
        names = ("cmdstat_hset", "cmdstat_hsetex", "cmdstat_evalsha")
        return sum(each.get(name, {"calls": 0})["calls"] for each in stats for name in names)


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Cluster]:
    cluster = Cluster(valkey_binary(), 3, 0)
    yield cluster
    cluster.remove()


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest, valkey: Server, three_nodes: Cluster) -> Iterator[Any]:
    if request.param == "cluster":
        three_nodes.flush()
        yield three_nodes.url, Watched([node.ask for node in three_nodes.nodes])
    else:
        with valkey.client() as client:
            yield valkey.url, Watched([client.execute_command])


@pytest.fixture
def store(tmp_path: Path, place: Any) -> Iterator[FeatureStore]:
    write_rows(tmp_path)
    with applied(tmp_path, place[0], VIEW) as store:
        yield store


def test_a_lock_that_is_stolen_in_mid_load_stops_the_tasks(
    store: FeatureStore, place: Any, spark: Any
) -> None:
    _, watched = place
    call = store.handle.store.call

    def steal(_: Any) -> None:
        if call("GET", "fs:@lock:profile", key="fs:@lock:profile") == b"other":
            return
        watched.wait_for_rows()
        call("SET", "fs:@lock:profile", "other", "PX", 60_000, key="fs:@lock:profile")
        watched.ask("CLIENT", "PAUSE", 1500, "WRITE")  # longer than a task relies on the lock

    with pytest.raises(LockedError, match="lost the lock"):
        store.materialize(engine=spark, on_progress=steal)
    assert watched.is_still(1.5)
    assert watched.entities < ROWS
    assert call("GET", "fs:@lock:profile", key="fs:@lock:profile") == b"other"


def test_ctrl_c_in_mid_load_stops_the_tasks_before_the_lock_is_free(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:

    write_rows(tmp_path)
    with applied(tmp_path, valkey.url, VIEW) as store, valkey.client() as client:
        watched = Watched([client.execute_command])

        def interrupt(_: Any) -> None:
            watched.wait_for_rows()
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            store.materialize(engine=spark, on_progress=interrupt)
        assert watched.is_still(1.5)
        (report,) = store.materialize(engine=spark)  # the lock is free
        assert (report.rows_written, watched.entities) == (ROWS, ROWS)


def test_ctrl_c_ends_the_jobs_of_a_training_set_and_leaves_no_file(
    tmp_path: Path, spark: Any
) -> None:
    write_rows(tmp_path)
    started, waits = tmp_path / "started", tmp_path / "waits"
    waits.touch()

    def wait(batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            started.touch()
            while waits.exists():
                time.sleep(0.05)
            yield batch

    labels = spark.sql("SELECT concat('u', id) AS user_id, now() AS event_timestamp FROM range(9)")
    slow = labels.mapInArrow(wait, labels.schema)

    def interrupt(_: Any) -> None:
        if started.exists():
            signal.raise_signal(signal.SIGINT)

    tracker = spark.sparkContext.statusTracker()
    with applied(tmp_path, "memory://", VIEW) as store:
        job = store.get_historical_features(slow, ["profile"], engine=spark, on_progress=interrupt)
        with pytest.raises(KeyboardInterrupt):
            job.persist(tmp_path / "train")
        deadline = time.monotonic() + 60
        while tracker.getActiveJobsIds():
            assert time.monotonic() < deadline, "the job runs on"
            time.sleep(0.05)
        assert not list(tmp_path.glob("train/*"))
        waits.unlink()
        with store.get_historical_features(slow, ["profile"], engine=spark) as again:
            found = again.to_arrow()
    assert sorted(found["n"].to_pylist()) == list(range(9))


def test_progress_counts_the_tasks_that_have_written(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    write_rows(tmp_path)
    settings = {
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.shuffle.partitions": "6",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
    }
    before = {name: spark.conf.get(name) for name in settings}
    seen: list[int] = []
    with applied(tmp_path, valkey.url, VIEW) as store, valkey.client() as client:
        watched = Watched([client.execute_command])

        def look(progress: Any) -> None:
            assert progress.rows_total == ROWS
            assert watched.entities >= progress.rows_done * 0.8  # keys are not spread evenly
            seen.append(progress.rows_done)

        for name, value in settings.items():
            spark.conf.set(name, value)
        try:
            store.materialize(engine=spark, on_progress=look)
        finally:
            for name, value in before.items():
                spark.conf.set(name, value)
    assert seen == sorted(seen)
    assert seen[-1] > 0


@pytest.mark.usefixtures("has_spark")
def test_a_killed_worker_and_a_killed_executor_change_nothing_and_no_secret_is_shown(
    tmp_path: Path,
) -> None:
    secret = "p4ssw0rd-of-the-store"
    write_rows(tmp_path)
    (tmp_path / "events").mkdir()
    conf = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{tmp_path}/events",
        "spark.eventLog.compress": "false",
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.executor.extraJavaOptions": JAVA_OPTIONS,
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
        "spark.ui.port": "0",
    }
    engines = {"spark": {"master": "local-cluster[2,1,1024]", "conf": conf}}
    with running(valkey_binary(), "--requirepass", secret) as server:
        url = server.url.replace("unix://", f"unix://:{secret}@")
        with applied(tmp_path, url, VIEW):
            pass
        config = tmp_path / "featurerepo.yaml"
        config.write_text(f"{config.read_text()}engines: {json.dumps(engines)}\n")
        process = run_module("local_cluster", tmp_path, secret)
        assert secret not in process.stdout + process.stderr
        assert process.returncode == 0, process.stderr[-3000:]
        result = json.loads(process.stdout.partition("RESULT ")[2])
        counts = {"read": ROWS, "written": ROWS, "killed": 2}
        opened = {"master": "local-cluster[2,1,1024]", "partitions": "4"}
        assert result.pop("opened") == opened  # as featurerepo.yaml says
        assert result.pop("training") == result.pop("training_here")
        assert result == {"load": counts, "shown": []}
        with FeatureStore(tmp_path) as store:
            users = [{"user_id": f"u{i}"} for i in range(0, ROWS, 7)]
            rows = store.get_online_features(["profile"], users).to_rows()
            assert [row["n"] for row in rows] == [*range(0, ROWS, 7)]
            assert store.load_history("profile")[0].rows_written == ROWS


def test_a_load_and_a_training_set_run_on_spark_connect(
    tmp_path: Path, valkey: Server, spark: Any
) -> None:
    pytest.importorskip("grpc_status", reason="Spark Connect needs pyspark[connect]")
    write_rows(tmp_path)
    with applied(tmp_path, valkey.url, VIEW):
        pass
    services = spark._jvm.org.apache.spark.sql.connect.service
    service = getattr(getattr(services, "SparkConnectService$"), "MODULE$")
    service.start(spark.sparkContext._jsc.sc())  # a server in the process of Java that runs
    process = run_module("connect", tmp_path, service.localPort())
    assert process.returncode == 0, process.stderr[-3000:]
    result = json.loads(process.stdout.partition("RESULT ")[2])
    assert result["session"].startswith("pyspark.sql.connect")
    assert result["written"] == ROWS
    assert result["training"] == result["training_here"]
    assert [row["n"] for row in result["training"]] == [1, 2, None]


def test_an_attempt_that_runs_beside_another_writes_the_same_rows(
    tmp_path: Path, valkey: Server
) -> None:
    """As speculation does, which Spark refuses on one machine."""
    write_rows(tmp_path)
    batches = pq.read_table(tmp_path / "rows.parquet").drop(["at"]).slice(0, 5000).to_batches(500)
    with applied(tmp_path, valkey.url, VIEW) as store, ThreadPoolExecutor(2) as pool:
        with open_load(store, "profile") as load:
            tickets = [pickle.loads(pickle.dumps(load.ticket)) for _ in range(2)]
            results = list(pool.map(lambda t: write_in_task(t, batches, 5000), tickets))
            assert [result.error for result in results] == [None, None]
            load.add(results[0].report)  # Spark returns the result of one
        assert load.report.rows_written == 5000
        users = [{"user_id": f"u{i}"} for i in range(0, 5000, 7)]
        rows = store.get_online_features(["profile:n"], users).to_rows()
        assert [row["n"] for row in rows] == [*range(0, 5000, 7)]


def run_module(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a module of this folder in a process without this one's environment for tasks."""
    return subprocess.run(
        [sys.executable, "-m", f"tests.engines.{name}", *map(str, args)],
        cwd=ROOT,
        env={key: text for key, text in os.environ.items() if key != "PYSPARK_PYTHON"},
        capture_output=True,
        text=True,
        check=False,
    )
