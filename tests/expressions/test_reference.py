"""The examples of docs/expressions.md have the values that the page shows, in both forms."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from featurekit.expressions import (
    FLOAT64,
    FUNCTIONS,
    TIMESTAMP,
    Expression,
    ExpressionError,
    ExpressionType,
    Kind,
    parse,
    select_sql,
)
from featurekit.lower.expressions import compile_row_function
from tests.examples.documents import markdown_rows
from tests.expressions.random_expressions import NAMES

PAGE = Path(__file__).parents[2].joinpath("docs", "expressions.md").read_text()
TABLES = re.findall(r"^(\| (?:expression|refused) \|.*\n(?:\|.*\n)+)", PAGE, re.MULTILINE)
ROWS = [
    row for table in TABLES for row in markdown_rows(table) if table.startswith("| expression")
]
REFUSED = [
    row for table in TABLES for row in markdown_rows(table) if table.startswith("| refused")
]
INPUTS = {"x": FLOAT64, "s": NAMES["s1"], "t": TIMESTAMP}


def _code(cell: str) -> str:
    return cell.strip("`").replace("\\|", "|")


def _evaluated(text: str) -> tuple[ExpressionType, Any]:
    """Return the type and value of a literal; of null and arrays also."""
    if text in ("nan", "inf"):
        return FLOAT64, float(text)
    if text.startswith("null:"):
        return ExpressionType(Kind(text.removeprefix("null:"))), None
    if text.startswith("["):
        return NAMES["li"], [int(item) for item in text.strip("[]").split(",")]
    literal = parse(text, {})
    return literal.type, compile_row_function(literal)()


def _example(row: list[str]) -> tuple[Expression, dict[str, tuple[ExpressionType, Any]], object]:
    """Return an example's expression, the types and values of its inputs, and its value."""
    text, inputs, expected = map(_code, row)
    pairs = [pair.split(" = ", 1) for pair in re.split(r", (?=[\w.]+ = )", inputs) if pair]
    values = {name: _evaluated(value) for name, value in pairs}
    expression = parse(text, {name: type_ for name, (type_, _) in values.items()})
    return expression, values, None if expected == "null" else _evaluated(expected)[1]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_an_example_has_its_value(row: list[str]) -> None:
    expression, values, expected = _example(row)
    found = compile_row_function(expression)(*[values[name][1] for name in expression.names])
    assert (type(found), found) == (type(expected), expected)


def test_the_examples_have_their_values_in_duckdb() -> None:
    with duckdb.connect() as connection:
        for row in ROWS:
            expression, values, expected = _example(row)
            columns = {
                name: f"CAST(${index} AS {DUCKDB_TYPES[str(type_)]})"
                for index, (name, (type_, _)) in enumerate(values.items(), 1)
            }
            sql = select_sql({"x": expression, "y": expression}, "(SELECT 1)", columns)
            if isinstance(expected, datetime):
                sql = f"SELECT epoch_us(x) / 1e6, epoch_us(y) / 1e6 FROM ({sql})"
                expected = expected.timestamp()
            found = connection.execute(sql, [value for _, value in values.values()])
            assert found.fetchall() == [(expected, expected)], row


DUCKDB_TYPES = {
    "int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR", "timestamp": "TIMESTAMPTZ",
    "bool": "BOOLEAN", "date": "DATE", "array<int64>": "BIGINT[]",
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused_has_a_hint_and_a_replacement(row: list[str]) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(_code(row[0]), INPUTS)
    assert caught.value.hint
    if row[2].startswith("`"):
        parse(_code(row[2]), INPUTS)


def test_the_page_has_an_example_of_every_function() -> None:
    text = " ".join(row[0] for row in ROWS)
    assert [name for name in FUNCTIONS if f"{name}(" not in text] == []
