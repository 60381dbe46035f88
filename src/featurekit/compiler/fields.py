"""Compile the fields of a feature view, and its windows of events."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from featurekit.constraints import UNCONSTRAINED
from featurekit.models.definitions import FeatureView
from featurekit.models.fields import ConstrainedValue, FieldSpec
from featurekit.plan import AggregatePlan, FieldPlan, WindowsPlan


def compile_fields(view: FeatureView) -> tuple[FieldPlan, ...]:
    """Return the plans of a view's fields."""
    return tuple(_compile_field(view, name, spec) for name, spec in view.fields_.items())


def compile_value(name: str, spec: ConstrainedValue) -> FieldPlan:
    """Return the plan of a value that is not stored as it is, such as an input."""
    return FieldPlan(name=name, dtype=spec.dtype, constraints=spec.constraints)


def _compile_field(view: FeatureView, name: str, spec: FieldSpec) -> FieldPlan:
    field = replace(
        compile_value(name, spec),
        default=spec.default_bytes,
        ttl_ms=view.field_ttl_ms(name),
    )
    if spec.aggregate is None:
        return field
    if _is_count(spec) and field.default is None and not _is_marked(view):
        field = replace(field, default=b"0")
    return replace(field, constraints=UNCONSTRAINED, aggregate=_compile_aggregate(view, name))


def _compile_aggregate(view: FeatureView, name: str) -> AggregatePlan:
    spec = view.fields_[name]
    of = view.inputs[spec.of] if spec.of else None
    where = view.condition(name)
    types = [of and str(of.dtype), str(spec.dtype)]
    meaning = [spec.aggregate, spec.of, types, where and where.document()]
    return AggregatePlan(
        function=spec.aggregate or "count",
        of=spec.of,
        window_ms=spec.window or 0,
        tile_ms=spec.tile_ms or 0,
        where=where,
        where_text=spec.where,
        is_zero_if_empty=_is_count(spec) and _is_marked(view),
        definition=hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:3],
    )


def compile_windows(view: FeatureView) -> WindowsPlan | None:
    """Return how a view aggregates events; `None` if it stores the values of events as they are."""
    if view.stream is None or not view.is_windowed:
        return None
    return WindowsPlan(
        inputs=tuple(compile_value(name, spec) for name, spec in view.inputs.items()),
        once=view.once,
        event_id=view.event_id,
        max_mark_age_ms=view.stream.ttl_ms,
    )


def _is_count(spec: FieldSpec) -> bool:
    return spec.aggregate in ("count", "count_distinct")


def _is_marked(view: FeatureView) -> bool:
    """Return whether a worker writes the time up to which all events are applied."""
    return view.stream is not None and view.stream.source is not None


def max_ahead_ms(view: FeatureView) -> int:
    """Return how far ahead of the clock events may be: in windows at most one tile."""
    if view.stream is None:
        return 0
    tiles = [spec.tile_ms for spec in view.fields_.values() if spec.aggregate and spec.tile_ms]
    return min([view.stream.max_ahead, *tiles])
