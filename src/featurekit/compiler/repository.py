"""Compile a registry into a `RepoPlan`."""

from __future__ import annotations

from featurekit.compiler.derived import compile_derived_views, compile_requests
from featurekit.compiler.fields import compile_fields, compile_windows, max_ahead_ms
from featurekit.compiler.sources import compile_source, compile_stream
from featurekit.keys import JoinKey, KeyPlan
from featurekit.models.definitions import (
    Batch,
    Entity,
    FeatureLogging,
    FeatureView,
    Schedule,
)
from featurekit.plan import (
    NO_LIMITS,
    EntityPlan,
    LoadLimits,
    LogPlan,
    RemovedEntityPlan,
    RepoPlan,
    SchedulePlan,
    ServicePlan,
    ViewPlan,
)
from featurekit.registry import Registry, RemovedEntity
from featurekit.types import parse_dtype


def compile_repo(registry: Registry) -> RepoPlan:
    """Return the plan of a registry."""
    entities = {
        entity.name: EntityPlan(
            name=entity.name,
            key=_compile_key(registry.key_prefix, entity),
            retired=tuple(registry.retired.get(entity.name, ())),
        )
        for entity in registry.all_entities
    }
    views = tuple(
        _compile_view(registry.project, entities[view.entity_name], view)
        for view in registry.feature_views
    )
    requests = compile_requests(registry.requests)
    return RepoPlan(
        project=registry.project,
        prefix=registry.key_prefix,
        fingerprint=registry.fingerprint,
        entities=tuple(entities.values()),
        views=views,
        services=tuple(
            ServicePlan(
                service.name, registry.features_of(service), _compile_logging(service.logging)
            )
            for service in registry.feature_services
        ),
        removed=tuple(_compile_removed(registry.key_prefix, each) for each in registry.removed),
        derived_views=compile_derived_views(registry, views, requests),
        requests=requests,
    )


def _compile_removed(prefix: str, removed: RemovedEntity) -> RemovedEntityPlan:
    types = [
        (name, None if dtype is None else parse_dtype(dtype))
        for name, dtype in removed.types.items()
    ]
    return RemovedEntityPlan(_compile_key(prefix, removed.entity), tuple(types))


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
        fields=compile_fields(view),
        expires="key" if view.owns_key else "field",
        ttl_ms=view.ingestion.ttl_ms,
        refresh_ms=view.ingestion.refresh,
        retired=entity.retired if view.batch else (),
        ordering=view.ingestion.ordering,
        future_rows=view.batch.future_rows if view.batch else "skip",
        max_ahead_ms=max_ahead_ms(view),
        source=compile_source(view.batch.source) if view.batch and view.batch.source else None,
        stream=compile_stream(project, view) if view.stream else None,
        limits=_compile_limits(view.batch) if view.batch else NO_LIMITS,
        history=compile_source(view.ingestion.batch_source)
        if view.ingestion.batch_source
        else None,
        lookback_ms=view.batch.lookback if view.batch else None,
        schedule=_compile_schedule(view.batch.schedule) if view.batch else None,
        log=LogPlan(view.stream.log.path) if view.stream and view.stream.log else None,
        windows=compile_windows(view),
    )


def _compile_schedule(schedule: Schedule | None) -> SchedulePlan | None:
    if schedule is None:
        return None
    return SchedulePlan(schedule.every, schedule.at or 0, schedule.takes or 0)


def _compile_logging(logging: FeatureLogging | None) -> LogPlan | None:
    return LogPlan(logging.path, logging.sample_rate) if logging else None


def _compile_limits(batch: Batch) -> LoadLimits:
    return LoadLimits(
        min_rows=batch.min_rows,
        max_source_age_ms=batch.max_source_age,
        max_rejected=batch.max_rejected,
    )
