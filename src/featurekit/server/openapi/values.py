"""Values as JSON Schema: what a field or a join key takes, and what it gives.

A constraint that JSON Schema cannot say in the same words is left to the server, which words it.
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
"""What Python's regular expressions have and JavaScript's have not, or mean otherwise."""

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


def type_schema(dtype: DType, *, given: bool) -> Schema:
    """The values of a type.

    Args:
        dtype: The type.
        given: Whether a caller gives them, who may write a decimal as a number, too.
    """
    if dtype.kind == "array":
        return {"type": "array", "items": type_schema(DType(dtype.element), given=given)}
    if dtype.kind == "vector":
        numbers = dict(_SCALARS["float32"])
        return {
            "type": "array",
            "items": numbers,
            "minItems": dtype.size,
            "maxItems": dtype.size,
        }
    if dtype.kind == "decimal" and given:
        return {"anyOf": [_SCALARS["decimal"], {"type": "number"}]}
    return dict(_SCALARS[dtype.kind])


def key_schema(name: str) -> Schema:
    """The values of a join key of this type."""
    schema = type_schema(parse_dtype(name), given=True)
    return schema | ({"minLength": 1} if name == "string" else {})


def field_schema(field: FieldSpec, *, given: bool) -> Schema:
    """The values of a field, with what they must hold to."""
    dtype = field.dtype
    schema = type_schema(dtype, given=given)
    if field.allow_nan:
        schema = {"anyOf": [schema, _NOT_FINITE]}
    schema |= _bounds(field) | _texts(field)
    if field.one_of is not None:
        schema = {"enum": [_as_told(dtype, choice) for choice in field.one_of]}
    return schema


def answer_schema(field: FieldSpec) -> Schema:
    """What a read gives for a field: null where nothing is stored and there is no default."""
    schema = field_schema(field, given=False)
    if field.default is None and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return _described(schema, field)


def given_schema(field: FieldSpec) -> Schema:
    """What a write takes for a field: null deletes what is stored, unless the field is required."""
    schema = field_schema(field, given=True)
    if not field.required and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return _described(schema, field)


def _described(schema: Schema, field: FieldSpec) -> Schema:
    more: Schema = {"description": field.description} if field.description else {}
    if field.deprecated:
        more["deprecated"] = True
    if field.default is not None:
        more["default"] = _as_told(field.dtype, field.default)
    return schema | more


def _bounds(field: FieldSpec) -> Schema:
    if field.dtype.kind == "decimal" or field.allow_nan:
        return {}
    bounds = {"minimum": field.min, "maximum": field.max}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _texts(field: FieldSpec) -> Schema:
    schema: Schema = {}
    if field.pattern is not None and not _PYTHON_ONLY.search(field.pattern):
        schema["pattern"] = f"^(?:{field.pattern})$"
    if field.max_length is not None and field.dtype.kind in ("string", "array"):
        schema["maxLength" if field.dtype.kind == "string" else "maxItems"] = field.max_length
    return schema


def _as_told(dtype: DType, value: object) -> object:
    """A value of a definition as answers spell it."""
    codec = codec_of(dtype)
    return codec.to_json(codec.from_json(value))
