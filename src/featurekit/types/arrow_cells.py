"""Cells of Arrow columns: what each is in Python, and the slow way that any of them can go."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec
from featurekit.types.dtype import DType
from featurekit.types.table import codec_of


class _Unfit:
    """A cell that is no Python value of its type; refused by every codec, under its own text."""

    def __init__(self, text: str) -> None:
        self.text = text

    @override
    def __repr__(self) -> str:
        return self.text


def python_value(dtype: DType, scalar: Any) -> object:
    """The Python value of a cell; the codec of `dtype` refuses it where `encode_array` does."""
    kind = scalar.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        scalar = scalar.cast(pa.timestamp(kind.unit, "UTC"))  # its local year may be 0 or 10000
    options = {"maps_as_pydicts": "strict"} if pa.types.is_nested(kind) else {}
    try:
        value: object = scalar.as_py(**options)
    except (ValueError, OverflowError, KeyError):
        return _Unfit(f"{kind} {getattr(scalar, 'value', '')}".rstrip())
    if dtype.kind == "json" and isinstance(value, str):
        try:
            return codec_of(dtype).parse(value)
        except ValueRefusedError:
            return _Unfit(repr(value))
    if dtype.kind in {"int64", "int32"} and isinstance(value, Decimal) and kind.scale == 0:
        return int(value)
    return value


def by_value(codec: Codec, array: Any) -> Any:
    """The way by Python, a value at a time."""
    return pa.array([_encoded(codec, scalar) for scalar in array], pa.binary())


def _encoded(codec: Codec, scalar: Any) -> bytes | None:
    if not scalar.is_valid:
        return None
    try:
        return codec.encode(python_value(codec.dtype, scalar))
    except ValueRefusedError:
        return None


def flat(column: Any) -> Any:
    """A column as one plain array: no chunks, dictionaries, runs or extension types."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of a dictionary type, by older versions
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is one of strings."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: Any) -> bool:
    """Whether an Arrow type is one of bytes."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def only(array: Any, keep: Any) -> Any:
    """The array with null wherever `keep` is not true, so that casts never meet what is bad."""
    return pc.if_else(keep, array, pa.scalar(None, array.type))


def spread(rows: Any, keep: Any) -> Any:
    """Rows put back where `keep` is true, with null between."""
    places = pc.subtract(pc.cumulative_sum(keep.cast(pa.int64())), 1)
    return rows.take(only(places, keep))
