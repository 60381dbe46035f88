"""Warnings: what is allowed, and likely to be regretted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from featurekit.loader.declared import Declared, Item
from featurekit.loader.places import Finding
from featurekit.models.definitions import FeatureView
from featurekit.models.scalars import format_duration, parse_duration

_WINDOW = re.compile(r".*_([1-9][0-9]{0,3}[smhd])")


def warnings_of(declared: Declared) -> Iterator[Finding]:
    """The warnings about a repository that has no errors."""
    owners = {v.model.entity: v.model for v in declared.feature_views if v.model.owns_key}
    for item in declared.feature_views:
        yield from _short_ttl(item)
        yield from _short_windows(item)
        if (owner := owners.get(item.model.entity)) is not None and owner is not item.model:
            yield from _outlives_key(item, owner)


def _short_ttl(item: Item[FeatureView]) -> Iterator[Finding]:
    view, how = item.model, item.model.how
    if how.ttl_ms < 2 * how.refresh:
        kind = "batch" if view.batch else "stream"
        yield Finding(
            item.at(kind, "ttl"),
            f"feature view '{view.name}': ttl {format_duration(how.ttl_ms)} is under twice the "
            f"refresh of {format_duration(how.refresh)}, so that one late write loses values",
            f"a ttl of {format_duration(2 * how.refresh)} or more outlives one missed write",
        )


def _short_windows(item: Item[FeatureView]) -> Iterator[Finding]:
    """Fields of streams alone: how long a batch value lives says nothing of its window."""
    view = item.model
    for name in view.fields_ if view.stream else ():
        match = _WINDOW.fullmatch(name)
        ttl_ms = view.field_ttl_ms(name)
        if match and ttl_ms < parse_duration(match[1]):
            yield Finding(
                item.key_at("fields", name),
                f"field '{view.name}:{name}' lives {format_duration(ttl_ms)}, shorter than the "
                f"{match[1]} its name tells",
                f"give it `ttl: {match[1]}` of its own",
            )


def _outlives_key(item: Item[FeatureView], owner: FeatureView) -> Iterator[Finding]:
    view = item.model
    key_ttl_ms = owner.how.ttl_ms
    tail = (
        f"longer than the key, which feature view '{owner.name}' expires after "
        f"{format_duration(key_ttl_ms)}"
    )
    if view.how.ttl_ms > key_ttl_ms:
        kind = "batch" if view.batch else "stream"
        ttl = format_duration(view.how.ttl_ms)
        yield Finding(item.at(kind, "ttl"), f"feature view '{view.name}': ttl {ttl} is {tail}")
    for name, spec in view.fields_.items():
        if spec.ttl is not None and spec.ttl > key_ttl_ms:
            ttl = format_duration(spec.ttl)
            place = item.at("fields", name, "ttl")
            yield Finding(place, f"field '{view.name}:{name}': ttl {ttl} is {tail}")
