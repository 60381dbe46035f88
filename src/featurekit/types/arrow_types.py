"""Columns of decoded values: the Arrow type of each type."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from featurekit.types.dtype import DType
from featurekit.types.table import codec_of

_DECIMAL_TYPE = pa.decimal128(38, 18)
_WIDE_DECIMAL_TYPE = pa.decimal256(76, 38)
_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "decimal": _DECIMAL_TYPE,
    "bytes": pa.binary(),
    "json": pa.string(),
}


def arrow_type(dtype: DType) -> Any:
    """The type of the columns that answers have."""
    if dtype.kind == "array":
        return pa.list_(_TYPES[dtype.element])
    if dtype.kind == "vector":
        return pa.list_(pa.float32(), dtype.size)
    return _TYPES[dtype.kind]


def to_arrow(dtype: DType, values: list[object]) -> Any:
    """A column of decoded values, with `None` for null.

    Its type is `arrow_type(dtype)`; decimals too wide for that come as decimal256(76, 38).
    """
    if dtype.kind == "json":
        encode = codec_of(dtype).encode
        values = [None if value is None else encode(value).decode() for value in values]
    kind = arrow_type(dtype)
    if "decimal" not in (dtype.kind, dtype.element):
        return pa.array(values, kind)
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:
        wide = _WIDE_DECIMAL_TYPE
        return pa.array(values, wide if dtype.kind == "decimal" else pa.list_(wide))
