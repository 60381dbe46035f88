"""Values of expressions for many rows: the function of a read, over columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurekit.expressions import Expression
from featurekit.lower.expressions import compile_row_function


def expression_values(expression: Expression, columns: Mapping[str, Any], rows: int) -> list[Any]:
    """Return the value of an expression for each row.

    Args:
        expression: The expression.
        columns: Arrays of the values of its inputs, by name.
        rows: The number of rows.
    """
    function = compile_row_function(expression)
    if not expression.names:
        return [function()] * rows
    return list(map(function, *(columns[name].to_pylist() for name in expression.names)))
