"""Arrow forms of `array<T>` and `vector<float32, N>`, computed on the elements of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap
from struct import Struct
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.types.arrow.form import ArrowForm, flatten, keep_where, spread


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


@dataclass(frozen=True)
class ArrayForm(ArrowForm):
    """`array<T>`: Arrow lists of an Arrow type that the element takes."""

    element: ArrowForm

    @property
    @override
    def arrow_type(self) -> Any:
        return pa.list_(self.element.arrow_type)

    @property
    @override
    def wide_type(self) -> Any:
        return self.element.wide_type and pa.list_(self.element.wide_type)

    @override
    def encode(self, array: Any) -> Any:
        if not _is_list(array.type):
            return None
        is_list = array.is_valid()
        rows = array.filter(is_list)
        texts = self._element_texts(flatten(rows.flatten()))
        if texts is None:
            return self.encode_values(array)
        ends = pc.cumulative_sum(pc.list_value_length(rows).cast(pa.int32()))
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
        lists = pa.ListArray.from_arrays(offsets, texts.cast(pa.binary()))
        joined = pc.binary_join(lists, pa.scalar(b",", pa.binary()))
        return spread(pc.binary_join_element_wise(b"[", joined, b"]", b""), is_list)

    def _element_texts(self, values: Any) -> Any:
        """Return the JSON of each element, null where refused; `None` if Python must do it."""
        if pa.types.is_null(values.type):
            return values
        if self.element.codec.is_integer and pa.types.is_floating(values.type):
            return pa.nulls(len(values))  # whole floats are integers only as a column
        texts = self.element.encode(values)
        if texts is None:
            return pa.nulls(len(values))
        return self.element.json_texts(texts.cast(pa.binary()))


@dataclass(frozen=True)
class VectorForm(ArrowForm):
    """`vector<float32, N>`: lists of numbers; the bytes are those in memory."""

    @property
    @override
    def arrow_type(self) -> Any:
        return pa.list_(pa.float32(), self.codec.dtype.size)

    @override
    def encode(self, array: Any) -> Any:
        kind, size, types = array.type, self.codec.dtype.size, pa.types
        if not _is_list(kind):
            return None
        if not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
            return None
        fits = pc.equal(pc.list_value_length(array), size).fill_null(fill_value=False)
        if not pc.any(fits).as_py():
            return None
        numbers = array.filter(fits).flatten()
        if numbers.type != pa.float32():
            # Through float64, as in Python: a direct cast of an int would round once less.
            numbers = numbers.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
        data = numbers.buffers()[1].slice(numbers.offset * 4)
        rows = pa.Array.from_buffers(pa.binary(4 * size), len(numbers) // size, [None, data])
        finite = pc.is_finite(numbers).fill_null(fill_value=False)
        if not pc.all(finite).as_py():
            refused = pc.divide(pc.indices_nonzero(pc.invert(finite)), size)
            places = pa.array(range(len(rows)), refused.type)
            rows = keep_where(rows, pc.invert(pc.is_in(places, refused)))
        return spread(rows, fits)

    @override
    def from_values(self, values: list[Any]) -> Any:
        # The bytes of all rows are the column's buffer: twice as fast as Arrow's own conversion.
        size, present = self.codec.dtype.size, [value for value in values if value is not None]
        data = pa.py_buffer(b"".join(starmap(Struct(f"<{size}f").pack, present)))
        numbers = pa.Array.from_buffers(pa.float32(), size * len(present), [None, data])
        rows = pa.FixedSizeListArray.from_arrays(numbers, size)
        return rows if len(present) == len(values) else spread(rows, _is_present(values))


def _is_present(values: list[Any]) -> Any:
    return pa.array([value is not None for value in values], pa.bool_())
