"""Parts of the document that every operation shares: statuses, errors, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.lower.read import STATUSES
from featurekit.server.openapi.values import Schema

Operation = dict[str, Any]

ERRORS = {
    400: "The body is not JSON.",
    401: "A valid bearer token is needed.",
    403: "The token is for something else, or a page of another site asks.",
    404: "Nothing is known under that name.",
    408: "The body took too long to arrive.",
    409: "A load of the view is running already.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    422: "The request asks for what cannot be; the message names it.",
    501: "The server lacks an optional library.",
    502: "The online store, or a source, refused or failed.",
    503: "Not ready, or the online store is away. Safe to send again.",
}

READING = (400, 401, 403, 404, 408, 413, 415, 422, 502, 503)
WRITING = (*READING[:5], 409, *READING[5:], 501)
LOOKING = (401, 403, 502, 503)

STATUS: Schema = {"enum": list(STATUSES)}

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["class", "message", "where", "hint"],
                "properties": {
                    "class": {"type": "string", "description": "As in docs/errors.md."},
                    "message": {"type": "string", "description": "The fact."},
                    "where": {"type": "string", "description": "The place; may be empty."},
                    "hint": {"type": "string", "description": "What to do; may be empty."},
                    "problems": {"type": "array", "items": {"type": "object"}},
                },
            }
        },
    },
    "FeastError": {
        "type": "string",
        "description": "JSON in a string, as Feast's client reads it: module, class, message.",
    },
}


def ref(name: str) -> Schema:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    """An object of just these members."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return schema | ({"required": list(required)} if required else {})


def json_of(schema: Schema) -> dict[str, Any]:
    """A body of JSON."""
    return {"application/json": {"schema": schema}}


def operation(
    name: str, summary: str, tag: str, answers: dict[str, Any], errors: Sequence[int]
) -> Operation:
    """One operation.

    Args:
        name: Its id.
        summary: What it does.
        tag: Where the page shows it.
        answers: Its answers by status.
        errors: The statuses of `ERRORS` that it may give.
    """
    told = {str(status): {"$ref": f"#/components/responses/{status}"} for status in errors}
    return {"operationId": name, "summary": summary, "tags": [tag], "responses": answers | told}


def taking(schema: Schema) -> dict[str, Any]:
    """The request body of an operation."""
    return {"requestBody": {"required": True, "content": json_of(schema)}}


def answer(schema: Schema, text: str = "Done.") -> dict[str, Any]:
    """An answer of JSON."""
    return {"description": text, "content": json_of(schema)}


def error_responses() -> dict[str, Any]:
    """The errors that operations refer to, by status."""
    told: dict[str, Any] = {}
    for status, text in ERRORS.items():
        schema = ref("Error")
        if status in (404, 422):
            schema = {"anyOf": [ref("Error"), ref("FeastError")]}
        told[str(status)] = answer(schema, text)
    return told
