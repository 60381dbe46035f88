"""The operations that are the same for every registry: Feast's, and those of `/v1` without types."""

from __future__ import annotations

from typing import Any

from featurekit.registry import Registry
from featurekit.server.openapi.parts import (
    LOOKING,
    READING,
    WRITING,
    Operation,
    answer,
    closed,
    operation,
    ref,
    taking,
)
from featurekit.server.openapi.rows import cell_schema, request_members, row_of, rows_schema
from featurekit.server.openapi.values import Schema

Paths = dict[str, dict[str, Any]]

_OBJECT: Schema = {"type": "object"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_FLAG: Schema = {"type": "boolean", "default": False}
_COLUMNS: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "array", "items": {}},
    "description": "Columns of one length, by name.",
}
_TIME: Schema = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
    "description": "UTC where it names no zone.",
}
_EMPTY = {"description": "Done."}
_NULL = answer({"type": "null"})
_STATUSES = ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]

SCHEMAS: dict[str, Schema] = {
    "Written": closed(
        {
            "view": {"type": "string"},
            "written": {"type": "integer"},
            "dropped_older": {
                "type": "integer",
                "description": "Rows older than what is stored, of a view ordered by event time.",
            },
            "dropped_expired": {
                "type": "integer",
                "description": "Rows past their expiry on arrival, of such a view.",
            },
        },
        ["view", "written", "dropped_older", "dropped_expired"],
    ),
    "OnlineFeatures": {
        "type": "object",
        "required": ["results", "metadata"],
        "properties": {
            "results": {
                "type": "array",
                "description": "One for each column: join keys first, then features.",
                "items": closed(
                    {
                        "values": {"type": "array", "items": {}},
                        "statuses": {"type": "array", "items": {"enum": _STATUSES}},
                        "event_timestamps": {
                            "type": "array",
                            "items": {"type": "string", "format": "date-time"},
                        },
                    },
                    ["values", "statuses", "event_timestamps"],
                ),
            },
            "metadata": {
                "type": "object",
                "required": ["feature_names"],
                "properties": {"feature_names": _TEXTS},
            },
        },
    },
}


def feast_paths(registry: Registry, most: int) -> Paths:
    """Feast's routes."""
    services = [service.name for service in registry.feature_services]
    view: Schema = {"enum": [view.name for view in registry.feature_views]}
    views: Schema = {"type": "array", "items": _loadable(registry)}
    asked = {
        "type": "object",
        "required": ["entities"],
        "properties": {
            "entities": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "array", "items": {}},
                "description": f"Join keys by name, each a column of at most {most}.",
            },
            "features": _TEXTS | {"description": "As `view:field`; or `feature_service`."},
            "feature_service": {"enum": [*services, None]},
            "full_feature_names": _FLAG,
            "include_feature_view_version_metadata": _FLAG,
            "max_age": _OBJECT | {"description": "Ours: by view, how old a value may be."},
        },
    }
    frame = {"df": _COLUMNS, "allow_registry_cache": {}, "transform_on_write": {}}
    window = {"feature_views": {"anyOf": [views, {"type": "null"}]}}
    loaded = {"200": _NULL, "202": answer(_OBJECT, "Started; with `?async=true`.")}
    return {
        "/get-online-features": _post(
            "get_online_features",
            "Read features, by column.",
            asked,
            {"200": answer(ref("OnlineFeatures"))},
            READING,
        ),
        "/push": _post(
            "push",
            "Write rows into the view that `push_source_name` names.",
            _open({"push_source_name": view, "to": {"const": "online"}, **frame}, 2),
            {"200": _EMPTY},
            WRITING,
        ),
        "/write-to-online-store": _post(
            "write_to_online_store",
            "Write rows into a view.",
            _open({"feature_view_name": view, **frame}, 2),
            {"200": _NULL},
            WRITING,
        ),
        "/materialize": _post(
            "materialize_window",
            "Load batch views from their sources, within a window of time.",
            _open(
                {"start_ts": _TIME, "end_ts": _TIME, **window, "disable_event_timestamp": _FLAG}
            ),
            loaded,
            WRITING,
            _ASYNC,
        ),
        "/materialize-incremental": _post(
            "materialize_incremental",
            "Load batch views from their sources, up to a time.",
            _open({"end_ts": {"type": "string", "format": "date-time"}, **window}, 1),
            loaded,
            WRITING,
            _ASYNC,
        ),
    }


def _loadable(registry: Registry) -> Schema:
    """The names of the views that have a source."""
    views = [view for view in registry.feature_views if view.batch and view.batch.source]
    return {"enum": [view.name for view in views]} if views else {"type": "string"}


_ASYNC = {"name": "async", "in": "query", "schema": {"type": "boolean"}}


def _open(properties: dict[str, Schema], required: int = 0) -> Schema:
    """An object that may have members of which nothing is known; the first some are required."""
    schema: Schema = {"type": "object", "properties": properties}
    names = [name for name in properties if name != "to"]
    return schema | ({"required": names[:required]} if required else {})


def _post(
    name: str,
    summary: str,
    schema: Schema,
    answers: dict[str, Any],
    errors: tuple[int, ...],
    parameter: dict[str, Any] | None = None,
) -> dict[str, Operation]:
    post = operation(name, summary, "Feast", answers, errors) | taking(schema)
    return {"post": post | ({"parameters": [parameter]} if parameter else {})}


def v1_paths(registry: Registry, most: int) -> Paths:
    """Our own routes that have no types of the registry."""
    given: Schema = {"type": "object", "description": "Join keys by name."}
    members = {
        "features": _TEXTS | {"minItems": 1, "description": "As `view:field`, or `view`."},
        **request_members(None, given, most),
        "full_feature_names": _FLAG,
    }
    row = row_of(given, {"type": "object", "additionalProperties": cell_schema({})})
    read = operation(
        "read_features",
        "Read features named one by one.",
        "Read",
        {"200": answer(rows_schema(row), "A row for each entity, in order.")},
        READING,
    ) | taking(closed(members, ["features", "entities"]))
    load = operation(
        "materialize",
        "Load batch views from their sources.",
        "Write",
        {
            "200": answer(_OBJECT, "Done: a report for each view."),
            "202": answer(_OBJECT, "Started; with `wait: false`."),
        },
        WRITING,
    ) | taking(
        closed(
            {
                "views": {
                    "type": "array",
                    "items": _loadable(registry),
                    "minItems": 1,
                    "description": "All with a source, by default.",
                },
                "start": {"type": "string", "description": "Rows at or after this time."},
                "end": {"type": "string", "description": "Rows before this time."},
                "wait": {"type": "boolean", "default": True},
            }
        )
    )
    paths: Paths = {"/v1/features/read": {"post": read}, "/v1/materialize": {"post": load}}
    return paths | _looks(registry)


def _looks(registry: Registry) -> Paths:
    paths: Paths = {
        "/v1/registry": _get("registry", "What is applied.", _OBJECT),
        "/v1/status": _get("status", "How each view does.", _OBJECT),
    }
    kinds = {
        "entities": [entity.name for entity in registry.entities],
        "views": [view.name for view in registry.feature_views],
        "services": [service.name for service in registry.feature_services],
    }
    for kind, names in kinds.items():
        paths[f"/v1/{kind}"] = _get(kind, f"All {kind}.", _OBJECT)
        one = _get(f"one_of_{kind}", f"One of the {kind}.", _OBJECT)
        one["get"]["responses"]["404"] = {"$ref": "#/components/responses/404"}
        schema: Schema = {"type": "string"} | ({"enum": names} if names else {})
        one["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": schema}]
        paths[f"/v1/{kind}/{{name}}"] = one
    return paths


def _get(name: str, summary: str, schema: Schema) -> dict[str, Any]:
    return {"get": operation(name, summary, "Diagnostics", {"200": answer(schema)}, LOOKING)}


def tending_paths() -> Paths:
    """What load balancers and Prometheus ask for."""
    health = operation("health", "Whether the process lives.", "Tend", {"200": _EMPTY}, ())
    ready = operation(
        "ready",
        "Whether something is applied and the online store answers.",
        "Tend",
        {"200": answer(_OBJECT), "503": answer(_OBJECT, "Not yet.")},
        (),
    )
    metrics = operation(
        "metrics",
        "What was counted, for Prometheus.",
        "Tend",
        {"200": {"description": "Text.", "content": {"text/plain": {}}}},
        (401, 403),
    )
    return {
        "/health": {"get": health | {"security": []}},
        "/ready": {"get": ready | {"security": []}},
        "/metrics": {"get": metrics},
    }
