"""OpenAPI operations: their shared parts, and the typed operations of services and views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.compiler import compile_read
from featurekit.lower.read import STATUSES
from featurekit.models import FeatureService, FeatureView, FieldSpec
from featurekit.plan import EVENT_TIMESTAMP, ReadPlan, RepoPlan
from featurekit.registry import Registry
from featurekit.runtime.read_arguments import MAX_TIMEOUT_S
from featurekit.runtime.write_arguments import MAX_TTL_MS
from featurekit.server.openapi.value_schemas import (
    Schema,
    key_schema,
    request_schema,
    response_schema,
)
from featurekit.server.v1_api import MIN_TIMEOUT_S

Operation = dict[str, Any]

ERRORS = {
    400: "The body is not JSON.",
    401: "A valid bearer token is required.",
    403: "The token lacks the scope, or a page of another site sent a write.",
    404: "The name is unknown.",
    408: "The body took too long to arrive.",
    409: "The view is already being loaded.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    422: "The request is invalid; the message says why.",
    501: "The server lacks an optional library.",
    502: "The online store or a source refused or failed.",
    503: "The server is not ready, or the online store is unavailable. Safe to retry.",
}

READ_ERRORS = (400, 401, 403, 404, 408, 413, 415, 422, 502, 503)
WRITE_ERRORS = (*READ_ERRORS[:5], 409, *READ_ERRORS[5:], 501)
REGISTRY_ERRORS = (401, 403, 502, 503)

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["type", "message", "where", "hint"],
                "properties": {
                    "type": {"type": "string", "description": "The class, see docs/errors.md."},
                    "message": {"type": "string", "description": "What happened."},
                    "where": {"type": "string", "description": "Where; may be empty."},
                    "hint": {"type": "string", "description": "What to do; may be empty."},
                },
            },
            "reports": {
                "type": "array",
                "items": {"type": "object"},
                "description": "The reports of all views of a load.",
            },
        },
    },
    "FeastError": {
        "type": "string",
        "description": "JSON in a string, as Feast clients expect: module, class, message.",
    },
}

_DURATION: Schema = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,2}(d|h|m|s|ms)$",
    "examples": ["2m", "24h"],
}
_SECONDS: Schema = {"type": ["number", "null"]}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed_object(properties: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    """Return the schema of an object without further members."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return schema | ({"required": list(required)} if required else {})


def operation(
    name: str, summary: str, tag: str, responses: dict[str, Any], errors: Sequence[int]
) -> Operation:
    """Return an operation.

    Args:
        name: The operation's id.
        summary: What the operation does.
        tag: The section of the page that shows it.
        responses: Its responses by status.
        errors: The statuses of `ERRORS` that it may return.
    """
    refs = {str(status): {"$ref": f"#/components/responses/{status}"} for status in errors}
    return {"operationId": name, "summary": summary, "tags": [tag], "responses": responses | refs}


def request_body(schema: Schema) -> dict[str, Any]:
    """Return the request body of an operation."""
    return {"requestBody": {"required": True, "content": _json_content(schema)}}


def response(schema: Schema, description: str = "Success.") -> dict[str, Any]:
    """Return a JSON response."""
    return {"description": description, "content": _json_content(schema)}


def _json_content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def error_responses() -> dict[str, Any]:
    """Return the error responses that operations refer to, by status."""
    responses: dict[str, Any] = {}
    for status, text in ERRORS.items():
        schema = ref("Error")
        if status in (404, 422):
            schema = {"anyOf": [ref("Error"), ref("FeastError")]}
        responses[str(status)] = response(schema, text)
    return responses


def read_service(
    registry: Registry, plan: RepoPlan, service: FeatureService, most: int
) -> tuple[Operation, dict[str, Schema]]:
    """Return the operation that reads a service, and the schemas it refers to."""
    read, name = compile_read(plan, service.name), service.name
    views = {view.name: view for view in registry.feature_views}
    fields = {c.name: views[c.view].fields_[c.field.name] for c in read.columns}
    keys = _join_keys_schema(read)
    result = operation(
        f"read_{name}",
        service.description or f"Read {name}.",
        "Read",
        {"200": response(rows_schema(ref(f"{name}_row")), "One row per entity, in order.")},
        READ_ERRORS,
    )
    if service.deprecated:
        result["deprecated"] = True
    return result | request_body(ref(f"{name}_request")), {
        f"{name}_request": closed_object(read_members(read, keys, most), ["entities"]),
        f"{name}_row": _typed_row_schema(keys, fields),
    }


def read_members(plan: ReadPlan | None, keys: Schema, most: int) -> dict[str, Schema]:
    """Return the members of a read request, besides the features."""
    ages: Schema = {"type": "object", "additionalProperties": _DURATION}
    if plan is not None:
        names = (name for column in plan.columns for name in (column.view, column.alias) if name)
        ages = closed_object(dict.fromkeys(names, _DURATION))
    return {
        "entities": {"type": "array", "items": keys, "description": f"At most {most}."},
        "freshness": {
            "type": "boolean",
            "default": False,
            "description": "Whether to return the remaining TTL of each value.",
        },
        "max_age": ages
        | {"description": "Maximum age by view or alias; older values are `stale`."},
        "partial": {
            "type": "boolean",
            "default": False,
            "description": "Whether to return the other rows if a server is unavailable.",
        },
        "timeout_s": {
            "type": "number",
            "minimum": MIN_TIMEOUT_S,
            "maximum": MAX_TIMEOUT_S,
            "description": "Timeout of the read, in seconds.",
        },
    }


def _join_keys_schema(plan: ReadPlan) -> Schema:
    keys = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
    return closed_object(
        {name: key_schema(str(dtype)) for name, dtype in keys.items()}, list(keys)
    )


def _typed_row_schema(keys: Schema, fields: dict[str, FieldSpec]) -> Schema:
    cells = {name: cell_schema(response_schema(field)) for name, field in fields.items()}
    return row_schema(keys, closed_object(cells, list(cells)))


def row_schema(keys: Schema, features: Schema) -> Schema:
    """Return the schema of a row in a response."""
    members: dict[str, Schema] = {
        "entity": keys,
        "found": {
            "type": "boolean",
            "description": "Whether `found_by` is true for every entity and alias.",
        },
        "found_by": {
            "type": "object",
            "additionalProperties": {"type": "boolean"},
            "description": "Whether any of the features is stored, by entity or alias.",
        },
        "features": features,
        "error": {"type": "string", "description": "Why the row could not be read."},
    }
    return closed_object(members, ["entity", "found", "found_by", "features"])


def rows_schema(row: Schema) -> Schema:
    """Return the schema of a response with rows."""
    return closed_object({"rows": {"type": "array", "items": row}}, ["rows"])


def cell_schema(value: Schema) -> Schema:
    """Return the schema of a feature in a row: its value, status and, on request, freshness."""
    status = {"enum": list(STATUSES)}
    members = {"value": value, "status": status, "ttl_s": _SECONDS, "age_s": _SECONDS}
    return closed_object(members, ["value", "status"])


def write_view(
    registry: Registry, view: FeatureView, most: int
) -> tuple[Operation, dict[str, Schema]]:
    """Return the operation that writes a view, and the schemas it refers to."""
    name = view.name
    members: dict[str, Schema] = {
        "rows": {"type": "array", "maxItems": most, "items": ref(f"{name}_given")}
    }
    if view.stream is not None:
        members["ttl_s"] = {
            "type": "number",
            "minimum": 0.001,
            "exclusiveMaximum": MAX_TTL_MS // 1000,
            "description": "TTL of these values in seconds, instead of the declared one.",
        }
    write = operation(
        f"write_{name}",
        f"Write rows to {name}: all of them, or none.",
        "Write",
        {"200": response(ref("Written"))},
        WRITE_ERRORS,
    )
    write["description"] = view.description
    body = request_body(closed_object(members, ["rows"]))
    return write | body, {f"{name}_given": _written_row_schema(registry, view)}


def _written_row_schema(registry: Registry, view: FeatureView) -> Schema:
    entity = next(each for each in registry.all_entities if each.name == view.entity_name)
    keys = {name: key_schema(dtype) for name, dtype in entity.join_keys.items()}
    fields = {name: request_schema(field) for name, field in view.fields_.items()}
    required = list(keys)
    if view.batch is not None:
        required += [name for name, field in view.fields_.items() if field.required]
    time: Schema = {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "integer", "description": "Milliseconds since the Unix epoch."},
        ]
    }
    if view.stream is not None:
        fields.setdefault(EVENT_TIMESTAMP, time)
    if view.event_time_field:
        fields[EVENT_TIMESTAMP] = time
        required.append(EVENT_TIMESTAMP)
    return closed_object(keys | fields, required)
