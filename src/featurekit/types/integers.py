"""`int64` and `int32`, stored as decimal digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import (
    Bound,
    Codec,
    DType,
    JsonSchema,
    short_repr,
    to_python_scalar,
)
from featurekit.types.number_arrays import INTEGER_CHARACTERS, parse_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INT = re.compile(rb"-?[0-9]+")
_SMALL = {b"%d" % number: number for number in range(1000)}
"""The most frequent counts: a look-up is four times as fast as parsing the digits."""

_POINT_HINT = (
    "write an integer without a point or exponent; in a `type: sql` source, CAST(column AS BIGINT)"
)

_SHORT = 18
"""Digits that always fit an int64."""


@dataclass(frozen=True, slots=True)
class IntCodec(Codec):
    """`int64`: decimal digits."""

    python_type: ClassVar[str] = "int"
    json_ready: ClassVar[bool] = True
    json_type: ClassVar[type] = int
    is_key: ClassVar[bool] = True
    is_integer: ClassVar[bool] = True
    has_bounds: ClassVar[bool] = True
    bits: ClassVar[int] = 64

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
        if not _INT.fullmatch(data):
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
    def bytes_parser(self) -> Callable[[bytes], object]:
        def parse(data: bytes) -> object:
            # Plain digits, the usual case, need no regular expression.
            if data.isdigit() and len(data) <= _SHORT:
                return int(data)
            return self.parse(data.decode())

        return parse

    @override
    def refusal(self, value: object) -> ValueRefusedError:
        error = super(IntCodec, self).refusal(value)
        error.hint = _POINT_HINT if _has_point(value) else ""
        return error

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        least, most = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return {"type": "integer", "format": str(self.dtype), "minimum": least, "maximum": most}

    @override
    def bound(self, value: object) -> int | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        if value >> (self.bits - 1) not in (0, -1):
            raise self.outside(value)
        return value

    @override
    def decodes(self, other: DType) -> bool:
        return self.bits == 64 and other.kind == "int32"  # noqa: PLR2004

    @override
    def encoder_expression(self, low: Bound | None, high: Bound | None) -> str:
        least, most = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        least = least if low is None else max(least, int(low))
        most = most if high is None else min(most, int(high))
        return f"b'%d' % v if v.__class__ is int and {least} <= v <= {most}"

    @property
    @override
    def number_columns(self) -> int:
        return 1

    @override
    def to_numbers(self, cells: Sequence[bytes]) -> NDArray[Any]:
        found = parse_numbers(cells, INTEGER_CHARACTERS)
        if len(found) and abs(found).max() >= 1 << (self.bits - 1):
            raise ValueError(f"a number outside {self.dtype}")
        return found

    @override
    def decoder_expression(self, data: str) -> str:
        safe = len(str(1 << (self.bits - 1)))
        plain = (
            f"int({data}) if {data}.isdigit() and len({data}) < {safe} else _{self.dtype}({data})"
        )
        return f"(small if (small := _small({data})) is not None else {plain})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {f"_{self.dtype}": self.decode, "_small": _SMALL.get}


def _has_point(value: object) -> bool:
    """Whether a value is an integer written with a point, such as `517.0`."""
    if isinstance(value, str):
        return re.fullmatch(r"-?[0-9]+\.0*", value) is not None
    if isinstance(value, Decimal):
        return value.is_finite() and value == value.to_integral_value()
    return isinstance(value, float) and value.is_integer()


@dataclass(frozen=True, slots=True)
class Int32Codec(IntCodec):
    """`int32`: decimal digits."""

    bits: ClassVar[int] = 32
