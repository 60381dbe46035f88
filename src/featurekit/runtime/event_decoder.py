"""Decode the events of a stream into what the view's writer expects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from featurekit.errors import FeatureKitError, ValueRefusedError
from featurekit.lower.keys import join_key_text
from featurekit.plan import RedisStreamPlan, ViewPlan
from featurekit.ports import DeadLetter, StreamEvent
from featurekit.runtime.write_arguments import Event, Timestamp
from featurekit.types import DType, codec_of, short_repr

EARLIEST_MS = 946_684_800_000
"""The year 2000. A source's own time before it is not a time: the id of an entry may be `1-1`."""

DecodeEvent = Callable[[StreamEvent], Event | None]
"""Returns the event to write; `None` for an event that `where:` excludes."""

_ParseValue = Callable[[Any], object]

_MAX_DIGITS = 18
"""The number of digits that always fit an int64."""


class _Column(NamedTuple):
    """The column of an event that contains a join key or a field.

    Attributes:
        name: The name of the join key or field.
        column: The name of the column.
        from_bytes: Parses its value in an event of the form `text`.
        from_json: Parses its value in an event of the form `json`.
    """

    name: str
    column: str
    from_bytes: _ParseValue
    from_json: _ParseValue


_KeysAndValues = tuple[tuple[object, ...], dict[str, object]]
"""An event's join keys in order, and its fields."""


def event_decoder(view: ViewPlan, time_column: str | None) -> DecodeEvent:
    """Return the function that decodes the events of a view's stream.

    Args:
        view: The compiled view.
        time_column: The column with an event's time; `None` if events have none of their own. With
            `ordering: arrival`, an event without it has the time at which it reached its source.

    Raises (the function):
        ValueRefusedError: The event has a fault, no join key or no usable time, or a value that
            does not fit its field's type; `where` names the column.
    """
    stream = view.stream
    renames = dict(stream.columns) if stream else {}
    where = dict(stream.where) if stream else {}
    keys = [_column(renames, k.name, k.dtype) for k in view.key.join_keys]
    fields = [_column(renames, f.name, f.dtype) for f in view.event_fields]
    add_id = _id_function(view, renames)
    by_event_time = view.ordering == "event_time"

    def decode(event: StreamEvent) -> Event | None:
        if event.fault is not None:
            raise ValueRefusedError(event.fault)
        columns = event.columns
        for column, expected in where.items():
            if column not in columns or _comparable(columns[column]) != expected:
                return None
        is_json = event.form == "json"
        try:
            key_values, values = _decode_complete(columns, keys, fields, is_json=is_json)
        except (ValueError, KeyError, TypeError):
            key_values, values = _decode_by_column(columns, keys, fields, is_json=is_json)
        if add_id is not None:
            add_id(values, columns)
        entity = key_values[0] if len(key_values) == 1 else key_values
        time = None if time_column is None else _event_time(columns.get(time_column), time_column)
        if time is None and not by_event_time and event.arrived_ms >= EARLIEST_MS:
            time = event.arrived_ms
        return entity, values, time

    return decode


def _id_function(
    view: ViewPlan, renames: Mapping[str, str]
) -> Callable[[dict[str, object], Mapping[str, Any]], None] | None:
    """Return the function that adds an event's id to its values; `None` if they have it, or need none."""
    windows = view.windows
    if windows is None or windows.event_id is None:
        return None
    name = windows.event_id
    if any(name == each.name for each in windows.inputs):
        return None
    column = renames.get(name, name)

    def add_id(values: dict[str, object], columns: Mapping[str, Any]) -> None:
        value = columns.get(column)
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                raise ValueRefusedError(f"{value!r} is not UTF-8", where=column) from None
        values[name] = value

    return add_id


def _column(renames: Mapping[str, str], name: str, dtype: DType) -> _Column:
    codec = codec_of(dtype)
    return _Column(name, renames.get(name, name), codec.bytes_parser(), codec.from_json)


def _decode_complete(
    columns: Mapping[str, Any],
    keys: Sequence[_Column],
    fields: Sequence[_Column],
    *,
    is_json: bool,
) -> _KeysAndValues:
    """Decode a valid event without nulls, as nearly all are. Raises for any other."""
    if is_json:
        return (
            tuple([from_json(columns[column]) for _, column, _, from_json in keys]),
            {
                name: from_json(columns[column])
                for name, column, _, from_json in fields
                if column in columns
            },
        )
    return (
        tuple([from_bytes(columns[column]) for _, column, from_bytes, _ in keys]),
        {
            name: from_bytes(columns[column])
            for name, column, from_bytes, _ in fields
            if column in columns
        },
    )


def _decode_by_column(
    columns: Mapping[str, Any],
    keys: Sequence[_Column],
    fields: Sequence[_Column],
    *,
    is_json: bool,
) -> _KeysAndValues:
    """Decode an event with nulls, or raise an error that names the bad column."""

    def value(column: _Column) -> object:
        given = columns[column.column]
        if given is None:
            return None
        try:
            return column.from_json(given) if is_json else column.from_bytes(given)
        except UnicodeDecodeError as error:
            raise ValueRefusedError(f"{given!r} is not UTF-8", where=column.column) from error
        except ValueRefusedError as error:
            raise ValueRefusedError(error.message, where=column.column, hint=error.hint) from error

    for column in keys:
        if columns.get(column.column) is None:
            raise ValueRefusedError("missing join key", where=column.column)
    values = {column.name: value(column) for column in fields if column.column in columns}
    return tuple(map(value, keys)), values


def _event_time(given: object, column: str) -> Timestamp:
    """Return an event's time: milliseconds since the epoch, also as digits, or RFC 3339 text."""
    if isinstance(given, bytes):
        try:
            given = given.decode()
        except UnicodeDecodeError:
            raise ValueRefusedError(f"{given!r} is not UTF-8", where=column) from None
    if isinstance(given, str):
        is_number = given.isascii() and given.isdigit() and len(given) <= _MAX_DIGITS
        return int(given) if is_number else given
    if given is None or type(given) is int:
        return given
    raise ValueRefusedError(f"{short_repr(given)} is not a time", where=column)


def _comparable(value: object) -> str | None:
    """Return a value as `where:` compares it: text unchanged, other JSON values as JSON."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=float)


def key_of_dead_letter(view: ViewPlan, letter: DeadLetter) -> bytes | None:
    """Return the key of the entity that a dead letter is about; `None` if it does not say."""
    stream = view.stream
    renames = dict(stream.columns) if stream else {}
    json_column = stream.json_field if isinstance(stream, RedisStreamPlan) else "value"
    try:
        columns: Any = letter.fields
        if json_column is not None:
            columns = json.loads(letter.fields[json_column])
        texts = []
        for index, join_key in enumerate(view.key.join_keys):
            codec = codec_of(join_key.dtype)
            value = columns[renames.get(join_key.name, join_key.name)]
            parsed = codec.parse(value) if json_column is None else codec.from_json(value)
            texts.append(join_key_text(view.key, index, parsed))
    except (FeatureKitError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return view.key.key(texts)
