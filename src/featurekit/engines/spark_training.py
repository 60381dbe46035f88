"""Training sets on Apache Spark.

The labels pass through one view after the other, see `spark_history`, and carry along the rows that were
found. One Python task then makes features of all of them, as a load encodes and a reader decodes. The
result is kept on the executors' disks, so that it is computed once, counted, and then read or written.
"""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit.engines.spark_history import (
    MAX_ROWS,
    HistoryRows,
    Reading,
    ViewHistory,
    join_events,
    join_rows,
    key_ends,
    open_history,
)
from featurekit.engines.spark_labels import (
    SparkLabels,
    from_spark,
    is_on_spark,
    labels_from_here,
    labels_on_spark,
)
from featurekit.engines.spark_rows import quoted
from featurekit.engines.spark_session import is_connect, load_settings, spark_errors
from featurekit.engines.spark_values import (
    DERIVED,
    ERROR,
    DerivedTask,
    PartTask,
    result_schema,
    result_task,
)
from featurekit.errors import FeatureKitError, RequestError
from featurekit.history_ports import LabelQuery
from featurekit.plan import FunctionPlan, ReadPlan, ViewPlan
from featurekit.training.build import TrainingRequest, ViewPart, check_names, training_metadata
from featurekit.training.columns import STATUSES, status_name
from featurekit.training.derived import check_request_data
from featurekit.training.features import history_metadata
from featurekit.training.progress import Run
from featurekit.training.spool import BATCH_ROWS, rebatch

_SETTINGS = {
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Without it, a result that is kept has `spark.sql.shuffle.partitions` tasks however small it is.
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",
    # The result is read twice at most: to compress it costs more than it saves.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
}


def check_features(plan: ReadPlan, views: Sequence[ViewPlan]) -> None:
    """Raise `RequestError` for the first feature that Spark does not compute."""
    for view in views:
        if view.windows is not None:
            raise RequestError(
                "Spark does not aggregate events in windows",
                where=f"feature view {view.name}",
                hint="use engine='duckdb', or leave its features out",
            )
    for column in plan.derived:
        if isinstance(column.feature.compute, FunctionPlan):
            raise RequestError(
                f"it is computed by {column.feature.text}, which does not leave this process for Spark",
                where=f"feature {column.name}",
                hint="use engine='duckdb', write an `expr:`, or leave it out",
            )


@dataclass(frozen=True, slots=True)
class SparkJobs:
    """The Spark jobs of a training set, which can be cancelled. See `training.progress.Interruptible`."""

    session: Any
    tag: str

    def interrupt(self) -> None:
        """Cancel the jobs."""
        self.session.interruptTag(self.tag)

    def progress(self) -> float | None:
        """Return the share of the tasks of the running jobs that have ended."""
        if is_connect(self.session):
            return None
        tracker = self.session.sparkContext.statusTracker()
        jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(self.tag)]
        stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
        tasks = sum(stage.numTasks for stage in stages if stage)
        return sum(s.numCompletedTasks for s in stages if s) / tasks if tasks else None


class SparkTrainingSet:
    """A training set on Spark. See `training.build.TrainingSet`.

    Args:
        request: What it consists of.
        run: The run that builds it.
        session: The Spark session.
        root: The repository's folder.
        histories: Returns what says how the history of a view is read, which hides values in errors
            until a stack of contexts is closed.
        skip_bad_rows: Whether rows that do not fit their view give nothing; otherwise they are an error.
    """

    def __init__(
        self,
        request: TrainingRequest,
        run: Run,
        session: Any,
        root: Path,
        histories: Callable[[ExitStack], Callable[[Any], ViewHistory]],
        *,
        skip_bad_rows: bool,
    ) -> None:
        self._request, self._session = request, session
        self._skip = skip_bad_rows
        self._cached: list[Any] = []
        jobs = SparkJobs(session, f"featurekit-{secrets.token_hex(4)}")
        session.addTag(jobs.tag)
        if not is_connect(session):
            session.sparkContext.setJobGroup(jobs.tag, "featurekit training set")
        run.use(jobs)
        try:
            with ExitStack() as stack:
                stack.enter_context(load_settings(session, _SETTINGS))
                stack.enter_context(spark_errors("training set"))
                self._build(run, root, histories(stack))
        except BaseException:
            self.close()
            raise
        finally:
            session.removeTag(jobs.tag)

    def _build(self, run: Run, root: Path, history_of: Callable[[Any], ViewHistory]) -> None:
        request = self._request
        labels = self._labels = self._read_labels(run)
        run.labels_total = labels.rows
        reading = Reading(self._session, root, *labels.times, cached=self._cached)
        frame, tasks, views = labels.frame, [], []
        for number, part in enumerate(request.parts):
            run.view, run.views_done = part.view.name, number
            run.check()
            history = history_of(part.view)
            rows = open_history(reading, history)
            ends = key_ends(reading, history.owner) if history.owner is not None else None
            frame = self._joined(frame, number, part, rows, ends)
            tasks.append(_task(number, part, rows, skip_bad_rows=self._skip))
            rows_of = (rows.rows_read, rows.rows_incomplete)
            found = history_metadata(part.view, rows.as_of, history.loads, *rows_of)
            views.append({**part.names, **found})
        run.view = "features"
        run.check()
        self._frame = self._result(frame, tasks, self._derived(tasks), reading)
        counts = self._count(tasks, views)
        digest = {} if labels.digest is None else {"sha256": labels.digest}
        described = {"rows": labels.rows, **digest}
        self.metadata = training_metadata(request.plan, described, views, counts)
        self.metadata["engine"] = "spark"

    def _read_labels(self, run: Run) -> SparkLabels:
        request = self._request
        keyed = [part.keyed for part in request.parts]

        def check(schema: Any) -> None:
            run.check()
            check_names(schema, request.features_schema)
            check_request_data(schema.names, request.plan)

        data = request.labels() if callable(request.labels) else request.labels
        if not isinstance(data, LabelQuery) and is_on_spark(data):
            return labels_on_spark(self._session, data, keyed, request.timestamp_field, check)
        if isinstance(data, LabelQuery):
            data = data.reader()
        return labels_from_here(
            self._session, data, keyed, request.timestamp_field, check, request.plan.requests
        )

    def _joined(
        self, frame: Any, number: int, part: ViewPart, rows: HistoryRows, ends: Any
    ) -> Any:
        """Return labels with the rows of a view."""
        from pyspark.sql import functions as F  # noqa: N812

        key = f"k{self._labels.keys[part.keyed.key]}"
        frame = frame.withColumn("@k", F.col(key))
        if part.view.kind == "stream":
            frame = join_events(frame, rows, ends, part.view)
            names = {f"@row{i}": f"r{number}_{i}" for i, _ in enumerate(part.view.fields)}
        else:
            frame = join_rows(frame, rows, ends, part.view)
            names = {"@row": f"r{number}", "@wrote": f"w{number}", "@end": f"e{number}"}
        return frame.drop("@k").withColumnsRenamed(names)

    def _derived(self, tasks: Sequence[PartTask]) -> DerivedTask | None:
        """Return what computes the derived features; `None` without any."""
        request = self._request
        columns = {
            column.name: (position, index)
            for position, task in enumerate(tasks)
            for index, column in enumerate(task.columns)
        }
        places = tuple(columns[column.name] for column in request.stored)
        self._places = {
            name: f"{tasks[part].number}_{index}" for name, (part, index) in columns.items()
        }
        derived = request.plan.derived
        self._places |= {column.name: f"{DERIVED}_{i}" for i, column in enumerate(derived)}
        if not derived:
            return None
        return DerivedTask(request.plan, self._labels.names, request.timestamp_field, places)

    def _result(
        self,
        frame: Any,
        tasks: Sequence[PartTask],
        derived: DerivedTask | None,
        reading: Reading,
    ) -> Any:
        """Return the labels with their features, computed once."""
        from pyspark.sql.pandas.types import from_arrow_schema
        from pyspark.sql.types import StructType

        labels = self._labels
        kept = [f"c{i}" for i, _ in enumerate(labels.names)] + list(labels.order)
        own = [frame.schema[name] for name in kept]
        added = from_arrow_schema(result_schema(tasks, derived)).fields
        task = result_task(tasks, derived, kept)
        return reading.keep(frame.mapInArrow(task, StructType([*own, *added])))

    def _count(self, tasks: Sequence[PartTask], views: list[dict[str, Any]]) -> dict[str, Any]:
        """Compute the result, and return how many labels have each status of each feature.

        Raises:
            BadRowError: A row that a label needs does not fit its view.
        """
        from pyspark.sql import functions as F  # noqa: N812

        columns = [F.first(ERROR, ignorenulls=True).alias("error")]
        names = {c.name: f"s{self._places[c.name]}" for c in self._request.plan.columns}
        for name in names.values():
            counts = [F.count_if(F.col(name) == code) for code, _ in enumerate(STATUSES)]
            columns.append(F.array(*counts).alias(name))
        found = self._frame.agg(*columns).collect()[0]
        if found["error"] is not None:
            error: FeatureKitError = pickle.loads(found["error"])  # noqa: S301 - of our own tasks
            raise error
        for task, view in zip(tasks, views, strict=True):
            if self._skip:
                numbers = self._frame.select(F.explode(f"x{task.number}")).distinct()
                view["rows_rejected"] = numbers.count()
        return {
            feature: dict(zip(STATUSES, found[name], strict=True))
            for feature, name in names.items()
        }

    @property
    def frame(self) -> Any:
        """The training set as a Spark DataFrame, in no order."""
        return self._frame.select(*self._columns())

    def _columns(self) -> list[Any]:
        from pyspark.sql import functions as F  # noqa: N812

        labels, request = self._labels, self._request
        own = [F.col(f"c{i}").alias(name) for i, name in enumerate(labels.names)]
        places = self._places
        columns = [c.name for c in request.plan.columns]
        features = [F.col(f"f{places[name]}").alias(name) for name in columns]
        texts = F.array(*(F.lit(status) for status in STATUSES))
        statuses = [
            F.get(texts, F.col(f"s{places[name]}")).alias(status_name(name)) for name in columns
        ]
        return [*own, *features, *(statuses if request.statuses else [])]

    @property
    def schema(self) -> Any:
        """The columns of the batches."""
        labels, features = self._labels, self._request.features_schema
        if labels.schema is not None:
            return pa.schema([*labels.schema, *features], labels.schema.metadata)
        from pyspark.sql.pandas.types import to_arrow_schema

        frame = self.frame.select(*map(quoted, labels.names))
        own = to_arrow_schema(frame.schema, timezone="UTC")
        return pa.schema([*own, *features])

    def batches(self) -> Iterator[Any]:
        """Yield the rows in the order of the labels; all of them are in this process."""
        with load_settings(self._session, _SETTINGS), spark_errors("training set"):
            ordered = self._frame.orderBy(*self._labels.order).select(*self._columns())
            table = ordered.toArrow()
        schema = self.schema
        columns = [
            from_spark(column, field.type)
            for column, field in zip(table.columns, schema, strict=True)
        ]
        yield from rebatch(pa.table(columns, schema=schema).to_batches(BATCH_ROWS))

    def write_data(self, path: Path) -> None:
        """Write the rows to a folder of Parquet files, each by a task."""
        with load_settings(self._session, _SETTINGS), spark_errors(str(path)):
            self.frame.write.parquet(str(path.absolute()))

    def close(self) -> None:
        """Free the disks of the executors."""
        while self._cached:
            self._cached.pop().unpersist()


def _task(number: int, part: ViewPart, rows: HistoryRows, *, skip_bad_rows: bool) -> PartTask:
    return PartTask(
        number,
        part.view,
        tuple(part.columns),
        tuple(rows.payload),
        rows.is_encoded,
        rows.files,
        MAX_ROWS,
        skip_bad_rows,
    )
