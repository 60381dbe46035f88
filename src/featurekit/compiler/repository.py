"""Compiling a registry: its entities, views and services as plans."""

from __future__ import annotations

from featurekit.compiler.feeds import compile_source, compile_stream
from featurekit.keys import JoinKey, KeyPlan
from featurekit.models.definitions import Entity, FeatureService, FeatureView
from featurekit.models.fields import FieldSpec
from featurekit.plan import Checks, EntityPlan, FieldPlan, RepoPlan, ServicePlan, ViewPlan
from featurekit.registry import Registry
from featurekit.types import codec_of, parse_dtype


def compile_repo(registry: Registry) -> RepoPlan:
    """The plan of a registry."""
    entities = {
        entity.name: EntityPlan(
            name=entity.name,
            key=_key(registry.key_prefix, entity),
            retired=tuple(registry.retired.get(entity.name, ())),
        )
        for entity in registry.entities
    }
    views = {
        view.name: _view(registry.project, entities[view.entity], view)
        for view in registry.feature_views
    }
    return RepoPlan(
        project=registry.project,
        prefix=registry.key_prefix,
        fingerprint=registry.fingerprint,
        entities=tuple(entities.values()),
        views=tuple(views.values()),
        services=tuple(_service(service, views) for service in registry.feature_services),
    )


def _key(prefix: str, entity: Entity) -> KeyPlan:
    names = list(entity.join_keys)
    tag = entity.hash_tag
    return KeyPlan(
        prefix=prefix,
        entity=entity.name,
        join_keys=tuple(JoinKey(n, parse_dtype(t)) for n, t in entity.join_keys.items()),
        hash_tag=tag.literal if tag else None,
        hash_tag_index=names.index(tag.join_key) if tag and tag.join_key else None,
    )


def _view(project: str, entity: EntityPlan, view: FeatureView) -> ViewPlan:
    how = view.how
    return ViewPlan(
        name=view.name,
        kind="batch" if view.batch else "stream",
        key=entity.key,
        fields=tuple(
            _field(name, spec, view.field_ttl_ms(name)) for name, spec in view.fields_.items()
        ),
        expires="key" if view.owns_key else "field",
        ttl_ms=how.ttl_ms,
        refresh_ms=how.refresh,
        retired=entity.retired if view.batch else (),
        ordering=view.stream.ordering if view.stream else "arrival",
        source=compile_source(view.batch.source) if view.batch and view.batch.source else None,
        stream=compile_stream(project, view) if view.stream else None,
    )


def _field(name: str, spec: FieldSpec, ttl_ms: int) -> FieldPlan:
    codec = codec_of(spec.dtype)

    def encoded(value: object) -> bytes:
        return codec.encode(codec.from_json(value))

    return FieldPlan(
        name=name,
        dtype=spec.dtype,
        checks=Checks(
            min=spec.min,
            max=spec.max,
            one_of=tuple(encoded(choice) for choice in spec.one_of or ()),
            pattern=spec.pattern or "",
            max_length=spec.max_length or 0,
            required=spec.required,
            allow_nan=spec.allow_nan,
        ),
        default=None if spec.default is None else encoded(spec.default),
        ttl_ms=ttl_ms,
    )


def _service(service: FeatureService, views: dict[str, ViewPlan]) -> ServicePlan:
    features: dict[tuple[str, str], None] = {}
    for reference in service.features:
        name, _, field = reference.partition(":")
        for each in [field] if field else [f.name for f in views[name].fields]:
            features[name, each] = None
    return ServicePlan(service.name, tuple(features))
