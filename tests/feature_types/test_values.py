from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurekit.errors import ValueRefusedError
from featurekit.types import DECODE_ERRORS, Codec, codec_of, parse_dtype
from tests.feature_types.table import REFUSED, UNREADABLE, VALUES


def codec(dtype: str) -> Codec:
    return codec_of(parse_dtype(dtype))


def by_expression(of: Codec, data: bytes) -> object:
    return eval(of.decoder_expression("data"), {"data": data, **of.decoder_globals()})


def names(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [f"{row[0]}-{number}" for number, row in enumerate(rows)]


def plain(value: Any) -> Any:
    """A value that `==` can compare: numpy's arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_every_value_has_the_bytes_of_the_table(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    of = codec(dtype)
    assert of.encode(value) == data
    assert plain(of.decode(data)) == value
    assert of.encode(of.decode(data)) == data


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_the_decoder_expression_reads_what_decode_reads(
    dtype: str, value: object, data: bytes, as_json: object
) -> None:
    found = by_expression(codec(dtype), data)
    assert repr(found) == repr(codec(dtype).decode(data))
    assert type(found) is type(codec(dtype).decode(data))


@pytest.mark.parametrize(("dtype", "value", "data", "as_json"), VALUES, ids=names(VALUES))
def test_every_value_goes_through_json(
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
    with pytest.raises(ValueError):  # noqa: PT011 - each says what it read
        codec(dtype).decode(data)
    with pytest.raises(DECODE_ERRORS):
        by_expression(codec(dtype), data)


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
def test_csv_may_spell_a_value_as_people_do(dtype: str, text: str, data: bytes) -> None:
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
def test_values_of_numpy_and_pandas_are_taken_for_what_they_are(
    dtype: str, value: object, data: bytes
) -> None:
    assert codec(dtype).encode(value) == data


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", np.timedelta64(3)),
        ("int64", np.bool_(True)),  # noqa: FBT003
        ("int64", np.float64(3)),
        ("timestamp", pd.NaT),
        ("timestamp", np.datetime64("2026-11-22")),
        ("timestamp", pd.Timestamp("2026-11-22T08:30:00.000000001Z")),
    ],
)
def test_what_numpy_and_pandas_only_resemble_is_refused(dtype: str, value: object) -> None:
    with pytest.raises(ValueRefusedError):
        codec(dtype).encode(value)


def test_the_codec_of_a_type_is_always_the_same_object() -> None:
    assert codec("array<int64>") is codec("array< int64 >")
