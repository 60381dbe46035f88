"""Constraints on the values of a field, beyond its type.

The rule for single values is here. `lower.columns` applies it to whole columns: to each distinct
value, or by an equivalent Arrow function; a test compares the two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from featurekit.types import Bound, Codec, short_repr


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a value must satisfy besides its type.

    Attributes:
        min: The least value allowed, for numbers.
        max: The greatest value allowed, for numbers.
        one_of: The values allowed, as stored bytes; empty allows any.
        pattern: A regular expression that the whole string must match.
        max_length: The most characters, bytes or elements.
        required: Whether null is refused.
        allow_nan: Whether `nan`, `inf` and `-inf` are allowed.
        may_allow_nan: Whether the declaration has the key `allow_nan`, which a message then names; inputs of
            aggregates and derived features do not.
    """

    min: Bound | None = None
    max: Bound | None = None
    one_of: tuple[bytes, ...] = ()
    pattern: str | None = None
    max_length: int | None = None
    required: bool = False
    allow_nan: bool = False
    may_allow_nan: bool = field(default=False, compare=False)


UNCONSTRAINED = Constraints()

ConstraintTest = Callable[[Any, bytes], str | None]
"""Takes a value and its bytes; returns the violation as a message, or `None`."""


def constraint_tests(codec: Codec, constraints: Constraints) -> list[ConstraintTest]:
    """Return one test for each constraint that a value, which is not null, may violate."""
    tests: list[ConstraintTest] = []
    if codec.has_nan and not constraints.allow_nan:
        tests.append(_finite_or_allowed if constraints.may_allow_nan else _finite)
    if constraints.min is not None or constraints.max is not None:
        tests.append(_within(constraints.min, constraints.max))
    if constraints.one_of:
        tests.append(_one_of(constraints.one_of))
    if constraints.max_length:
        tests.append(_not_longer(constraints.max_length))
    if constraints.pattern:  # last: its cost grows with the length
        tests.append(_matches(constraints.pattern))
    return tests


def _finite(value: Any, _data: bytes) -> str | None:
    return None if math.isfinite(value) else f"{value} is not finite"


def _finite_or_allowed(value: Any, data: bytes) -> str | None:
    violation = _finite(value, data)
    return violation and f"{violation}; `allow_nan: true` allows it"


def _within(low: Bound | None, high: Bound | None) -> ConstraintTest:
    def test(value: Any, _data: bytes) -> str | None:
        if low is not None and value < low:
            return f"{value} is below min {low}"
        if high is not None and value > high:
            return f"{value} is above max {high}"
        return None

    return test


def _one_of(choices: tuple[bytes, ...]) -> ConstraintTest:
    allowed = frozenset(choices)
    listed = ", ".join(choice.decode(errors="replace") for choice in choices)

    def test(value: Any, data: bytes) -> str | None:
        return None if data in allowed else f"{short_repr(value)} is not one of {listed}"

    return test


def _matches(pattern: str) -> ConstraintTest:
    match = re.compile(pattern).fullmatch

    def test(value: Any, _data: bytes) -> str | None:
        return None if match(value) else f"{short_repr(value)} does not match pattern {pattern!r}"

    return test


def _not_longer(limit: int) -> ConstraintTest:
    def test(value: Any, _data: bytes) -> str | None:
        if len(value) <= limit:
            return None
        return f"{short_repr(value)} has length {len(value)}, above max_length {limit}"

    return test
