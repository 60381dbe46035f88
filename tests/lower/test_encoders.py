"""The encoder expression gives the same result as the reference encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.constraints import Constraints
from featurekit.errors import ValueRefusedError
from featurekit.lower.build import build
from featurekit.lower.encoders import ENCODE_ERRORS, encoder_expression, field_encoder
from featurekit.plan import FieldPlan
from featurekit.types import DType

KINDS = ["int64", "int32", "float64", "float32", "string", "bool", "bytes"]
CONSTRAINTS = [
    Constraints(),
    Constraints(min=0),
    Constraints(min=-3, max=7),
    Constraints(allow_nan=True),
]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(), st.binary()
)


def bounded(kind: str, constraints: Constraints) -> Constraints:
    numeric = kind.startswith(("int", "float"))
    return (
        constraints
        if numeric and (kind.startswith("float") or not constraints.allow_nan)
        else Constraints()
    )


@pytest.mark.parametrize("kind", KINDS)
@given(value=VALUES, constraints=st.sampled_from(CONSTRAINTS))
def test_an_expression_gives_the_result_of_the_reference(
    kind: str, value: Any, constraints: Constraints
) -> None:
    field = FieldPlan("f", DType(kind), bounded(kind, constraints))
    source, names = encoder_expression(field, "E")
    encode = build("encode", f"def encode(v):\n return {source}\n", names)
    expected = outcome(field_encoder(field), value)
    assert outcome(encode, value) in (expected, LEFT_TO_REFERENCE)
    if not isinstance(expected, str):
        assert outcome(encode, value) == expected


LEFT_TO_REFERENCE = "left to the reference"


def outcome(encode: Callable[[Any], object], value: Any) -> object:
    """Return the bytes, or the error."""
    try:
        return encode(value)
    except ValueRefusedError as error:
        return str(error)
    except ENCODE_ERRORS:
        return LEFT_TO_REFERENCE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_expression_refuses_numbers_that_are_not_finite(value: float) -> None:
    source, names = encoder_expression(FieldPlan("f", DType("float64")), "E")
    encode = build("encode", f"def encode(v):\n return {source}\n", names)
    with pytest.raises(ValueRefusedError, match="not finite"):
        encode(value)
