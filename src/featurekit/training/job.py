"""A job that builds a training set when its result is first asked for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from featurekit.errors import MissingExtraError, RequestError
from featurekit.training.build import BuiltTrainingSet, TrainingRequest, TrainingSet
from featurekit.training.output import write_training_set
from featurekit.training.progress import Run

T = TypeVar("T")

_INTERRUPT_INTERVAL_S = 0.05


class RetrievalJob:
    """A training set that is built at the first call of a method; later calls use the same one.

    It is kept in temporary files, which are deleted with the job, by `close`, or at the end of a
    `with` block.
    """

    def __init__(self, request: TrainingRequest) -> None:
        self._request = request
        self._built: BuiltTrainingSet | None = None
        self._run: Run | None = None
        self._lock = threading.Lock()

    def to_arrow_reader(self) -> Any:
        """Return a `pyarrow.RecordBatchReader`, which holds one batch in memory.

        Its rows are those of the labels, in their order: the columns of the labels as they are, then
        the features, with the types that `OnlineResponse.to_arrow` gives them. If statuses were
        requested, they come last.

        Raises:
            RequestError: The labels lack a column, a row of them has no key or no time with a time
                zone, or one of their columns is named like a feature.
            SourceError: A source cannot be read, or has no times of creation.
            BadRowError: A row that a label needs does not fit its view.
        """
        built = self._training_set()
        return pa.RecordBatchReader.from_batches(built.schema, built.batches())

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`. See `to_arrow_reader`."""
        return self.to_arrow_reader().read_all()

    def to_df(self) -> Any:
        """Return a `pandas.DataFrame`. Features have nullable dtypes, so that ints stay exact."""
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError.of("pandas", "to_df()") from error

        def dtype_of(kind: Any) -> Any:
            plain = kind.num_fields or pa.types.is_dictionary(kind)
            return None if plain else pandas.ArrowDtype(kind)

        table = self.to_arrow()
        own = table.num_columns - len(self._request.features_schema)
        labels = table.select(range(own))
        from_pandas = labels.schema.pandas_metadata is not None
        return pandas.concat(
            [
                labels.to_pandas(types_mapper=None if from_pandas else dtype_of),
                table.select(range(own, table.num_columns))
                .replace_schema_metadata()
                .to_pandas(types_mapper=dtype_of),
            ],
            axis=1,
        )

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`."""
        try:
            import polars
        except ImportError as error:
            raise RequestError("to_polars() needs polars", hint="pip install polars") from error
        return polars.from_arrow(self.to_arrow())

    def to_spark(self) -> Any:
        """Return a Spark `DataFrame`, whose rows are in no order. It can be used until `close`.

        Raises:
            RequestError: The training set is not built on Spark.
        """
        frame = getattr(self._training_set(), "frame", None) if self._request.build else None
        if frame is None:
            raise RequestError(
                "to_spark() needs a training set that is built on Spark",
                hint="pass engine='spark' or a SparkSession to get_historical_features()",
            )
        return frame

    def to_sql(self) -> str:
        """Return SQL statements for DuckDB whose last one gives the same rows; nothing is built.

        They read the files that exist now, of batch views by `event_time` or `created`, whose fields have
        plain types and no constraints but `min`, `max` and `required`. A value that would fail the job is an
        error when they run.

        Raises:
            RequestError: The statements would not give the same rows.
            SourceError: A source or the labels cannot be read.
        """
        assert self._request.to_sql is not None  # noqa: S101 - only tests make such requests
        return self._request.to_sql(self._request)

    @property
    def metadata(self) -> dict[str, Any]:
        """The features, how each view was read, and counts of labels and statuses. Runs the job."""
        copy: dict[str, Any] = json.loads(json.dumps(self._training_set().metadata))
        return copy

    def persist(self, path: str | Path, *, allow_overwrite: bool = False) -> Path:
        """Write `data.parquet` and `manifest.json` to a folder; return the folder.

        Each file is written under a temporary name and renamed, the manifest last. The same labels,
        sources and versions of libraries give the same bytes, except for `created_at` in the manifest.

        Raises:
            RequestError: The folder has a training set already, cannot be written, or is a URL.
        """
        if "://" in str(path):
            raise RequestError(
                f"{path} is not a folder of this machine",
                where="path",
                hint="write to_spark() or to_arrow_reader() there, and metadata beside it",
            )
        folder = write_training_set(
            self._training_set, Path(path), self._request.now_ms, allow_overwrite=allow_overwrite
        )
        self._request.on_persist(folder)
        return folder

    async def to_arrow_reader_async(self) -> Any:
        """Do as `to_arrow_reader`, in another thread; the batches are read by the caller."""
        return await self._in_thread(self.to_arrow_reader)

    async def to_arrow_async(self) -> Any:
        """Do as `to_arrow`, in another thread. Cancelling the task interrupts the job."""
        return await self._in_thread(self.to_arrow)

    async def to_df_async(self) -> Any:
        """Do as `to_df`, in another thread. Cancelling the task interrupts the job."""
        return await self._in_thread(self.to_df)

    async def to_polars_async(self) -> Any:
        """Do as `to_polars`, in another thread. Cancelling the task interrupts the job."""
        return await self._in_thread(self.to_polars)

    async def metadata_async(self) -> dict[str, Any]:
        """Return `metadata`, computed in another thread. Cancelling the task interrupts the job."""
        return await self._in_thread(lambda: self.metadata)

    async def persist_async(self, path: str | Path, *, allow_overwrite: bool = False) -> Path:
        """Do as `persist`, in another thread. Cancelling the task interrupts the job."""
        return await self._in_thread(lambda: self.persist(path, allow_overwrite=allow_overwrite))

    async def _in_thread(self, action: Callable[[], T]) -> T:
        task = asyncio.ensure_future(asyncio.to_thread(action))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                self.interrupt()
                await asyncio.wait([task], timeout=_INTERRUPT_INTERVAL_S)
            if not task.cancelled():
                task.exception()  # the error of an interrupted job
            raise

    def interrupt(self) -> None:
        """Make a run of the job in another thread raise soon; do nothing if none runs."""
        if (run := self._run) is not None:
            run.interrupt()

    def __enter__(self) -> RetrievalJob:
        """Return the job, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary files. The job builds them again if it is used again."""
        with self._lock:
            if self._built is not None:
                self._built.close()
                self._built = None

    def _training_set(self) -> BuiltTrainingSet:
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def _build(self) -> BuiltTrainingSet:
        request = self._request
        run = self._run = Run(len(request.parts))
        report = request.on_progress
        on_wait = None if report is None else (lambda: report(run.progress))
        try:
            build = request.build or TrainingSet
            built: BuiltTrainingSet = request.run(
                lambda: build(request, run), run.interrupt, on_wait
            )
        finally:
            self._run = None
        return built
