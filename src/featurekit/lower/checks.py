"""Constraints of fields, on single values: the reference for their columnar form."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from featurekit.errors import ValueRefusedError
from featurekit.plan import FieldPlan
from featurekit.types import codec_of

_SHOWN = 80

Encode = Callable[[object], bytes | None]


def field_encoder(field: FieldPlan) -> Encode:
    """The function from a value (or `None`) to its checked bytes (or `None`).

    Raises (the function):
        ValueRefusedError: The value does not fit; `where` names the field.
    """
    encode = codec_of(field.dtype).encode
    tests = _tests(field)

    def checked(value: object) -> bytes | None:
        if value is None:
            if field.constraints.required:
                raise ValueRefusedError("null where a value is required", where=field.name)
            return None
        try:
            data = encode(value)
        except ValueRefusedError as error:
            raise ValueRefusedError(error.message, where=field.name, hint=error.hint) from error
        for test in tests:
            if (fault := test(value, data)) is not None:
                raise ValueRefusedError(fault, where=field.name)
        return data

    return checked


Test = Callable[[Any, bytes], str | None]


def _tests(field: FieldPlan) -> list[Test]:
    checks = field.constraints
    tests: list[Test] = []
    if field.dtype.kind in ("float64", "float32") and not checks.allow_nan:
        tests.append(_finite)
    if checks.min is not None or checks.max is not None:
        tests.append(_bounds(field))
    if checks.one_of:
        tests.append(_one_of(field))
    if checks.pattern:
        tests.append(_pattern(checks.pattern))
    if checks.max_length:
        tests.append(_max_length(checks.max_length))
    return tests


def _finite(value: Any, _data: bytes) -> str | None:
    if math.isfinite(value):
        return None
    return f"{value!r} is not finite, and the field does not say `allow_nan: true`"


def _bounds(field: FieldPlan) -> Test:
    low, high = field.constraints.min, field.constraints.max

    def test(value: Any, _data: bytes) -> str | None:
        if low is not None and value < low:
            return f"{value} is below the minimum of {low}"
        if high is not None and value > high:
            return f"{value} is above the maximum of {high}"
        return None

    return test


def _one_of(field: FieldPlan) -> Test:
    allowed = frozenset(field.constraints.one_of)
    shown = ", ".join(a.decode(errors="replace") for a in field.constraints.one_of)

    def test(value: Any, data: bytes) -> str | None:
        return None if data in allowed else f"{value!r} is none of {shown}"

    return test


def _pattern(pattern: str) -> Test:
    match = re.compile(pattern).fullmatch

    def test(value: Any, _data: bytes) -> str | None:
        return None if match(value) else f"{value!r} does not match {pattern}"

    return test


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _max_length(limit: int) -> Test:
    def test(value: Any, _data: bytes) -> str | None:
        if len(value) <= limit:
            return None
        return f"{_short(value)} is {len(value)} long, and at most {limit} is allowed"

    return test
