"""Columns: a record batch of a source, checked and encoded, field by field.

Types and constraints are those of `checks`, over whole columns. What is found bad by column is
then worded by the plain form, value by value, so that an error reads the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.constraints import ConstraintTest, constraint_tests
from featurekit.errors import ValueRefusedError
from featurekit.keys import KeyPlan
from featurekit.lower.encoders import field_encoder
from featurekit.lower.rows import json_row_decoder, row_encoder
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.types import Codec, DType, codec_of
from featurekit.types.arrow import encode_array, parse_array, python_value

EVENT_TIMESTAMP = "event_timestamp"
"""The column under which sources hand on the time of a row."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row was refused: the field or join key, and what is wrong with its value."""

    field: str
    reason: str


_NO_TIME = RowError(EVENT_TIMESTAMP, "the row has no time, or none that can be read")


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The rows of one batch that fit their view, as bytes, and those that do not.

    Attributes:
        keys: The keys of the good rows, a binary array.
        values: For each field of the view, the good rows' bytes; null deletes.
        bad: Indices of the refused rows within the batch.
        fault: From such an index to what is wrong with that row.
    """

    keys: Any
    values: list[Any]
    bad: list[int]
    fault: Callable[[int], RowError]


def encode_batch(view: ViewPlan, form: str, batch: Any) -> EncodedBatch:
    """Check and encode a batch.

    Args:
        view: The compiled view.
        form: `native`, `text` or `json`, as `ports.Scan` has it.
        batch: A `pyarrow.RecordBatch` of `n` rows.
    """
    if form == "json":
        return _encode_json(view, batch)
    reader = _Text if form == "text" else _Native
    columns = [reader(Column(k.name, k.dtype), batch.column(k.name)) for k in view.key.join_keys]
    fields = [reader(Column(f.name, f.dtype, f), batch.column(f.name)) for f in view.fields]
    keys, bad_key = _keys(view.key, [c.data for c in columns])
    masks = [bad_key, *(c.bad for c in columns), *(f.bad for f in fields)]
    if EVENT_TIMESTAMP in batch.schema.names:
        masks.append(batch.column(EVENT_TIMESTAMP).is_null())
    bad = _any(masks)
    values = [f.data for f in fields]
    if bad is None:
        return EncodedBatch(keys, values, [], lambda _i: RowError("", ""))
    good = pc.invert(bad)
    return EncodedBatch(
        keys.filter(good),
        [v.filter(good) for v in values],
        pc.indices_nonzero(bad).to_pylist(),
        lambda i: _fault(batch, columns, fields, i),
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column to be read: its name, type, and the field's plan if it is a field."""

    name: str
    dtype: DType
    field: FieldPlan | None = None

    @property
    def shown(self) -> str:
        """The column as errors name it."""
        return self.name if self.field is not None else f"join key {self.name}"


class _Native:
    """A column of Arrow values of its own type."""

    def __init__(self, of: Column, column: Any) -> None:
        self.of = of
        self.column = column
        self.native = column
        data, bad = encode_array(of.dtype, column)
        self.data = data
        self.bad = _any([bad, *_violations(of.field, self.native, data)] if of.field else [bad])

    def value(self, index: int) -> object:
        """The Python value of a cell, as an error shows it."""
        return python_value(self.of.dtype, self.column[index])

    def check(self, index: int) -> None:
        """Raise what is wrong with a cell, if anything is."""
        _check(self.of, self.value(index))


class _Text:
    """A column of text, as CSV has it, whose values are parsed by type."""

    def __init__(self, of: Column, column: Any) -> None:
        self.of = of
        self.column = column
        self.native, unread = parse_array(of.dtype, column)
        self.data, bad = encode_array(of.dtype, self.native)
        broken = _violations(of.field, self.native, self.data) if of.field else []
        self.bad = _any([unread, bad, *broken])

    def value(self, index: int) -> object:
        """The text of a cell."""
        return self.column[index].as_py()

    def check(self, index: int) -> None:
        """Raise what is wrong with a cell, if anything is."""
        text = self.value(index)
        _check(self.of, codec_of(self.of.dtype).parse(text) if isinstance(text, str) else None)


def _check(of: Column, value: object) -> None:
    if of.field is not None:
        field_encoder(of.field)(value)
    elif value is None:
        raise ValueRefusedError("null is not allowed")
    elif not codec_of(of.dtype).encode(value):
        raise ValueRefusedError("an empty id is not allowed")


def _fault(batch: Any, keys: Sequence[Any], fields: Sequence[Any], index: int) -> RowError:
    for column in [*keys, *fields]:
        try:
            column.check(index)
        except ValueRefusedError as error:
            return RowError(column.of.shown, error.message)
    if EVENT_TIMESTAMP in batch.schema.names and not batch.column(EVENT_TIMESTAMP)[index].is_valid:
        return _NO_TIME
    raise AssertionError(f"row {index} was refused by column and fits by value")


def _keys(plan: KeyPlan, parts: Sequence[Any]) -> tuple[Any, Any]:
    """The keys of all rows, and a mask of those that have none."""
    bad = _any([pc.fill_null(pc.equal(pc.binary_length(p), 0), fill_value=True) for p in parts])
    pieces: list[Any] = []
    for index, part in enumerate(parts):
        text = part
        for found, escaped in plan.escapes.items():
            text = pc.replace_substring(text, pattern=found, replacement=escaped)
        braces = [b"{", b"}"] if index == plan.hash_tag_index else [b"", b""]
        pieces += [b":" if index else plan.entity_prefix.encode(), braces[0], text, braces[1]]
    arguments = [
        pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in pieces if p != b""
    ]
    return pc.binary_join_element_wise(*arguments, pa.scalar(b"", pa.binary())), bad


def _any(masks: Sequence[Any]) -> Any:
    """Where any of the masks is true; `None` if that is nowhere."""
    found = None
    for mask in masks:
        if mask is None or not pc.any(mask).as_py():
            continue
        certain = pc.fill_null(mask, fill_value=False)
        found = certain if found is None else pc.or_(found, certain)
    return found


def _violations(field: FieldPlan, native: Any, data: Any) -> list[Any]:
    """Return masks of the rows that violate a constraint of the field."""
    constraints, codec = field.constraints, codec_of(field.dtype)
    masks = []
    if constraints.required:
        masks.append(native.is_null())
    if codec.has_nan and not constraints.allow_nan:
        masks.append(_is_in(data, [b"nan", b"inf", b"-inf"]))
    if constraints.one_of:
        masks.append(pc.and_(data.is_valid(), pc.invert(_is_in(data, constraints.one_of))))
    if tests := constraint_tests(codec, replace(constraints, one_of=(), allow_nan=True)):
        masks.append(_violates_any(codec, tests, data))
    return masks


def _is_in(data: Any, values: Sequence[bytes]) -> Any:
    return pc.is_in(data, value_set=pa.array(values, pa.binary()))


def _violates_any(codec: Codec, tests: list[ConstraintTest], data: Any) -> Any:
    """Return a mask of the values that fail a test; each distinct value is tested once."""
    encoded = data.dictionary_encode()
    violates = []
    for value in encoded.dictionary.to_pylist():
        decoded = None if value is None else codec.decode(value)
        violates.append(value is not None and any(test(decoded, value) for test in tests))
    return pa.array(violates, pa.bool_()).take(encoded.indices)


def _encode_json(view: ViewPlan, batch: Any) -> EncodedBatch:
    """Encode rows that come as lines of JSON."""
    read, encode = json_row_decoder(view, strict=False), row_encoder(view)
    timed = EVENT_TIMESTAMP in batch.schema.names
    times = batch.column(EVENT_TIMESTAMP) if timed else batch.column("json")
    keys: list[bytes] = []
    rows: list[dict[str, bytes | None]] = []
    faults: dict[int, RowError] = {}
    for index, line in enumerate(batch.column("json").to_pylist()):
        try:
            key, row = encode(read(line))
        except ValueRefusedError as error:
            faults[index] = RowError(error.where, error.message)
            continue
        if not times[index].is_valid:
            faults[index] = _NO_TIME
        else:
            keys.append(key)
            rows.append(row)
    values = [pa.array([row[f.name] for row in rows], pa.binary()) for f in view.fields]
    return EncodedBatch(pa.array(keys, pa.binary()), values, list(faults), faults.__getitem__)
