"""Values of expressions for many rows: the function of a read, over columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa

from featurekit.expressions import Expression
from featurekit.expressions.nodes import EPOCH
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
    return list(map(function, *(column_values(columns[name]) for name in expression.names)))


def column_values(column: Any) -> list[Any]:
    """Return the values of an array as a read decodes them.

    Arrow looks up the zone of each timestamp, which takes nine times as long.
    """
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    microseconds = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    return [
        None if each is None else EPOCH + timedelta(microseconds=each) for each in microseconds
    ]
