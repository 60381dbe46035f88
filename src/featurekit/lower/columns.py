"""Check and encode a record batch of a source, column by column.

Types and constraints are those of `encoders.field_encoder`. A row that a column refuses is checked
again by value, so that the error has the same words in either form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from featurekit.constraints import ConstraintTest, constraint_tests
from featurekit.errors import BadRowError, RequestError, ValueRefusedError, join_where
from featurekit.keys import KeyPlan
from featurekit.lower.rows import (
    check_value,
    json_row_decoder,
    json_row_errors,
    key_of_line,
    row_encoder,
)
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.types import Codec, DType, codec_of
from featurekit.types.arrow import encode_array, parse_array, python_value

EVENT_TIMESTAMP = "event_timestamp"
"""The column with the time of a row, under the name that sources give it."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row is rejected: the field or join key, what is wrong with its value, what to do."""

    field: str
    reason: str
    hint: str = ""


_NO_TIME = RowError(EVENT_TIMESTAMP, "the row has no time, or its time is unreadable")
_WRONG_TIME = RowError(
    EVENT_TIMESTAMP,
    "the time is before 1970, or too late to be compared by `ordering: event_time`",
)
_END_MS = 10**15
"""The first time in milliseconds that the event-time field cannot hold."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The encoded rows of one batch, and the rows that are rejected.

    Attributes:
        keys: The keys of the accepted rows, a binary array.
        values: For each of the view's `hash_fields`, the bytes of the accepted rows; null deletes.
        rejected: The indices of the rejected rows in the batch.
        errors: Returns the errors of a rejected row by its index, at least one.
        rejected_keys: The keys of those rejected rows that have one.
    """

    keys: Any
    values: list[Any]
    rejected: list[int]
    errors: Callable[[int], list[RowError]]
    rejected_keys: list[bytes] = field(default_factory=list)


def encode_batch(view: ViewPlan, form: str, batch: Any) -> EncodedBatch:
    """Check and encode a batch.

    Args:
        view: The compiled view.
        form: `native`, `text` or `json`, as in `ports.Scan`.
        batch: A `pyarrow.RecordBatch` of `n` rows.
    """
    if form == "json":
        return _encode_json(view, batch)
    column_type = _TextColumn if form == "text" else _NativeColumn
    join_keys = [column_type(batch.column(k.name), k.name, k.dtype) for k in view.key.join_keys]
    fields = [column_type(batch.column(f.name), f.name, f.dtype, f) for f in view.fields]
    keys, has_no_key = _encode_keys(
        view.key, [column.data for column in join_keys], batch.num_rows
    )
    masks = [has_no_key, *(column.rejected for column in [*join_keys, *fields])]
    values = [column.data for column in fields]
    if EVENT_TIMESTAMP in batch.schema.names:
        masks.append(_has_no_time(view, batch.column(EVENT_TIMESTAMP)))
        if view.event_time_field:
            values.insert(0, _encode_times(batch.column(EVENT_TIMESTAMP)))
    rejected = _any_of(masks)
    if rejected is None:
        return EncodedBatch(keys, values, [], lambda _i: [])
    accepted = pc.invert(rejected)
    keyless = _any_of([has_no_key, *(column.rejected for column in join_keys)])
    keyed = rejected if keyless is None else pc.and_(rejected, pc.invert(keyless))
    return EncodedBatch(
        keys.filter(accepted),
        [column.filter(accepted) for column in values],
        pc.indices_nonzero(rejected).to_pylist(),
        lambda index: _row_errors(view, batch, [*join_keys, *fields], index),
        keys.filter(keyed).drop_null().to_pylist(),
    )


def encode_ids(view: ViewPlan, form: str, batch: Any) -> EncodedBatch:
    """Encode only the join keys of a batch, as keys without the prefix and the entity's name."""
    key = replace(view.key, prefix="", entity="", hash_tag=None)
    ids = replace(view, key=key, fields=(), ordering="arrival", retired=())
    if form != "json":
        batch = batch.select([k.name for k in key.join_keys])
    return encode_batch(ids, form, batch)


def encode_values(field: FieldPlan, column: Any, where: str, before: int) -> Any:
    """Return the bytes of a column of values of a field.

    Raises:
        RequestError: A value does not fit; the first of `column` is row `before + 1`.
    """
    values = _NativeColumn(column, field.name, field.dtype, field)
    if values.rejected is None:
        return values.data
    index = pc.index(values.rejected, value=True).as_py()
    try:
        values.check(index)
    except ValueRefusedError as error:
        place = f"{where}, row {before + index + 1}, {field.name}"
        raise RequestError(error.message, where=place, hint=error.hint) from error
    raise AssertionError(f"row {index} is refused by column but accepted by value")


def bad_row_error(view: ViewPlan, numbers: Any, encoded: EncodedBatch) -> BadRowError:
    """Return the error of the first rejected row of a history, given the numbers of the rows."""
    index = encoded.rejected[0]
    error = encoded.errors(index)[0]
    row = f"row {numbers[index].as_py()} of its source"
    return BadRowError(
        error.reason,
        where=join_where(f"feature view {view.name}", row, error.field),
        hint=error.hint or "no load would have written this row; fix it in the source",
    )


def _has_no_time(view: ViewPlan, times: Any) -> Any:
    """Return a mask of the rows without a time that the view can use."""
    if not view.event_time_field:
        return times.is_null()
    times_ms = times.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
    is_usable = pc.and_(pc.greater_equal(times_ms, 0), pc.less(times_ms, _END_MS))
    return pc.invert(pc.fill_null(is_usable, fill_value=False))


def _encode_times(times: Any) -> Any:
    """Return times as the event-time field holds them: milliseconds since the epoch, in digits."""
    times_ms = times.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
    return times_ms.cast(pa.string()).cast(pa.binary())


class _NativeColumn:
    """A column of Arrow values of its own type, encoded.

    Attributes:
        data: The bytes of the values.
        rejected: A mask of the rejected rows; `None` if there are none.
        label: The name of the column in errors.
    """

    def __init__(
        self, column: Any, name: str, dtype: DType, field: FieldPlan | None = None
    ) -> None:
        self._column = column
        self._dtype = dtype
        self._field = field
        self.label = name if field is not None else f"join key {name}"
        values, is_unparsed = self._parse(column)
        self.data, is_refused = encode_array(dtype, values)
        violations = _violations(field, values, self.data) if field is not None else []
        self.rejected = _any_of([is_unparsed, is_refused, *violations])

    def _parse(self, column: Any) -> tuple[Any, Any]:
        """Return the column as values, and a mask of the cells that do not parse."""
        return column, None

    def _python_value(self, index: int) -> object:
        return python_value(self._dtype, self._column[index])

    def check(self, index: int) -> None:
        """Raise `ValueRefusedError` if the cell is refused."""
        check_value(self._dtype, self._field, self._python_value(index))


class _TextColumn(_NativeColumn):
    """A column of text, as in CSV files, parsed by type and encoded."""

    @override
    def _parse(self, column: Any) -> tuple[Any, Any]:
        return parse_array(self._dtype, column)

    @override
    def _python_value(self, index: int) -> object:
        text = self._column[index].as_py()
        return codec_of(self._dtype).parse(text) if isinstance(text, str) else None


def _row_errors(
    view: ViewPlan, batch: Any, columns: Sequence[_NativeColumn], index: int
) -> list[RowError]:
    errors = []
    for column in columns:
        try:
            column.check(index)
        except ValueRefusedError as error:
            errors.append(RowError(column.label, error.message, error.hint))
    if EVENT_TIMESTAMP in batch.schema.names:
        errors += _time_errors(view, batch.column(EVENT_TIMESTAMP).slice(index, 1))
    if not errors:
        raise AssertionError(f"row {index} is refused by column but accepted by value")
    return errors


def _time_errors(view: ViewPlan, times: Any) -> list[RowError]:
    """Return what is wrong with the time of one row."""
    if times.null_count:
        return [_NO_TIME]
    return [_WRONG_TIME] if _has_no_time(view, times)[0].as_py() else []


def _encode_keys(plan: KeyPlan, parts: Sequence[Any], rows: int) -> tuple[Any, Any]:
    """Return the keys of all rows, and a mask of the rows without one."""
    if not parts:
        return pa.repeat(pa.scalar(plan.key(()), pa.binary()), rows), None
    has_no_key = _any_of(
        [pc.fill_null(pc.equal(pc.binary_length(p), 0), fill_value=True) for p in parts]
    )
    pieces: list[Any] = []
    for index, part in enumerate(parts):
        text = part
        for character, escaped in plan.escapes.items():
            text = pc.replace_substring(text, pattern=character, replacement=escaped)
        braces = [b"{", b"}"] if index == plan.hash_tag_index else [b"", b""]
        pieces += [b":" if index else plan.entity_prefix.encode(), braces[0], text, braces[1]]
    arguments = [
        pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in pieces if p != b""
    ]
    return pc.binary_join_element_wise(*arguments, pa.scalar(b"", pa.binary())), has_no_key


def _any_of(masks: Sequence[Any]) -> Any:
    """Return where any of the masks is true; `None` if none is."""
    combined = None
    for mask in masks:
        if mask is None or not pc.any(mask).as_py():
            continue
        certain = pc.fill_null(mask, fill_value=False)
        combined = certain if combined is None else pc.or_(combined, certain)
    return combined


def _violations(field: FieldPlan, values: Any, data: Any) -> list[Any]:
    """Return masks of the rows that violate a constraint of the field."""
    constraints, codec = field.constraints, codec_of(field.dtype)
    masks = []
    if constraints.required:
        masks.append(values.is_null())
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
    """Encode rows that are lines of JSON, one at a time."""
    decode, encode = json_row_decoder(view, strict=False), row_encoder(view)
    has_time = EVENT_TIMESTAMP in batch.schema.names
    times = batch.column(EVENT_TIMESTAMP) if has_time else pa.nulls(batch.num_rows)
    has_no_time = _has_no_time(view, times).to_pylist() if has_time else [False] * batch.num_rows
    keys: list[bytes] = []
    rows: list[dict[str, bytes | None]] = []
    errors: dict[int, list[RowError]] = {}
    for index, line in enumerate(batch.column("json").to_pylist()):
        time_errors = _time_errors(view, times.slice(index, 1)) if has_no_time[index] else []
        try:
            key, row = encode(decode(line))
        except ValueRefusedError as error:
            errors[index] = [*_json_errors(view, line, error), *time_errors]
            continue
        if time_errors:
            errors[index] = time_errors
        else:
            keys.append(key)
            rows.append(row)
    values = [pa.array([row[f.name] for row in rows], pa.binary()) for f in view.fields]
    if has_time and view.event_time_field:
        accepted = [index for index in range(batch.num_rows) if index not in errors]
        values.insert(0, _encode_times(times.take(pa.array(accepted, pa.int64()))))
    keys_of_rejected = (key_of_line(view, batch.column("json")[i].as_py()) for i in errors)
    return EncodedBatch(
        pa.array(keys, pa.binary()),
        values,
        list(errors),
        errors.__getitem__,
        [key for key in keys_of_rejected if key is not None],
    )


def _json_errors(view: ViewPlan, line: str, first: ValueRefusedError) -> list[RowError]:
    """Return all errors of a line; the first one alone if the line is not an object."""
    found = json_row_errors(view, line)
    return [RowError(e.where, e.message, e.hint) for e in found or [first]]
