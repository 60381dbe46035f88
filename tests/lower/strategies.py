"""Random views and rows, for holding the fast forms equal to the plain ones."""

from __future__ import annotations

import math
import string
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import hypothesis.strategies as st

from featurekit.constraints import Constraints
from featurekit.keys import JoinKey, KeyPlan
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.types import SCALARS, DType

TTLS = (1000, 300_000, 86_400_000)
NAMES = ("a", "tx_count_7d", "größe", "f" * 300)

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "x" * 255, "ø" * 128, "y" * 256, "z" * 1000, "a:b%c", "\r\n*1\r\n$1\r\n", "{vip}"]
)
ids = texts.filter(bool)
cells = st.binary(max_size=8) | texts.map(str.encode)

_elements: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "float64": st.floats(),
    "float32": st.floats(width=32),
    "bool": st.booleans(),
    "timestamp": st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "date": st.dates(),
    "decimal": st.decimals(-(10**19), 10**19, places=10),
    "bytes": st.binary(max_size=300),
}
_json = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner | st.none(), max_size=3)
    | st.dictionaries(texts, inner | st.none(), max_size=3),
    max_leaves=5,
)  # fmt: skip


def dtypes() -> st.SearchStrategy[DType]:
    """Any type of the table in docs/wire-format.md."""
    return (
        st.sampled_from([DType(kind) for kind in (*SCALARS, "json")])
        | st.sampled_from([DType("array", element=kind) for kind in SCALARS])
        | st.integers(1, 4).map(lambda size: DType("vector", size=size))
    )


def values(dtype: DType) -> st.SearchStrategy[Any]:
    """Values that fit a type."""
    if dtype.kind == "json":
        return _json
    if dtype.kind == "vector":
        number = st.floats(width=32, allow_nan=False, allow_infinity=False)
        return st.lists(number, min_size=dtype.size, max_size=dtype.size)
    if dtype.element:
        element = _elements[dtype.element]
        if dtype.element.startswith("float"):
            element = element.filter(math.isfinite)
        return st.lists(element, max_size=4)
    return _elements[dtype.kind]


def constraints(dtype: DType) -> st.SearchStrategy[Constraints]:
    """Constraints that a field of a type may have."""
    wide = st.booleans().map(lambda required: Constraints(required=required, allow_nan=True))
    if dtype.kind in ("int64", "int32"):
        return wide | st.builds(Constraints, min=st.none() | st.integers(-5, 5), max=st.just(100))
    if dtype.kind in ("float64", "float32"):
        return (
            wide | st.just(Constraints()) | st.just(Constraints(min=-1.5, max=10, allow_nan=True))
        )
    if dtype.kind == "decimal":
        return wide | st.just(Constraints(min=Decimal("-1.5"), max=Decimal(10)))
    if dtype.kind == "string":
        return wide | st.sampled_from(
            [
                Constraints(max_length=3),
                Constraints(pattern="[a-zø]*"),
                Constraints(one_of=(b"", b"a", "ø".encode())),
            ]
        )
    return wide


@st.composite
def keys(draw: st.DrawFn) -> KeyPlan:
    """Key plans with one join key or more, with or without a hash tag."""
    kinds = draw(
        st.lists(st.sampled_from(["string", "int64", "int32", "date"]), min_size=1, max_size=3)
    )
    joined = tuple(JoinKey(f"k{i}", DType(kind)) for i, kind in enumerate(kinds))
    tag, index = draw(
        st.sampled_from([(None, None), ("vip", None), *((None, i) for i in range(len(kinds)))])
    )
    return KeyPlan("fs", "user", joined, tag, index)


@st.composite
def views(draw: st.DrawFn, *, constrained: bool = False) -> ViewPlan:
    """A batch view that owns its key, or expires field by field."""
    kinds: list[Literal["key", "field"]] = ["key", "field"]
    expires = draw(st.sampled_from(kinds))
    names = draw(st.lists(st.sampled_from([*NAMES, *string.ascii_uppercase]), min_size=1,
                          max_size=6, unique=True))  # fmt: skip
    fields = []
    for name in names:
        dtype = draw(dtypes())
        ttl_ms = draw(st.sampled_from(TTLS)) if expires == "field" else 0
        kept = draw(constraints(dtype)) if constrained else Constraints(allow_nan=True)
        fields.append(FieldPlan(name, dtype, kept, ttl_ms=ttl_ms))
    retired = draw(st.sampled_from([(), ("old",), ("old", "@clock", "älter")]))
    return ViewPlan("v", "batch", draw(keys()), tuple(fields), expires, 172_800_000, 1, retired)


def rows(view: ViewPlan, *, nulls: bool = True) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of a view, of every density of nulls; join keys may be null or empty, too."""
    gaps = st.none() if nulls else st.nothing()
    shape = {k.name: values(k.dtype) | gaps for k in view.key.join_keys}
    shape |= {f.name: values(f.dtype) | gaps for f in view.fields}
    return st.lists(st.fixed_dictionaries(shape), max_size=40)
