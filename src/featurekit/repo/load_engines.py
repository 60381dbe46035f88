"""The engines of loads: DuckDB in this process, or Spark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from featurekit.errors import FeatureKitError, LockedError, RequestError
from featurekit.models.config import EnginesConfig
from featurekit.plan import ReadPlan, SourcePlan, ViewPlan
from featurekit.ports import Scan, TimeRange
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.partition import LoadTicket

if TYPE_CHECKING:
    from featurekit.engines.spark import OnWait, PartitionResult
    from featurekit.repo.histories import Histories
    from featurekit.training.build import BuiltTrainingSet, TrainingRequest
    from featurekit.training.progress import Run

ENGINES = ("duckdb", "spark")


@runtime_checkable
class ScanOnEngine(Protocol):
    """A source that an engine reads, and whose rows it writes in its tasks."""

    def scan(self, view: ViewPlan, times: TimeRange) -> Scan:
        """Count the rows, and choose the newest of each entity."""

    def write(self, ticket: LoadTicket, on_wait: OnWait) -> list[PartitionResult]:
        """Write the chosen rows, and return the result of each partition."""


@dataclass(frozen=True, slots=True)
class LoadEngine:
    """Spark as the engine of loads.

    Attributes:
        session: The Spark session.
    """

    session: Any

    def source(self, plan: SourcePlan, root: Path, *, skip_unreadable: bool) -> ScanOnEngine:
        """Return a source; nothing is read yet. See `sources.open_source`."""
        from featurekit.engines.spark import SparkSource

        return SparkSource(self.session, plan, root, skip_unreadable=skip_unreadable)

    def check_features(self, plan: ReadPlan, views: Sequence[ViewPlan]) -> None:
        """Raise `RequestError` for features that training sets on Spark do not have."""
        from featurekit.engines.spark_training import check_features

        check_features(plan, views)

    def training_sets(
        self, histories: Histories, *, skip_bad_rows: bool
    ) -> Callable[[TrainingRequest, Run], BuiltTrainingSet]:
        """Return what builds training sets; nothing is read yet."""
        from featurekit.engines.spark_training import SparkTrainingSet

        return lambda request, run: SparkTrainingSet(
            request,
            run,
            self.session,
            histories.root,
            lambda stack: lambda view: histories.on_spark(view, stack),
            skip_bad_rows=skip_bad_rows,
        )


def open_engine(
    engine: Any, config: EnginesConfig, handle: LazyStoreHandle, *, writes: bool
) -> LoadEngine | None:
    """Return the engine of a name or a Spark session; `None` for this process.

    Args:
        engine: `duckdb`, `spark`, or a Spark session.
        config: The settings of a session that is opened.
        handle: The store.
        writes: Whether tasks write to it.

    Raises:
        RequestError: There is no such engine, or it does not start.
        MissingExtraError: pyspark is not installed.
    """
    if engine == "duckdb":
        return None
    check_engine(engine)
    if writes:
        handle.for_tasks()
    if not isinstance(engine, str):
        return LoadEngine(engine)
    from featurekit.engines.spark_session import open_session

    spark = config.spark
    return LoadEngine(open_session(spark.master, spark.conf, handle.passwords))


def check_engine(engine: Any) -> None:
    """Raise `RequestError` unless something is the name of an engine or a Spark session."""
    is_session = type(engine).__module__.startswith("pyspark.sql.")
    if not is_session and engine not in ENGINES:
        raise RequestError(
            f"there is no engine {engine!r}",
            hint=f"known engines: {', '.join(ENGINES)}, and from Python a SparkSession",
        )


def first_error(results: Iterable[PartitionResult]) -> FeatureKitError | None:
    """Return the error of a load: that the lock was lost, or else that of the first failed task."""
    errors = [result.error for result in results if result.error is not None]
    lost = [error for error in errors if isinstance(error, LockedError)]
    return next(iter([*lost, *errors]), None)


def merge_rejects(files: Sequence[bytes], path: Path) -> str:
    """Write the rows of Parquet files of rejected rows into one; return its path, empty without rows."""
    if not files:
        return ""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pq.read_schema(BytesIO(files[0]))
    with pq.ParquetWriter(path, schema) as writer:
        for file in files:
            writer.write_table(pq.read_table(BytesIO(file)).cast(schema))
    return str(path)
