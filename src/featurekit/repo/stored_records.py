"""Records that are stored as JSON, beside the registry or in the online store.

What is stored may come from another version, or from any client that can write there. So a record counts
only if its fields have the declared types, with values that can be computed with and printed.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, TypeVar, cast, get_origin, get_type_hints

T = TypeVar("T")

_MAX_INT = 2**63


def parse_json(text: str | bytes) -> object:
    """Return the value of a JSON text; `None` if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def decode_record(kind: type[T], document: Mapping[str, Any]) -> T | None:
    """Return a dataclass made from a JSON object; `None` if a field is missing or of another type.

    Members that are not fields are left out.
    """
    hints = _type_hints(cast(Hashable, kind))
    known = {name: value for name, value in document.items() if name in hints}
    if not all(_has_type(value, hints[name]) for name, value in known.items()):
        return None
    try:
        return kind(**known)
    except TypeError:  # a field without a default is missing
        return None


@cache
def _type_hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _has_type(value: object, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_has_type(value, part) for part in hint.__args__)
    if hint in (int, float) and type(value) is int:
        return -_MAX_INT <= value < _MAX_INT
    if hint is float:
        return type(value) is float and isfinite(value)
    if hint is str:
        return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)
    kind = get_origin(hint) or hint
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
