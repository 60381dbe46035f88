"""Check the `${VAR}` references in the locations of sources.

The variables themselves may be unset: they are expanded where a source is opened, maybe on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator

from featurekit.loader.declarations import Declaration
from featurekit.loader.environment import expand_text, used_variables
from featurekit.loader.problems import LocatedProblem
from featurekit.models.definitions import FeatureView
from featurekit.models.sources import SqlSource

_Location = tuple[tuple[str | int, ...], str]


def location_problems(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield a problem for each location with a `${` that is not a reference."""
    for path, text in _locations(item):
        for message, hint in _reference_problems(text):
            yield LocatedProblem(item.at(*path), f"{item.label}: {message}", hint)


def _reference_problems(text: str) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    any_values = dict.fromkeys(used_variables(text), "-")
    expand_text(text, any_values, lambda message, hint: problems.append((message, hint)))
    return problems


def query_warnings(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield a warning if a query contains a reference, which SQL does not expand."""
    source = item.model.batch.source if item.model.batch else None
    if isinstance(source, SqlSource) and (names := used_variables(source.query or "")):
        name = min(names)
        yield LocatedProblem(
            item.at("batch", "source", "query"),
            f"{item.label}: ${{{name}}} is not expanded in a query",
            f"write `${name.lower()}` and add `parameters: {{{name.lower()}: ${{{name}}}}}`",
        )


def _locations(item: Declaration[FeatureView]) -> Iterator[_Location]:
    view = item.model
    for kind, ingestion in (("batch", view.batch), ("stream", view.stream)):
        source = ingestion.source if ingestion else None
        for key in source.locations if source else ():
            value = getattr(source, key)
            items = value.items() if isinstance(value, dict) else enumerate(_texts(value))
            is_list = isinstance(item.raw(kind, "source", key), dict | list)
            for name, text in items:
                yield (kind, "source", key, *((name,) if is_list else ())), text


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()
