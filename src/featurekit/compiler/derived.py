"""Compile derived views and request data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from featurekit.compiler.fields import compile_value
from featurekit.derivations import Derivations, Inlined, Input
from featurekit.models.derived import DerivedField, DerivedView, FunctionSource, Request
from featurekit.plan import (
    DerivedFeature,
    DerivedInput,
    DerivedViewPlan,
    FieldPlan,
    FunctionPlan,
    RequestPlan,
    ViewPlan,
)
from featurekit.registry import Registry


def compile_requests(requests: Sequence[Request]) -> tuple[RequestPlan, ...]:
    """Return the plans of request data."""
    return tuple(
        RequestPlan(
            request.name,
            tuple(
                replace(compile_value(name, spec), default=spec.default_bytes)
                for name, spec in request.fields_.items()
            ),
        )
        for request in requests
    )


def compile_derived_views(
    registry: Registry, views: Sequence[ViewPlan], requests: Sequence[RequestPlan]
) -> tuple[DerivedViewPlan, ...]:
    """Return the plans of derived views, each feature over stored features and request values."""
    sources: list[RequestPlan | ViewPlan] = [*requests, *views]
    plans = {(each.name, field.name): field for each in sources for field in each.fields}
    return tuple(
        _compile_view(registry.derivations, view, plans) for view in registry.derived_views
    )


def _compile_view(
    derivations: Derivations, view: DerivedView, plans: Mapping[tuple[str, str], FieldPlan]
) -> DerivedViewPlan:
    features = []
    for name, spec in view.fields_.items():
        inlined = derivations.inlined(view.name, name)
        features.append(
            DerivedFeature(
                field=FieldPlan(name, spec.dtype, default=spec.default_bytes),
                inputs=tuple(_compile_input(each, plans) for each in inlined.inputs),
                compute=inlined.expression
                or _compile_function(
                    spec, derivations.computations[f"{view.name}:{name}"], inlined
                ),
                text=spec.expr or spec.callable or "",
            )
        )
    return DerivedViewPlan(view.name, tuple(features))


def _compile_input(each: Input, plans: Mapping[tuple[str, str], FieldPlan]) -> DerivedInput:
    return DerivedInput(
        name=each.full_name,
        source=each.source,
        field=plans[each.source, each.field],
        is_request=each.kind == "request",
    )


def _compile_function(spec: DerivedField, computation: object, inlined: Inlined) -> FunctionPlan:
    sha256 = computation.sha256 if isinstance(computation, FunctionSource) else ""
    return FunctionPlan(spec.callable or "", sha256, inlined.arguments)
