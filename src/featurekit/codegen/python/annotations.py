"""Annotations of features in generated Python."""

from __future__ import annotations

from featurekit.plan import FieldPlan
from featurekit.types import DType, codec_of

_LITERAL_TYPES = ("str", "int", "bool", "bytes")
"""Python types whose values may stand in `Literal`."""


def value_type(field: FieldPlan) -> str:
    """Return the annotation of a value of a field that is not null."""
    codec, dtype = codec_of(field.dtype), field.dtype
    if field.constraints.one_of and codec.python_type in _LITERAL_TYPES:
        choices = (repr(codec.decode(choice)) for choice in field.constraints.one_of)
        return f"Literal[{', '.join(choices)}]"
    if dtype.element:
        return f"list[{codec_of(DType(dtype.element)).python_type}]"
    return codec.python_type


def read_type(field: FieldPlan) -> str:
    """Return the annotation of a feature of a row: `None` stands for a value that is not stored."""
    annotation = value_type(field)
    return (
        annotation if field.default is not None or annotation == "Any" else f"{annotation} | None"
    )
