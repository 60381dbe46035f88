"""The table of all types, and the functions that look a type up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from featurekit.errors import ValueRefusedError, name_hint
from featurekit.expressions.kinds import SCALAR_TYPES, ExpressionType, Kind
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
_OTHER_ARRAY = re.compile(r"(?:array|list|set)\s*[<(\[](.+)[>)\]]|(.+?)(?:_list|_set|\[\])")
_OTHER_VECTOR = re.compile(r"vector\s*[<(\[]\s*(?:\w+\s*,\s*)?([1-9][0-9]{0,4})\s*[>)\]]")
_OTHER_NAMES = {
    name: dtype
    for dtype, names in {
        "string": "str text varchar char utf8 uuid",
        "int64": "int integer long bigint",
        "int32": "smallint short int16",
        "float64": "float double doubleprecision real number",
        "bool": "boolean",
        "timestamp": "datetime datetime64 unixtimestamp timestamptz zonedtimestamp",
        "date": "date32",
        "decimal": "numeric decimal128",
        "bytes": "binary bytea blob",
        "json": "map struct dict object jsonb",
    }.items()
    for name in names.split()
}
"""Types of Feast, SQL, Arrow, Python and pandas, in lower case without `_`, and what they are here."""

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
    raise ValueRefusedError(
        f"unknown type '{text}'",
        hint=type_hint(text, [*SCALARS, "json", "array<T>", "vector<float32, N>"]),
    )


def type_hint(text: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown type: what another system means by it, and the known types."""
    meant = _type_of_other_system(text.strip().lower())
    if meant is None or (meant not in known and "array<T>" not in known):
        return name_hint(text, known)
    return f"did you mean '{meant}'? {name_hint('', known)}"


def _type_of_other_system(text: str) -> str | None:
    if vector := _OTHER_VECTOR.fullmatch(text):
        return f"vector<float32, {vector[1]}>"
    if array := _OTHER_ARRAY.fullmatch(text):
        element = _type_of_other_system(array[1] or array[2])
        return f"array<{element}>" if element in SCALARS else None
    name = re.sub(r"\(.*\)|\[.*\]|[_\s]", "", text)
    return name if name in SCALARS else _OTHER_NAMES.get(name)


def json_value(dtype: DType, value: object) -> object:
    """Return a value as JSON; `None` stays `None`."""
    return None if value is None else codec_of(dtype).to_json(value)


@cache
def codec_of(dtype: DType) -> Codec:
    """Return the codec of a type; always the same object."""
    if dtype.element:
        return ArrayCodec(dtype, element=codec_of(DType(dtype.element)))
    return _CODECS[dtype.kind](dtype)


def expression_type(dtype: DType) -> ExpressionType | None:
    """Return the type with which expressions compute; `None` if they cannot use such values."""
    if dtype.element:
        element = SCALAR_TYPES.get(dtype.element)
        return ExpressionType(Kind.ARRAY, element) if element else None
    return SCALAR_TYPES.get(dtype.kind)
