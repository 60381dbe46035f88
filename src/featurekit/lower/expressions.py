"""Compile a function of one expression: for `where:` of streams and for columns offline."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from featurekit.expressions import Expression, python_source
from featurekit.lower.build import build


def compile_row_function(expression: Expression) -> Callable[..., object]:
    """Return a function of the inputs, in the order of `expression.names`, that never raises.

    Its arguments are decoded values or None; it returns the value, or None for null. Timestamps are
    aware and in UTC.
    """
    variables = {name: f"v{index}" for index, name in enumerate(expression.names)}
    numbers = count()
    generated = python_source(expression, variables, lambda: f"t{next(numbers)}")
    source = f"def expression({', '.join(variables.values())}):\n    return {generated.source}\n"
    return build("expression", source, generated.helpers)
