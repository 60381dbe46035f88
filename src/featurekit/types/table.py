"""The table of all types, and the functions that look a type up."""

from __future__ import annotations

import re
from functools import cache

from featurekit.errors import ValueRefusedError, name_hint
from featurekit.types.arrays import ArrayCodec
from featurekit.types.booleans import BoolCodec
from featurekit.types.codec import Codec, DType
from featurekit.types.decimals import DecimalCodec
from featurekit.types.floats import Float32Codec, FloatCodec
from featurekit.types.integers import Int32Codec, IntCodec
from featurekit.types.json_values import JsonCodec
from featurekit.types.strings import BytesCodec, StringCodec
from featurekit.types.times import DateCodec, TimestampCodec
from featurekit.types.vectors import VectorCodec

_CODECS: dict[str, type[Codec]] = {
    "string": StringCodec,
    "int64": IntCodec,
    "int32": Int32Codec,
    "float64": FloatCodec,
    "float32": Float32Codec,
    "bool": BoolCodec,
    "timestamp": TimestampCodec,
    "date": DateCodec,
    "decimal": DecimalCodec,
    "bytes": BytesCodec,
    "json": JsonCodec,
    "vector": VectorCodec,
}

SCALARS = tuple(name for name, codec in _CODECS.items() if codec.is_scalar)
"""Types that may be the element of an `array<T>`."""

KEY_TYPES = tuple(name for name, codec in _CODECS.items() if codec.is_key)
"""Types that a join key may have: those with exactly one text for each value."""

_ARRAY = re.compile(r"array<\s*(\w+)\s*>")
_VECTOR = re.compile(r"vector<\s*float32\s*,\s*([1-9][0-9]{0,4})\s*>")


def parse_dtype(text: str) -> DType:
    """Return the type that `text` spells.

    Raises:
        ValueRefusedError: There is no such type; the hint names the nearest one.
    """
    text = text.strip()
    if text in SCALARS or text == "json":
        return DType(text)
    if (array := _ARRAY.fullmatch(text)) and array[1] in SCALARS:
        return DType("array", element=array[1])
    if vector := _VECTOR.fullmatch(text):
        return DType("vector", size=int(vector[1]))
    known = [*SCALARS, "json", "array<T>", "vector<float32, N>"]
    raise ValueRefusedError(f"unknown type '{text}'", hint=name_hint(text, known))


def json_value(dtype: DType, value: object) -> object:
    """Return a value as JSON; `None` stays `None`."""
    return None if value is None else codec_of(dtype).to_json(value)


@cache
def codec_of(dtype: DType) -> Codec:
    """Return the codec of a type; always the same object."""
    if dtype.element:
        return ArrayCodec(dtype, element=codec_of(DType(dtype.element)))
    return _CODECS[dtype.kind](dtype)
