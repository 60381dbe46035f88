"""The typed operations of `/v1`: each service is read, and each view written, in its own shape."""

from __future__ import annotations

from featurekit.compiler import compile_read
from featurekit.models import FeatureService, FeatureView, FieldSpec
from featurekit.plan import ReadPlan, RepoPlan
from featurekit.registry import Registry
from featurekit.runtime.read_arguments import MAX_TIMEOUT_S
from featurekit.runtime.write_arguments import MAX_TTL_MS
from featurekit.server.openapi.parts import (
    READING,
    STATUS,
    WRITING,
    Operation,
    answer,
    closed,
    operation,
    ref,
    taking,
)
from featurekit.server.openapi.values import Schema, answer_schema, given_schema, key_schema
from featurekit.server.v1.reading import LEAST_S

SPAN: Schema = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,2}(d|h|m|s|ms)$",
    "examples": ["2m", "24h"],
}

_SECONDS: Schema = {"type": ["number", "null"]}


def read_service(
    registry: Registry, repo: RepoPlan, service: FeatureService, most: int
) -> tuple[Operation, dict[str, Schema]]:
    """The operation that reads a service, and the schemas it refers to."""
    plan, name = compile_read(repo, service.name), service.name
    request = closed(request_members(plan, keys_schema(plan), most), ["entities"])
    read = operation(
        f"read_{name}",
        service.description or f"Read {name}.",
        "Read",
        {"200": answer(rows_schema(ref(f"{name}_row")), "A row for each entity, in order.")},
        READING,
    )
    if service.deprecated:
        read["deprecated"] = True
    return read | taking(ref(f"{name}_request")), {
        f"{name}_request": request,
        f"{name}_row": row_schema(keys_schema(plan), fields_of(registry, plan)),
    }


def request_members(plan: ReadPlan | None, keys: Schema, most: int) -> dict[str, Schema]:
    """What a request to read may say besides which features."""
    views = dict.fromkeys(column.view for column in plan.columns) if plan else {}
    ages = closed(dict.fromkeys(views, SPAN)) if plan else {
        "type": "object", "additionalProperties": SPAN,
    }  # fmt: skip
    return {
        "entities": {"type": "array", "items": keys, "description": f"At most {most}."},
        "freshness": {
            "type": "boolean",
            "default": False,
            "description": "Whether to tell how long each value has to live.",
        },
        "max_age": ages | {"description": "By view, how old a value may be that is not `stale`."},
        "partial": {
            "type": "boolean",
            "default": False,
            "description": "Whether to answer for the entities whose server is not away.",
        },
        "timeout_s": {
            "type": "number",
            "minimum": LEAST_S,
            "maximum": MAX_TIMEOUT_S,
            "description": "The bound of the read, in seconds.",
        },
    }


def keys_schema(plan: ReadPlan) -> Schema:
    """An entity: the join keys of a read."""
    keys = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
    return closed({name: key_schema(str(dtype)) for name, dtype in keys.items()}, list(keys))


def fields_of(registry: Registry, plan: ReadPlan) -> dict[str, FieldSpec]:
    """The features of a read by their names in its answer."""
    views = {view.name: view for view in registry.feature_views}
    return {c.name: views[c.view].fields_[c.field.name] for c in plan.columns}


def row_schema(keys: Schema, fields: dict[str, FieldSpec]) -> Schema:
    """A row of an answer, with the type of each feature."""
    cells = {name: cell_schema(answer_schema(field)) for name, field in fields.items()}
    return row_of(keys, closed(cells, list(cells)))


def row_of(keys: Schema, features: Schema) -> Schema:
    """A row of an answer."""
    members: dict[str, Schema] = {
        "entity": keys,
        "found": {"type": "boolean", "description": "Whether any of the features is stored."},
        "features": features,
        "error": {"type": "string", "description": "Why the row could not be read."},
    }
    return closed(members, ["entity", "found", "features"])


def rows_schema(row: Schema) -> Schema:
    """An answer of rows."""
    return closed({"rows": {"type": "array", "items": row}}, ["rows"])


def cell_schema(value: Schema) -> Schema:
    """A feature in a row: its value, its status, and its freshness if that was asked for."""
    members = {"value": value, "status": STATUS, "ttl_s": _SECONDS, "age_s": _SECONDS}
    return closed(members, ["value", "status"])


def write_view(
    registry: Registry, view: FeatureView, most: int
) -> tuple[Operation, dict[str, Schema]]:
    """The operation that writes a view, and the schemas it refers to."""
    name = view.name
    members: dict[str, Schema] = {
        "rows": {"type": "array", "maxItems": most, "items": ref(f"{name}_given")}
    }
    if view.stream is not None:
        members["ttl_s"] = {
            "type": "number",
            "minimum": 0.001,
            "exclusiveMaximum": MAX_TTL_MS // 1000,
            "description": "How long these values live, in the place of the declared TTLs.",
        }
    write = operation(
        f"write_{name}",
        f"Write rows into {name}: all of them, or none.",
        "Write",
        {"200": answer(ref("Written"))},
        WRITING,
    )
    write["description"] = view.description
    return write | taking(closed(members, ["rows"])), {f"{name}_given": _given(registry, view)}


def _given(registry: Registry, view: FeatureView) -> Schema:
    entity = next(each for each in registry.entities if each.name == view.entity)
    keys = {name: key_schema(dtype) for name, dtype in entity.join_keys.items()}
    fields = {name: given_schema(field) for name, field in view.fields_.items()}
    required = list(keys)
    if view.batch is not None:
        required += [name for name, field in view.fields_.items() if field.required]
    if view.event_time_field:
        fields["event_timestamp"] = {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "description": "Milliseconds since the epoch."},
            ]
        }
        required.append("event_timestamp")
    return closed(keys | fields, required)
