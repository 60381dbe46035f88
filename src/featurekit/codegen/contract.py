"""Data contracts of feature views, in the Open Data Contract Standard (ODCS) 3.1.

A contract says what consumers of a view may rely on: its keys and fields with their types and rules,
how often it is written, and how long values live. Its version is a hash of its content, so that it
changes only if something of the view does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import yaml

from featurekit.codegen.catalog import constraints_text, key_text, source_text, without_password
from featurekit.codegen.files import MARK, GeneratedFolder
from featurekit.codegen.value_schemas import Schema, field_schema, key_schema
from featurekit.compiler import compile_repo
from featurekit.models import FeatureView, FieldSpec, format_duration
from featurekit.models.model import Described
from featurekit.models.sources import CsvSource, JsonlSource, KafkaSource, ParquetSource
from featurekit.plan import RepoPlan
from featurekit.printable import printable
from featurekit.registry import Registry
from featurekit.types import DType, codec_of, parse_dtype

API_VERSION = "v3.1.0"
"""The version of the standard."""

_Document = dict[str, Any]

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))
_LOGICAL_TYPES = {
    "boolean": "boolean",
    "array": "array",
    "string": "string",
}
_TEXT_TYPES = {"date-time": "timestamp", "date": "date"}
_FORMATS = {"int64": "i64", "int32": "i32", "double": "f64", "float": "f32"}


def contract_files(registry: Registry) -> GeneratedFolder:
    """Return one contract per feature view."""
    plan = compile_repo(registry)
    texts = {
        f"{view.name}.odcs.yaml": contract_text(registry, plan, view)
        for view in registry.feature_views
    }
    return GeneratedFolder(texts, ("*.odcs.yaml",))


def contract_text(registry: Registry, plan: RepoPlan, view: FeatureView) -> str:
    """Return the contract of a view as YAML."""
    document = contract(registry, plan, view)
    text = _dump(document, allow_unicode=True)
    if printable(text) != text:
        text = _dump(document, allow_unicode=False)
    return f"# {MARK} contract` from the registry of project {registry.project}.\n{text}"


def _dump(document: _Document, *, allow_unicode: bool) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=allow_unicode, width=100)


def contract(registry: Registry, plan: RepoPlan, view: FeatureView) -> _Document:
    """Return the contract of a view as plain data."""
    body: _Document = {
        "name": view.name,
        "status": "deprecated" if view.deprecated else "active",
        "domain": registry.project,
    }
    body |= _given(
        description=_given(
            purpose=view.description,
            limitations=f"Deprecated: {view.deprecated}."
            if isinstance(view.deprecated, str)
            else "",
        ),
        tags=_tags(view),
        team=_team(view),
    )
    body["servers"] = [_online_server(plan, view), *_source_servers(view)]
    body["schema"] = [_table(registry, plan, view)]
    body["slaProperties"] = [*_service_levels(view)]
    body["customProperties"] = [*_view_properties(view)]
    content = json.dumps(body, sort_keys=True, default=str).encode()
    return {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"urn:featurekit:{registry.project}:{view.name}",
        "version": hashlib.sha256(content).hexdigest()[:16],
        **body,
    }


def _given(**members: object) -> _Document:
    """Return the members that have a value."""
    return {name: value for name, value in members.items() if value}


def _tags(model: Described) -> list[str]:
    return [f"{name}:{text}" for name, text in model.tags.items()]


def _team(model: Described) -> _Document:
    return {"members": [{"username": model.owner, "role": "owner"}]} if model.owner else {}


def _custom(name: str, value: object) -> _Document:
    return {"property": name, "value": value}


def _online_server(plan: RepoPlan, view: FeatureView) -> _Document:
    return {
        "server": "online",
        "type": "custom",
        "description": "The online store, Redis or Valkey: one hash per entity.",
        "customProperties": [_custom("keyPattern", _key_pattern(plan, view))],
    }


def _key_pattern(plan: RepoPlan, view: FeatureView) -> str:
    return key_text(plan.view(view.name).key)


def _source_servers(view: FeatureView) -> Iterator[_Document]:
    """Yield where the rows or events come from; a password in an address is left out."""
    source = view.ingestion.source
    if source is None:
        return
    server: _Document = {"server": "source"}
    if isinstance(source, ParquetSource | CsvSource | JsonlSource):
        path = without_password(", ".join(source.path))
        is_s3 = len(source.path) == 1 and path.startswith("s3://")
        kind, place = ("s3", "location") if is_s3 else ("local", "path")
        yield server | {"type": kind, place: path, "format": source.type}
    elif isinstance(source, KafkaSource):
        host = without_password(source.bootstrap_servers)
        topic = [_custom("topic", source.topic)]
        yield server | {"type": "kafka", "host": host, "format": "json", "customProperties": topic}
    else:
        yield server | {"type": "custom", "description": source_text(source)}


def _table(registry: Registry, plan: RepoPlan, view: FeatureView) -> _Document:
    entity = next(each for each in registry.all_entities if each.name == view.entity_name)
    keys = [
        {
            "name": name,
            "logicalType": _logical_type(parse_dtype(dtype), key_schema(dtype)),
            "physicalType": dtype,
            "required": True,
            "primaryKey": True,
            "primaryKeyPosition": position,
        }
        for position, (name, dtype) in enumerate(entity.join_keys.items(), 1)
    ]
    table = {"name": view.name, "physicalName": _key_pattern(plan, view), "physicalType": "hash"}
    rows = f"One row per {view.entity}." if view.entity else "One row for all requests."
    return (
        table
        | _given(description=view.description)
        | {
            "logicalType": "object",
            "dataGranularityDescription": rows,
            "properties": [*keys, *(_property(view, name) for name in view.fields_)],
        }
    )


def _property(view: FeatureView, name: str) -> _Document:
    field = view.fields_[name]
    schema = field_schema(field.model_copy(update={"one_of": None}), in_request=False)
    logical = _logical_type(field.dtype, schema)
    document: _Document = {"name": name, "logicalType": logical, "physicalType": field.type}
    document |= _given(
        description=field.description,
        required=field.required,
        tags=_tags(field),
        logicalTypeOptions=_options(field, logical, schema),
        items=_items(field.dtype),
        quality=[*_quality(field)],
        customProperties=[*_field_properties(view, name)],
    )
    return document


def _logical_type(dtype: DType, schema: Schema) -> str:
    schema = schema.get("anyOf", [schema])[0]  # of a float that may be nan, or a decimal
    if not schema:
        return "object"
    codec = codec_of(dtype)
    if codec.has_bounds:
        return "integer" if codec.is_integer else "number"
    return _TEXT_TYPES.get(schema.get("format", ""), _LOGICAL_TYPES[schema["type"]])


def _options(field: FieldSpec, logical: str, schema: Schema) -> _Document:
    """Return the options of a logical type, which are those of JSON Schema with other formats."""
    options: _Document = {}
    if logical in ("integer", "number"):
        bounds = {"minimum": _number(field.min), "maximum": _number(field.max)}
        options = {name: bound for name, bound in bounds.items() if bound is not None}
        number_format = schema.get("anyOf", [schema])[0].get("format")
        options |= _given(format=_FORMATS.get(number_format))
    elif logical == "timestamp":
        options = {"timezone": True}
    elif logical == "array":
        size = field.dtype.size or field.max_length
        options = _given(minItems=field.dtype.size, maxItems=size)
    elif logical == "string":
        options = _given(maxLength=schema.get("maxLength"), pattern=schema.get("pattern"))
        options |= {"format": "byte"} if "contentEncoding" in schema else {}
    return options


def _number(bound: float | Decimal | None) -> float | None:
    return float(bound) if isinstance(bound, Decimal) else bound


def _items(dtype: DType) -> _Document:
    element = DType(dtype.element) if dtype.element else DType("float32") if dtype.size else None
    if element is None:
        return {}
    schema = codec_of(element).json_schema(in_request=False)
    return {"logicalType": _logical_type(element, schema), "physicalType": str(element)}


def _quality(field: FieldSpec) -> Iterator[_Document]:
    if field.one_of is not None:
        codec = codec_of(field.dtype)
        choices = [codec.to_json(codec.from_json(choice)) for choice in field.one_of]
        yield {
            "type": "library",
            "metric": "invalidValues",
            "arguments": {"validValues": choices},
            "mustBe": 0,
            "dimension": "conformity",
        }
    if field.required:
        yield {
            "type": "library",
            "metric": "nullValues",
            "mustBe": 0,
            "dimension": "completeness",
        }


def _field_properties(view: FeatureView, name: str) -> Iterator[_Document]:
    field = view.fields_[name]
    if field.default is not None:
        yield _custom("default", field.default)
    if rules := constraints_text(field):
        yield _custom("rules", rules)
    if field.owner:
        yield _custom("owner", field.owner)
    if field.deprecated:
        yield _custom("deprecated", field.deprecated)


def _service_levels(view: FeatureView) -> Iterator[_Document]:
    ingestion = view.ingestion
    yield _level("frequency", ingestion.refresh, view.name, "Expected interval between writes.")
    yield _level("retention", ingestion.ttl_ms, view.name, "Time until values expire.")
    for name in view.fields_:
        ttl_ms = view.field_ttl_ms(name) or ingestion.ttl_ms
        if ttl_ms != ingestion.ttl_ms:
            yield _level("retention", ttl_ms, f"{view.name}.{name}", "Time until it expires.")
    if view.batch and view.batch.max_source_age:
        about = "Maximum age of the newest row of the source; older sources are not loaded."
        yield _level("latency", view.batch.max_source_age, view.name, about)


def _level(name: str, duration_ms: int, element: str, about: str) -> _Document:
    unit, size = next(each for each in _UNITS if duration_ms % each[1] == 0)
    value = duration_ms // size
    return {
        "property": name,
        "value": value,
        "unit": unit,
        "element": element,
        "description": about,
    }


def _view_properties(view: FeatureView) -> Iterator[_Document]:
    ingestion = view.ingestion
    yield _custom("kind", "batch" if view.batch else "stream")
    yield _custom("expires", "key" if view.owns_key else "field")
    yield _custom("ordering", ingestion.ordering)
    yield _custom("refresh", format_duration(ingestion.refresh))
    yield _custom("ttl", format_duration(ingestion.ttl_ms))
