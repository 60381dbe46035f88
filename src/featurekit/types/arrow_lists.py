"""Columns of arrays and vectors as bytes, made by Arrow compute of their elements."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.types.arrow_cells import by_value, flat, only, spread
from featurekit.types.arrow_scalars import SCALARS
from featurekit.types.codec import Codec
from featurekit.types.dtype import DType
from featurekit.types.table import codec_of

_NOT_FINITE = pa.array([b"nan", b"inf", b"-inf"])
_ESCAPED = r'["\\\x00-\x1f]'
"""What JSON does not let stand as it is in a string."""


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is one of lists."""
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def arrays(codec: Codec, array: Any) -> Any:
    """Arrays: the texts of all elements at once, joined list by list."""
    if not is_list(array.type):
        return None
    keep = array.is_valid()
    rows = array.filter(keep)
    texts = _element_texts(codec.dtype.element, flat(rows.flatten()))
    if texts is None:
        return by_value(codec, array)
    ends = pc.cumulative_sum(pc.list_value_length(rows).cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    lists = pa.ListArray.from_arrays(offsets, texts.cast(pa.binary()))
    joined = pc.binary_join(lists, pa.scalar(b",", pa.binary()))
    framed = pc.binary_join_element_wise(b"[", joined, b"]", b"")
    return spread(framed, keep)


def _element_texts(kind: str, values: Any) -> Any:
    """JSON of each element, null where it is refused; `None` where Python has to do it."""
    if pa.types.is_null(values.type):
        return values
    texts = SCALARS[kind](codec_of(DType(kind)), values)
    if texts is None:
        return pa.nulls(len(values))
    texts = texts.cast(pa.binary())
    if kind in {"float64", "float32"}:
        return only(texts, pc.invert(pc.is_in(texts, _NOT_FINITE)))
    return texts if kind in {"int64", "int32", "bool"} else _quoted(kind, texts)


def _quoted(kind: str, texts: Any) -> Any:
    if kind == "bytes":
        return None
    if kind == "string" and pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
        return None
    return pc.binary_join_element_wise(b'"', texts, b'"', b"")


def vectors(codec: Codec, array: Any) -> Any:
    """Vectors: the numbers as they lie in memory."""
    kind, size = array.type, codec.dtype.size
    types = pa.types
    if not is_list(kind):
        return None
    if not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        return None
    fits = pc.equal(pc.list_value_length(array), size).fill_null(fill_value=False)
    if not pc.any(fits).as_py():
        return None
    numbers = array.filter(fits).flatten()
    if numbers.type != pa.float32():
        # By way of float64, as Python goes: an int would be rounded once less.
        numbers = numbers.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
    data = numbers.buffers()[1].slice(numbers.offset * 4)
    rows = pa.Array.from_buffers(pa.binary(4 * size), len(numbers) // size, [None, data])
    finite = pc.is_finite(numbers).fill_null(fill_value=False)
    if not pc.all(finite).as_py():
        spoilt = pc.divide(pc.indices_nonzero(pc.invert(finite)), size)
        places = pa.array(range(len(rows)), spoilt.type)
        rows = only(rows, pc.invert(pc.is_in(places, spoilt)))
    return spread(rows, fits)
