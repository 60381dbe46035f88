"""The types of values that an expression computes with, and the error of an invalid expression."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override

from featurekit.errors import FeatureKitError, shorten_name

Span = tuple[int, int]
"""The offsets of the first character of a part of the text, and of the one after its last."""


class Kind(StrEnum):
    """What operators distinguish; `NULL` is the literal, which fits every type."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DATE = "date"
    ARRAY = "array"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class ExpressionType:
    """The type of an input or of a result.

    Attributes:
        kind: What operators distinguish.
        element: The type of an array's elements.
        bits: 32 or 64, of numbers. Arithmetic has 64 bits; a result is rounded or checked at its end.
    """

    kind: Kind
    element: ExpressionType | None = None
    bits: int = 64

    @override
    def __str__(self) -> str:
        if self.element:
            return f"array<{self.element}>"
        return f"{self.kind}{self.bits}" if self.kind in (Kind.INT, Kind.FLOAT) else self.kind


BOOL, STRING = ExpressionType(Kind.BOOL), ExpressionType(Kind.STRING)
INT64, INT32 = ExpressionType(Kind.INT), ExpressionType(Kind.INT, bits=32)
FLOAT64, FLOAT32 = ExpressionType(Kind.FLOAT), ExpressionType(Kind.FLOAT, bits=32)
TIMESTAMP, DATE = ExpressionType(Kind.TIMESTAMP), ExpressionType(Kind.DATE)
NULL = ExpressionType(Kind.NULL)

SCALAR_TYPES = {
    str(each): each for each in (BOOL, INT64, INT32, FLOAT64, FLOAT32, STRING, TIMESTAMP, DATE)
}
"""The types without elements, by name."""


class ExpressionError(FeatureKitError, ValueError):
    """An expression is invalid.

    Attributes:
        span: The part of the text that is at fault; `(0, 0)` for a tree from a registry.
    """

    def __init__(self, message: str, span: Span = (0, 0), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.span = span


def quoted(text: str) -> str:
    """Return a part of an expression in quotes, for a message of one line."""
    return f"'{shorten_name(text)}'" if text.isprintable() else repr(shorten_name(text))
