"""The methods of `FeatureStore` that load batch views."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from featurekit.errors import FeatureKitError, MaterializeError, RequestError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.repo.load_engines import LoadEngine
from featurekit.repo.load_sources import source_of
from featurekit.repo.materialization import Materializer, OnBadRow, PruneMode
from featurekit.repo.time_arguments import Span, Time, to_ttl_ms, to_window
from featurekit.runtime.load import MaterializeReport, OnProgress

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def asyncio_form(
    method: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Return a method that runs another one in a thread. It has the same signature."""
    name = method.__name__

    @wraps(method)
    async def in_thread(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(getattr(self, name), *args, **kwargs)

    in_thread.__name__ = f"{name}_async"
    in_thread.__qualname__ = f"{method.__qualname__}_async"
    in_thread.__doc__ = f"Run `{name}` in a thread, so that it does not block the event loop."
    return in_thread


class BatchLoads(ABC):
    """Loads batch views from their sources or from rows of the caller."""

    def materialize(  # noqa: PLR0913 - each is an independent option with a default
        self,
        views: str | Sequence[str] | None = None,
        *,
        start: Time = None,
        end: Time = None,
        on_bad_row: OnBadRow = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
        fail_fast: bool = False,
        allow_older: bool = False,
        missing_only: bool = False,
        from_file: str | Path | None = None,
        ttl: Span | None = None,
        prune: bool = False,
        prune_all: bool = False,
        engine: Any = None,
    ) -> list[MaterializeReport]:
        """Load batch views from their sources: the newest row of each entity.

        Args:
            views: The name of a batch view, or several; all views with a source by default.
            start: Load rows at or after this time; by default those of the view's `lookback`, if it
                has one.
            end: Load rows before this time. With a start or an end, the `lookback` does not apply.
            on_bad_row: With `fail`, the load stops at the first row that does not fit the view, and
                nothing of its record batch is written. With `skip`, such rows go to `rejects`.
            rejects: A Parquet file for the rejected rows; by default one in `.featurekit/rejects/`.
            on_progress: Called after each record batch.
            fail_fast: Stop at the first view that fails. Otherwise the other views are loaded, and
                one error is raised at the end.
            allow_older: Load rows that are older than rows which earlier loads wrote. Newer values are
                overwritten.
            missing_only: Write only entities without any value of the view, for backfills. The
                server decides row by row, which takes it longer.
            ttl: A TTL for what this load writes, instead of the declared ones.
            prune: Delete the view's values of entities that the source no longer has, instead of letting
                them live until their TTL. Entities whose rows are rejected or of the future keep theirs.
                Only for whole loads of views without `ordering: event_time`.
            prune_all: Prune also if no row was written: then all values of the view are deleted.
            engine: What reads the sources: `duckdb` in this process, `spark`, or a Spark session; by
                default the `engine` of featurerepo.yaml.
            from_file: A Parquet file to load instead of the source of one view: its rejected rows,
                corrected. Columns that start with `_` are ignored.

        Returns:
            One report for each view.

        Raises:
            MaterializeError: Some of several views failed; if one view was to be loaded, its own
                error, one of those below, is raised. Either has the reports in `reports`.
            SourceError: A source cannot be read, or lacks a column.
            OlderRowsError: All rows are older than rows that earlier loads wrote, and the view does not
                have `ordering: event_time`.
            BadRowError: A row does not fit its view.
            LockedError: Another load of the same view is running.
            RequestError: The source may not be opened on this machine, see `check_sources`.
            StoreError: The online store refused a write or failed. Run the load again to complete it.
        """
        return list(
            self.iter_materialize(
                views,
                start=start,
                end=end,
                on_bad_row=on_bad_row,
                rejects=rejects,
                on_progress=on_progress,
                fail_fast=fail_fast,
                allow_older=allow_older,
                missing_only=missing_only,
                from_file=from_file,
                ttl=ttl,
                prune=prune,
                prune_all=prune_all,
                engine=engine,
            )
        )

    def iter_materialize(  # noqa: PLR0913 - as above
        self,
        views: str | Sequence[str] | None = None,
        *,
        start: Time = None,
        end: Time = None,
        on_bad_row: OnBadRow = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
        fail_fast: bool = False,
        allow_older: bool = False,
        missing_only: bool = False,
        from_file: str | Path | None = None,
        ttl: Span | None = None,
        prune: bool = False,
        prune_all: bool = False,
        engine: Any = None,
    ) -> Iterator[MaterializeReport]:
        """Load batch views one by one and yield the report of each, also of those that failed.

        The arguments and errors are those of `materialize`; the error is raised at the end.
        """
        check_options(allow_older=allow_older, missing_only=missing_only)
        is_part = (start, end, from_file) != (None, None, None) or missing_only
        materializer = replace(
            self._checked_materializer(on_bad_row, rejects, on_progress),
            allow_older=allow_older,
            missing_only=missing_only,
            ttl_ms=to_ttl_ms(ttl),
            prune=_prune_mode(prune=prune, prune_all=prune_all, is_part=is_part),
            engine=None if from_file is not None else self._load_engine(engine),
        )
        if materializer.engine is not None and prune:
            raise RequestError(
                "a load on Spark does not prune",
                hint="load with --engine duckdb (engine='duckdb') to prune, or let values expire at their TTL",
            )
        chosen = _chosen_views(materializer.plan, views, from_file)
        if from_file is None:
            self.check_sources([view.name for view in chosen])
        _check_prunable(chosen if prune else [])
        start_ms, end_ms = to_window(start, end)
        reports: list[MaterializeReport] = []
        errors: list[FeatureKitError] = []
        for view in chosen:
            report = MaterializeReport(view.name, window_start_ms=start_ms, window_end_ms=end_ms)
            reports.append(report)
            try:
                if from_file is None:
                    materializer.materialize(view, report)
                else:
                    materializer.load_file(view, Path(from_file), report)
            except FeatureKitError as error:
                errors.append(error)
            yield report
            if errors and fail_fast:
                break
        if errors:
            raise _load_error(errors, reports, len(chosen))

    materialize_async = asyncio_form(materialize)

    def write_batch(  # noqa: PLR0913 - as above
        self,
        view: str,
        rows: Any,
        *,
        on_bad_row: OnBadRow = "fail",
        rejects: str | Path | None = None,
        on_progress: OnProgress | None = None,
        allow_older: bool = False,
        ttl: Span | None = None,
    ) -> MaterializeReport:
        """Write rows into a batch view, one for each entity.

        Args:
            view: The batch view.
            rows: `{id: {field: value}}`, where the id of several join keys is a tuple; a list of dicts
                of join keys and fields; or a table of Arrow, pandas or polars, or any object with
                `__arrow_c_stream__`. A field that is missing from a row is deleted, as null is. With
                `ordering: event_time`, a dict also has the row's time as `event_timestamp` (an aware
                datetime, milliseconds since the epoch, or RFC 3339 text), and a table has the
                source's `timestamp_field`, or `event_timestamp`.
            on_bad_row: As in `materialize`.
            rejects: As in `materialize`.
            on_progress: As in `materialize`.
            allow_older: As in `materialize`. Without `ordering: event_time`, only tables with a
                declared `timestamp_field` have times.
            ttl: As in `materialize`.

        Raises:
            BadRowError: A row does not fit the view.
            LockedError: A load of the same view is running.
            StoreError: The online store refused a write or failed. Safe to retry.
        """
        materializer = self._checked_materializer(on_bad_row, rejects, on_progress)
        materializer = replace(materializer, allow_older=allow_older, ttl_ms=to_ttl_ms(ttl))
        return materializer.write_batch(materializer.plan.view(view), rows)

    write_batch_async = asyncio_form(write_batch)

    def write_jsonl(
        self,
        view: str,
        lines: Iterable[str],
        *,
        on_bad_row: OnBadRow = "fail",
        rejects: str | Path | None = None,
        ttl: Span | None = None,
    ) -> MaterializeReport:
        """Write JSON Lines into a batch view: one object of join keys and fields per line.

        The arguments and errors are those of `write_batch`.
        """
        materializer = self._checked_materializer(on_bad_row, rejects, None)
        materializer = replace(materializer, ttl_ms=to_ttl_ms(ttl))
        return materializer.write_jsonl(materializer.plan.view(view), lines)

    def _checked_materializer(
        self, on_bad_row: OnBadRow, rejects: str | Path | None, on_progress: OnProgress | None
    ) -> Materializer:
        if on_bad_row not in ("fail", "skip"):
            raise RequestError(f"on_bad_row must be 'fail' or 'skip', not {on_bad_row!r}")
        return self._materializer(on_bad_row, rejects, on_progress)

    @abstractmethod
    def check_sources(self, views: Iterable[str]) -> None:
        """Check that this process may open the sources of some views.

        Those of a registry in the online store are opened only if the YAML on this machine declares
        the same ones, or with `from_registry(allow_sources=True)`.

        Raises:
            RequestError: A source may not be opened.
            UnknownNameError: There is no such view.
        """

    @abstractmethod
    def _load_engine(self, engine: Any, *, writes: bool = True) -> LoadEngine | None:
        """Return an engine, whose tasks must reach the store if it writes; `None` for this process."""

    @abstractmethod
    def _materializer(
        self, on_bad_row: OnBadRow, rejects: str | Path | None, on_progress: OnProgress | None
    ) -> Materializer:
        """Return what runs the loads."""


def check_options(*, allow_older: bool, missing_only: bool) -> None:
    """Raise `RequestError` if two options of a load exclude each other."""
    if allow_older and missing_only:
        raise RequestError("allow_older and missing_only exclude each other")


def _chosen_views(
    plan: RepoPlan, names: str | Sequence[str] | None, from_file: str | Path | None
) -> list[ViewPlan]:
    """Return the views to load; without names, all that have a source."""
    names = [names] if isinstance(names, str) else names
    if from_file is not None and len(names or ()) != 1:
        raise RequestError("a file is loaded into one view", hint="name the view")
    names = names or [view.name for view in plan.views if view.source is not None]
    if not names:
        raise RequestError("no feature view has a batch source to materialize from")
    chosen = [plan.view(name) for name in dict.fromkeys(names)]
    for view in chosen if from_file is None else ():
        source_of(view)
    return chosen


def _prune_mode(*, prune: bool, prune_all: bool, is_part: bool) -> PruneMode:
    """Return whether to prune; raise `RequestError` for a load of a part of the source."""
    if prune and is_part:
        raise RequestError(
            "only a whole load shows which entities a source no longer has",
            hint="load without --start, --end, --missing-only and --from to prune",
        )
    if not prune:
        return "no"
    return "all" if prune_all else "yes"


def _check_prunable(views: Sequence[ViewPlan]) -> None:
    """Raise `RequestError` if the deadlines of a view do not separate the entities that a load wrote."""
    for view in views:
        if view.lookback_ms is not None:
            raise RequestError(
                f"feature view '{view.name}' has a `lookback`: an entity whose rows are older would look like "
                "one that the source no longer has",
                hint="load it without --prune; its values expire at their TTL",
            )
        if view.ordering != "event_time":
            continue
        raise RequestError(
            f"feature view '{view.name}' has `ordering: event_time`: an entity whose row is older than what "
            "is stored would look like one that the source no longer has",
            hint="load it without --prune; its values expire at their TTL",
        )


def _load_error(
    errors: list[FeatureKitError], reports: list[MaterializeReport], views: int
) -> FeatureKitError:
    """Return the error of a call that was to load some views: its only one, or one about all."""
    error = errors[0]
    if views > 1:
        failed = ", ".join(report.view for report in reports if report.error)
        message = f"{len(errors)} of {views} feature views could not be loaded: {failed}"
        error = MaterializeError(message, errors, hint="load these again; the others are loaded")
        error.__cause__ = errors[0]
    error.reports = reports
    return error
