"""Check what views declare of their history, which loads, training sets and logs depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featurekit.loader.declarations import Declaration, Declarations
from featurekit.loader.problems import LocatedProblem, SourceLocation
from featurekit.models.definitions import FeatureView
from featurekit.models.scalars import format_duration, format_raw


def history_problems(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield the problems of a view's history."""
    yield from _history_of_batch(item)
    stream = item.model.stream
    history = stream.batch_source if stream else None
    if history and not (history.timestamp_field or history.created_timestamp_field):
        yield LocatedProblem(
            item.key_at("stream", "batch_source"),
            f"{item.label}: batch_source has no times of the events",
            "add `timestamp_field:`, the time of an event, or `created_timestamp_field:`, that of its "
            "arrival",
        )


def _history_of_batch(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    batch, given = item.model.batch, item.names("batch") or []
    if batch is None:
        return
    sources = [key for key in ("source", "batch_source") if key in given]
    if len(sources) > 1:
        yield LocatedProblem(
            item.key_at("batch", "batch_source"),
            f"{item.label}: batch_source has no effect, because the source is the history",
            "remove one of the two",
        )
    elif not sources:
        hint = "remove it, or add a `source:` or `batch_source:` under `batch`"
        yield from _without_effect(item, "the view has no source", hint)
    elif batch.history and batch.history.static:
        hint = "remove it, or `static: true`"
        yield from _without_effect(item, "the rows hold for all times", hint)
    elif batch.history and batch.history.timestamp_field is None:
        yield from _without_times(item, given)


def _without_effect(
    item: Declaration[FeatureView], reason: str, hint: str
) -> Iterator[LocatedProblem]:
    for key in ("lookback", "schedule"):
        if getattr(item.model.batch, key) is not None:
            message = f"{item.label}: {key} has no effect, because {reason}"
            yield LocatedProblem(item.key_at("batch", key), message, hint)


def _without_times(
    item: Declaration[FeatureView], given: Sequence[str]
) -> Iterator[LocatedProblem]:
    for key in ("batch_source", "lookback", "schedule"):
        if key in given:
            hint = "add `timestamp_field:` to the source"
            if key == "batch_source":
                hint += ", or `static: true` if its rows hold for all times"
            message = f"{item.label}: {key} needs the times of the rows"
            yield LocatedProblem(item.key_at("batch", key), message, hint)


def history_warnings(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield the warnings about loads that leave gaps, or run at other times than declared."""
    batch = item.model.batch
    if batch is None:
        return
    refresh = format_duration(batch.refresh)
    if batch.schedule and batch.schedule.every != batch.refresh:
        every = format_duration(batch.schedule.every)
        yield LocatedProblem(
            item.at("batch", "schedule", "every"),
            f"{item.label}: loads run every {every}, but the refresh is {refresh}",
            "make them equal, so that training sets and `featurekit status` expect the same loads",
        )
    every_ms = batch.schedule.every if batch.schedule else batch.refresh
    if batch.lookback and batch.lookback < every_ms:
        yield LocatedProblem(
            item.at("batch", "lookback"),
            f"{item.label}: lookback {format_duration(batch.lookback)} is less than the "
            f"{format_duration(every_ms)} between two loads, so rows in between are never loaded",
            f"set a lookback of {format_duration(every_ms)} or more",
        )


def log_problems(declarations: Declarations) -> Iterator[LocatedProblem]:
    """Yield a problem for each log in the folder of another one."""
    first: dict[str, SourceLocation] = {}
    for label, path, location in _logs(declarations):
        other = first.setdefault(path.rstrip("/"), location)
        if other is not location:
            yield LocatedProblem(
                location,
                f"{label}: {format_raw(path)} is already the folder of another log ({other})",
                "give each log a folder of its own",
            )


def _logs(declarations: Declarations) -> Iterator[tuple[str, str, SourceLocation]]:
    """Yield (label, path, location) of all logs."""
    for view in declarations.feature_views:
        if view.model.stream and view.model.stream.log:
            path = view.model.stream.log.path
            yield view.label, path, view.at("stream", "log", "path")
    for service in declarations.feature_services:
        if service.model.logging:
            yield service.label, service.model.logging.path, service.at("logging", "path")
