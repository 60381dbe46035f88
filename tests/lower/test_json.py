"""Rows and events from JSON: what a number may be."""

from __future__ import annotations

import pytest

from featurekit.errors import ValueRefusedError
from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.rows import json_row_decoder
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.streams import object_reader
from featurekit.types import DType

KEY = KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),))
VIEW = ViewPlan("view", "batch", KEY, (FieldPlan("sum", DType("decimal")),), "key", 1000, 1000)
LINE = f'{{"user_id": "u1", "sum": 1e{"9" * 99}}}'


def test_an_exponent_out_of_all_bounds_is_refused_in_a_row() -> None:
    with pytest.raises(ValueRefusedError, match="not JSON"):
        json_row_decoder(VIEW, strict=True)(LINE)


def test_an_exponent_out_of_all_bounds_is_refused_in_an_event() -> None:
    with pytest.raises(ValueRefusedError, match="not JSON"):
        object_reader(VIEW)(LINE.encode())
