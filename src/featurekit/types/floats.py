"""`float64` and `float32`, stored as the shortest text that reads back equal.

That is Python's `repr` without a final `.0`, so an integral float64 looks like an integer.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Bound, Codec, JsonSchema, short_repr, to_python_scalar
from featurekit.types.number_arrays import FLOAT_CHARACTERS, parse_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TEXT = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|-?inf")
"""A float in a CSV file."""

_SHORT = 18
"""Characters up to which plain digits skip the regular expression."""

_FLOAT32 = struct.Struct("<f")
_FLOAT32_MAX = 3.4028234663852886e38
_LEAST_NORMAL32 = 2.0**-126


@dataclass(frozen=True, slots=True)
class FloatCodec(Codec):
    """`float64`: the shortest text that reads back equal.

    `decode` accepts everything that Python's `float` accepts, since it has one meaning.
    """

    python_type: ClassVar[str] = "float"
    json_ready: ClassVar[bool] = True
    json_type: ClassVar[type] = float
    has_bounds: ClassVar[bool] = True
    has_nan: ClassVar[bool] = True

    @override
    def encode(self, value: object) -> bytes:
        return shortest_text(self.number(value)).encode()

    def number(self, value: object) -> float:
        """Return the float of this type that equals a number.

        Raises:
            ValueRefusedError: The value is not a number of this type.
        """
        number = value if type(value) is float else to_python_scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self.refusal(value)
        try:
            result = self.nearest(float(number))
        except OverflowError:
            raise self.outside(value) from None
        if isinstance(number, int) and result != number:
            raise ValueRefusedError(f"{short_repr(value)} is not exactly {self.noun}")
        return result

    def nearest(self, number: float) -> float:
        """Return the nearest float of this type; `OverflowError` if there is none."""
        return number

    @override
    def decode(self, data: bytes) -> float:
        try:
            return self.nearest(float(data))
        except OverflowError:
            raise ValueError(f"{short_repr(data)} is outside {self.dtype}") from None

    @override
    def parse(self, text: str) -> float:
        if not _TEXT.fullmatch(text):
            raise self.refusal(text)
        try:
            number = self.nearest(float(text))
        except OverflowError:
            raise self.outside(text) from None
        if math.isinf(number) and not text.endswith("inf"):
            raise self.outside(text)
        return number

    @override
    def bytes_parser(self) -> Callable[[bytes], object]:
        def parse(data: bytes) -> object:
            if len(data) <= _SHORT and data.replace(b".", b"", 1).isdigit():
                return float(data)
            return self.parse(data.decode())

        return parse

    @override
    def from_json(self, value: object) -> float:
        if isinstance(value, Decimal) or (
            isinstance(value, str) and value in {"nan", "inf", "-inf"}
        ):
            value = float(value)
        return self.number(value)

    @override
    def to_json(self, value: object) -> object:
        text = self.encode(value).decode()
        number = float(text)
        return number if math.isfinite(number) else text

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "number", "format": "double"}

    @override
    def bound(self, value: object) -> int | float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if math.isfinite(value) else None

    @override
    def encoder_expression(self, low: Bound | None, high: Bound | None) -> str | None:
        most = sys.float_info.max
        bounds = (
            -most if low is None else max(-most, low),
            most if high is None else min(most, high),
        )
        return (
            "repr(v).removesuffix('.0').encode() "
            f"if v.__class__ is float and {bounds[0]!r} <= v <= {bounds[1]!r}"
        )

    @property
    @override
    def number_columns(self) -> int:
        return 1

    @override
    def to_numbers(self, cells: Sequence[bytes]) -> NDArray[Any]:
        return parse_numbers(cells, FLOAT_CHARACTERS)

    @override
    def decoder_expression(self, data: str) -> str:
        return f"float({data})"


@dataclass(frozen=True, slots=True)
class Float32Codec(FloatCodec):
    """`float32`: the shortest text that reads back as the same float32."""

    json_ready: ClassVar[bool] = False

    @override
    def encode(self, value: object) -> bytes:
        return shortest_text32(self.number(value)).encode()

    @override
    def nearest(self, number: float) -> float:
        return nearest_float32(number)

    @override
    def bytes_parser(self) -> Callable[[bytes], object]:
        return lambda data: self.parse(data.decode())

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        bounds = {"minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX}
        return {"type": "number", "format": "float", **bounds}

    @override
    def encoder_expression(self, _low: Bound | None, _high: Bound | None) -> None:
        return None

    @override
    def to_numbers(self, cells: Sequence[bytes]) -> NDArray[Any]:
        import numpy as np

        with np.errstate(over="ignore"):
            found = super(Float32Codec, self).to_numbers(cells).astype(np.float32)
        if not np.isfinite(found).all():
            raise ValueError("a number outside float32")
        return found.astype(np.float64)

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_unpack32(_pack32(float({data})))[0]"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {"_pack32": _FLOAT32.pack, "_unpack32": _FLOAT32.unpack}


def shortest_text(value: float) -> str:
    """Return the shortest text that reads back as the same float64."""
    return float.__repr__(value).removesuffix(".0")


def shortest_text32(value: float) -> str:
    """Return the shortest text that reads back as the same float32.

    Raises:
        OverflowError: No float32 is near.
    """
    number = nearest_float32(value)
    # A float32 keeps any six digits apart, except for subnormal numbers, so start there.
    for digits in range(6 if abs(number) >= _LEAST_NORMAL32 else 1, 9):
        near = float(f"{number:.{digits}g}")
        if _is_text_of(near, number):
            return shortest_text(near)
        # The gap above a power of two is twice the gap below it, so a text that is further away
        # may still read back.
        if abs(math.frexp(number)[0]) == 0.5:  # noqa: PLR2004
            above = float(Context(digits, ROUND_UP).create_decimal_from_float(number))
            if _is_text_of(above, number):
                return shortest_text(above)
    return shortest_text(float(f"{number:.9g}"))


def nearest_float32(value: float) -> float:
    """Return the nearest float32.

    Raises:
        OverflowError: The value is too large.
    """
    result: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return result


def _is_text_of(near: float, number: float) -> bool:
    try:
        return nearest_float32(near) == number
    except OverflowError:  # few digits may round up past the largest float32
        return False
