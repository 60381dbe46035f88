"""Columns of scalars as texts, made by Arrow compute.

Each function takes a flat array and gives strings or bytes, null where the value is null or
refused; or `None` for an Arrow type that has no values of this type. It says just what
`Codec.encode` says, faster.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.types.arrow_cells import by_value, is_bytes, is_text, only
from featurekit.types.codec import Codec
from featurekit.types.numbers import DECIMAL_DIGITS, text_of

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = 1 - _EPOCH, date.max.toordinal() - _EPOCH
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31 - 1)}
_EXACT = {"float64": 2**53, "float32": 2**24}
"""Up to here, every int is one of the floats."""


def _strings(_: Codec, array: Any) -> Any:
    return array.cast(pa.binary()) if is_text(array.type) else None


def _bytes(_: Codec, array: Any) -> Any:
    return array.cast(pa.binary()) if is_bytes(array.type) else None


def _bools(_: Codec, array: Any) -> Any:
    return array.cast(pa.string()) if pa.types.is_boolean(array.type) else None


def _ints(codec: Codec, array: Any) -> Any:
    kind = array.type
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return by_value(codec, array)
    if not pa.types.is_integer(kind):
        return None
    low, high = _RANGES[codec.dtype.kind]
    return _within(array, low, high).cast(pa.string())


def _within(array: Any, low: int, high: int) -> Any:
    """Ints with null wherever one is out of bounds."""
    bounds = pc.min_max(array).as_py()
    if bounds["min"] is None:
        return array
    if bounds["max"] > high:
        array = only(array, pc.less_equal(array, pa.scalar(high, array.type)))
    if bounds["min"] < low:
        array = only(array, pc.greater_equal(array, pa.scalar(low, array.type)))
    return array


def _floats(codec: Codec, array: Any) -> Any:
    kind = codec.dtype.kind
    if pa.types.is_integer(array.type):
        exact = _within(array, -_EXACT[kind], _EXACT[kind])
        texts = exact.cast(pa.string())
        return _patched(codec, texts, array, pc.and_(array.is_valid(), exact.is_null()))
    if not pa.types.is_floating(array.type):
        return None
    if kind == "float64":
        return _float_texts(array.cast(pa.float64()))
    near = array.cast(pa.float32(), safe=False)
    fits = pc.or_(pc.invert(pc.is_inf(near)), pc.is_inf(array))
    return _float_texts(only(near, fits))


def _float_texts(array: Any) -> Any:
    """Arrow's texts are the shortest too, but put the exponent elsewhere outside 1e-4..1e10."""
    texts = array.cast(pa.string())
    size = pc.abs(array)
    large = pc.and_(pc.greater_equal(size, 1e10), pc.is_finite(array))
    small = pc.and_(pc.less(size, 1e-4), pc.greater(size, 0))
    odd = pc.or_(large, small).fill_null(fill_value=False)
    if array.type == pa.float64() and pc.any(large).as_py():
        whole = pc.and_(pc.equal(pc.trunc(array), array), pc.less(size, 2.0**53))
        whole = pc.and_(whole, large).fill_null(fill_value=False)
        texts = pc.if_else(whole, only(array, whole).cast(pa.int64()).cast(pa.string()), texts)
        odd = pc.and_not(odd, whole)
    if not pc.any(odd).as_py():
        return texts
    respelled = [text_of(float(text)) for text in texts.filter(odd).to_pylist()]
    return pc.replace_with_mask(texts, odd, pa.array(respelled, pa.string()))


def _decimals(codec: Codec, array: Any) -> Any:
    kind = array.type
    if pa.types.is_integer(kind):
        return array.cast(pa.string())
    if not pa.types.is_decimal(kind):
        return None
    if kind.precision > DECIMAL_DIGITS or not 0 <= kind.scale <= kind.precision:
        return by_value(codec, array)
    texts = array.cast(pa.string())
    if kind.scale:
        texts = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    zero = pc.equal(array, pa.scalar(Decimal(0), kind))
    texts = pc.if_else(zero, "0", texts)
    return _patched(codec, texts, array, pc.match_substring(texts, "E"))


def _dates(_: Codec, array: Any) -> Any:
    if not pa.types.is_date(array.type):
        return None
    if pa.types.is_date64(array.type):  # milliseconds, of which a cast would cut the wrong way
        array = pc.floor_temporal(array.cast(pa.timestamp("ms")), unit="day").cast(pa.date32())
    days = _within(array.cast(pa.int32()), _FIRST_DAY, _LAST_DAY)
    return days.cast(pa.date32()).cast(pa.string())


def _timestamps(_: Codec, array: Any) -> Any:
    kind = array.type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return None
    per_second = _UNITS[kind.unit]
    numbers = array.cast(pa.int64())
    if kind.unit != "ns":
        first, after = _FIRST_DAY * 86_400 * per_second, (_LAST_DAY + 1) * 86_400 * per_second
        numbers = _within(numbers, first, after - 1)
    else:
        micros = pc.multiply(pc.divide(numbers, 1000), 1000)
        numbers = only(numbers, pc.equal(micros, numbers))
    moments = numbers.cast(pa.timestamp(kind.unit)).cast(pa.timestamp("us"))
    seconds = pc.floor_temporal(moments, unit="second")
    clock = moments.cast(pa.time64("us"))
    times = clock.cast(pa.time32("s"), safe=False).cast(pa.string())
    fine = pc.not_equal(seconds, moments)
    if pc.any(fine).as_py():
        times = pc.if_else(fine, clock.cast(pa.string()), times)
    days = pc.floor_temporal(moments, unit="day").cast(pa.date32()).cast(pa.string())
    return pc.binary_join_element_wise(days, "T", times, "Z", "")


def _patched(codec: Codec, texts: Any, array: Any, odd: Any) -> Any:
    """Texts with those where `odd` is true made by Python instead."""
    odd = odd.fill_null(fill_value=False)
    if not pc.any(odd).as_py():
        return texts
    return pc.replace_with_mask(texts.cast(pa.binary()), odd, by_value(codec, array.filter(odd)))


SCALARS: dict[str, Callable[[Codec, Any], Any]] = {
    "string": _strings,
    "int64": _ints,
    "int32": _ints,
    "float64": _floats,
    "float32": _floats,
    "bool": _bools,
    "timestamp": _timestamps,
    "date": _dates,
    "decimal": _decimals,
    "bytes": _bytes,
}
