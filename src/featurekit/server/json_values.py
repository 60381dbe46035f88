"""Spelling: features and join keys as JSON values, and back.

Each type has one JSON form, that of its codec; where the value is that form already, nothing is
called for it. Feast spells floats that are not finite in words of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from math import isfinite
from typing import Any

from featurekit.types import DType, codec_of

Spell = Callable[[Any], object]
"""From a value to its JSON value."""

OURS = {"nan": "nan", "inf": "inf", "-inf": "-inf"}
FEAST = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

_PLAIN = frozenset({"string", "int64", "int32", "bool", "json"})
"""Kinds whose values are JSON values as they stand."""

_PLAIN_ITEMS = _PLAIN | {"float64"}
"""The same in arrays, where every float is finite."""


def speller(dtype: DType, words: Mapping[str, str] = OURS) -> Spell | None:
    """The function that spells values of a type; `None` where they are JSON as they stand."""
    if dtype.kind in _PLAIN or (dtype.kind == "array" and dtype.element in _PLAIN_ITEMS):
        return None
    if dtype.kind == "vector" and find_spec("numpy") is not None:
        return None  # orjson writes an array of numpy, each float32 by its shortest text
    to_json = codec_of(dtype).to_json
    if dtype.kind == "float64":
        return lambda value: value if isfinite(value) else words[repr(value)]
    if dtype.kind == "float32":
        return lambda value: to_json(value) if isfinite(value) else words[repr(value)]
    return to_json


def spelled(spell: Spell | None, values: Sequence[Any]) -> Sequence[Any]:
    """A column of values as JSON values; `None` stays `None`."""
    if spell is None:
        return values
    return [None if value is None else spell(value) for value in values]
