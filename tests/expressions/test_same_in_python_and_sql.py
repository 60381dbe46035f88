"""Random expressions have the same value in Python and in DuckDB, and wrong choices are found."""

from __future__ import annotations

from featurekit.lower.expressions import compile_row_function
from tests.expressions.compare import ROWS, cases


def test_python_and_duckdb_agree() -> None:
    for case in cases(1200 // ROWS, seed=17):
        assert case.differences(compile_row_function(case.expression)) == []
