"""The method of `FeatureStore` that builds training sets."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from featurekit.compiler import compile_read
from featurekit.errors import MissingExtraError, RequestError
from featurekit.history_ports import AsOf, StoredValues
from featurekit.plan import EVENT_TIMESTAMP, FunctionPlan, ReadPlan, RepoPlan, ViewPlan
from featurekit.ports import BatchSource, TimeRange
from featurekit.repo.functions import FeatureFunctions
from featurekit.repo.histories import Histories, history_of
from featurekit.repo.load_engines import LoadEngine
from featurekit.repo.registry_store import RegistryStore
from featurekit.repo.service_records import record_training_set
from featurekit.repo.serving import Features, MaxAge, feature_list, max_age_ms
from featurekit.repo.source_access import SourceAccess
from featurekit.repo.time_arguments import Time, to_window

if TYPE_CHECKING:
    from featurekit.training import OnTrainingProgress, RetrievalJob, TrainingRequest
    from featurekit.training.build import ReadValues
    from featurekit.training.progress import Run


class TrainingSets(ABC):
    """Builds training sets from the histories of views."""

    _sources: SourceAccess
    _registry_store: RegistryStore

    @property
    @abstractmethod
    def compiled(self) -> RepoPlan:
        """The applied registry, compiled."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """The folder that paths of sources are relative to."""

    @abstractmethod
    def _load_engine(self, engine: Any, *, writes: bool = True) -> LoadEngine | None:
        """Return an engine, whose tasks must reach the store if it writes; `None` for this process."""

    @abstractmethod
    def served_log(self, service: str) -> Any:
        """Return what a feature service has logged, as a `pyarrow.RecordBatchReader`."""

    def get_historical_features(  # noqa: PLR0913 - each is an independent option with a default
        self,
        entity_df: object = None,
        features: Features = (),
        *,
        start_date: Time = None,
        end_date: Time = None,
        full_feature_names: bool = False,
        timestamp_field: str = EVENT_TIMESTAMP,
        as_of: AsOf | None = None,
        filter_by_created_timestamp: bool = False,
        max_age: MaxAge = None,
        statuses: bool = False,
        on_bad_row: Literal["fail", "skip"] = "fail",
        on_progress: OnTrainingProgress | None = None,
        engine: Any = None,
    ) -> RetrievalJob:
        """Return a job that adds to labels the features that a read at their times would have returned.

        The features come from the histories that the views declare. Nothing is read before the first call
        of a method of the job. The online store is not used, except for a registry that it holds.

        Args:
            entity_df: The labels: join keys, a time with a time zone, and any other columns. A pyarrow
                table or reader, a pandas or polars data frame, the path of a Parquet or CSV file, or
                a SQL query for DuckDB. `None` for all entities of the sources at `end_date`.
            features: A feature service or its name, or a list of `view:field`, `view`, and mappings for
                views with an alias.
            start_date: Without labels: leave out entities whose rows are all older.
            end_date: Without labels: the time of all of them, by default now.
            full_feature_names: Name the features `view__field`.
            timestamp_field: The column of the labels with their times.
            as_of: When a row of a source counts: `event_time`, from its time; `created`, only once it
                was created also; `schedule`, from the load after that by the schedule of the view;
                `loads`, from the load after that in the log of loads. By default `schedule` if the view
                has one, else `created` if the source has a `created_timestamp_field`, else `event_time`.
            filter_by_created_timestamp: Feast's name for `as_of="created"`.
            max_age: Maximum age of the values of some views, as for a read: older ones are `stale`.
            statuses: Add a column `{feature}__status` for each feature.
            on_bad_row: What to do with a row that a label needs and that does not fit its view: `fail`,
                or `skip`, so that the label misses its values.
            on_progress: Called a few times a second while the job runs.
            engine: What reads the histories: `duckdb` in this process, `spark`, or a Spark session; by
                default the `engine` of featurerepo.yaml. On Spark the labels may also be a DataFrame of
                it, or Parquet files anywhere that it reads.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: A view has no history that can be read, or arguments contradict each other.
        """
        try:
            from featurekit.sources.interrupt import run_interruptibly
            from featurekit.training import RetrievalJob, TrainingRequest
        except ImportError as error:
            raise MissingExtraError.of("batch", "get_historical_features()") from error
        as_of = _checked_as_of(as_of, by_created=filter_by_created_timestamp)
        _check_options(on_bad_row, on_progress)
        repo = self.compiled
        plan = compile_read(
            repo,
            feature_list(features),
            full_feature_names=full_feature_names,
            max_age_ms=dict(max_age_ms(max_age)) if max_age else None,
        )
        views = tuple(map(repo.view, dict.fromkeys(column.view for column in plan.stored)))
        skip_bad_rows = on_bad_row == "skip"
        past_loads = self._registry_store.history.past_loads
        histories = Histories(
            repo,
            self._sources,
            self.path,
            as_of,
            lambda view: past_loads(view.name),
            skip_bad_rows=skip_bad_rows,
        )
        for view in views:
            histories.check(view)
        self._sources.check(views)
        functions = self._sources.functions(self.path)
        _check_functions(plan, functions)
        spark = self._load_engine(engine, writes=False)
        if spark is not None:
            spark.check_features(plan, views)
        labels = self._labels(entity_df, plan, views, (start_date, end_date), timestamp_field)
        request = TrainingRequest(
            plan,
            views,
            labels,
            timestamp_field,
            read_values=_value_reader(histories, plan),
            statuses=statuses,
            run=run_interruptibly,
            now_ms=self._registry_store.handle.now_ms,
            on_progress=on_progress,
            on_persist=partial(record_training_set, self._records_root),
            to_sql=partial(_to_sql, histories),
            build=spark.training_sets(histories, skip_bad_rows=skip_bad_rows) if spark else None,
            functions=functions,
        )
        return RetrievalJob(request)

    def persist_served_log(
        self, service: str, path: str | Path, *, allow_overwrite: bool = False
    ) -> Path:
        """Write what a feature service has logged as a training set; return its folder.

        The columns are those of `served_log`. The folder is as that of `RetrievalJob.persist`.

        Raises:
            UnknownNameError: There is no such service.
            RequestError: The service has no `logging`, or the folder has a training set already.
            SourceError: The log has no files yet.
            MissingExtraError: pyarrow is not installed.
        """
        reader = self.served_log(service)
        from featurekit.training.logged import LoggedTrainingSet
        from featurekit.training.output import write_training_set

        logged = LoggedTrainingSet(compile_read(self.compiled, service), reader)
        folder = write_training_set(
            lambda: logged,
            Path(path),
            self._registry_store.handle.now_ms,
            allow_overwrite=allow_overwrite,
        )
        record_training_set(self._records_root, folder)
        return folder

    @property
    def _records_root(self) -> Path:
        """The folder whose `.featurekit` lists training sets and keeps reports of verifications."""
        return self.path

    def _labels(
        self,
        entity_df: object,
        plan: ReadPlan,
        views: Sequence[ViewPlan],
        window: tuple[Time, Time],
        timestamp_field: str,
    ) -> object:
        """Return what `TrainingRequest.labels` takes."""
        from featurekit.sources.labels import EntityLabels, SqlLabels
        from featurekit.training.derived import check_request_data

        start_ms, end_ms = to_window(*window)
        if entity_df is not None:
            if window != (None, None):
                raise RequestError(
                    "start_date and end_date are for training sets without labels",
                    hint="leave out entity_df to get all entities at end_date",
                )
            if isinstance(entity_df, str) and _SQL.match(entity_df):
                return SqlLabels(entity_df, self.path)
            return entity_df
        check_request_data((), plan)
        groups = plan.identifying_groups()
        if not groups:
            raise RequestError("the features belong to no entity", hint="pass labels")
        if len(groups) > 1:
            names = " and ".join(f"'{group.name}'" for group in groups)
            raise RequestError(
                f"the features belong to {names}, whose combinations are not known",
                hint="pass labels, or list the features of one entity",
            )
        key = groups[0].key
        sources = [
            (replace(view, key=key), partial(self._open_history, view))
            for view in views
            if len(view.key.join_keys) == len(key.join_keys)
        ]
        end_ms = self._registry_store.handle.now_ms() if end_ms is None else end_ms
        times = TimeRange(start_ms, end_ms + 1)
        return EntityLabels(key, sources, times, timestamp_field)

    def _open_history(self, view: ViewPlan) -> BatchSource:
        from featurekit.sources import open_source

        plan = history_of(view)
        assert plan is not None  # noqa: S101 - see `Histories.check`
        located = self._sources.locate(view, plan)
        with located.hidden_values():
            return open_source(located.plan, self.path)


_SQL = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:(?:select|from|with|values)\b(?=\s|\()|\(\s*\w)",
    re.IGNORECASE | re.DOTALL,
)
"""How a SQL query begins, and hardly the path of a file."""


def _value_reader(histories: Histories, plan: ReadPlan) -> ReadValues:
    """Return what reads the values of a view at a table of moments."""
    needs_ages = {
        column.view
        for column in plan.stored
        if column.min_remaining_ttl_ms is not None or column.max_event_age_ms is not None
    }

    def read_values(view: ViewPlan, moments: Any, run: Run) -> StoredValues:
        from featurekit.training import stored_values

        return stored_values(
            view,
            replace(histories, opened=run.use).rows_at(view, moments),
            skip_bad_rows=histories.skip_bad_rows,
            at_us=moments["at"].combine_chunks() if view.name in needs_ages else None,
        )

    return read_values


def _to_sql(histories: Histories, request: TrainingRequest) -> str:
    """Return the SQL of a training set. See `RetrievalJob.to_sql`."""
    from featurekit.repo.training_sql import training_sql

    if histories.skip_bad_rows:
        raise RequestError(
            "to_sql() does not skip rows that do not fit", hint="leave out on_bad_row"
        )
    return training_sql(request, histories.sql, histories.root.absolute())


def _check_functions(plan: ReadPlan, functions: FeatureFunctions) -> None:
    """Raise `RequestError` if a function that computes a feature cannot be called here."""
    for column in plan.derived:
        compute = column.feature.compute
        if isinstance(compute, FunctionPlan) and (reason := functions.problem(compute)):
            raise RequestError(
                f"{compute.callable} is not called: {reason}", where=f"feature {column.name}"
            )


def _check_options(on_bad_row: str, on_progress: object) -> None:
    if on_bad_row not in ("fail", "skip"):
        raise RequestError(f"on_bad_row={on_bad_row!r} is unknown", hint="use 'fail' or 'skip'")
    if on_progress is not None and not callable(on_progress):
        raise RequestError(
            f"on_progress={on_progress!r} is not a function",
            hint="pass a function of one argument, a TrainingProgress",
        )


def _checked_as_of(as_of: AsOf | None, *, by_created: bool) -> AsOf | None:
    if as_of is not None and as_of not in get_args(AsOf):
        raise RequestError(
            f"as_of={as_of!r} is unknown",
            hint="use 'event_time', 'created', 'schedule' or 'loads'",
        )
    if not by_created:
        return as_of
    if as_of not in (None, "created"):
        raise RequestError(
            f"filter_by_created_timestamp means as_of='created', not {as_of!r}",
            hint="pass one of the two",
        )
    return "created"
