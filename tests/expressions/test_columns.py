"""Values of columns are those that a read decodes."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from featurekit.expressions import parse
from featurekit.lower.expression_columns import column_values, expression_values
from tests.expressions.random_expressions import NAMES, TIMES


def test_timestamps_are_in_utc() -> None:
    times = [*TIMES, None, datetime(1969, 12, 31, 23, 59, 59, 1, UTC)]
    for zone in ("UTC", "America/New_York"):
        values = column_values(pa.array(times, pa.timestamp("us", zone)))
        assert values == times
        assert {value.tzinfo for value in values if value} == {UTC}


def test_an_expression_has_a_value_for_each_row() -> None:
    columns = {"i1": pa.array([1, None, 3]), "t1": pa.array(TIMES[:3], pa.timestamp("us", "UTC"))}
    assert expression_values(parse("i1 + year(t1)", NAMES), columns, 3) == [2025, None, 2027]
    assert expression_values(parse("1 + 1", {}), {}, 2) == [2, 2]
