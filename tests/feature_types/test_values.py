from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import featurekit
from featurekit.errors import ValueRefusedError
from featurekit.types import DECODE_ERRORS, KEY_TYPES, SCALARS, Codec, codec_of, parse_dtype
from tests.feature_types.table import REFUSED, UNREADABLE, VALUES


def codec(dtype: str) -> Codec:
    return codec_of(parse_dtype(dtype))


def decode_by_expression(of: Codec, data: bytes) -> object:
    return eval(of.decoder_expression("data"), {"data": data, **of.decoder_globals()})


def names(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [f"{row[0]}-{number}" for number, row in enumerate(rows)]


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_every_value_has_the_bytes_of_the_table(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    of = codec(dtype)
    assert of.encode(value) == data
    assert of.decode(data) == value
    assert of.encode(of.decode(data)) == data


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_the_decoder_expression_reads_what_decode_reads(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    found = decode_by_expression(codec(dtype), data)
    assert repr(found) == repr(codec(dtype).decode(data))
    assert type(found) is type(codec(dtype).decode(data))


@pytest.mark.parametrize(("dtype", "data"), [(v[0], v[2]) for v in VALUES] + list(UNREADABLE))
def test_a_codec_of_arrays_reads_the_same_numbers(dtype: str, data: bytes) -> None:
    of, arrays = codec(dtype), codec(dtype).as_arrays()
    results = []
    for decode in (of.decode, arrays.decode, lambda data: decode_by_expression(arrays, data)):
        try:
            value: Any = decode(data)
            results.append(repr(value.tolist() if isinstance(value, np.ndarray) else value))
        except DECODE_ERRORS:
            results.append("refused")
    assert results == [results[0]] * 3
    assert (arrays is of) == (not dtype.startswith("vector"))


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_every_value_survives_a_round_trip_through_json(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    of = codec(dtype)
    assert repr(of.to_json(of.decode(data))) == repr(as_json)
    assert of.encode(of.from_json(as_json)) == data


@pytest.mark.parametrize(("dtype", "value", "message"), REFUSED, ids=names(REFUSED))
def test_a_value_that_does_not_fit_is_refused(dtype: str, value: object, message: str) -> None:
    with pytest.raises(ValueRefusedError) as caught:
        codec(dtype).encode(value)
    assert caught.value.message == message


@pytest.mark.parametrize(("dtype", "data"), UNREADABLE, ids=names(UNREADABLE))
def test_bytes_that_do_not_decode_are_refused_by_both_decoders(dtype: str, data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each message contains the data
        codec(dtype).decode(data)
    with pytest.raises(DECODE_ERRORS):
        decode_by_expression(codec(dtype), data)


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("int64", "12", "'12' is not an int64"),
        ("timestamp", 5, "5 is not a timestamp"),
        ("timestamp", "2026-01-01T00:00:00", "'2026-01-01T00:00:00' has no time zone"),
        ("decimal", 1.5, "1.5 is not a decimal"),
        ("bytes", "%", "'%' is not base64"),
        ("float64", "NaN", "'NaN' is not a float64"),
        ("array<timestamp>", [5], "5 is not a timestamp"),
        ("vector<float32, 2>", "ab", "'ab' is not a vector<float32, 2>"),
    ],
)
def test_json_of_another_type_is_refused(dtype: str, value: object, message: str) -> None:
    with pytest.raises(ValueRefusedError) as caught:
        codec(dtype).from_json(value)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("dtype", "text", "data"),
    [
        ("bool", "True", b"true"),
        ("float64", "1.50E2", b"150"),
        ("timestamp", "2026-11-22 10:30+02:00", b"2026-11-22T08:30:00Z"),
        ("bytes", "é", b"\xc3\xa9"),
        ("json", '{"b": 1, "a": 2}', b'{"a":2,"b":1}'),
        ("array<int64>", "[1, 2]", b"[1,2]"),
        ("vector<float32, 2>", "[1, -0.5]", b"\x00\x00\x80?\x00\x00\x00\xbf"),
    ],
)
def test_csv_accepts_common_spellings(dtype: str, text: str, data: bytes) -> None:
    assert codec(dtype).encode(codec(dtype).parse(text)) == data


@pytest.mark.parametrize(
    ("dtype", "value", "data"),
    [
        ("int64", np.int64(5), b"5"),
        ("float64", np.float64(1.0), b"1"),
        ("float64", np.float32(0.1), b"0.10000000149011612"),
        ("bool", np.bool_(True), b"true"),  # noqa: FBT003
        ("timestamp", pd.Timestamp("2026-11-22T08:30Z"), b"2026-11-22T08:30:00Z"),
        ("vector<float32, 2>", np.array([1.0, -0.5]), b"\x00\x00\x80?\x00\x00\x00\xbf"),
        ("bytes", bytearray(b"a"), b"a"),
    ],
)
def test_values_of_numpy_and_pandas_encode_like_python_values(
    dtype: str, value: object, data: bytes
) -> None:
    assert codec(dtype).encode(value) == data


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", np.timedelta64(3, "us")),
        ("int64", np.bool_(True)),  # noqa: FBT003
        ("int64", np.float64(3)),
        ("timestamp", pd.NaT),
        ("timestamp", np.datetime64("2026-11-22")),
        ("timestamp", pd.Timestamp("2026-11-22T08:30:00.000000001Z")),
    ],
)
def test_values_of_numpy_and_pandas_of_another_type_are_refused(dtype: str, value: object) -> None:
    with pytest.raises(ValueRefusedError):
        codec(dtype).encode(value)


def test_the_codec_of_a_type_is_always_the_same_object() -> None:
    assert codec("array<int64>") is codec("array< int64 >")


def test_scalars_and_key_types_are_listed_in_the_order_of_the_docs() -> None:
    assert (
        *("string", "int64", "int32", "float64", "float32", "bool"),
        *("timestamp", "date", "decimal", "bytes"),
    ) == SCALARS
    assert KEY_TYPES == ("string", "int64", "int32", "date")


@pytest.mark.parametrize("name", SCALARS)
def test_the_annotation_of_a_scalar_is_the_type_of_its_values(name: str) -> None:
    values = [value for dtype, value, _, _ in VALUES if dtype == name]
    assert {type(value).__name__ for value in values} <= {codec(name).python_type}


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_a_value_that_is_ready_for_json_is_its_own_json_form(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    of = codec(dtype)
    is_finite = as_json not in ("nan", "inf", "-inf")
    if of.json_ready and is_finite:
        assert repr(of.decode(data)) == repr(as_json)


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_the_field_of_a_stream_entry_parses_to_its_value(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    of = codec(dtype)
    assert of.encode(of.bytes_parser()(data)) == data


def test_only_the_types_package_branches_on_the_name_of_a_type() -> None:
    package = Path(featurekit.__file__).parent
    branches = re.compile(
        r"dtype\.kind|\.kind (==|in|not in) [^#]*\"(json|array|vector|decimal)\""
    )
    found = [
        f"{file.relative_to(package)}: {line.strip()}"
        for file in package.rglob("*.py")
        if package / "types" not in file.parents
        for line in file.read_text().splitlines()
        if branches.search(line)
    ]
    assert found == []
