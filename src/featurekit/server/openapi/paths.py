"""OpenAPI paths that do not depend on the types of a registry: Feast's, and the rest of `/v1`."""

from __future__ import annotations

from typing import Any

from featurekit.codegen.row_schemas import cell_schema, closed_object, row_schema, rows_schema
from featurekit.codegen.value_schemas import Schema
from featurekit.registry import Registry
from featurekit.server.openapi.operations import (
    READ_ERRORS,
    REGISTRY_ERRORS,
    WRITE_ERRORS,
    Operation,
    operation,
    read_members,
    ref,
    request_body,
    response,
)

Paths = dict[str, dict[str, Any]]

_OBJECT: Schema = {"type": "object"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_FLAG: Schema = {"type": "boolean", "default": False}
_LOAD_OPTIONS: dict[str, Schema] = {
    "allow_older": _FLAG
    | {"description": "Whether to overwrite values that are newer than the rows."},
    "missing_only": _FLAG
    | {"description": "Whether to write only entities without any value of the view."},
}
_COLUMNS: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "array", "items": {}},
    "description": "Columns of one length, by name.",
}
_TIME: Schema = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
    "description": "In UTC unless it has an offset.",
}
_EMPTY = {"description": "Success."}
_NULL = response({"type": "null"})
_STATUSES = ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]

SCHEMAS: dict[str, Schema] = {
    "Written": closed_object(
        {
            "view": {"type": "string"},
            "written": {"type": "integer"},
            "dropped_older": {
                "type": "integer",
                "description": "Rows older than the stored ones, in a view with `ordering: event_time`.",
            },
            "dropped_expired": {
                "type": "integer",
                "description": "Rows that had expired on arrival, in a stream view.",
            },
            "repeated": {
                "type": "integer",
                "description": "Events that had been applied before, in a view with windows.",
            },
        },
        ["view", "written", "dropped_older", "dropped_expired", "repeated"],
    ),
    "OnlineFeatures": {
        "type": "object",
        "required": ["results", "metadata"],
        "properties": {
            "results": {
                "type": "array",
                "description": "One per column: join keys first, then features.",
                "items": closed_object(
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


def _features(registry: Registry, description: str) -> Schema:
    """Return the schema of a list of features."""
    names: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
    item = closed_object(
        {
            "view": {"enum": [view.name for view in registry.feature_views]},
            "as": {
                "type": "string",
                "pattern": "^[a-z][a-z0-9_]*$",
                "description": "Alias; the features are named `{alias}__{field}`.",
            },
            "join_keys": names | {"description": "Names in `entities` of the view's join keys."},
            "fields": _TEXTS | {"minItems": 1, "description": "By default all."},
        },
        ["view"],
    )
    return {
        "type": "array",
        "items": {"anyOf": [{"type": "string"}, item]},
        "description": description,
    }


def feast_paths(registry: Registry, most: int) -> Paths:
    """Return Feast's paths."""
    services = [service.name for service in registry.feature_services]
    view: Schema = {"enum": [view.name for view in registry.feature_views]}
    views: Schema = {"type": "array", "items": _loadable(registry)}
    request = {
        "type": "object",
        "required": ["entities"],
        "properties": {
            "entities": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "array", "items": {}},
                "description": f"Columns of join keys by name, with at most {most} values.",
            },
            "features": _features(registry, "`view:field`; alternatively `feature_service`."),
            "feature_service": {"enum": [*services, None]},
            "full_feature_names": _FLAG,
            "include_feature_view_version_metadata": _FLAG,
            "max_age": _OBJECT | {"description": "An extension: maximum age by view or alias."},
        },
    }
    frame = {"df": _COLUMNS, "allow_registry_cache": {}, "transform_on_write": {}}
    window = {"feature_views": {"anyOf": [views, {"type": "null"}]}, **_LOAD_OPTIONS}
    loaded = {"200": _NULL, "202": response(_OBJECT, "Started, with `?async=true`.")}
    return {
        "/get-online-features": _post(
            "get_online_features",
            "Read features by column.",
            request,
            {"200": response(ref("OnlineFeatures"))},
            READ_ERRORS,
        ),
        "/push": _post(
            "push",
            "Write rows to the view `push_source_name`.",
            _open_object({"push_source_name": view, "to": {"const": "online"}, **frame}, 2),
            {"200": _EMPTY},
            WRITE_ERRORS,
        ),
        "/write-to-online-store": _post(
            "write_to_online_store",
            "Write rows to a view.",
            _open_object({"feature_view_name": view, **frame}, 2),
            {"200": _NULL},
            WRITE_ERRORS,
        ),
        "/materialize": _post(
            "materialize_window",
            "Load batch views from their sources, within a time window.",
            _open_object(
                {"start_ts": _TIME, "end_ts": _TIME, **window, "disable_event_timestamp": _FLAG}
            ),
            loaded,
            WRITE_ERRORS,
            _ASYNC,
        ),
        "/materialize-incremental": _post(
            "materialize_incremental",
            "Load batch views from their sources, up to a time.",
            _open_object({"end_ts": {"type": "string", "format": "date-time"}, **window}, 1),
            loaded,
            WRITE_ERRORS,
            _ASYNC,
        ),
    }


def _loadable(registry: Registry) -> Schema:
    """Return the schema of the names of views with a source."""
    views = [view for view in registry.feature_views if view.batch and view.batch.source]
    return {"enum": [view.name for view in views]} if views else {"type": "string"}


_ASYNC = {"name": "async", "in": "query", "schema": {"type": "boolean"}}


def _open_object(properties: dict[str, Schema], required: int = 0) -> Schema:
    """Return the schema of an object with further members; the first `required` are required."""
    schema: Schema = {"type": "object", "properties": properties}
    names = [name for name in properties if name != "to"]
    return schema | ({"required": names[:required]} if required else {})


def _post(
    name: str,
    summary: str,
    schema: Schema,
    responses: dict[str, Any],
    errors: tuple[int, ...],
    parameter: dict[str, Any] | None = None,
) -> dict[str, Operation]:
    post = operation(name, summary, "Feast", responses, errors) | request_body(schema)
    return {"post": post | ({"parameters": [parameter]} if parameter else {})}


def v1_paths(registry: Registry, most: int) -> Paths:
    """Return the paths of `/v1` that have the same types in every registry."""
    keys: Schema = {"type": "object", "description": "Join keys by name."}
    members = {
        "features": _features(registry, "`view:field`, or `view` for all its fields.")
        | {"minItems": 1},
        **read_members(None, keys, most),
        "full_feature_names": _FLAG,
    }
    row = row_schema(keys, {"type": "object", "additionalProperties": cell_schema({})})
    read = operation(
        "read_features",
        "Read a list of features.",
        "Read",
        {"200": response(rows_schema(row), "One row per entity, in order.")},
        READ_ERRORS,
    ) | request_body(closed_object(members, ["features", "entities"]))
    load = operation(
        "materialize",
        "Load batch views from their sources.",
        "Write",
        {
            "200": response(_OBJECT, "One report per view."),
            "202": response(_OBJECT, "Started, with `wait: false`."),
        },
        WRITE_ERRORS,
    ) | request_body(
        closed_object(
            {
                "views": {
                    "type": "array",
                    "items": _loadable(registry),
                    "minItems": 1,
                    "description": "All views with a source by default.",
                },
                "start": {"type": "string", "description": "Rows at or after this time."},
                "end": {"type": "string", "description": "Rows before this time."},
                "wait": {"type": "boolean", "default": True},
                **_LOAD_OPTIONS,
            }
        )
    )
    paths: Paths = {"/v1/features/read": {"post": read}, "/v1/materialize": {"post": load}}
    return paths | _registry_paths(registry)


def _registry_paths(registry: Registry) -> Paths:
    paths: Paths = {
        "/v1/registry": _get("registry", "The applied registry.", _OBJECT),
        "/v1/status": _get("status", "The status of each view.", _OBJECT),
    }
    kinds = {
        "entities": [entity.name for entity in registry.entities],
        "views": [view.name for view in registry.feature_views],
        "services": [service.name for service in registry.feature_services],
    }
    for kind, names in kinds.items():
        paths[f"/v1/{kind}"] = _get(kind, f"All {kind}.", _OBJECT)
        one = _get(f"one_of_{kind}", f"One of the {kind}, by name.", _OBJECT)
        one["get"]["responses"]["404"] = {"$ref": "#/components/responses/404"}
        schema: Schema = {"type": "string"} | ({"enum": names} if names else {})
        one["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": schema}]
        paths[f"/v1/{kind}/{{name}}"] = one
    return paths


def _get(name: str, summary: str, schema: Schema) -> dict[str, Any]:
    return {
        "get": operation(name, summary, "Registry", {"200": response(schema)}, REGISTRY_ERRORS)
    }


def monitoring_paths() -> Paths:
    """Return the paths for load balancers and Prometheus."""
    health = operation(
        "health", "Whether the process is running.", "Monitoring", {"200": _EMPTY}, ()
    )
    ready = operation(
        "ready",
        "Whether a registry is applied and the online store answers.",
        "Monitoring",
        {"200": response(_OBJECT), "503": response(_OBJECT, "Not ready.")},
        (),
    )
    metrics = operation(
        "metrics",
        "Metrics for Prometheus.",
        "Monitoring",
        {"200": {"description": "Metrics in text format.", "content": {"text/plain": {}}}},
        (401, 403),
    )
    return {
        "/health": {"get": health | {"security": []}},
        "/ready": {"get": ready | {"security": []}},
        "/metrics": {"get": metrics},
    }
