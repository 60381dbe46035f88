"""The definitions of a registry as plain data and as table cells, for commands and the console."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from featurekit.compiler import compile_read
from featurekit.errors import RequestError
from featurekit.feature_lists import GLOBAL
from featurekit.keys import KeyPlan
from featurekit.models import Entity, FeatureService, FeatureView, FieldSpec, format_duration
from featurekit.models.definitions import AnySource, EventId
from featurekit.models.derived import DerivedField, DerivedView
from featurekit.models.fields import ConstrainedValue, TypedValue
from featurekit.models.model import Described, Model
from featurekit.models.scalars import format_time_of_day
from featurekit.plan import RepoPlan
from featurekit.registry import Registry

_CONSTRAINTS = ("min", "max", "one_of", "pattern", "max_length", "required", "allow_nan")
_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^/@\s]*@")
_SOURCE_LOCATIONS = ("path", "query", "query_file", "callable", "stream", "topic")


def definition_document(kind: str, model: Model, **derived: object) -> dict[str, object]:
    """Return a definition as JSON data, with values derived from it."""
    data = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"kind": kind, **data, **derived}


def descriptive_rows(model: Described) -> list[tuple[str, str]]:
    """Return the owner, tags and deprecation of a definition as rows of a table."""
    return [
        ("owner", model.owner),
        ("tags", ", ".join(f"{name}={text}" for name, text in model.tags.items())),
        ("deprecated", _deprecation(model)),
    ]


def _deprecation(model: Described) -> str:
    return "yes" if model.deprecated is True else model.deprecated or ""


def join_keys_text(entity: Entity) -> str:
    """Return the join keys with their types, as `user_id: string`."""
    return ", ".join(f"{name}: {dtype}" for name, dtype in entity.join_keys.items())


def view_kind(view: FeatureView) -> Literal["batch", "stream"]:
    """Return `batch` or `stream`."""
    return "batch" if view.batch else "stream"


def derived_entities(registry: Registry, view: DerivedView, field: str | None = None) -> list[str]:
    """Return the entities that a derived view, or one of its features, is computed from."""
    used = registry.derivations.used(view.name, view.fields_ if field is None else [field])
    sources = {each.source for each in used if each.kind == "stored"}
    entities = (each.entity for each in registry.feature_views if each.name in sources)
    return list(dict.fromkeys(entity for entity in entities if entity))


def request_values(registry: Registry, view: DerivedView, field: str | None = None) -> list[str]:
    """Return the values of requests that a derived view, or one of its features, needs."""
    used = registry.derivations.used(view.name, view.fields_ if field is None else [field])
    return [each.field for each in used if each.kind == "request"]


def computation_text(field: DerivedField) -> str:
    """Return the expression of a derived feature, or its function with the arguments."""
    return field.expr or f"{field.callable}({', '.join(field.inputs or ())})"


def default_text(field: TypedValue) -> str:
    """Return the default as in YAML; empty if there is none."""
    return "" if field.default is None else _plain_text(field.default)


def ttl_text(view: FeatureView, field: str) -> str:
    """Return the TTL of a field's values."""
    return format_duration(_ttl_ms(view, field))


def _ttl_ms(view: FeatureView, field: str) -> int:
    return view.field_ttl_ms(field) or view.ingestion.ttl_ms


def expiry_text(view: FeatureView) -> str:
    """Return the view's TTL, and whether it applies to the entity or to each field."""
    if view.is_windowed:
        return "with its windows, field by field"
    ttl = format_duration(view.ingestion.ttl_ms)
    return f"{ttl}, the whole entity" if view.owns_key else f"{ttl}, field by field"


def ordering_text(view: FeatureView) -> str:
    """Return which row or event wins; empty for a batch view without an order of its own."""
    is_ordered = view.stream is not None or view.event_time_field is not None
    return view.ingestion.ordering if is_ordered and not view.is_windowed else ""


def window_rows(view: FeatureView) -> list[tuple[str, str]]:
    """Return (name, text) of what a view with windows declares of its events."""
    if not view.is_windowed or view.stream is None:
        return []
    once = view.stream.once
    guards = {"offset": "offset", "group": "consumer group", "none": "none: at least once"}
    inputs = ", ".join(f"{name}: {spec.type}" for name, spec in view.inputs.items())
    repeated = once.event_id if isinstance(once, EventId) else guards[view.once]
    stale = format_duration(view.stream.ttl_ms) if view.stream.source else "never: no worker"
    return [("inputs", inputs), ("once", repeated), ("stale after", stale)]


def aggregate_text(field: FieldSpec) -> str:
    """Return an aggregate and its window, as `sum of amount over 1h, tile 5m`; empty for other fields."""
    if not (field.aggregate and field.window and field.tile_ms):
        return ""
    of = f" of {field.of}" if field.of else ""
    where = f", where {field.where}" if field.where else ""
    window, tile = format_duration(field.window), format_duration(field.tile_ms)
    return f"{field.aggregate}{of} over {window}, tile {tile}{where}"


def constraints_text(field: ConstrainedValue) -> str:
    """Return a field's constraints, as `min 0, required`, or the aggregate that it is."""
    aggregate = aggregate_text(field) if isinstance(field, FieldSpec) else ""
    return aggregate or ", ".join(_constraints(field))


def rules_text(field: TypedValue) -> str:
    """Return the rules of a field, or what a derived one is computed as."""
    if isinstance(field, DerivedField):
        return computation_text(field)
    return constraints_text(field) if isinstance(field, ConstrainedValue) else ""


def _constraints(field: ConstrainedValue) -> Iterator[str]:
    for name in _CONSTRAINTS:
        value = getattr(field, name)
        if value is True:
            yield name
        elif isinstance(value, tuple):
            yield f"{name} {'|'.join(map(_plain_text, value))}"
        elif value is not None and value is not False:
            yield f"{name} {value}"


def view_source_text(view: FeatureView) -> str:
    """Return the type, location and options of a view's source, as `csv data/users.csv, delimiter ;`."""
    source = view.ingestion.source
    return source_text(source) if source else "none; a program writes it"


def history_rows(view: FeatureView) -> list[tuple[str, str]]:
    """Return (name, text) of what a view declares of its history."""
    batch, stream, history = view.batch, view.stream, view.ingestion.batch_source
    rows = [("batch_source", source_text(history))] if history else []
    if batch and batch.lookback:
        rows.append(("lookback", format_duration(batch.lookback)))
    if batch and (schedule := batch.schedule):
        every, at = format_duration(schedule.every), format_time_of_day(schedule.at or 0)
        takes = f", takes {format_duration(schedule.takes)}" if schedule.takes else ""
        rows.append(("schedule", f"every {every} at {at} UTC{takes}"))
    if stream and stream.log:
        rows.append(("log", stream.log.path))
    return rows


def logging_text(service: FeatureService) -> str:
    """Return where a service's reads are logged, as `log/fraud_v1, sample rate 0.01`; empty if nowhere."""
    log = service.logging
    if log is None:
        return ""
    return log.path if log.sample_rate == 1 else f"{log.path}, sample rate {log.sample_rate:g}"


def source_text(source: AnySource) -> str:
    """Return a source's type, location and options."""
    options: dict[str, Any] = source.model_dump(
        mode="json", exclude_defaults=True, exclude={"type"}
    )
    locations = [_plain_text(options.pop(key)) for key in _SOURCE_LOCATIONS if key in options]
    others = [f"{name} {_plain_text(value)}" for name, value in options.items()]
    return without_password(", ".join([f"{source.type} {' '.join(locations)}", *others]))


def without_password(text: str) -> str:
    """Return a text without the passwords of the addresses in it."""
    return _PASSWORD.sub(r"\1***@", text)


def key_text(plan: KeyPlan) -> str:
    """Return the pattern of an entity's keys, as `fs:user:<user_id>`."""
    parts = [f"<{part.name}>" for part in plan.join_keys]
    if plan.hash_tag_index is not None:
        parts[plan.hash_tag_index] = f"{{{parts[plan.hash_tag_index]}}}"
    return plan.entity_prefix + ":".join(parts)


def services_with_field(registry: Registry, view: str, field: str) -> list[str]:
    """Return the names of the feature services that contain a field."""
    references = (view, f"{view}:{field}")
    return [
        service.name
        for service in registry.feature_services
        if any(
            item in references
            if isinstance(item, str)
            else item.view == view and item.has_field(field)
            for item in service.items
        )
    ]


def _plain_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain_text(item)}" for name, item in value.items())
    return str(value)


def catalog(registry: Registry, plan: RepoPlan) -> dict[str, object]:
    """Return all definitions of a registry as plain data, with derived values as text."""
    return {
        "project": registry.project,
        "key_prefix": registry.key_prefix,
        "fingerprint": registry.fingerprint,
        "entities": [
            *(_entity(registry, plan, entity) for entity in registry.entities),
            *_global_entity(registry, plan),
        ],
        "views": [_view(registry, view) for view in registry.feature_views],
        "services": [_service(registry, plan, service) for service in registry.feature_services],
    }


def _descriptive_keys(model: Described) -> dict[str, object]:
    return {
        "description": model.description,
        "owner": model.owner,
        "tags": dict(model.tags),
        "deprecated": _deprecation(model),
    }


def _entity(registry: Registry, plan: RepoPlan, entity: Entity) -> dict[str, object]:
    compiled = plan.entity(entity.name)
    return _descriptive_keys(entity) | {
        "name": entity.name,
        "join_keys": _join_keys(compiled.key),
        "key": key_text(compiled.key),
        "views": [view.name for view in registry.feature_views if view.entity == entity.name],
        "retired": list(compiled.retired),
    }


def _global_entity(registry: Registry, plan: RepoPlan) -> Iterator[dict[str, object]]:
    """Yield what stands for the entity of views without one, if there are any."""
    views = [view.name for view in registry.feature_views if view.entity is None]
    if views:
        yield {
            "name": GLOBAL,
            "description": "Views without an entity: one row for all requests.",
            "owner": "",
            "tags": {},
            "deprecated": "",
            "join_keys": [{"name": "view", "type": "string"}],
            "key": f"{plan.prefix}:{GLOBAL}:<view>",
            "views": views,
            "retired": [],
        }


def _view(registry: Registry, view: FeatureView) -> dict[str, object]:
    ingestion = view.ingestion
    return _descriptive_keys(view) | {
        "name": view.name,
        "entity": view.entity or GLOBAL,
        "kind": view_kind(view),
        "refresh": format_duration(ingestion.refresh),
        "refresh_ms": ingestion.refresh,
        "ttl": format_duration(ingestion.ttl_ms),
        "ttl_ms": ingestion.ttl_ms,
        "expires": expiry_text(view),
        "ordering": ordering_text(view),
        "source": view_source_text(view),
        "has_source": ingestion.source is not None,
        "history": dict(history_rows(view)),
        "fields": [_field(registry, view, name) for name in view.fields_],
    }


def _field(registry: Registry, view: FeatureView, name: str) -> dict[str, object]:
    field = view.fields_[name]
    return _descriptive_keys(field) | {
        "name": name,
        "type": field.type,
        "default": default_text(field),
        "has_default": field.default is not None,
        "rules": constraints_text(field),
        "ttl": ttl_text(view, name),
        "ttl_ms": _ttl_ms(view, name),
        "services": services_with_field(registry, view.name, name),
    }


def _service(registry: Registry, plan: RepoPlan, service: FeatureService) -> dict[str, object]:
    return _descriptive_keys(service) | {
        "name": service.name,
        "features": [str(feature) for feature in registry.features_of(service)],
        "entities": registry.entities_of(service),
        "logging": logging_text(service),
        "groups": _identifying_groups(plan, service.name),
    }


def _identifying_groups(plan: RepoPlan, service: str) -> list[dict[str, object]]:
    """Return the entities and aliases whose ids identify a row of a service."""
    try:
        groups = compile_read(plan, service).identifying_groups()
    except RequestError:  # two features have one name; a read says so
        groups = []
    return [
        {"name": group.name, "entity": group.key.entity, "join_keys": _join_keys(group.key)}
        for group in groups
    ]


def _join_keys(key: KeyPlan) -> list[dict[str, str]]:
    return [{"name": part.name, "type": str(part.dtype)} for part in key.join_keys]
