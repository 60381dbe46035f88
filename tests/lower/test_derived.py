from __future__ import annotations

import pickle
from datetime import UTC, datetime
from itertools import repeat
from random import Random
from typing import Any

import pytest

from featurekit.expressions import FLOAT64, INT64, parse
from featurekit.lower.cell_decoder import CellDecoder, evaluated
from featurekit.lower.read import AbsentCounters, Cell, PartialRow, Stale
from featurekit.lower.records import record_function
from featurekit.lower.row_decoder import StatusDecoder, computed_row, row_function
from featurekit.plan import (
    AggregatePlan,
    Column,
    DerivedColumn,
    DerivedFeature,
    DerivedInput,
    FieldPlan,
    ReadColumn,
    ReadGroup,
    ReadPlan,
)
from featurekit.types import DType
from tests.lower.derived_plans import (
    KEY,
    UNAVAILABLE,
    expected,
    random_cells,
    random_plan,
    random_request,
    read_plan,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


SEEDS = pytest.mark.parametrize(
    "seeds", [range(6), pytest.param(range(6, 150), marks=pytest.mark.slow)], ids=["few", "many"]
)


def whole(plan: ReadPlan, cells: list[Cell], request: dict[str, Any]) -> list[Any]:
    layout = CellDecoder(plan).layout
    given = [*cells, *request.values(), *layout.times(NOW_MS)]
    return PartialRow(given) if any(isinstance(cell, Stale) for cell in cells) else given


@SEEDS
def test_random_rows_are_what_the_plain_rule_gives(seeds: range) -> None:
    for seed in seeds:
        random = Random(seed)
        plan = random_plan(random)
        decoder, found = CellDecoder(plan), StatusDecoder(plan)
        row, record = row_function(plan, lambda _: None), record_function(plan, lambda _: None)
        for spoilt in (False, False, False, True, True):
            request = random_request(random, plan)
            cells = random_cells(random, plan, spoilt=spoilt)
            right = expected(plan, cells, request, NOW)
            given = whole(plan, cells, request)
            values, statuses = decoder.decode(given)
            assert repr(list(zip(values, statuses, strict=True))) == repr(right), seed
            assert found.statuses(given) == statuses, seed
            known = [status for _, status in decoder.stored_pairs(given)]
            if set(known) & {"unavailable", "invalid", "stale"}:
                assert row(given) is record(given) is None
                continue
            assert repr(row(given)[:-1]) == repr(values), seed
            assert repr(tuple(record(given).to_dict().values())) == repr(values), seed
            assert [repr(getattr(record(given), c.name)) for c in plan.columns] == [
                repr(value) for value in values
            ]


@SEEDS
def test_random_rows_count_each_absent_value_once(seeds: range) -> None:
    for seed in seeds:
        random = Random(seed)
        plan = random_plan(random)
        columns = evaluated(plan)
        counted = [repeat(None, 100) for _ in columns]
        rows = repeat(None, 100)
        row = row_function(plan, lambda _: None, AbsentCounters(counted, rows))
        cells, request = random_cells(random, plan, spoilt=False), random_request(random, plan)
        given = whole(plan, cells, request)
        row(given)
        pairs = CellDecoder(plan).pairs(given)
        empty = not any(cell is not None for cell in cells)
        assert 100 - rows.__length_hint__() == empty
        for i, (counter, (_, status)) in enumerate(zip(counted, pairs, strict=True)):
            is_alone = not empty or i >= len(plan.stored)
            assert 100 - counter.__length_hint__() == (status != "present" and is_alone)


RATIO = read_plan(
    {"amount": "float64", "avg": "float64"},
    {"ratio": ("float64", "amount / nullif(avg, 0)")},
    inputs=["avg"],
    defaults={"ratio": b"1"},
)


def test_a_null_result_is_the_default() -> None:
    row = row_function(RATIO, lambda _: None)
    decode = CellDecoder(RATIO).decode
    for cells, values, statuses in (
        ([b"9", b"3"], (9.0, 3.0), ("present", "present")),
        ([b"9", b"0"], (9.0, 1.0), ("present", "default")),
        ([b"9", None], (9.0, 1.0), ("present", "default")),
        ([None, None], (None, 1.0), ("missing", "default")),
    ):
        assert row(cells) == (*values, cells)
        assert decode(cells) == (values, statuses)


def test_the_worst_input_decides_the_status() -> None:
    decode = CellDecoder(RATIO).decode
    assert decode([b"x", UNAVAILABLE]) == ((None, 1.0), ("invalid", "unavailable"))
    assert decode([b"1", b"x"]) == ((1.0, 1.0), ("present", "invalid"))
    assert decode(PartialRow([UNAVAILABLE, None])) == ((None, 1.0), ("unavailable",) * 2)


def test_only_the_features_of_the_response_are_in_a_record() -> None:
    record: Any = record_function(RATIO, lambda _: None)([b"9", b"3"])
    assert record.to_dict() == {"amount": 9.0, "ratio": 3.0}
    assert record.statuses == {"amount": "present", "ratio": "present"}
    assert record.found
    copy = pickle.loads(pickle.dumps(record))
    assert copy == record
    assert copy.ratio == 3.0


def test_a_record_keeps_the_request_and_the_time() -> None:
    plan = read_plan(
        {"seen": "timestamp"},
        {"idle": ("float64", "epoch(now) - epoch(seen) + amount")},
        requests={"amount": "float64"},
    )
    cells = whole(plan, [b"2026-11-28T11:59:00Z"], {"amount": 0.5})
    record: Any = record_function(plan, lambda _: None)(cells)
    assert record.idle == 60.5
    copy = pickle.loads(pickle.dumps(record))
    assert copy == record
    assert copy.to_dict() == {"seen": datetime(2026, 11, 28, 11, 59, tzinfo=UTC), "idle": 60.5}
    later = record_function(plan, lambda _: None)([*cells[:-1], NOW.replace(hour=13)])
    assert later != record


def test_plans_without_derived_features_have_the_same_source_as_ever() -> None:
    plan = read_plan({"x": "float64", "s": "string"}, {}, defaults={"x": b"0"})
    assert source_of(row_function(plan, lambda _: None)) == (
        "def row(r):\n try:\n"
        "  if type(r) is not list:\n   return fallback(r)\n"
        "  if r[0] is None and r == NONE:\n\n   return (D0, None, r)\n"
        "  return (\n"
        "   float(v) if (v := r[0]) is not None else D0,\n"
        "   v.decode() if (v := r[1]) is not None else None,\n"
        "   r,\n  )\n"
        " except E:\n  return fallback(r)\n"
    )


def test_a_stored_value_is_decoded_once() -> None:
    plan = read_plan(
        {"a": "float64"},
        {"b": ("float64", "a * 2"), "c": ("float64", "a + a"), "d": ("bool", "a > 1")},
    )
    assert computed_row(plan, None).statements.count("r[0]") == 2  # with the test for empty rows


def source_of(function: Any) -> str:
    import inspect

    return inspect.getsource(function)


def test_statuses_of_windows_are_those_of_each_cell() -> None:
    count = AggregatePlan(function="count", window_ms=300_000, tile_ms=60_000)
    mean = AggregatePlan(function="mean", of="x", window_ms=300_000, tile_ms=60_000)
    fields = [
        FieldPlan("n", DType("int64"), default=b"7", aggregate=count),
        FieldPlan("m", DType("float64"), aggregate=mean),
        FieldPlan("s", DType("string"), default=b"x"),
    ]
    columns = tuple(ReadColumn(f.name, "v", f, 0, i) for i, f in enumerate(fields))
    inputs = (DerivedInput("n", "v", fields[0]), DerivedInput("m", "v", fields[1]))
    both = parse("n * m", {"n": INT64, "m": FLOAT64})
    feature = DerivedFeature(FieldPlan("d", DType("float64")), inputs, both)
    derived = DerivedColumn("d", "w", feature, (0, 1))
    group = ReadGroup(KEY, tuple(field.name for field in fields))
    minute = NOW_MS // 60_000
    tiles = (b"60.000@%d:3" % minute, b"60.000@%d:2/5" % minute, b"y")
    rows: list[list[Cell]] = [
        [*tiles], [None] * 3, [None, b"?", None], [tiles[0], None, b"\xff"]
    ]  # fmt: skip
    responses: list[tuple[Column, ...]] = [columns, (*columns, derived)]
    for shown in responses:
        plan = ReadPlan("s", (group,), shown)
        for given in rows:
            cells = whole(plan, given, {})
            values, statuses = CellDecoder(plan).decode(cells)
            assert StatusDecoder(plan).statuses(cells) == statuses
            row = row_function(plan, lambda _: None)(cells)
            assert (row is None) == ("invalid" in statuses)
            assert row is None or row[:-1] == values
            if given == [*tiles]:
                assert values == (3, 2.5, "y", 7.5)[: len(shown)]
