"""Warnings about valid definitions that are probably mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from featurekit.loader.declarations import Declaration, Declarations
from featurekit.loader.histories import history_warnings
from featurekit.loader.locations import query_warnings
from featurekit.loader.problems import LocatedProblem
from featurekit.loader.service_checks import service_warnings
from featurekit.loader.windows import window_warnings
from featurekit.models.definitions import FeatureView
from featurekit.models.scalars import format_duration, parse_duration

_WINDOW_SUFFIX = re.compile(r".*_([1-9][0-9]{0,3}[smhd])")

_LONG_TTL = 10
"""Refreshes after which a view that is not written any more should have expired."""


def definition_warnings(declarations: Declarations) -> Iterator[LocatedProblem]:
    """Yield the warnings about definitions without errors."""
    owners = {v.model.entity_name: v.model for v in declarations.feature_views if v.model.owns_key}
    for item in declarations.feature_views:
        yield from _warn_ttl_for_refresh(item)
        yield from _warn_ttl_below_window(item)
        yield from query_warnings(item)
        yield from history_warnings(item)
        yield from window_warnings(item)
        if (owner := owners.get(item.model.entity_name)) is not None and owner is not item.model:
            yield from _warn_ttl_above_key(item, owner)
    for service in declarations.feature_services:
        yield from service_warnings(declarations, service)


def _warn_ttl_for_refresh(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Warn of a view that expires after one late write, or long after writes have stopped."""
    view, ingestion = item.model, item.model.ingestion
    where = item.at("batch" if view.batch else "stream", "ttl")
    ttl, refresh = format_duration(ingestion.ttl_ms), format_duration(ingestion.refresh)
    if ingestion.ttl_ms < 2 * ingestion.refresh:
        yield LocatedProblem(
            where,
            f"feature view '{view.name}': ttl {ttl} is less than twice the refresh of {refresh}, so "
            "values expire after one late write",
            f"set a ttl of {format_duration(2 * ingestion.refresh)} or more",
        )
    if ingestion.ttl_ms > _LONG_TTL * ingestion.refresh:
        yield LocatedProblem(
            where,
            f"feature view '{view.name}': ttl {ttl} is more than ten times the refresh of {refresh}, "
            "so old values are served long after writes have stopped",
            f"set a ttl of at most {format_duration(_LONG_TTL * ingestion.refresh)}, or the refresh "
            "at which the view is really written",
        )


def _warn_ttl_below_window(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Only for stream views: the TTL of a batch value is unrelated to its window."""
    view = item.model
    for name in view.fields_ if view.stream else ():
        window = _WINDOW_SUFFIX.fullmatch(name)
        ttl_ms = view.field_ttl_ms(name)
        if window and ttl_ms < parse_duration(window[1]):
            yield LocatedProblem(
                item.key_at("fields", name),
                f"field '{view.name}:{name}' expires after {format_duration(ttl_ms)}, before the "
                f"window of {window[1]} in its name",
                f"set `ttl: {window[1]}` on the field",
            )


def _warn_ttl_above_key(
    item: Declaration[FeatureView], owner: FeatureView
) -> Iterator[LocatedProblem]:
    view = item.model
    key_ttl_ms = owner.ingestion.ttl_ms
    limit = (
        f"longer than the ttl of the key, {format_duration(key_ttl_ms)}, which feature view "
        f"'{owner.name}' sets"
    )
    if view.ingestion.ttl_ms > key_ttl_ms:
        kind = "batch" if view.batch else "stream"
        ttl = format_duration(view.ingestion.ttl_ms)
        message = f"feature view '{view.name}': ttl {ttl} is {limit}"
        yield LocatedProblem(item.at(kind, "ttl"), message)
    for name, spec in view.fields_.items():
        for key, duration_ms in (("ttl", spec.ttl), ("window", spec.window)):
            if duration_ms is not None and duration_ms > key_ttl_ms:
                duration = format_duration(duration_ms)
                message = f"field '{view.name}:{name}': {key} {duration} is {limit}"
                yield LocatedProblem(item.at("fields", name, key), message)
