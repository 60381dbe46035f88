"""Check the `${VAR}` references in the locations of sources and logs.

The variables themselves may be unset: they are expanded where a source is opened, maybe on another machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from featurekit.loader.declarations import Declaration, N
from featurekit.loader.environment import expand_text, used_variables
from featurekit.loader.problems import LocatedProblem
from featurekit.models.definitions import (
    AnySource,
    EventLog,
    FeatureLogging,
    FeatureService,
    FeatureView,
)
from featurekit.models.sources import SqlEvents, SqlSource


def location_problems(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield a problem for each location of a view with a `${` that is not a reference."""
    for keys, source in item.model.sources():
        yield from _problems_in(item, keys, source)
    if item.model.stream and item.model.stream.log:
        yield from _problems_in(item, ("stream", "log"), item.model.stream.log)


def log_location_problems(item: Declaration[FeatureService]) -> Iterator[LocatedProblem]:
    """Do the same for the location of a service's log."""
    if item.model.logging:
        yield from _problems_in(item, ("logging",), item.model.logging)


_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def query_warnings(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield warnings about queries: references, which SQL does not expand, and no statement at all."""
    for keys, source in item.model.sources():
        if not isinstance(source, SqlSource | SqlEvents):
            continue
        if source.query and not _COMMENTS.sub("", source.query).strip(" \t\r\n;"):
            yield LocatedProblem(
                item.at(*keys, "query"),
                f"{item.label}: the query has only comments, so nothing can be loaded from it",
                "write a statement such as `select * from 'exported/*.parquet'`",
            )
        if names := used_variables(source.query or ""):
            name = min(names)
            yield LocatedProblem(
                item.at(*keys, "query"),
                f"{item.label}: ${{{name}}} is not expanded in a query",
                f"write `${name.lower()}` and add `parameters: {{{name.lower()}: ${{{name}}}}}`",
            )


def _problems_in(
    item: Declaration[N], keys: tuple[str, ...], model: AnySource | EventLog | FeatureLogging
) -> Iterator[LocatedProblem]:
    for key in model.locations:
        value = getattr(model, key)
        items = value.items() if isinstance(value, dict) else enumerate(_texts(value))
        is_list = isinstance(item.raw(*keys, key), dict | list)
        for name, text in items:
            path = (*keys, key, *((name,) if is_list else ()))
            for message, hint in _reference_problems(text):
                yield LocatedProblem(item.at(*path), f"{item.label}: {message}", hint)


def _reference_problems(text: str) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    any_values = dict.fromkeys(used_variables(text), "-")
    expand_text(text, any_values, lambda message, hint: problems.append((message, hint)))
    return problems


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()
