"""Which codec each type has."""

from __future__ import annotations

from functools import cache

from featurekit.types.codec import Codec
from featurekit.types.dtype import DType
from featurekit.types.nested import ArrayCodec, JsonCodec, VectorCodec
from featurekit.types.numbers import BoolCodec, DecimalCodec, FloatCodec, IntCodec
from featurekit.types.texts import BytesCodec, StringCodec
from featurekit.types.times import DateCodec, TimestampCodec

_BY_KIND: dict[str, type[Codec]] = {
    "string": StringCodec,
    "float64": FloatCodec,
    "float32": FloatCodec,
    "bool": BoolCodec,
    "timestamp": TimestampCodec,
    "date": DateCodec,
    "decimal": DecimalCodec,
    "bytes": BytesCodec,
    "json": JsonCodec,
    "vector": VectorCodec,
}
_BITS = {"int64": 64, "int32": 32}


@cache
def codec_of(dtype: DType) -> Codec:
    """The codec of a type; always the same object."""
    if dtype.kind in _BITS:
        return IntCodec(dtype, bits=_BITS[dtype.kind])
    if dtype.kind == "array":
        return ArrayCodec(dtype, element=codec_of(DType(dtype.element)))
    return _BY_KIND[dtype.kind](dtype)
