"""Rows and events from JSON: how numbers are read."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from featurekit.errors import ValueRefusedError
from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.rows import json_object_decoder, json_row_decoder, row_encoder
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.types import SCALARS, codec_of, parse_dtype

KEY = KeyPlan("fs", "user", (JoinKey("user_id", parse_dtype("string")),))


def view(**fields: str) -> ViewPlan:
    plans = tuple(FieldPlan(name, parse_dtype(dtype)) for name, dtype in fields.items())
    return ViewPlan("view", "batch", KEY, plans, "key", 1000, 1000)


SUM = view(sum="decimal")
LINE = f'{{"user_id": "u1", "sum": 1e{"9" * 99}}}'


def test_an_exponent_out_of_all_bounds_is_refused_in_a_row() -> None:
    with pytest.raises(ValueRefusedError, match="not JSON"):
        json_row_decoder(SUM, strict=True)(LINE)


def test_an_exponent_out_of_all_bounds_is_refused_in_an_event() -> None:
    with pytest.raises(ValueRefusedError, match="not JSON"):
        json_object_decoder(SUM)(LINE.encode())


MEMBERS = {
    "float64": 0.1,
    "float32": 0.1,
    "json": {"a": [0.1, {"b": 1e30}]},
    "array<float64>": [0.1, 2],
    "vector<float32, 2>": [0.1, 2],
}


@pytest.mark.parametrize("dtype", MEMBERS)
def test_a_decimal_in_the_view_does_not_change_the_bytes_of_other_fields(dtype: str) -> None:
    member = MEMBERS[dtype]
    both = view(value=dtype, sum="decimal")
    line = json.dumps({"user_id": "u1", "value": member, "sum": 0.5})
    _, data = row_encoder(both)(json_row_decoder(both, strict=True)(line))
    codec = codec_of(parse_dtype(dtype))
    assert data == {"value": codec.encode(codec.from_json(member)), "sum": b"0.5"}


def test_a_decimal_keeps_all_its_digits() -> None:
    row = json_row_decoder(SUM, strict=True)('{"user_id": "u1", "sum": 0.12345678901234567891}')
    assert row["sum"] == Decimal("0.12345678901234567891")


@pytest.mark.parametrize(
    "dtype", [d for d in SCALARS if d not in {"float64", "float32", "decimal"}]
)
def test_a_fraction_is_refused_alike_as_a_float_and_as_a_decimal(dtype: str) -> None:
    codec = codec_of(parse_dtype(dtype))
    messages = set()
    for value in (3.0, Decimal("3.0")):
        with pytest.raises(ValueRefusedError) as caught:
            codec.from_json(value)
        messages.add(caught.value.message)
    assert messages == {f"3.0 is not {codec.noun}"}
