"""Numbers and booleans.

A float's text is the shortest that reads back equal: Python's `repr` without a final `.0`.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec, short_repr, to_python_scalar

INT = re.compile(rb"-?[0-9]+")
FLOAT = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|-?inf")
"""A float in a CSV file."""
DECIMAL = re.compile(rb"(-?)0*([0-9]+)(?:\.([0-9]+))?")
DECIMAL_DIGITS = 38
"""Most digits of a decimal, before and after the point together: what a decimal128 holds."""

_LEAST_NORMAL32 = 2.0**-126
_FLOAT32 = struct.Struct("<f")
_SMALL = {b"%d" % number: number for number in range(1000)}
"""What most counts are: looking these up is four times as fast as reading their digits."""

_BOOLS = {b"true": True, b"false": False}
_BOOL_TEXTS = {
    spelled: value
    for text, value in (("true", True), ("false", False))
    for spelled in (text, text.title(), text.upper())
}


@dataclass(frozen=True, slots=True)
class IntCodec(Codec):
    """`int64`, `int32`: decimal digits."""

    bits: int

    @override
    def encode(self, value: object) -> bytes:
        if type(value) is not int:
            value = to_python_scalar(value)
            if not isinstance(value, int) or isinstance(value, bool):
                raise self.refusal(value)
        if value >> (self.bits - 1) not in (0, -1):
            raise self.outside(value)
        return b"%d" % value

    @override
    def decode(self, data: bytes) -> int:
        if not INT.fullmatch(data):
            raise ValueError(f"{short_repr(data)} is not {self.noun}")
        value = int(data)
        if value >> (self.bits - 1) not in (0, -1):
            raise ValueError(f"{short_repr(data)} is outside {self.dtype}")
        return value

    @override
    def parse(self, text: str) -> int:
        try:
            return self.decode(text.encode())
        except ValueError:
            digits = re.fullmatch("-?[0-9]+", text)
            raise self.outside(text) if digits else self.refusal(text) from None

    @override
    def decoder_expression(self, data: str) -> str:
        safe = len(str(1 << (self.bits - 1)))
        plain = (
            f"int({data}) if {data}.isdigit() and len({data}) < {safe} else _{self.dtype}({data})"
        )
        return f"(small if (small := _small({data})) is not None else {plain})"

    @override
    def names(self) -> dict[str, object]:
        return {f"_{self.dtype}": self.decode, "_small": _SMALL.get}


@dataclass(frozen=True, slots=True)
class FloatCodec(Codec):
    """`float64`, `float32`: the shortest text that reads back equal.

    Read as liberally as Python reads a float: whatever `float` takes has one meaning.
    """

    @override
    def encode(self, value: object) -> bytes:
        number = self.number(value)
        if self.dtype.kind == "float32":
            return text32_of(number).encode()
        return text_of(number).encode()

    def number(self, value: object) -> float:
        """The float that a value is in this type.

        Raises:
            ValueRefusedError: It is not of this type.
        """
        number = value if type(value) is float else to_python_scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self.refusal(value)
        try:
            result = self._narrowed(float(number))
        except OverflowError:
            raise self.outside(value) from None
        if isinstance(number, int) and result != number:
            raise ValueRefusedError(f"{short_repr(value)} is not exactly {self.noun}")
        return result

    def _narrowed(self, number: float) -> float:
        return rounded32(number) if self.dtype.kind == "float32" else number

    @override
    def decode(self, data: bytes) -> float:
        try:
            return self._narrowed(float(data))
        except OverflowError:
            raise ValueError(f"{short_repr(data)} is outside {self.dtype}") from None

    @override
    def parse(self, text: str) -> float:
        if not FLOAT.fullmatch(text):
            raise self.refusal(text)
        try:
            number = self._narrowed(float(text))
        except OverflowError:
            raise self.outside(text) from None
        if math.isinf(number) and not text.endswith("inf"):
            raise self.outside(text)
        return number

    @override
    def from_json(self, value: object) -> float:
        if isinstance(value, str) and value in {"nan", "inf", "-inf"}:
            return float(value)
        return self.number(value)

    @override
    def to_json(self, value: object) -> object:
        text = self.encode(value).decode()
        number = float(text)
        return number if math.isfinite(number) else text

    @override
    def decoder_expression(self, data: str) -> str:
        if self.dtype.kind == "float32":
            return f"_unpack32(_pack32(float({data})))[0]"
        return f"float({data})"

    @override
    def names(self) -> dict[str, object]:
        if self.dtype.kind == "float32":
            return {"_pack32": _FLOAT32.pack, "_unpack32": _FLOAT32.unpack}
        return {}


@dataclass(frozen=True, slots=True)
class BoolCodec(Codec):
    """`bool`: `true` or `false`."""

    @override
    def encode(self, value: object) -> bytes:
        flag = to_python_scalar(value)
        if not isinstance(flag, bool):
            raise self.refusal(value)
        return b"true" if flag else b"false"

    @override
    def decode(self, data: bytes) -> bool:
        try:
            return _BOOLS[data]
        except KeyError:
            raise ValueError(f"{short_repr(data)} is not {self.noun}") from None

    @override
    def parse(self, text: str) -> bool:
        try:
            return _BOOL_TEXTS[text]
        except KeyError:
            raise self.refusal(text) from None

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_bools[{data}]"

    @override
    def names(self) -> dict[str, object]:
        return {"_bools": _BOOLS}


@dataclass(frozen=True, slots=True)
class DecimalCodec(Codec):
    """`decimal`: plain digits, with none to spare."""

    @override
    def encode(self, value: object) -> bytes:
        number = to_python_scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | Decimal):
            raise self.refusal(value)
        if isinstance(number, int):
            if abs(number) >= 10**DECIMAL_DIGITS:
                raise self.outside(value)
            return b"%d" % number
        if not number.is_finite():
            raise self.refusal(value)
        # Bounds the text before it is made: 1E+999999 would have a million digits.
        if number and not -DECIMAL_DIGITS <= number.adjusted() < DECIMAL_DIGITS:
            raise self.outside(value)
        text = plain_of(f"{number:f}".encode()) if number else b"0"
        if text is None:
            raise self.outside(value)
        return text

    @override
    def decode(self, data: bytes) -> Decimal:
        text = plain_of(data)
        if text is None:
            raise ValueError(f"{short_repr(data)} is not {self.noun}")
        return Decimal(text.decode())

    @override
    def from_json(self, value: object) -> object:
        if isinstance(value, str):
            return self.parse(value)
        self.encode(value)
        return value

    @override
    def to_json(self, value: object) -> str:
        return self.encode(value).decode()

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_decimal({data})"

    @override
    def names(self) -> dict[str, object]:
        return {"_decimal": self.decode}


def text_of(value: float) -> str:
    """The shortest text that reads back equal."""
    return float.__repr__(value).removesuffix(".0")


def text32_of(value: float) -> str:
    """The shortest text that reads back equal as a float32.

    Raises:
        OverflowError: No float32 is near.
    """
    number = rounded32(value)
    # Six digits always tell apart what six digits wrote, but for the subnormal numbers.
    for digits in range(6 if abs(number) >= _LEAST_NORMAL32 else 1, 9):
        near = float(f"{number:.{digits}g}")
        if _reads_as(near, number):
            return text_of(near)
        # The gap above a power of two is twice the one below, so that only a text further
        # away may read back.
        if abs(math.frexp(number)[0]) == 0.5:  # noqa: PLR2004
            above = float(Context(digits, ROUND_UP).create_decimal_from_float(number))
            if _reads_as(above, number):
                return text_of(above)
    return text_of(float(f"{number:.9g}"))


def rounded32(value: float) -> float:
    """The nearest float32.

    Raises:
        OverflowError: There is none.
    """
    result: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return result


def _reads_as(near: float, number: float) -> bool:
    try:
        return rounded32(near) == number
    except OverflowError:  # few digits may round up past the greatest float32
        return False


def plain_of(data: bytes) -> bytes | None:
    """A decimal's digits with none to spare; `None` where it is no decimal or has too many."""
    match = DECIMAL.fullmatch(data)
    if not match:
        return None
    sign, whole, fraction = match[1], match[2], (match[3] or b"").rstrip(b"0")
    if len(whole.lstrip(b"0") + fraction) > DECIMAL_DIGITS:
        return None
    if fraction:
        return sign + whole + b"." + fraction
    return b"0" if whole == b"0" else sign + whole
