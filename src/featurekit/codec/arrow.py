"""The Arrow form of the codecs: whole columns to the same bytes, and back into columns.

Scalars and vectors never become Python values on the way, but for the few that Arrow spells
in another way. What a cell may be is decided by `Codec.encode` on `python_value`; this module
gives the same answer faster.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.codec.contract import Codec
from featurekit.codec.numbers import DECIMAL_DIGITS
from featurekit.codec.table import codec_of
from featurekit.dtypes import DType
from featurekit.errors import ValueRefusedError

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = 1 - _EPOCH, date.max.toordinal() - _EPOCH
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31 - 1)}
_EXACT = {"float64": 2**53, "float32": 2**24}
"""Up to here, every int is one of the floats."""

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


class _Unfit:
    """A cell that is no Python value of its type; refused by every codec, under its own text."""

    def __init__(self, text: str) -> None:
        self.text = text

    @override
    def __repr__(self) -> str:
        return self.text


def encode_array(dtype: DType, column: Any) -> tuple[Any, Any]:
    """The bytes of a column.

    Args:
        dtype: The type it shall have.
        column: An Arrow array or chunked array of any type.

    Returns:
        A binary array, null where the column is null or its value is refused, and a boolean
        array of the rows refused, or `None` if none is.
    """
    array = flat(column)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.binary()), None
    texts = _ENCODERS[dtype.kind](codec_of(dtype), array)
    if texts is None:
        texts = pa.nulls(len(array), pa.binary())
    if texts.null_count == array.null_count:
        return texts.cast(pa.binary()), None
    return texts.cast(pa.binary()), pc.and_(array.is_valid(), texts.is_null())


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
    if dtype.kind in _RANGES and isinstance(value, Decimal) and kind.scale == 0:
        return int(value)
    return value


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


def _is_bytes(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _only(array: Any, keep: Any) -> Any:
    """The array with null wherever `keep` is not true, so that casts never meet what is bad."""
    return pc.if_else(keep, array, pa.scalar(None, array.type))


def _by_value(codec: Codec, array: Any) -> Any:
    """The way by Python, a value at a time."""
    return pa.array([_encoded(codec, scalar) for scalar in array], pa.binary())


def _encoded(codec: Codec, scalar: Any) -> bytes | None:
    if not scalar.is_valid:
        return None
    try:
        return codec.encode(python_value(codec.dtype, scalar))
    except ValueRefusedError:
        return None


def _patched(codec: Codec, texts: Any, array: Any, odd: Any) -> Any:
    """Texts with those where `odd` is true made by Python instead."""
    odd = odd.fill_null(fill_value=False)
    if not pc.any(odd).as_py():
        return texts
    return pc.replace_with_mask(texts.cast(pa.binary()), odd, _by_value(codec, array.filter(odd)))


def _strings(_: Codec, array: Any) -> Any:
    return array.cast(pa.binary()) if is_text(array.type) else None


def _bytes(_: Codec, array: Any) -> Any:
    return array.cast(pa.binary()) if _is_bytes(array.type) else None


def _bools(_: Codec, array: Any) -> Any:
    return array.cast(pa.string()) if pa.types.is_boolean(array.type) else None


def _ints(codec: Codec, array: Any) -> Any:
    kind = array.type
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return _by_value(codec, array)
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
        array = _only(array, pc.less_equal(array, pa.scalar(high, array.type)))
    if bounds["min"] < low:
        array = _only(array, pc.greater_equal(array, pa.scalar(low, array.type)))
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
        return _float_texts(codec, array.cast(pa.float64()))
    near = array.cast(pa.float32(), safe=False)
    fits = pc.or_(pc.invert(pc.is_inf(near)), pc.is_inf(array))
    return _float_texts(codec, _only(near, fits))


def _float_texts(codec: Codec, array: Any) -> Any:
    """Arrow's texts are the shortest too, but put the exponent elsewhere outside 1e-4..1e10."""
    texts = array.cast(pa.string())
    size = pc.abs(array)
    large = pc.and_(pc.greater_equal(size, 1e10), pc.is_finite(array))
    small = pc.and_(pc.less(size, 1e-4), pc.greater(size, 0))
    odd = pc.or_(large, small).fill_null(fill_value=False)
    if codec.dtype.kind == "float64" and pc.any(large).as_py():
        whole = pc.and_(pc.equal(pc.trunc(array), array), pc.less(size, 2.0**53))
        whole = pc.and_(whole, large).fill_null(fill_value=False)
        texts = pc.if_else(whole, _only(array, whole).cast(pa.int64()).cast(pa.string()), texts)
        odd = pc.and_not(odd, whole)
    return _patched(codec, texts, array, odd)


def _decimals(codec: Codec, array: Any) -> Any:
    kind = array.type
    if pa.types.is_integer(kind):
        return array.cast(pa.string())
    if not pa.types.is_decimal(kind):
        return None
    if kind.precision > DECIMAL_DIGITS or not 0 <= kind.scale <= kind.precision:
        return _by_value(codec, array)
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
        numbers = _only(numbers, pc.equal(micros, numbers))
    moments = numbers.cast(pa.timestamp(kind.unit)).cast(pa.timestamp("us"))
    seconds = pc.floor_temporal(moments, unit="second")
    clock = moments.cast(pa.time64("us"))
    times = clock.cast(pa.time32("s"), safe=False).cast(pa.string())
    fine = pc.not_equal(seconds, moments)
    if pc.any(fine).as_py():
        times = pc.if_else(fine, clock.cast(pa.string()), times)
    days = pc.floor_temporal(moments, unit="day").cast(pa.date32()).cast(pa.string())
    return pc.binary_join_element_wise(days, "T", times, "Z", "")


def _vectors(codec: Codec, array: Any) -> Any:
    kind, size = array.type, codec.dtype.size
    types = pa.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not lists or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        return None
    fits = pc.equal(pc.list_value_length(array), size).fill_null(fill_value=False)
    if not pc.any(fits).as_py():
        return None
    numbers = array.filter(fits).flatten()
    if numbers.type != pa.float32():
        # By way of float64, as Python goes: an int would be rounded once less.
        numbers = numbers.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
    data = numbers.buffers()[1].slice(numbers.offset * 4)
    rows = pa.Array.from_buffers(pa.binary(4 * size), len(numbers) // size, [None, data])
    finite = pc.is_finite(numbers).fill_null(fill_value=False)
    if not pc.all(finite).as_py():
        spoilt = pc.divide(pc.indices_nonzero(pc.invert(finite)), size)
        places = pa.array(range(len(rows)), spoilt.type)
        rows = _only(rows, pc.invert(pc.is_in(places, spoilt)))
    places = pc.subtract(pc.cumulative_sum(fits.cast(pa.int64())), 1)
    return rows.take(_only(places, fits)).cast(pa.binary())


_ENCODERS: dict[str, Callable[[Codec, Any], Any]] = {
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
    "json": _by_value,
    "array": _by_value,
    "vector": _vectors,
}
