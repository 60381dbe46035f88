"""JSON Schemas of field and join key values, in requests and in responses.

A constraint without an equivalent in JSON Schema is left out; the server still checks it.
"""

from __future__ import annotations

import re
from typing import Any

from featurekit.models import FieldSpec
from featurekit.types import DType, codec_of, parse_dtype

Schema = dict[str, Any]

_NOT_FINITE: Schema = {"enum": ["nan", "inf", "-inf"]}
_PYTHON_ONLY = re.compile(r"\(\?|\\[AZ]|\\[1-9]")
"""Regular expression syntax that JavaScript lacks or interprets differently."""


def key_schema(name: str) -> Schema:
    """Return the schema of a join key of a type."""
    schema = codec_of(parse_dtype(name)).json_schema(in_request=True)
    return schema | ({"minLength": 1} if name == "string" else {})


def field_schema(field: FieldSpec, *, in_request: bool) -> Schema:
    """Return the schema of a field with its constraints."""
    dtype = field.dtype
    schema = codec_of(dtype).json_schema(in_request=in_request)
    if field.allow_nan:
        schema = {"anyOf": [schema, _NOT_FINITE]}
    schema |= _bounds(field, schema) | _length_and_pattern(field, schema)
    if field.one_of is not None:
        schema = {"enum": [_response_value(dtype, choice) for choice in field.one_of]}
    return schema


def response_schema(field: FieldSpec) -> Schema:
    """Return the schema of a field in a response: null if no value is stored and it has no default."""
    schema = field_schema(field, in_request=False)
    if field.default is None and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return _with_description(schema, field)


def request_schema(field: FieldSpec) -> Schema:
    """Return the schema of a field in a write: null deletes the value of a field that is not required."""
    schema = field_schema(field, in_request=True)
    if not field.required and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return _with_description(schema, field)


def _with_description(schema: Schema, field: FieldSpec) -> Schema:
    more: Schema = {"description": field.description} if field.description else {}
    if field.deprecated:
        more["deprecated"] = True
    if field.default is not None:
        more["default"] = _response_value(field.dtype, field.default)
    return schema | more


def _bounds(field: FieldSpec, schema: Schema) -> Schema:
    """Return the bounds of a number; JSON Schema has none for text or for a choice of schemas."""
    if schema.get("type") not in {"integer", "number"}:
        return {}
    bounds = {"minimum": field.min, "maximum": field.max}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _length_and_pattern(field: FieldSpec, schema: Schema) -> Schema:
    rules: Schema = {}
    if field.pattern is not None and not _PYTHON_ONLY.search(field.pattern):
        rules["pattern"] = f"^(?:{field.pattern})$"
    if field.max_length is not None and "contentEncoding" not in schema:
        rules["maxItems" if schema["type"] == "array" else "maxLength"] = field.max_length
    return rules


def _response_value(dtype: DType, value: object) -> object:
    """Return a value of a definition as in responses."""
    codec = codec_of(dtype)
    return codec.to_json(codec.from_json(value))
