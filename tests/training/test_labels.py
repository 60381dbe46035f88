"""The forms of labels, and running a job: progress, interruption, asyncio and its files."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.disk_space import check_free_space
from featurekit.errors import BadRowError, RequestError, SourceError
from featurekit.history_ports import AsOf
from featurekit.sources.session import Session
from featurekit.training.columns import FeatureColumns
from featurekit.training.labels import BLOCK_ROWS
from featurekit.training.spool import BATCH_ROWS, Spool, rebatch
from tests.cli.running import run
from tests.training.test_jobs import HOUR, NOON, THREE, VIEWS, labels, write_rows
from tests.training.test_jobs import store as store
from tests.training.test_point_in_time import open_store


def test_labels_can_be_a_reader_a_folder_or_a_query(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    pq.write_table(THREE.slice(0, 1), tmp_path / "labels/1.parquet")
    pq.write_table(THREE.slice(1), tmp_path / "labels/2.parquet")
    query = "SELECT *, 1 AS y FROM 'labels/*.parquet' ORDER BY event_timestamp DESC"
    for form in (THREE.to_reader(max_chunksize=1), tmp_path / "labels"):
        job = store.get_historical_features(form, "model")
        assert job.to_arrow()["age"].to_pylist() == [43, None, 42]
        assert job.to_arrow().select(THREE.schema.names).equals(THREE)
    table = store.get_historical_features(query, "model").to_arrow()
    assert table.schema.names == ["user_id", "event_timestamp", "y", "age"]
    assert table["age"].to_pylist() == [43, 42, None]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nothing", "labels: .*nothing"),
        ("FROM range(1); FROM range(2)", "not one SELECT statement"),
        ("SELECT '7' AS user_id, TIMESTAMP '2026-06-01' AS event_timestamp", "has no time zone"),
    ],
)
def test_a_query_that_gives_no_labels_is_refused(
    store: FeatureStore, query: str, message: str
) -> None:
    with pytest.raises((SourceError, RequestError), match=message):
        store.get_historical_features(query, "model").to_arrow()


def test_a_query_may_begin_with_a_comment(store: FeatureStore) -> None:
    query = "-- labels\n/* of today */ SELECT '7' AS user_id, TIMESTAMPTZ '2026-06-01 00:00Z' AS event_timestamp"
    assert store.get_historical_features(query, "model").to_arrow().num_rows == 1


def test_labels_that_are_not_there_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    for path in ("", "nope.parquet", tmp_path / "nope.csv"):
        with pytest.raises(SourceError, match="there are no labels at"):
            store.get_historical_features(path, "model").to_arrow()


def test_a_pandas_frame_with_one_time_without_a_zone_is_refused(store: FeatureStore) -> None:
    pandas = pytest.importorskip("pandas")
    times = pandas.Series([NOON, NOON.replace(tzinfo=None)], dtype=object)
    frame = pandas.DataFrame({"user_id": ["7", "8"], "event_timestamp": times})
    with pytest.raises(RequestError, match=r"labels, row 2, event_timestamp: .* no time zone"):
        store.get_historical_features(frame, "model").to_arrow()
    frame = pandas.DataFrame([["7", NOON, 1, 2]], columns=["user_id", "event_timestamp", "x", "x"])
    with pytest.raises(RequestError, match="several columns named 'x'"):
        store.get_historical_features(frame, "model").to_arrow()


def test_a_label_outside_of_the_calendar_is_refused(store: FeatureStore) -> None:
    for microseconds in (2**63 - 1, -(2**63) + 1, -(2**62)):
        times = pa.array([0, microseconds], pa.timestamp("us", "UTC"))
        table = pa.table({"user_id": ["7", "7"], "event_timestamp": times})
        with pytest.raises(RequestError, match=r"row 2, event_timestamp: .* years 1 to 9999"):
            store.get_historical_features(table, "model").to_arrow()


def test_a_polars_frame_with_categories_is_taken(store: FeatureStore) -> None:
    frame = polars.from_arrow(THREE).with_columns(polars.col("user_id").cast(polars.Categorical))
    frame = frame.with_columns(shop=polars.Series(["a", None, "b"], dtype=polars.Categorical))
    result = store.get_historical_features(frame, "model").to_polars()
    assert result["age"].to_list() == [43, None, 42]
    assert result["shop"].to_list() == ["a", None, "b"]


def test_without_labels_all_entities_get_their_values_at_the_end(tmp_path: Path) -> None:
    write_rows(
        tmp_path,
        [
            ("b", NOON - 9 * HOUR, 1),
            ("a", NOON, 2),
            ("a", NOON + HOUR, 3),
            ("c", NOON + 9 * HOUR, 4),
        ],
    )
    store = open_store(tmp_path, VIEWS)

    def snapshot(**times: Any) -> list[tuple[Any, ...]]:
        table = store.get_historical_features(None, "model", **times).to_arrow()
        assert table.schema.names == ["user_id", "event_timestamp", "age"]
        return [tuple(row.values()) for row in table.to_pylist()]

    end = NOON + 2 * HOUR
    assert snapshot(end_date=end) == [("a", end, 3), ("b", end, 1)]
    assert snapshot(start_date=NOON - HOUR, end_date=end) == [("a", end, 3)]
    assert [row[0] for row in snapshot()] == ["a", "b", "c"] or datetime.now(UTC) < end
    with pytest.raises(RequestError, match="are for training sets without labels"):
        store.get_historical_features(THREE, "model", end_date=end)


@pytest.mark.parametrize("tag", ["{join_key: user_id}", "{literal: vip}"])
def test_entities_with_a_hash_tag_have_training_sets(tmp_path: Path, tag: str) -> None:
    write_rows(tmp_path, [("7", NOON, 42), ("007", NOON, 41)])
    tagged = "join_keys: {user_id: string}, hash_tag: " + tag
    store = open_store(tmp_path, VIEWS.replace("join_keys: {user_id: string}", tagged))
    table = store.get_historical_features(THREE, "model").to_arrow()
    assert table["age"].to_pylist() == [42, None, 42]


def test_types_of_a_csv_column_fit_all_its_values(store: FeatureStore, tmp_path: Path) -> None:
    rows = [f"7,2026-06-01T12:00:00Z,{i}" for i in range(400_000)]
    path = tmp_path / "l.csv"
    path.write_text(
        "\n".join(["user_id,event_timestamp,y", *rows, "7,2026-06-01T12:00:00Z,0.5\n"])
    )
    table = store.get_historical_features(path, "model").to_arrow()
    assert table["y"].type == pa.float64()
    assert table["y"][-1].as_py() == 0.5
    assert table["age"].to_pylist() == [42] * 400_001


def test_many_labels_come_back_in_order(store: FeatureStore) -> None:
    count = 5 * BATCH_ROWS + 7
    users = pa.array([str(7 if i % 3 else i) for i in range(count)])
    times = pa.array([NOON + timedelta(seconds=i % 7000) for i in range(count)])
    table = labels(users, times, i=pa.array(range(count)))
    chunks = pa.concat_tables([table.slice(0, 5), table.slice(5, 40_000), table.slice(40_005)])
    job = store.get_historical_features(chunks, "model", statuses=True)
    result = job.to_arrow()
    assert result["i"].to_pylist() == list(range(count))
    expected = [
        None if user != "7" else 43 if i % 7000 >= 3600 else 42
        for i, user in enumerate(users.to_pylist())
    ]
    assert result["age"].to_pylist() == expected
    assert (
        job.metadata["labels"] == store.get_historical_features(table, "model").metadata["labels"]
    )
    assert [b.num_rows for b in job.to_arrow_reader()] == [BATCH_ROWS] * 5 + [7]


def test_blocks_of_labels_that_need_other_rows_are_one_training_set(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.training.labels.BLOCK_ROWS", 2)
    times = [NOON - HOUR, NOON - HOUR, NOON, NOON + HOUR, NOON]
    job = store.get_historical_features(labels(["7"] * 5, times), "model")
    assert job.to_arrow()["age"].to_pylist() == [None, None, 42, 43, 42]
    assert job.metadata["views"][0]["rows_read"] == 3
    assert job.metadata["features"][0]["statuses"] == {"present": 3, "default": 0, "missing": 2}


def test_a_source_that_changes_between_blocks_of_labels_is_an_error(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.training.labels.BLOCK_ROWS", 2)
    job = store.get_historical_features(labels(["7"] * 3, [NOON] * 3), "model")
    request = job._request

    def read_values(*arguments: Any) -> Any:
        stored = request.read_values(*arguments)
        write_rows(tmp_path, [("7", NOON, 44)])
        return stored

    job._request = replace(request, read_values=read_values)
    with pytest.raises(SourceError, match="changed while it was read"):
        job.to_arrow()


def test_the_digest_of_labels_contains_the_values_of_dictionaries(store: FeatureStore) -> None:
    digests = {
        store.get_historical_features(
            labels(["7"], [NOON], kind=pa.array([kind]).dictionary_encode()), "model"
        ).metadata["labels"]["sha256"]
        for kind in ("a", "b", "a")
    }
    assert len(digests) == 2


def test_a_refused_row_fails_the_job_or_is_missing(store: FeatureStore, tmp_path: Path) -> None:
    write_rows(tmp_path, [("7", NOON, 1), ("x", NOON, 101)])
    table = labels(["7", "x"], [NOON, NOON])
    with pytest.raises(BadRowError):
        store.get_historical_features(table, "model").to_arrow()
    job = store.get_historical_features(table, "model", on_bad_row="skip", statuses=True)
    assert job.to_arrow()["age"].to_pylist() == [1, None]
    assert job.to_arrow()["age__status"].to_pylist() == ["present", "missing"]
    assert job.metadata["views"][0]["rows_rejected"] == 1


def test_progress_and_errors_of_its_callback(store: FeatureStore) -> None:
    seen: list[Any] = []

    class StopError(Exception):
        pass

    def stop(progress: Any) -> None:
        seen.append(progress)
        raise StopError

    slow = "SELECT '7' AS user_id, now() AS event_timestamp FROM range(1000000000000) WHERE random() > 2"
    with pytest.raises(StopError):
        store.get_historical_features(slow, "model", on_progress=stop).to_arrow()
    assert (seen[0].view, seen[0].views_done, seen[0].views_total) == ("labels", 0, 1)


def test_a_job_runs_beside_an_event_loop(store: FeatureStore, tmp_path: Path) -> None:
    async def run() -> None:
        job = store.get_historical_features(THREE, "model")
        assert (await job.to_arrow_async())["age"].to_pylist() == [43, None, 42]
        assert (await job.to_df_async())["age"].tolist()[0] == 43
        assert (await job.to_polars_async())["age"].to_list() == [43, None, 42]
        assert (await job.to_arrow_reader_async()).read_all().num_rows == 3
        assert (await job.metadata_async())["labels"]["rows"] == 3
        assert (await job.persist_async(tmp_path / "train")).is_dir()
        slow = "SELECT '7' AS user_id, now() AS event_timestamp FROM range(1000000000000) WHERE random() > 2"
        task = asyncio.create_task(
            store.get_historical_features(slow, "model").persist_async(tmp_path / "no")
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not (tmp_path / "no").exists()

    asyncio.run(run())


def test_temporary_files_end_with_the_job(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    job = store.get_historical_features(THREE, "model")
    assert job.to_arrow()["age"].to_pylist() == [43, None, 42]
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    job.close()
    assert not list((tmp_path / "tmp").iterdir())
    assert job.to_arrow()["age"].to_pylist() == [43, None, 42]
    del job
    assert not list((tmp_path / "tmp").iterdir())


def test_a_with_block_closes_a_job(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with store.get_historical_features(THREE, "model") as job:
        assert job.to_arrow()["age"].to_pylist() == [43, None, 42]
        assert list((tmp_path / "tmp").iterdir())
    assert not list((tmp_path / "tmp").iterdir())


def test_a_polars_query_that_has_not_run_is_refused(store: FeatureStore) -> None:
    lazy = polars.from_arrow(THREE).lazy()
    with pytest.raises(RequestError, match="LazyFrame") as raised:
        store.get_historical_features(lazy, "model").to_arrow()
    assert raised.value.hint == "pass labels.collect()"


def test_progress_needs_a_function_at_once(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="on_progress=True is not a function"):
        store.get_historical_features(THREE, "model", on_progress=True)  # type: ignore[arg-type]


def test_a_file_in_place_of_the_folder_is_refused_before_the_job_runs(
    store: FeatureStore, tmp_path: Path
) -> None:
    file = tmp_path / "train"
    file.write_text("x")
    job = store.get_historical_features(tmp_path / "nothing.parquet", "model")
    for folder, message in ((file, "this is a file"), (file / "a/b", f"{file} is a file")):
        for allow_overwrite in (False, True):
            with pytest.raises(RequestError, match=message) as raised:
                job.persist(folder, allow_overwrite=allow_overwrite)
            assert raised.value.hint == "choose the name of a new folder, such as train/"
    found = run("--repo", str(tmp_path), "training-set", "model", "--output", str(file))
    assert found.exit_code == 1
    assert "this is a file" in found.output
    assert file.read_text() == "x"


@pytest.mark.parametrize("suffix", [".csv.gz", ".CSV.bz2"])
def test_labels_can_be_a_compressed_csv_file(
    store: FeatureStore, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"labels{suffix}"
    with pa.output_stream(str(path), compression=suffix[5:].replace("gz", "gzip")) as file:
        file.write(b"user_id,event_timestamp\n007,2026-06-01T12:00:00Z\n")
    assert store.get_historical_features(path, "model").to_arrow()["age"].to_pylist() == [41]


def test_files_that_are_not_labels_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    text = "user_id,event_timestamp\n7,2026-06-01T12:00:00Z\n"
    for name in ("a.txt", "b.csv.zip", "csv/l.csv", "named.csv/l.csv", "both/1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    pq.write_table(THREE, tmp_path / "both/0.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.parquet").touch()
    for name in ("a.txt", "b.csv.zip", "csv", "named.csv", "both", "nothing.parquet"):
        with pytest.raises(
            SourceError, match=f"labels, .*{name}.*: the file is not Parquet"
        ) as raised:
            store.get_historical_features(tmp_path / name, "model").to_arrow()
        assert "FROM 'labels/*.csv'" in raised.value.hint
    with pytest.raises(SourceError, match="the folder has no files") as raised:
        store.get_historical_features(tmp_path / "empty", "model").to_arrow()
    assert raised.value.hint == "put Parquet files into it"
    query = f"SELECT user_id::VARCHAR AS user_id, event_timestamp FROM '{tmp_path}/csv/*.csv'"
    assert store.get_historical_features(query, "model").to_arrow()["age"].to_pylist() == [42]


def test_a_full_disk_is_noticed_before_the_start(tmp_path: Path) -> None:
    check_free_space(tmp_path, 1)
    with pytest.raises(RequestError, match=r"needs about 1000000000000.0 GB"):
        check_free_space(tmp_path, 10**21)


def test_a_disk_too_small_for_sorting_a_history_is_noticed_before_that(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.sources.history_index._SPILL_FACTOR", 10**15)
    with pytest.raises(RequestError, match="GB of temporary files, and the disk has"):
        store.get_historical_features(THREE, "model").to_arrow()


def test_batches_are_divided_anew_without_loss() -> None:
    batches = [pa.record_batch({"i": pa.array(range(n), pa.int64())}) for n in (0, 3, 1, 0, 9, 2)]
    found = list(rebatch(batches, 4))
    assert [b.num_rows for b in found] == [4, 4, 4, 3]
    assert pa.Table.from_batches(found) == pa.Table.from_batches(batches)


INTERRUPTED = """
import sys
from featurekit import FeatureStore
print("ready", flush=True)
query = "SELECT '7' AS user_id, now() AS event_timestamp FROM range(1000000000000) WHERE random() > 2"
store = FeatureStore(sys.argv[1])
store.apply()
store.get_historical_features(query, "model").persist(sys.argv[1] + "/train")
"""


@pytest.mark.slow
def test_ctrl_c_stops_a_job_and_leaves_no_file(store: FeatureStore, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = sorted(tmp_path.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout
        process.stdout.readline()
        while not list(temporary.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert "KeyboardInterrupt" in error
    assert not list(temporary.iterdir())
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("as_of", ["event_time", pytest.param("created", marks=pytest.mark.slow)])
def test_a_job_can_be_interrupted_in_every_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_of: AsOf
) -> None:
    """Each query, and each batch that is written, is a phase."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    columns = {"at": [NOON] * 9, "created": [NOON] * 9}
    table = pa.table({"user_id": list("123456789"), "age": range(9), **columns})
    pq.write_table(table, tmp_path / "rows.parquet")
    store = open_store(tmp_path, VIEWS.replace("at}", "at, created_timestamp_field: created}", 1))
    job = store.get_historical_features(labels(list("1234"), [NOON] * 4), "model", as_of=as_of)
    calls: list[str] = []
    stop_at = 1

    def hooked(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(method.__name__)
            if len(calls) == stop_at:
                job.interrupt()
            return method(*arguments, **options)

        return call

    for owner, name in (
        *((Session, name) for name in ("execute", "fetch_all", "call")),
        (Spool, "write"),
        (FeatureColumns, "batch"),
    ):
        monkeypatch.setattr(owner, name, hooked(getattr(owner, name)))
    while True:
        calls.clear()
        try:
            job.persist(tmp_path / "train")
        except (RequestError, SourceError):
            assert len(calls) >= stop_at
            assert not list(temporary.iterdir())
            stop_at += 1
        else:
            break
    assert len(calls) < stop_at
    assert {"execute", "write", "batch"} <= set(calls)


PEAK = """
import resource, sys
from featurekit import FeatureStore
store = FeatureStore(sys.argv[1])
store.apply()
query = (
    "SELECT '7' AS user_id, TIMESTAMPTZ '2026-06-01 00:00:00+00' + to_seconds(i % 86400) AS event_timestamp "
    f"FROM range({sys.argv[2]}) r(i)"
)
job = store.get_historical_features(query, "model")
assert sum(batch.num_rows for batch in job.to_arrow_reader()) == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

# Runs between the two: a child's peak includes what its parent had at the fork.
BETWEEN = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_labels(store: FeatureStore, tmp_path: Path) -> None:
    def peak_mb(count: int) -> int:
        command = [sys.executable, "-c", BETWEEN, PEAK, str(tmp_path), str(count)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    assert peak_mb(6 * BLOCK_ROWS) < 1.25 * peak_mb(BLOCK_ROWS)
