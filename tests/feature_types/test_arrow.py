from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit.errors import ValueRefusedError
from featurekit.types import DType, codec_of, parse_dtype
from featurekit.types.arrow import arrow_type, encode_array, parse_array, python_value, to_arrow
from tests.feature_types.table import VALUES

INT64 = st.integers(-(2**63), 2**63 - 1)
BITS64 = st.integers(0, 2**64 - 1).map(
    lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]
)
BITS32 = st.integers(0, 2**32 - 1).map(
    lambda bits: struct.unpack("<f", struct.pack("<I", bits))[0]
)
DECIMALS = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(-(10**28) + 1, 10**28 - 1),
    st.integers(-10, 38),
)
JSON = st.recursive(
    st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner | st.none()) | st.dictionaries(st.text(), inner | st.none()),
    max_leaves=8,
)
MOMENTS = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()  # noqa: DTZ001
)  # fmt: skip


def encoded(dtype: DType, scalar: Any) -> bytes | None:
    """Return the expected result of `encode_array` for one cell."""
    if not scalar.is_valid:
        return None
    try:
        return codec_of(dtype).encode(python_value(dtype, scalar))
    except ValueRefusedError:
        return None


def check(dtype: DType, column: Any) -> None:
    """Assert that Arrow and Python give the same result for each cell."""
    found, bad = encode_array(dtype, column)
    expected = [encoded(dtype, scalar) for scalar in column]
    assert found.type == pa.binary()
    assert found.to_pylist() == expected
    refused = [s.is_valid and e is None for s, e in zip(column, expected, strict=True)]
    assert (bad is None) == (not any(refused))
    assert bad is None or bad.to_pylist() == refused


@pytest.mark.parametrize("row", VALUES, ids=lambda row: f"{row[0]}={row[2][:20]!r}")
def test_a_column_has_the_bytes_of_the_table(row: tuple[str, object, bytes, object]) -> None:
    dtype = parse_dtype(row[0])
    column = to_arrow(dtype, [row[1], None])
    found, bad = encode_array(dtype, column)
    assert (found.to_pylist(), bad) == ([row[2], None], None)


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(BITS64 | st.floats() | INT64.map(float), max_size=20))
def test_every_float64_has_one_text(values: list[float]) -> None:
    check(DType("float64"), pa.array(values, pa.float64()))
    for value in values:
        text = codec_of(DType("float64")).encode(value).decode()
        assert float(text) == value or math.isnan(value)
        assert len(text) <= len(repr(value))


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(BITS32 | st.floats(width=32), max_size=20))
def test_every_float32_has_one_text(values: list[float]) -> None:
    check(DType("float32"), pa.array(values, pa.float32()))
    check(DType("float64"), pa.array(values, pa.float32()))


def test_powers_of_two_have_one_text_in_both_float_types() -> None:
    check(DType("float64"), pa.array([2.0**exponent for exponent in range(-1074, 1024)]))
    check(DType("float32"), pa.array([2.0**e for e in range(-149, 128)], pa.float32()))


@given(st.lists(st.floats() | st.none()))
def test_float64_columns_are_rounded_to_float32_as_python_rounds(
    values: list[float | None],
) -> None:
    edge = [3.4028235677973362e38, 3.4028235677973366e38]
    check(DType("float32"), pa.array([*values, *edge], pa.float64()))


@given(st.lists(INT64 | st.none()), st.sampled_from(["int64", "int32", "float64", "float32"]))
def test_ints_are_taken_where_they_fit(values: list[int | None], kind: str) -> None:
    edges = [2**24 + 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
    check(DType(kind), pa.array([*values, *edges], pa.int64()))
    check(DType(kind), pa.array([2**64 - 1, 2**63, 1], pa.uint64()))


@given(st.lists(st.text() | st.none()))
def test_strings_are_equal_in_every_layout(values: list[str | None]) -> None:
    column = pa.array(values, pa.string())
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        check(DType("string"), column.cast(kind))
    found, _ = encode_array(DType("string"), column.dictionary_encode())
    assert found.equals(column.cast(pa.binary()))


@given(st.lists(MOMENTS | st.none()), st.sampled_from(["s", "ms", "us"]))
def test_timestamps_are_equal_in_every_zone(values: list[datetime | None], unit: str) -> None:
    dtype = DType("timestamp")
    moments = [v and v.astimezone(UTC) for v in values]
    if unit != "us":
        moments = [v and v.replace(microsecond=0) for v in moments]
    column = pa.array(moments, pa.timestamp(unit, "Europe/Oslo"))
    check(dtype, column)
    found, _ = encode_array(dtype, column)
    assert found.to_pylist() == [None if v is None else codec_of(dtype).encode(v) for v in moments]


@given(st.lists(INT64), st.sampled_from(["s", "ms", "us", "ns"]))
def test_timestamps_out_of_reach_are_refused(ticks: list[int], unit: str) -> None:
    check(DType("timestamp"), pa.array(ticks, pa.int64()).cast(pa.timestamp(unit, "UTC")))
    check(DType("timestamp"), pa.array(ticks, pa.int64()).cast(pa.timestamp(unit)))


@given(st.lists(st.dates()), st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_dates_are_equal(days: list[date], numbers: list[int]) -> None:
    check(DType("date"), pa.array(days, pa.date32()))
    check(DType("date"), pa.array(days, pa.date64()))
    check(DType("date"), pa.array(numbers, pa.int32()).cast(pa.date32()))
    check(DType("date"), pa.array(numbers, pa.int64()).cast(pa.date64()))


@given(st.lists(DECIMALS))
def test_decimals_are_equal_at_every_scale(values: list[Decimal]) -> None:
    check(DType("decimal"), to_arrow(DType("decimal"), list[object](values)))
    check(DType("decimal"), pa.array([*values, Decimal("1E-38")], pa.decimal256(76, 38)))


@given(st.lists(JSON | st.none()))
def test_json_texts_are_equal_to_json_values(values: list[object]) -> None:
    dtype = DType("json")
    texts = [None if v is None else json.dumps(v, indent=1) for v in values]
    found, bad = encode_array(dtype, pa.array(texts, pa.string()))
    assert found.to_pylist() == [None if v is None else codec_of(dtype).encode(v) for v in values]
    assert bad is None


def test_json_texts_that_are_none_are_refused() -> None:
    check(DType("json"), pa.array(["{", "null", "NaN", "[" * 5000, '"\\ud800"', "1", None]))
    check(DType("json"), pa.array([{"a": 1}, None, {"a": None}]))
    check(DType("json"), pa.array([[("a", 1)], [("a", 1), ("a", 2)]], pa.map_("string", "int8")))


ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "int64": INT64,
    "int32": st.integers(-(2**31), 2**31 - 1),
    "float64": BITS64,
    "float32": BITS32,
    "bool": st.booleans(),
    "timestamp": MOMENTS,
    "date": st.dates(),
    "decimal": DECIMALS,
    "bytes": st.binary(),
}


@pytest.mark.parametrize("kind", ELEMENTS)
@settings(max_examples=settings().max_examples // 2)
@given(st.data())
def test_arrays_are_equal(kind: str, data: st.DataObject) -> None:
    dtype = DType("array", element=kind)
    lists = st.lists(ELEMENTS[kind] | st.none(), max_size=4) | st.none()
    column = to_arrow(dtype, data.draw(st.lists(lists, max_size=6)))
    check(dtype, column)
    check(dtype, column.slice(1))
    check(dtype, column.cast(pa.large_list(column.type.value_type)))
    check(DType("array", element="int64"), column)


@given(st.lists(st.lists(st.none() | BITS32 | st.integers(0, 9), max_size=3) | st.none()))
def test_vectors_are_equal(rows: list[list[float | None] | None]) -> None:
    dtype = DType("vector", size=2)
    for kind in (pa.float32(), pa.float64()):
        column = pa.array(rows, pa.list_(kind))
        check(dtype, column)
        check(dtype, column.slice(1))
    fixed = pa.array([r for r in rows if r is None or len(r) == 2], pa.list_(pa.float32(), 2))
    check(dtype, fixed)
    check(dtype, fixed.slice(1))


COLUMNS = {
    "bool": pa.array([True, None]),
    "int8": pa.array([1], pa.int8()),
    "float16": pa.array([1.5], pa.float16()),
    "string": pa.array(["1"]),
    "binary": pa.array([b"1"]),
    "fixed binary": pa.array([b"1"], pa.binary(1)),
    "duration": pa.array([timedelta(1)]),
    "time": pa.array([1], pa.time64("us")),
    "date": pa.array([date(2026, 1, 1)]),
    "naive": pa.array([datetime(2026, 1, 1)]),  # noqa: DTZ001
    "decimal": pa.array([Decimal(3)], pa.decimal128(38, 0)),
    "list": pa.array([[1], None]),
    "texts": pa.array([["1"]]),
    "struct": pa.array([{"a": 1}]),
    "null": pa.nulls(2),
    "empty": pa.array([], pa.int64()),
    "chunks": pa.chunked_array([["1"], [None, "2"]]),
    "no chunks": pa.chunked_array([], pa.string()),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("dtype", sorted({row[0] for row in VALUES}))
def test_columns_of_any_type_are_taken_or_refused_as_python_does(dtype: str, name: str) -> None:
    check(parse_dtype(dtype), COLUMNS[name])


TEXTS = [
    "", " ", "1", "-1", "+1", "007", "-0", "1_0", " 1", "12.5", "1.", ".5", "1e5", "1E-5", "1e999", "1e-999",
    "nan", "NaN", "inf", "-inf", "9223372036854775807", "9223372036854775808", "2147483648", "3.5e38",
    "true", "True", "TRUE", "tRUE", "false", "0", "é", "2026-11-22", "2026-02-29", "2024-02-29", "0000-01-01",
    "2026-11-22T08:30:00Z", "2026-11-22T08:30:00.250000Z", "2026-11-22 08:30:00.5+02:00", "2026-11-22T08:30",
    "2026-02-30T08:30:00Z", "2026-11-22T24:00:00Z", "0001-01-01T00:00:00+02:00", "0000-01-01T00:00:00Z",
    "1.50", "1e3", "9" * 38, "9" * 39, "[1, 2]", "[1,", "[]", '["a"]', "{}", "null", '{"b": 1, "a": 2}', "\n1", "1\n",
]  # fmt: skip


@pytest.mark.parametrize("dtype", sorted({row[0] for row in VALUES}))
@settings(max_examples=settings().max_examples // 2)
@given(st.lists(st.sampled_from([*TEXTS, None]) | st.floats().map(str) | st.text(max_size=4)))
def test_a_column_of_texts_is_parsed_as_each_text_is(dtype: str, texts: list[str | None]) -> None:
    kind = parse_dtype(dtype)
    codec = codec_of(kind)
    expected: list[bytes | None] = []
    for text in texts:
        try:
            expected.append(None if text is None else codec.encode(codec.parse(text)))
        except ValueRefusedError:
            expected.append(None)
    values, bad = parse_array(kind, pa.array(texts, pa.string()))
    refused = [e is None and t is not None for t, e in zip(texts, expected, strict=True)]
    assert (bad.to_pylist() if bad is not None else [False] * len(texts)) == refused
    assert encode_array(kind, values)[0].to_pylist() == expected


def test_decimals_too_wide_for_the_usual_type_are_kept_whole() -> None:
    wide = [Decimal("9" * 38), Decimal("1E-38"), None]
    assert to_arrow(DType("decimal"), list[object](wide)).to_pylist() == wide
    assert arrow_type(DType("decimal")) == pa.decimal128(38, 18)
