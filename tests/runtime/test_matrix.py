"""A matrix has the numbers that rows have, for whatever bytes the store holds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from featurekit import FeatureStore
from featurekit.errors import RequestError, ValueRefusedError
from featurekit.lower.cell_decoder import CellDecoder
from featurekit.lower.matrix import Matrix
from featurekit.lower.read import Cell
from featurekit.plan import ReadPlan
from tests.servers import PATIENT_YAML, Server

YAML = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: shop, join_keys: {shop_id: int64}}
feature_views:
  - name: a
    entity: user
    batch: {refresh: 1h, ttl: 1d}
    fields:
      i32: int32
      i64: {type: int64, default: 7}
      f32: float32
      f64: {type: float64, default: 0.5, allow_nan: true}
      b: bool
      v: "vector<float32, 3>"
  - {name: other, entity: shop, batch: {refresh: 1h, ttl: 1d}, fields: {sales: float64, name: string}}
  - {name: live, entity: user, stream: {refresh: 1h, ttl: 1d}, fields: {count: {type: int64, default: 0}}}
feature_services:
  - {name: all, features: [a]}
  - {name: both, features: ["a:i64", "other:sales", "live:count"]}
  - {name: text, features: ["other:name"]}
"""
V = np.array([1, 2, 3], "<f4").tobytes()


def opened(folder: Path, url: str) -> FeatureStore:
    (folder / "featurerepo.yaml").write_text(
        f"project: matrix\ndefinitions: [d.yaml]\nonline_store: {{url: '{url}', {PATIENT_YAML}}}\n"
    )
    (folder / "d.yaml").write_text(YAML)
    store = FeatureStore(folder)
    store.apply()
    return store


@pytest.fixture
def store(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    with opened(tmp_path, valkey.url) as store:
        row = {"i32": 1, "i64": 2, "f32": 1.5, "f64": 2.5, "b": True, "v": [1, 2, 3]}
        store.write_batch("a", {"u1": row, "u2": {"f32": 0.1, "b": False}})
        store.write_batch("other", {1: {"sales": 9.5}})
        yield store


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ReadPlan:
    with opened(tmp_path_factory.mktemp("matrix"), "memory://matrix") as store:
        return store.online_reader("all").plan


def test_a_row_of_numbers_is_a_row_of_the_matrix(store: FeatureStore) -> None:
    reader = store.online_reader("all")
    assert reader.matrix_columns == ["i32", "i64", "f32", "f64", "b", "v[0]", "v[1]", "v[2]"]
    matrix, statuses = reader.read_matrix(["u1", "u2", "nobody"], statuses=True)
    assert matrix.dtype == np.float32
    assert np.array_equal(
        matrix,
        np.array(
            [
                [1, 2, 1.5, 2.5, 1, 1, 2, 3],
                [math.nan, 7, 0.1, 0.5, 0, math.nan, math.nan, math.nan],
                [math.nan, 7, math.nan, 0.5, math.nan, math.nan, math.nan, math.nan],
            ],
            np.float32,
        ),
        equal_nan=True,
    )
    assert statuses.tolist() == [
        ["present"] * 6,
        ["missing", "default", "present", "default", "present", "missing"],
        ["missing", "default", "missing", "default", "missing", "missing"],
    ]


def test_the_type_and_what_stands_for_a_missing_value_can_be_chosen(store: FeatureStore) -> None:
    reader = store.online_reader("all")
    matrix = reader.read_matrix(["u2"], dtype=np.float64, fill=-1)
    assert matrix.dtype == np.float64
    assert matrix.tolist() == [[-1, 7, float(np.float32(0.1)), 0.5, 0, -1, -1, -1]]
    assert reader.read_matrix([]).shape == (0, 8)
    with pytest.raises(RequestError, match="float32 or float64, not 'int8'"):
        reader.read_matrix(["u1"], dtype="int8")


@pytest.mark.parametrize("fill", ["0", None, [1], 1j, 1e300, 10**400])
def test_a_fill_that_is_not_a_number_of_the_type_is_refused_by_each_read(
    store: FeatureStore, fill: Any
) -> None:
    reader = store.online_reader("all")
    with pytest.raises(RequestError, match="fill: expected a number of float32, not"):
        reader.read_matrix(["u1"], fill=fill)
    assert reader.read_matrix(["u2"], fill=math.inf)[0][0] == math.inf


def test_responses_and_asyncio_give_the_same_matrix(store: FeatureStore) -> None:
    reader, ids = store.online_reader("all"), ["u1", "u2", "nobody"] * 200
    expected = reader.read_matrix(ids)
    response = store.get_online_features("all", {"user_id": ids})
    assert np.array_equal(response.to_numpy(), expected, equal_nan=True)

    matrix, statuses = asyncio.run(reader.read_matrix_async(ids, statuses=True))
    assert np.array_equal(matrix, expected, equal_nan=True)
    assert statuses.shape == (600, 6)


def test_features_of_several_entities_are_joined(store: FeatureStore) -> None:
    reader = store.online_reader("both")
    rows = [("u1", 1), ("nobody", 2)]
    matrix = reader.read_matrix(rows)
    assert np.array_equal(matrix, [[2, 9.5, 0], [7, math.nan, 0]], equal_nan=True)
    aged = store.online_reader("both", max_age={"a": "1h"}).read_matrix(rows)
    assert np.array_equal(aged, matrix, equal_nan=True)


def test_text_has_no_place_in_a_matrix(store: FeatureStore) -> None:
    reader = store.online_reader("text")
    with pytest.raises(RequestError, match="'name' is a string: a matrix takes numbers only"):
        reader.read_matrix([1])
    with pytest.raises(RequestError, match="'name' is a string"):
        _ = reader.matrix_columns


@pytest.mark.parametrize(
    ("dtype", "field", "value", "largest"),
    [("float32", "i64", 2**24 + 1, 2**24), ("float64", "i64", -(2**53) - 1, -(2**53))],
)
def test_an_integer_that_would_be_rounded_is_refused_by_name(
    store: FeatureStore, dtype: str, field: str, value: int, largest: int
) -> None:
    reader = store.online_reader("all")
    store.write_batch("a", {"large": {field: largest}})
    assert reader.read_matrix(["u1", "large"], dtype=dtype)[1][1] == largest
    store.write_batch("a", {"large": {field: value}})
    with pytest.raises(ValueRefusedError, match=f"{field}: {value} does not fit {dtype}"):
        reader.read_matrix(["u1", "large"], dtype=dtype)


@pytest.mark.filterwarnings("error")
def test_a_float_outside_float32_is_refused_by_name(store: FeatureStore) -> None:
    reader = store.online_reader("all")
    store.write_batch("a", {"large": {"f64": 1e300}})
    with pytest.raises(ValueRefusedError, match="f64: 1e\\+300 does not fit float32"):
        reader.read_matrix(["u1", "large"])
    assert reader.read_matrix(["large"], dtype="float64")[0][3] == 1e300


def test_a_value_that_does_not_decode_concerns_only_itself(
    store: FeatureStore, valkey: Server
) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.hset("fs:user:u2", "i32", "1.0")
        client.set("fs:user:wrong", "text")
        matrix, statuses = store.online_reader("all").read_matrix(
            ["u1", "u2", "wrong"], statuses=True
        )
        client.hdel("fs:user:u2", "i32")
        client.delete("fs:user:wrong")
    assert statuses[:, 0].tolist() == ["present", "invalid", "invalid"]
    assert statuses[:, 1].tolist() == ["present", "default", "invalid"]
    assert matrix[0].tolist() == [1, 2, 1.5, 2.5, 1, 1, 2, 3]
    assert matrix[2][1] == 7


def test_absent_values_are_counted_as_by_a_read_of_rows(store: FeatureStore) -> None:
    ids = ["u1", "u2", "nobody", "u2"]
    store.online_reader("all").read_many(ids)
    rows = store.metrics().features["a"]
    store.online_reader("all").read_matrix(ids)
    both = store.metrics().features["a"]
    assert both == {status: 2 * count for status, count in rows.items()}
    assert rows["missing"] == 2 + 2 + 4
    assert rows["default"] == 2 + 2 + 2


_NUMBERS = st.sampled_from(
    [
        b"0",
        b"1",
        b"-5",
        b"12345",
        b"16777216",
        b"2147483647",
        b"0.5",
        b"-0.25",
        b"1e-07",
        b"3.5e+20",
    ]
)
_ODD_FORMS = (
    b"|-0|-|1,2|007|+1| 1|1_0|0x10|null|true|false|nan|inf|-inf|1e400|[1]|1.|.5|2147483648|1e5"
).split(b"|")
_ODD = st.one_of(
    st.sampled_from([*_ODD_FORMS, b"\xff", V, V[:-1], b"\x00\x00\x80\x7f" * 3]),
    st.binary(max_size=12),
)
_CELLS = st.lists(st.one_of(st.none(), _NUMBERS, _NUMBERS, _ODD), min_size=6, max_size=6)


@given(st.lists(_CELLS, max_size=6))
def test_every_cell_of_a_matrix_is_that_of_the_row(plan: ReadPlan, rows: list[list[Cell]]) -> None:
    matrix = Matrix(plan, "float64", -3.0)
    decoded = [CellDecoder(plan).decode(cells) for cells in rows]
    if any(type(value) is int and abs(value) > 2**53 for values, _ in decoded for value in values):
        with pytest.raises(ValueRefusedError):
            matrix.add(rows)
        return
    matrix.add(rows)
    for numbers, statuses, (values, expected) in zip(
        matrix.values, matrix.statuses, decoded, strict=True
    ):
        assert tuple(statuses) == expected
        vector: Any = values[-1]
        scalars: Any = values[:-1]
        flat = [-3.0 if value is None else float(value) for value in scalars]
        flat += [-3.0] * 3 if vector is None else list(vector)
        assert np.array_equal(numbers, flat, equal_nan=True)
        assert np.array_equal(np.signbit(numbers), np.signbit(flat))
