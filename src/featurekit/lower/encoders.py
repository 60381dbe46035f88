"""Encoders as expressions: the checked bytes of a value, for functions that are generated.

Values of the plain kinds that keep within their bounds are encoded where they stand; all others
go to `checks.field_encoder`, which is the reference and words the errors. A test holds the
two equal.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from featurekit.lower.checks import field_encoder
from featurekit.plan import Constraints, FieldPlan

_INTS = {"int64": 2**63, "int32": 2**31}
_MOST = sys.float_info.max

_UNBOUNDED = {
    "string": "v.encode() if v.__class__ is str",
    "bool": "b'true' if v is True else b'false' if v is False",
}

ENCODE_ERRORS = (TypeError, UnicodeEncodeError)
"""What such an expression raises for a value that only the reference can tell about."""


def encoder_expression(field: FieldPlan, name: str) -> tuple[str, dict[str, object]]:
    """An expression for the bytes of the variable `v`, and the globals that it uses.

    Args:
        field: The field; `v` holds one of its values, or `None`.
        name: A name that is free for the reference.
    """
    plain = _plain(field)
    source = f"({plain} else {name}(v))" if plain else f"{name}(v)"
    return source, {name: field_encoder(field)}


def _plain(field: FieldPlan) -> str:
    """The expression up to its `else`; empty where there is nothing plain about the field."""
    kind, checks = field.dtype.kind, field.constraints
    if replace(checks, min=None, max=None, required=False) != Constraints():
        return ""
    if kind in _INTS:
        low, high = _bounds(checks, -_INTS[kind], _INTS[kind] - 1)
        return f"b'%d' % v if v.__class__ is int and {low} <= v <= {high}"
    if kind == "float64":
        low, high = _bounds(checks, -_MOST, _MOST)
        within = f"v.__class__ is float and {low} <= v <= {high}"
        return f"repr(v).removesuffix('.0').encode() if {within}"
    return _UNBOUNDED.get(kind, "")


def _bounds(checks: Constraints, low: float, high: float) -> tuple[str, str]:
    """The field's bounds where they are narrower than its type's, as a source has them."""
    least = low if checks.min is None else max(low, checks.min)
    most = high if checks.max is None else min(high, checks.max)
    return repr(least), repr(most)
