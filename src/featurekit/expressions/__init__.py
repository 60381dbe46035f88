"""The language of derived features: one expression with one meaning in Python and in SQL.

An operation that has no value is null; none raises, and none converts what is not of its type. What
engines understand in different ways is refused. docs/expressions.md is the reference.

`parse` checks a text, `from_document` the tree that a registry holds. `python_source` is written into the
generated function of a row; `featurekit.lower.expressions` compiles a function of one expression alone.
"""

from __future__ import annotations

from featurekit.expressions.checker import NOW
from featurekit.expressions.expression import (
    Expression,
    from_document,
    parse,
    python_source,
    select_sql,
    substitute,
)
from featurekit.expressions.functions import FUNCTIONS
from featurekit.expressions.kinds import (
    BOOL,
    DATE,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    STRING,
    TIMESTAMP,
    ExpressionError,
    ExpressionType,
    Kind,
)
from featurekit.expressions.python_source import PythonSource

__all__ = [
    "BOOL",
    "DATE",
    "FLOAT32",
    "FLOAT64",
    "FUNCTIONS",
    "INT32",
    "INT64",
    "NOW",
    "STRING",
    "TIMESTAMP",
    "Expression",
    "ExpressionError",
    "ExpressionType",
    "Kind",
    "PythonSource",
    "from_document",
    "parse",
    "python_source",
    "select_sql",
    "substitute",
]
