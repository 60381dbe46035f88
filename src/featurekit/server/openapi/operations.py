"""OpenAPI operations: their shared parts, and the typed operations of services and views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.codegen.row_schemas import (
    closed_object,
    fields_of_read,
    join_key_schemas,
    request_data_schema,
    rows_schema,
    typed_row_schema,
    written_row_schema,
)
from featurekit.codegen.value_schemas import Schema
from featurekit.compiler import compile_read
from featurekit.models import FeatureService, FeatureView
from featurekit.plan import ReadPlan, RepoPlan
from featurekit.registry import Registry
from featurekit.runtime.read_arguments import MAX_TIMEOUT_S
from featurekit.runtime.write_arguments import MAX_TTL_MS
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


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


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
    fields, key_schemas = fields_of_read(registry, read), join_key_schemas(read)
    keys = closed_object(key_schemas, list(key_schemas))
    result = operation(
        f"read_{name}",
        service.description or f"Read {name}.",
        "Read",
        {"200": response(rows_schema(ref(f"{name}_row")), "One row per entity, in order.")},
        READ_ERRORS,
    )
    if service.deprecated:
        result["deprecated"] = True
    members, needed = read_members(read, keys, most), ["entities"]
    sent = request_data_schema(registry, read)
    if sent is None:
        del members["request"]
    else:
        members["request"] = _request_data(sent)
        needed += ["request"] if "required" in sent else []
    return result | request_body(ref(f"{name}_request")), {
        f"{name}_request": closed_object(members, needed),
        f"{name}_row": typed_row_schema(keys, fields),
    }


def _request_data(row: Schema | None) -> Schema:
    """Return the schema of request data: one object for all entities, or one for each."""
    row = row or {"type": "object"}
    return {
        "anyOf": [row, {"type": "array", "items": row}],
        "description": "Values that features are computed from: one object for all entities, or a "
        "list with one for each.",
    }


def read_members(plan: ReadPlan | None, keys: Schema, most: int) -> dict[str, Schema]:
    """Return the members of a read request, besides the features."""
    ages: Schema = {"type": "object", "additionalProperties": _DURATION}
    if plan is not None:
        names = (name for column in plan.columns for name in (column.view, column.alias) if name)
        ages = closed_object(dict.fromkeys(names, _DURATION))
    return {
        "entities": {"type": "array", "items": keys, "description": f"At most {most}."},
        "request": _request_data(None),
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
    return write | body, {f"{name}_given": written_row_schema(registry, view)}
