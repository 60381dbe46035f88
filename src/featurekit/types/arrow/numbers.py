"""Arrow forms of `int64`, `int32`, `float64`, `float32`, `decimal` and `bool`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.types.arrow.form import ArrowForm, keep_where, keep_within
from featurekit.types.decimals import MAX_DIGITS
from featurekit.types.floats import shortest_text

_EXACT_INTEGERS = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""Up to this size, each integer is a float of its own."""

_NOT_FINITE = pa.array([b"nan", b"inf", b"-inf"])


@dataclass(frozen=True)
class BoolForm(ArrowForm):
    """`bool`: Arrow booleans."""

    arrow_type: ClassVar[Any] = pa.bool_()
    usual_text: ClassVar[str] = "^(true|false)$"

    @override
    def encode(self, array: Any) -> Any:
        return array.cast(pa.string()) if pa.types.is_boolean(array.type) else None

    @override
    def json_texts(self, texts: Any) -> Any:
        return texts


@dataclass(frozen=True)
class IntForm(ArrowForm):
    """`int64`: integers of any width, decimals of scale 0, and floats that are whole.

    Columns of integers often arrive as floats because of nulls. Above 2^53 (2^24 for
    float32) a float may stand for another integer, so it is refused.
    """

    arrow_type: ClassVar[Any] = pa.int64()
    usual_text: ClassVar[str] = "^-?[0-9]{1,18}$"
    bits: ClassVar[int] = 64

    @override
    def encode(self, array: Any) -> Any:
        kind = array.type
        if pa.types.is_decimal(kind) and kind.scale == 0:
            return self.encode_values(array)
        if pa.types.is_floating(kind):
            array = _whole_numbers(array)
        elif not pa.types.is_integer(kind):
            return None
        most = 1 << (self.bits - 1)
        return keep_within(array, -most, most - 1).cast(pa.string())

    @override
    def json_texts(self, texts: Any) -> Any:
        return texts

    @override
    def python_value(self, scalar: Any) -> object:
        value = super().python_value(scalar)
        if isinstance(value, float) and value.is_integer():
            return int(value) if abs(value) <= _EXACT_INTEGERS[scalar.type] else value
        return int(value) if isinstance(value, Decimal) and scalar.type.scale == 0 else value


def _whole_numbers(array: Any) -> Any:
    """Return floats as int64, null where one is not whole or too large to be exact."""
    floats = array.cast(pa.float64())
    most = float(_EXACT_INTEGERS[array.type])
    is_whole = pc.and_(pc.equal(pc.trunc(floats), floats), pc.less_equal(pc.abs(floats), most))
    return keep_where(floats, is_whole).cast(pa.int64())


@dataclass(frozen=True)
class Int32Form(IntForm):
    """`int32`: the same Arrow types as `int64`."""

    arrow_type: ClassVar[Any] = pa.int32()
    usual_text: ClassVar[str] = "^-?[0-9]{1,9}$"
    bits: ClassVar[int] = 32


@dataclass(frozen=True)
class FloatForm(ArrowForm):
    """`float64`: floats, and the integers that are exactly a float."""

    arrow_type: ClassVar[Any] = pa.float64()
    usual_text: ClassVar[str] = r"^-?[0-9]{1,99}(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,2})?$"
    mantissa: ClassVar[int] = 2**53

    @override
    def encode(self, array: Any) -> Any:
        if pa.types.is_integer(array.type):
            exact = keep_within(array, -self.mantissa, self.mantissa)
            texts = exact.cast(pa.string())
            return self.encode_where(texts, array, pc.and_(array.is_valid(), exact.is_null()))
        return self._float_texts(array) if pa.types.is_floating(array.type) else None

    def _float_texts(self, array: Any) -> Any:
        return _shortest_texts(array.cast(pa.float64()))

    @override
    def json_texts(self, texts: Any) -> Any:
        return keep_where(texts, pc.invert(pc.is_in(texts, _NOT_FINITE)))


@dataclass(frozen=True)
class Float32Form(FloatForm):
    """`float32`: the same Arrow types as `float64`, rounded as Python rounds."""

    arrow_type: ClassVar[Any] = pa.float32()
    mantissa: ClassVar[int] = 2**24

    @override
    def _float_texts(self, array: Any) -> Any:
        return _shortest_texts(_to_float32(array))

    @override
    def parse_usual(self, texts: Any, is_usual: Any) -> Any:
        # Through float64, as in Python; what overflows is null, and so refused.
        is_usual = is_usual.fill_null(fill_value=True)
        wide = keep_where(texts, is_usual).cast(pa.float64())
        values = _to_float32(wide)
        rest = pc.invert(is_usual)
        return pc.replace_with_mask(values, rest, self.parse_values(texts.filter(rest)))


def _to_float32(array: Any) -> Any:
    """Return floats as float32, null where a finite one overflows."""
    near = array.cast(pa.float32(), safe=False)
    return keep_where(near, pc.or_(pc.invert(pc.is_inf(near)), pc.is_inf(array)))


def _shortest_texts(array: Any) -> Any:
    """Return the texts of floats.

    Arrow writes the same digits as Python but uses an exponent outside 1e-4..1e10, so those
    numbers are respelled.
    """
    texts = array.cast(pa.string())
    size = pc.abs(array)
    large = pc.and_(pc.greater_equal(size, 1e10), pc.is_finite(array))
    small = pc.and_(pc.less(size, 1e-4), pc.greater(size, 0))
    respell = pc.or_(large, small).fill_null(fill_value=False)
    if array.type == pa.float64() and pc.any(large).as_py():
        whole = pc.and_(pc.equal(pc.trunc(array), array), pc.less(size, 2.0**53))
        whole = pc.and_(whole, large).fill_null(fill_value=False)
        digits = keep_where(array, whole).cast(pa.int64()).cast(pa.string())
        texts = pc.if_else(whole, digits, texts)
        respell = pc.and_not(respell, whole)
    if not pc.any(respell).as_py():
        return texts
    spelled = [shortest_text(float(text)) for text in texts.filter(respell).to_pylist()]
    return pc.replace_with_mask(texts, respell, pa.array(spelled, pa.string()))


@dataclass(frozen=True)
class DecimalForm(ArrowForm):
    """`decimal`: Arrow decimals and integers."""

    arrow_type: ClassVar[Any] = pa.decimal128(38, 18)
    wide_type: ClassVar[Any] = pa.decimal256(76, 38)

    @override
    def encode(self, array: Any) -> Any:
        kind = array.type
        if pa.types.is_integer(kind):
            return array.cast(pa.string())
        if not pa.types.is_decimal(kind):
            return None
        if kind.precision > MAX_DIGITS or not 0 <= kind.scale <= kind.precision:
            return self.encode_values(array)
        texts = array.cast(pa.string())
        if kind.scale:
            texts = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
        zero = pc.equal(array, pa.scalar(Decimal(0), kind))
        texts = pc.if_else(zero, "0", texts)
        return self.encode_where(texts, array, pc.match_substring(texts, "E"))
