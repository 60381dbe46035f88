"""Loads on Apache Spark.

    driver  counts the rows, keeps the newest row of each entity, holds the lock, adds up the reports
    task    `write_partition` over the Arrow batches of a partition; returns one row with its result

Featurekit's own errors travel as data in that row, so that Spark does not try again what fails in the same
way, and the user reads the error and no trace of the JVM. Only the result of the attempt that
succeeded arrives, so that rows are counted once. Rejected rows arrive with it, as a Parquet file.
"""

from __future__ import annotations

import pickle
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from featurekit.engines.spark_rows import CREATED, SparkRows, open_rows
from featurekit.engines.spark_session import is_connect, load_settings, spark_errors
from featurekit.errors import BadRowError, FeatureKitError
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import FILE, SOURCE_ROW, Scan, TimeRange
from featurekit.runtime.load import MaterializeReport
from featurekit.runtime.partition import LoadTicket, write_partition

MAX_REJECT_BYTES = 64_000_000
"""The largest Parquet file of rejected rows that a task returns."""

_POLL_S = 0.2
_STOP_S = 30.0
_ROWS_PER_BATCH, _BYTES_PER_BATCH = 10_000, 16_000_000

OnWait = Callable[[float], None]
"""Called while tasks run, with the share of them that have ended. May raise to cancel the job."""


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """What a task returns.

    Attributes:
        report: The rows of the partition.
        error: Why the task failed; `None` if it did not.
        rejects: A Parquet file with the rejected rows; empty without any.
    """

    report: MaterializeReport
    error: FeatureKitError | None = None
    rejects: bytes = b""


class SparkSource:
    """The source of a view, read by Spark.

    Args:
        session: The Spark session.
        plan: What to read.
        root: The repository's folder.
        skip_unreadable: Return lines that cannot be read as rows with a problem.
    """

    def __init__(
        self, session: Any, plan: SourcePlan, root: Path, *, skip_unreadable: bool = False
    ) -> None:
        self._session, self._plan, self._root = session, plan, root
        self._skip_unreadable = skip_unreadable
        self._newest: Any = None
        self._rows_read = 0

    def scan(self, view: ViewPlan, times: TimeRange) -> Scan:
        """Count the rows, and choose the newest of each entity; `write` reads those.

        Raises:
            SourceError: Spark cannot read the source, or it lacks a column.
        """
        where = f"feature view {view.name}"
        with load_settings(self._session, self._settings(view)), spark_errors(where):
            rows = open_rows(
                self._session,
                view,
                self._plan,
                self._root,
                skip_unreadable=self._skip_unreadable,
            ).within(times)
            counts = _count(rows, times)
            if rows.orders > rows.has_time:
                rows.check_created(counts, self._plan.created_timestamp_field or "")
            self._newest, self._rows_read = rows.newest(times), counts["total"]
        return Scan(rows.form, iter(()), counts["total"], counts["future"], counts["newest_ms"])

    def write(self, ticket: LoadTicket, on_wait: OnWait) -> list[PartitionResult]:
        """Write the chosen rows in tasks, and return the result of each.

        Raises:
            SourceError: Spark failed.
        """
        where = f"feature view {ticket.view.name}"
        with load_settings(self._session, self._settings(ticket.view)), spark_errors(where):
            frame = self._newest.mapInArrow(
                partition_task(ticket, self._rows_read), "result binary"
            )
            rows = _run(self._session, frame, on_wait)
            return [pickle.loads(row[0]) for row in rows]  # noqa: S301

    def _settings(self, view: ViewPlan) -> dict[str, str]:
        row_bytes = sum(4 * field.dtype.size for field in view.fields)
        batch = max(1, min(_ROWS_PER_BATCH, _BYTES_PER_BATCH // max(row_bytes, 1)))
        return {"spark.sql.execution.arrow.maxRecordsPerBatch": str(batch)}


def partition_task(
    ticket: LoadTicket, rows_total: int
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """Return the function for `mapInArrow`, which writes a partition and returns its result.

    Args:
        ticket: The load.
        rows_total: The rows that the load reads in all.
    """

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        result = write_in_task(ticket, batches, rows_total)
        yield pa.record_batch({"result": pa.array([pickle.dumps(result)], pa.binary())})

    return run


def write_in_task(ticket: LoadTicket, batches: Iterable[Any], rows_total: int) -> PartitionResult:
    """Write a partition, and return its result with rejected rows and errors as data."""
    from featurekit.runtime.rejects import Rejects

    report = MaterializeReport(ticket.view.name)
    with TemporaryDirectory(prefix="featurekit-") as folder:
        path = Path(folder) / "rejects.parquet"
        rejects = Rejects(ticket.view, path, report, ticket.load_ms)
        error: FeatureKitError | None = None
        try:
            accepted = _until_rejected(batches, ticket.view, report, rows_total)
            write_partition(ticket, accepted, report, rejects=rejects, locate=_locate)
        except FeatureKitError as failure:
            error = failure
        finally:
            rejects.close()
            ticket.store.close()
        data = path.read_bytes() if report.rejects_path else b""
    if len(data) > MAX_REJECT_BYTES:
        error = error or BadRowError(
            f"a partition rejects {report.rows_rejected} rows, too many to return to the driver",
            where=ticket.view.name,
            hint="correct the source, or bound them with max_rejected",
        )
        data = b""
    return PartitionResult(report, error, data)


def _until_rejected(
    batches: Iterable[Any], view: ViewPlan, report: MaterializeReport, rows_total: int
) -> Iterator[Any]:
    """Yield batches until this task alone rejects more than `max_rejected`, of which the driver makes an error."""
    limit = view.limits.max_rejected
    for batch in batches:
        if limit is not None and report.rows_rejected > limit * rows_total:
            return
        yield batch


def _locate(row: dict[str, object]) -> str | None:
    if not row.get(FILE):
        return None
    name = str(row[FILE]).replace("\x01", "/").rpartition("/")[2]
    return f"{name}, row {row[SOURCE_ROW]}"


def _count(rows: SparkRows, times: TimeRange) -> dict[str, Any]:
    from pyspark.sql import functions as F  # noqa: N812

    future = rows.future(times)
    time = F.col("@o0") if rows.has_time else F.lit(None).cast("timestamp")
    newest, created = F.max(F.when(rows.complete & ~future, time)), F.col(CREATED)
    (row,) = rows.frame.agg(
        F.count(F.lit(1)).alias("total"),
        F.count_if(future).alias("future"),
        # Rounded, as DuckDB does, so that a load by either engine is not older than the other's.
        F.unix_millis(newest + F.expr("interval 500 microseconds")).alias("newest_ms"),
        F.count_if(created == "number").alias("numbers"),
        F.count_if(created == "time").alias("times"),
        F.min(F.when(created.startswith("="), created)).alias("other"),
    ).collect()
    return dict(row.asDict())


def _run(session: Any, frame: Any, on_wait: OnWait) -> list[Any]:
    """Collect a frame in a thread, so that this one can look after the load and cancel the job."""
    tag = f"featurekit-{secrets.token_hex(4)}"
    results: list[Any] = []
    errors: list[BaseException] = []

    def collect() -> None:
        try:
            session.addTag(tag)
            if not is_connect(session):
                session.sparkContext.setJobGroup(tag, "featurekit load", interruptOnCancel=True)
            results.extend(frame.collect())
        except BaseException as error:  # noqa: BLE001 - raised again in the other thread
            errors.append(error)

    thread = threading.Thread(target=collect, name="featurekit spark", daemon=True)
    progress = _Progress(session, tag, frame)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            on_wait(progress.share())
    except BaseException:
        session.interruptTag(tag)
        thread.join(_STOP_S)
        raise
    if errors:
        raise errors[0]
    return results


class _Progress:
    """The share of the tasks of the last stage, which write, that have ended.

    Adaptive execution runs a job for each exchange before the job of the last stage.
    """

    def __init__(self, session: Any, tag: str, frame: Any) -> None:
        self._tag, self._share = tag, 0.0
        self._tracker: Any = None
        if not is_connect(session):
            self._tracker = session.sparkContext.statusTracker()
            plan = frame._jdf.queryExecution().executedPlan().toString()  # noqa: SLF001 - no public form
            self._jobs = 1 + plan.count("Exchange ") if "AdaptiveSparkPlan" in plan else 1

    def share(self) -> float:
        """Return the share; 0 if it is not known."""
        if self._tracker is None:
            return 0.0
        jobs = self._tracker.getJobIdsForGroup(self._tag)
        last = self._tracker.getJobInfo(max(jobs)) if len(jobs) >= self._jobs else None
        stage = self._tracker.getStageInfo(max(last.stageIds)) if last else None
        if stage is not None and stage.numTasks:
            self._share = max(self._share, stage.numCompletedTasks / stage.numTasks)
        return self._share
