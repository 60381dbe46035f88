"""JSON Schemas of feature services, as `featurekit generate jsonschema` writes them.

The root of a document describes one row as `response.to_json()` returns it: the join keys, then the
features. `$defs` has the entity of a request, and the request and response over HTTP.
"""

from __future__ import annotations

import json
from typing import Any

from featurekit.codegen.files import MARK, GeneratedFolder
from featurekit.codegen.row_schemas import (
    closed_object,
    fields_of_read,
    join_key_schemas,
    request_data_schema,
    rows_schema,
    typed_row_schema,
)
from featurekit.codegen.value_schemas import Schema, response_schema
from featurekit.compiler import compile_read, compile_repo
from featurekit.models import FeatureService
from featurekit.models.model import JSON_SCHEMA_DIALECT
from featurekit.plan import RepoPlan
from featurekit.printable import printable_json
from featurekit.registry import Registry


def service_schema_files(registry: Registry) -> GeneratedFolder:
    """Return one JSON Schema per feature service."""
    plan = compile_repo(registry)
    texts = {
        f"{service.name}.schema.json": printable_json(
            json.dumps(service_schema(registry, plan, service), indent=2, ensure_ascii=False)
        )
        + "\n"
        for service in registry.feature_services
    }
    return GeneratedFolder(texts, ("*.schema.json",))


def service_schema(registry: Registry, plan: RepoPlan, service: FeatureService) -> dict[str, Any]:
    """Return the JSON Schema of a feature service."""
    read = compile_read(plan, service.name)
    keys, fields = join_key_schemas(read), fields_of_read(registry, read)
    values = {name: response_schema(field) for name, field in fields.items()}
    entity: Schema = {"$ref": "#/$defs/entity"}
    sent = request_data_schema(registry, read)
    members: dict[str, Schema] = {"entities": {"type": "array", "items": entity}}
    required = ["entities"]
    if sent is not None:
        one: Schema = {"$ref": "#/$defs/request_data"}
        members["request"] = {"anyOf": [one, {"type": "array", "items": one}]}
        required += ["request"] if "required" in sent else []
    row = closed_object(keys | values, [*keys, *values])
    document: dict[str, Any] = {
        "$schema": JSON_SCHEMA_DIALECT,
        "$id": f"urn:featurekit:{registry.project}:{service.name}",
        "$comment": f"{MARK} jsonschema`.",
        "title": f"A row of {service.name}",
    }
    if service.description:
        document["description"] = service.description
    if service.deprecated:
        document["deprecated"] = True
    return (
        document
        | row
        | {
            "$defs": {
                "entity": closed_object(keys, list(keys)),
                "request": {
                    "type": "object",
                    "properties": members,
                    "required": required,
                },
                **({} if sent is None else {"request_data": sent}),
                "row": typed_row_schema(entity, fields),
                "response": rows_schema({"$ref": "#/$defs/row"}),
            }
        }
    )
