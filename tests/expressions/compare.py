"""Compare expressions in Python and in DuckDB: `python -m tests.expressions.compare CASES SEED`.

A case is a random expression for one row of random values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

import duckdb
import pyarrow as pa

from featurekit.expressions import Expression, Kind, parse, select_sql
from featurekit.expressions.syntax import MAX_CHARACTERS
from featurekit.lower.expressions import compile_row_function
from tests.expressions.random_expressions import NAMES, Expressions, Values

ROWS, TOGETHER = 40, 20
KINDS = ("int", "float", "float", "bool", "bool", "string", "timestamp", "date")
ARROW = {
    "int64": pa.int64(), "int32": pa.int32(), "float64": pa.float64(), "bool": pa.bool_(), "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"), "date": pa.date32(), "array<int64>": pa.list_(pa.int64()),
    "array<string>": pa.list_(pa.string()), "array<float64>": pa.list_(pa.float64()),
}  # fmt: skip
Function = Callable[..., object]


@dataclass(frozen=True)
class Case:
    """An expression, the rows it is evaluated for, and the values that DuckDB has."""

    text: str
    expression: Expression
    rows: list[dict[str, Any]]
    values: list[object]

    def differences(self, function: Function) -> list[str]:
        """Return the rows for which a function has another value, as text."""
        found = []
        value: object
        for row, expected in zip(self.rows, self.values, strict=True):
            inputs = {name: row[name] for name in self.expression.names}
            try:
                value = function(*inputs.values())
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                value = error
            if not same(value, expected):
                found.append(f"{self.text}\n  {inputs}\n  Python {value!r}, DuckDB {expected!r}")
        return found


def same(value: object, expected: object) -> bool:
    """Return whether two values are equal, of one type, and zeros of one sign."""
    return type(value) is type(expected) and repr(value) == repr(expected)


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield an expression of each form, and then random ones, with their values in DuckDB."""
    random = Random(seed)
    texts = _texts(random)
    for start in range(0, count, TOGETHER):
        together = islice(texts, min(TOGETHER, count - start))
        yield from evaluated(list(dict.fromkeys(together)), random, ROWS)


def evaluated(texts: list[str], random: Random, row_count: int) -> Iterator[Case]:
    """Yield some expressions for random rows, with their values in DuckDB."""
    values = Values(random)
    rows = [values.row() for _ in range(row_count)]
    expressions = [parse(text, NAMES) for text in texts]
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.register("inputs", _table(rows))
        found = _values(connection, expressions)
    for text, expression, column in zip(texts, expressions, found, strict=True):
        yield Case(text, expression, rows, column)


def _texts(random: Random) -> Iterator[str]:
    expressions = Expressions(random)
    yield from expressions.each()
    while True:
        text = expressions.text(random.choice(KINDS), random.randint(1, 4))
        if len(text) <= MAX_CHARACTERS:
            yield text


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        name: pa.array([row[name] for row in rows], ARROW[str(type_)])
        for name, type_ in NAMES.items()
    }
    return pa.table({**columns, "number": range(len(rows))})


def _values(
    connection: duckdb.DuckDBPyConnection, expressions: list[Expression]
) -> list[list[object]]:
    """Return the values of each expression."""
    named = {f"x{index}": expression for index, expression in enumerate(expressions)}
    sql = select_sql(named, "inputs", {name: f'"{name}"' for name in NAMES}, keep="number")
    shown = [
        f"epoch_us({name})" if expression.type.kind is Kind.TIMESTAMP else name
        for name, expression in named.items()
    ]
    found = connection.execute(f"SELECT {', '.join(shown)} FROM ({sql}) ORDER BY number")
    columns = zip(*found.fetchall(), strict=True)
    return [
        list(map(_time, column)) if expression.type.kind is Kind.TIMESTAMP else list(column)
        for expression, column in zip(expressions, columns, strict=True)
    ]


def _time(microseconds: int | None) -> datetime | None:
    if microseconds is None:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def main(count: int, seed: int) -> int:
    """Print the cases that differ; return how many expressions do."""
    checked = differing = nulls = 0
    for case in cases(-(-count // ROWS), seed):
        found = case.differences(compile_row_function(case.expression))
        checked += len(case.rows)
        nulls += case.values.count(None)
        differing += bool(found)
        if found and differing <= 10:
            print(found[0])
    print(f"seed {seed}: {checked} cases, {nulls} null, {differing} expressions differ")
    return differing


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2])), 1))
