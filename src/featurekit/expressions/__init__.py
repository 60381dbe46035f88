"""Expressions over features: one meaning in Python, DuckDB and Spark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ExpressionType:
    """The type of a value in an expression."""

    kind: str
    element: str | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression.

    Attributes:
        tree: The checked tree.
        type: The type of its value.
        names: The inputs that it uses, in order of first use; `now` is the time of the read.
    """

    tree: Any
    type: ExpressionType
    names: tuple[str, ...]
