"""JSON Schemas of field and join key values, in requests and in responses.

A constraint without an equivalent in JSON Schema is left out; the server still checks it.
"""

from __future__ import annotations

import re
from typing import Any

from featurekit.models import FieldSpec
from featurekit.types import DType, codec_of, parse_dtype

Schema = dict[str, Any]

_FLOAT32_MAX = 3.4028234663852886e38
_DECIMAL = r"^-?[0-9]{1,38}(\.[0-9]{1,38})?$"
_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_NOT_FINITE: Schema = {"enum": ["nan", "inf", "-inf"]}
_PYTHON_ONLY = re.compile(r"\(\?|\\[AZ]|\\[1-9]")
"""Regular expression syntax that JavaScript lacks or interprets differently."""

_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "int64": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "int32": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "float64": {"type": "number", "format": "double"},
    "float32": {
        "type": "number",
        "format": "float",
        "minimum": -_FLOAT32_MAX,
        "maximum": _FLOAT32_MAX,
    },
    "bool": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "decimal": {"type": "string", "pattern": _DECIMAL},
    "bytes": {"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
    "json": {},
}


def type_schema(dtype: DType, *, in_request: bool) -> Schema:
    """Return the schema of a type.

    Args:
        dtype: The type.
        in_request: Whether the value is in a request, where a decimal may also be a number.
    """
    if dtype.kind == "array":
        return {"type": "array", "items": type_schema(DType(dtype.element), in_request=in_request)}
    if dtype.kind == "vector":
        numbers = dict(_SCALARS["float32"])
        return {
            "type": "array",
            "items": numbers,
            "minItems": dtype.size,
            "maxItems": dtype.size,
        }
    if dtype.kind == "decimal" and in_request:
        return {"anyOf": [_SCALARS["decimal"], {"type": "number"}]}
    return dict(_SCALARS[dtype.kind])


def key_schema(name: str) -> Schema:
    """Return the schema of a join key of a type."""
    schema = type_schema(parse_dtype(name), in_request=True)
    return schema | ({"minLength": 1} if name == "string" else {})


def field_schema(field: FieldSpec, *, in_request: bool) -> Schema:
    """Return the schema of a field with its constraints."""
    dtype = field.dtype
    schema = type_schema(dtype, in_request=in_request)
    if field.allow_nan:
        schema = {"anyOf": [schema, _NOT_FINITE]}
    schema |= _bounds(field) | _length_and_pattern(field)
    if field.one_of is not None:
        schema = {"enum": [_json_value(dtype, choice) for choice in field.one_of]}
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
        more["default"] = _json_value(field.dtype, field.default)
    return schema | more


def _bounds(field: FieldSpec) -> Schema:
    if field.dtype.kind == "decimal" or field.allow_nan:
        return {}
    bounds = {"minimum": field.min, "maximum": field.max}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _length_and_pattern(field: FieldSpec) -> Schema:
    schema: Schema = {}
    if field.pattern is not None and not _PYTHON_ONLY.search(field.pattern):
        schema["pattern"] = f"^(?:{field.pattern})$"
    if field.max_length is not None and field.dtype.kind in ("string", "array"):
        schema["maxLength" if field.dtype.kind == "string" else "maxItems"] = field.max_length
    return schema


def _json_value(dtype: DType, value: object) -> object:
    """Return a value of a definition as in responses."""
    codec = codec_of(dtype)
    return codec.to_json(codec.from_json(value))
