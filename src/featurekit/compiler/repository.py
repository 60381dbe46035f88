"""Compile a registry into a `RepoPlan`."""

from __future__ import annotations

from featurekit.compiler.sources import compile_source, compile_stream
from featurekit.keys import JoinKey, KeyPlan
from featurekit.models.definitions import Entity, FeatureView
from featurekit.models.fields import FieldSpec
from featurekit.plan import Constraints, EntityPlan, FieldPlan, RepoPlan, ServicePlan, ViewPlan
from featurekit.registry import Registry
from featurekit.types import codec_of, parse_dtype


def compile_repo(registry: Registry) -> RepoPlan:
    """Return the plan of a registry."""
    entities = {
        entity.name: EntityPlan(
            name=entity.name,
            key=_compile_key(registry.key_prefix, entity),
            retired=tuple(registry.retired.get(entity.name, ())),
        )
        for entity in registry.entities
    }
    return RepoPlan(
        project=registry.project,
        prefix=registry.key_prefix,
        fingerprint=registry.fingerprint,
        entities=tuple(entities.values()),
        views=tuple(
            _compile_view(registry.project, entities[view.entity], view)
            for view in registry.feature_views
        ),
        services=tuple(
            ServicePlan(service.name, registry.features_of(service))
            for service in registry.feature_services
        ),
    )


def _compile_key(prefix: str, entity: Entity) -> KeyPlan:
    tag = entity.hash_tag
    return KeyPlan(
        prefix=prefix,
        entity=entity.name,
        join_keys=tuple(JoinKey(n, parse_dtype(t)) for n, t in entity.join_keys.items()),
        hash_tag=tag.literal if tag else None,
        hash_tag_index=list(entity.join_keys).index(tag.join_key)
        if tag and tag.join_key
        else None,
    )


def _compile_view(project: str, entity: EntityPlan, view: FeatureView) -> ViewPlan:
    return ViewPlan(
        name=view.name,
        kind="batch" if view.batch else "stream",
        key=entity.key,
        fields=tuple(
            _compile_field(name, spec, view.field_ttl_ms(name))
            for name, spec in view.fields_.items()
        ),
        expires="key" if view.owns_key else "field",
        ttl_ms=view.ingestion.ttl_ms,
        refresh_ms=view.ingestion.refresh,
        retired=entity.retired if view.batch else (),
        ordering=view.stream.ordering if view.stream else "arrival",
        source=compile_source(view.batch.source) if view.batch and view.batch.source else None,
        stream=compile_stream(project, view) if view.stream else None,
    )


def _compile_field(name: str, spec: FieldSpec, ttl_ms: int) -> FieldPlan:
    codec = codec_of(spec.dtype)

    def encode(value: object) -> bytes:
        return codec.encode(codec.from_json(value))

    return FieldPlan(
        name=name,
        dtype=spec.dtype,
        constraints=Constraints(
            min=spec.min,
            max=spec.max,
            one_of=tuple(encode(choice) for choice in spec.one_of or ()),
            pattern=spec.pattern or None,
            max_length=spec.max_length,
            required=spec.required,
            allow_nan=spec.allow_nan,
        ),
        default=None if spec.default is None else encode(spec.default),
        ttl_ms=ttl_ms,
    )
