"""Definitions in words: what the registry holds, as cells of tables and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from featurekit.keys import KeyPlan
from featurekit.models import Entity, FeatureService, FeatureView, FieldSpec, format_duration
from featurekit.models.model import Described, Model
from featurekit.plan import RepoPlan
from featurekit.registry import Registry

RULES = ("min", "max", "one_of", "pattern", "max_length", "required", "allow_nan")


def document_of(kind: str, model: Model, **more: object) -> dict[str, object]:
    """A definition as JSON: what was said, and what follows from it."""
    data = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"kind": kind, **data, **more}


def described(model: Described) -> list[tuple[str, str]]:
    """The descriptive keys but the description."""
    reason = "yes" if model.deprecated is True else model.deprecated or ""
    return [
        ("owner", model.owner),
        ("tags", ", ".join(f"{name}={text}" for name, text in model.tags.items())),
        ("deprecated", reason),
    ]


def join_keys_text(entity: Entity) -> str:
    """`user_id: string`, or several."""
    return ", ".join(f"{name}: {dtype}" for name, dtype in entity.join_keys.items())


def kind_of(view: FeatureView) -> str:
    """`batch` or `stream`."""
    return "batch" if view.batch else "stream"


def default_text(field: FieldSpec) -> str:
    """The default as YAML would have it; empty for none."""
    return "" if field.default is None else _plain(field.default)


def ttl_text(view: FeatureView, name: str) -> str:
    """How long a written value of a field lives."""
    return format_duration(view.field_ttl_ms(name) or view.ingestion.ttl_ms)


def expiry_text(view: FeatureView) -> str:
    """What expires, and when."""
    ttl = format_duration(view.ingestion.ttl_ms)
    return f"{ttl}, the whole entity" if view.owns_key else f"{ttl}, field by field"


def rules_text(field: FieldSpec) -> str:
    """A field's constraints, in the words of YAML."""
    return ", ".join(_rules(field))


def _rules(field: FieldSpec) -> Iterator[str]:
    for rule in RULES:
        value = getattr(field, rule)
        if value is True:
            yield rule
        elif isinstance(value, tuple):
            yield f"{rule} {'|'.join(map(_plain, value))}"
        elif value is not None and value is not False:
            yield f"{rule} {value}"


def source_text(view: FeatureView) -> str:
    """Where a view's rows or events come from, as `csv data/users.csv, newest by event_timestamp`."""
    source = view.ingestion.source
    if source is None:
        return "none; a program writes it"
    said: dict[str, Any] = source.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
    place = " ".join(_plain(said.pop(key)) for key in _PLACES if key in said)
    more = ", ".join(f"{key} {_plain(value)}" for key, value in said.items())
    return f"{source.type} {place}" + (f", {more}" if more else "")


_PLACES = ("path", "query", "query_file", "callable", "stream", "topic")


def key_text(plan: KeyPlan) -> str:
    """The form of an entity's keys, as `fs:user:<user_id>`."""
    parts = [f"<{part.name}>" for part in plan.join_keys]
    if plan.hash_tag_index is not None:
        parts[plan.hash_tag_index] = f"{{{parts[plan.hash_tag_index]}}}"
    return plan.entity_prefix + ":".join(parts)


def services_with(registry: Registry, view: str, field: str) -> list[str]:
    """The services that ask for a field."""
    wanted = {view, f"{view}:{field}"}
    return [s.name for s in registry.feature_services if wanted & set(s.features)]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(item)}" for name, item in value.items())
    return str(value)


def catalog(registry: Registry, plan: RepoPlan) -> dict[str, object]:
    """All of a registry as plain data: what was said, and what follows from it, in words."""
    return {
        "project": registry.project,
        "key_prefix": registry.key_prefix,
        "fingerprint": registry.fingerprint,
        "entities": [_entity(registry, plan, entity) for entity in registry.entities],
        "views": [_view(registry, view) for view in registry.feature_views],
        "services": [_service(registry, service) for service in registry.feature_services],
    }


def _words(model: Described) -> dict[str, object]:
    reason = "yes" if model.deprecated is True else model.deprecated or ""
    return {
        "description": model.description,
        "owner": model.owner,
        "tags": dict(model.tags),
        "deprecated": reason,
    }


def _entity(registry: Registry, plan: RepoPlan, entity: Entity) -> dict[str, object]:
    compiled = plan.entity(entity.name)
    return _words(entity) | {
        "name": entity.name,
        "join_keys": [{"name": n, "type": t} for n, t in entity.join_keys.items()],
        "key": key_text(compiled.key),
        "views": [view.name for view in registry.feature_views if view.entity == entity.name],
        "retired": list(compiled.retired),
    }


def _view(registry: Registry, view: FeatureView) -> dict[str, object]:
    return _words(view) | {
        "name": view.name,
        "entity": view.entity,
        "kind": kind_of(view),
        "refresh": format_duration(view.ingestion.refresh),
        "refresh_ms": view.ingestion.refresh,
        "ttl": format_duration(view.ingestion.ttl_ms),
        "ttl_ms": view.ingestion.ttl_ms,
        "expires": expiry_text(view),
        "ordering": view.stream.ordering if view.stream else "",
        "source": source_text(view),
        "has_source": view.ingestion.source is not None,
        "fields": [_field(registry, view, name) for name in view.fields_],
    }


def _field(registry: Registry, view: FeatureView, name: str) -> dict[str, object]:
    field = view.fields_[name]
    return _words(field) | {
        "name": name,
        "type": field.type,
        "default": default_text(field),
        "has_default": field.default is not None,
        "rules": rules_text(field),
        "ttl": ttl_text(view, name),
        "ttl_ms": view.field_ttl_ms(name) or view.ingestion.ttl_ms,
        "services": services_with(registry, view.name, name),
    }


def _service(registry: Registry, service: FeatureService) -> dict[str, object]:
    return _words(service) | {
        "name": service.name,
        "features": [f"{view}:{field}" for view, field in registry.features_of(service)],
        "entities": registry.entities_of(service),
    }
