"""JSON Schemas of the entities, rows and features of services, and of the rows written to views.

The OpenAPI document, `featurekit generate jsonschema` and `featurekit generate typescript` share them.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.codegen.value_schemas import Schema, key_schema, request_schema, response_schema
from featurekit.lower.read import STATUSES
from featurekit.models import FeatureView, FieldSpec
from featurekit.models.fields import TypedValue
from featurekit.plan import EVENT_TIMESTAMP, ReadPlan
from featurekit.registry import Registry

_SECONDS: Schema = {"type": ["number", "null"]}

IGNORED = "Not needed by this service: ignored."
"""The description of a value of a request that a read does not need."""


def closed_object(properties: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    """Return the schema of an object without further members."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return schema | ({"required": list(required)} if required else {})


def join_key_schemas(plan: ReadPlan) -> dict[str, Schema]:
    """Return the schema of each join key that a request of a service must contain."""
    keys = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
    return {name: key_schema(str(dtype)) for name, dtype in keys.items()}


def fields_of_read(registry: Registry, plan: ReadPlan) -> dict[str, FieldSpec]:
    """Return the field behind each column of a read, by the column's name."""
    views = {view.name: view.fields_ for view in registry.feature_views}
    views |= {
        view.name: {name: as_field(field) for name, field in view.fields_.items()}
        for view in registry.derived_views
    }
    return {each.name: views[each.view][each.field.name] for each in plan.columns}


def request_fields(registry: Registry, plan: ReadPlan) -> dict[str, FieldSpec]:
    """Return the values that a request of a read sends along, by name."""
    known = {name: field for each in registry.requests for name, field in each.fields_.items()}
    return {column.name: as_field(known[column.field.name]) for column in plan.requests}


def request_data_schema(registry: Registry, plan: ReadPlan) -> Schema | None:
    """Return the schema of the request data of a read; `None` if it needs none."""
    fields = request_fields(registry, plan)
    if not fields:
        return None
    schemas = {name: request_schema(field) for name, field in fields.items()}
    schemas |= {name: {"description": IGNORED} for name in plan.ignored_request_values}
    return closed_object(schemas, [n for n, field in fields.items() if field.default is None])


def as_field(value: TypedValue) -> FieldSpec:
    """Return a derived feature, an input of an event or a value of a request as a field."""
    if isinstance(value, FieldSpec):
        return value
    known = {name: each for name, each in value if name in FieldSpec.model_fields}
    return FieldSpec.model_construct(**known)


def typed_row_schema(keys: Schema, fields: dict[str, FieldSpec]) -> Schema:
    """Return the schema of a row over HTTP, with the features of a service."""
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


def written_row_schema(registry: Registry, view: FeatureView) -> Schema:
    """Return the schema of a row or event that is written to a view."""
    entity = next(each for each in registry.all_entities if each.name == view.entity_name)
    keys = {name: key_schema(dtype) for name, dtype in entity.join_keys.items()}
    declared = view.inputs or view.fields_
    fields = {name: request_schema(as_field(field)) for name, field in declared.items()}
    required = list(keys)
    if view.batch is not None or view.inputs:
        required += [name for name, field in declared.items() if field.required]
    if (event_id := view.event_id) is not None:
        fields.setdefault(event_id, {"anyOf": [{"type": "string"}, {"type": "integer"}]})
        required += [event_id] if event_id not in required else []
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
