"""`json`, stored as compact JSON with sorted keys."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec, ComparedAs, JsonSchema, short_repr

MAX_DEPTH = 100
"""Most levels of nesting of a JSON value."""

dump_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text} is outside float64")
    return number


_BACKSLASH = 0x5C  # as a number, because `in` is slow for a byte in bytes

_SHORT = 400
"""Bytes up to which the numbers of a text are too few to search it first."""

_FEW_FLOATS = 16
_BYTES_PER_FLOAT = 50
_LONG_EXPONENT = re.compile(rb"e\+?[0-9]{3}")
_BLOCK = 100
"""A number with a shorter exponent is within float64 unless it has over 200 digits: a whole block."""

_FINITE: Any = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_PLAIN: Any = json.JSONDecoder(parse_constant=_refuse_constant)
load_json = _PLAIN.decode
load_json_floats = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=float).decode


@dataclass(frozen=True, slots=True)
class JsonCodec(Codec):
    """`json`: any JSON value but null."""

    python_type: ClassVar[str] = "Any"
    compared_as: ClassVar[ComparedAs] = "length"
    json_ready: ClassVar[bool] = True
    any_json: ClassVar[bool] = True
    is_scalar: ClassVar[bool] = False
    is_text_in_arrow: ClassVar[bool] = True

    @property
    @override
    def noun(self) -> str:
        return "a JSON value"

    @override
    def encode(self, value: object) -> bytes:
        if value is None:
            raise self.refusal(value)
        self._check(value, MAX_DEPTH)
        try:
            return dump_json(value).encode()
        except ValueError:  # half of a surrogate pair, or an int too long to print
            raise self.refusal(value) from None

    def _check(self, value: object, depth: int) -> None:
        if depth == 0:
            raise ValueRefusedError(f"a JSON value has at most {MAX_DEPTH} levels of nesting")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueRefusedError(f"{short_repr(value)} has a key that is not a string")
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                self._check(item, depth - 1)
        elif not _is_leaf(value):
            raise self.refusal(value)

    @override
    def decode(self, data: bytes) -> object:
        decoder, text = _FINITE if _may_overflow(data) else _PLAIN, data.decode()
        value: object = None
        try:
            # `decode` searches for white space first, which takes longer than to read a short value.
            try:
                value, end = decoder.scan_once(text, 0)
            except StopIteration:
                end = -1
            if end != len(text):
                value = decoder.decode(text)
        except RecursionError:
            raise ValueError(f"JSON has more than {MAX_DEPTH} levels of nesting") from None
        if value is None:
            raise ValueError("null is not a value")
        check_surrogates(data, value)
        return value

    @override
    def display_text(self, value: object) -> str:
        return dump_json(value)

    @override
    def parse(self, text: str) -> object:
        try:
            value = self.decode(text.encode())
        except ValueError:
            raise ValueRefusedError(f"{short_repr(text)} is not JSON") from None
        self.encode(value)
        return value

    @override
    def from_json(self, value: object) -> object:
        try:
            self.encode(value)
        except (
            ValueRefusedError
        ):  # perhaps because of a Decimal, which a document holds as a float
            value = _with_floats(value, MAX_DEPTH)
            self.encode(value)
        return value

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {}

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_json({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {"_json": self.decode}


def check_surrogates(data: bytes, value: object) -> None:
    """Raise `ValueError` if the JSON value of stored bytes contains half of a surrogate pair."""
    if _BACKSLASH in data and (b"\\ud" in data or b"\\uD" in data):
        dump_json(value).encode()


def _may_overflow(data: bytes) -> bool:
    """Return whether to check each number of a JSON text, because one may be outside float64.

    Python reads `1e400` as infinity. To check each number takes as long as to read it, so a long text
    is searched first if much of it is fractions.
    """
    return (
        len(data) <= _SHORT
        or data.count(b".") <= _FEW_FLOATS + len(data) // _BYTES_PER_FLOAT
        or b"E" in data
        or _LONG_EXPONENT.search(data) is not None
        or any(data[i : i + _BLOCK].isdigit() for i in range(0, len(data), _BLOCK))
    )


def _is_leaf(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _with_floats(value: object, depth: int) -> object:
    """Return a JSON value with floats for its Decimals; `encode` refuses what lies deeper."""
    if isinstance(value, Decimal):
        return float(value)
    if depth and isinstance(value, list):
        return [_with_floats(item, depth - 1) for item in value]
    if depth and isinstance(value, dict):
        return {name: _with_floats(item, depth - 1) for name, item in value.items()}
    return value
