"""`decimal`, stored as plain digits without redundant zeros."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import ClassVar

from typing_extensions import override

from featurekit.types.codec import Codec, JsonSchema, short_repr, to_python_scalar

MAX_DIGITS = 38
"""Most digits, before and after the point together: what a decimal128 holds."""

_TEXT = re.compile(rb"(-?)0*([0-9]+)(?:\.([0-9]+))?")
_SCHEMA: JsonSchema = {"type": "string", "pattern": r"^-?[0-9]{1,38}(\.[0-9]{1,38})?$"}


@dataclass(frozen=True, slots=True)
class DecimalCodec(Codec):
    """`decimal`: up to 38 digits, without an exponent; text in JSON."""

    python_type: ClassVar[str] = "Decimal"
    also_written: ClassVar[tuple[str, ...]] = ("int",)
    needs_exact_json: ClassVar[bool] = True
    is_wide: ClassVar[bool] = True
    is_text_in_yaml: ClassVar[bool] = True
    has_bounds: ClassVar[bool] = True

    @override
    def encode(self, value: object) -> bytes:
        number = to_python_scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | Decimal):
            raise self.refusal(value)
        if isinstance(number, int):
            if abs(number) >= 10**MAX_DIGITS:
                raise self.outside(value)
            return b"%d" % number
        if not number.is_finite():
            raise self.refusal(value)
        # Limits the text before it is built: 1E+999999 would have a million digits.
        if number and not -MAX_DIGITS <= number.adjusted() < MAX_DIGITS:
            raise self.outside(value)
        text = _canonical(f"{number:f}".encode()) if number else b"0"
        if text is None:
            raise self.outside(value)
        return text

    @override
    def decode(self, data: bytes) -> Decimal:
        text = _canonical(data)
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
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"anyOf": [_SCHEMA, {"type": "number"}]} if in_request else dict(_SCHEMA)

    @override
    def bound(self, value: object) -> Decimal | None:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return None
        return number if number.is_finite() else None

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_decimal({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {"_decimal": self.decode}


def _canonical(data: bytes) -> bytes | None:
    """Return a decimal without redundant zeros; `None` if it is malformed or too long."""
    match = _TEXT.fullmatch(data)
    if not match:
        return None
    sign, whole, fraction = match[1], match[2], (match[3] or b"").rstrip(b"0")
    if len(whole.lstrip(b"0") + fraction) > MAX_DIGITS:
        return None
    if fraction:
        return sign + whole + b"." + fraction
    return b"0" if whole == b"0" else sign + whole
