"""The types of features: one spelling each, everywhere.

This module knows the names and nothing else; bytes belong to `codec`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from typing_extensions import override

from featurekit.errors import ValueRefusedError, name_hint

SCALARS = (
    "string",
    "int64",
    "int32",
    "float64",
    "float32",
    "bool",
    "timestamp",
    "date",
    "decimal",
    "bytes",
)
"""Types that may stand in an `array<T>`."""

KEY_TYPES = ("string", "int64", "int32", "date")
"""Types that a join key may have: those with one text for each value."""

_ARRAY = re.compile(r"array<\s*(\w+)\s*>")
_VECTOR = re.compile(r"vector<\s*float32\s*,\s*([1-9][0-9]{0,4})\s*>")


@dataclass(frozen=True, slots=True)
class DType:
    """A feature's type.

    Attributes:
        kind: A name of `SCALARS`, or `json`, `array`, `vector`.
        element: The scalar kind of an array; empty otherwise.
        size: How many numbers a vector has; 0 otherwise.
    """

    kind: str
    element: str = ""
    size: int = 0

    @override
    def __str__(self) -> str:
        if self.kind == "array":
            return f"array<{self.element}>"
        if self.kind == "vector":
            return f"vector<float32, {self.size}>"
        return self.kind


def parse_dtype(text: str) -> DType:
    """The type spelled `text`.

    Raises:
        ValueRefusedError: Nothing is spelled so; the hint names the nearest type.
    """
    text = text.strip()
    if text in SCALARS or text == "json":
        return DType(text)
    if (array := _ARRAY.fullmatch(text)) and array[1] in SCALARS:
        return DType("array", element=array[1])
    if vector := _VECTOR.fullmatch(text):
        return DType("vector", size=int(vector[1]))
    known = [*SCALARS, "json", "array<T>", "vector<float32, N>"]
    raise ValueRefusedError(f"unknown type '{text}'", hint=name_hint(text, known))
