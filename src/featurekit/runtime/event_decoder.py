"""Translation: from an event as it came to what the writer of its view takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from featurekit.errors import ValueRefusedError
from featurekit.plan import ViewPlan
from featurekit.ports import StreamEvent
from featurekit.runtime.write_arguments import Timestamp
from featurekit.runtime.writer import Event
from featurekit.types import DType, codec_of, short_repr

EVENT_TIMESTAMP = "event_timestamp"
"""The column with an event's time, unless the stream names another."""

DecodeEvent = Callable[[StreamEvent], Event | None]
"""From an event to what is to be written; `None` for one that the view does not want."""

_Read = Callable[[Any], object]

_SHORT = 18
"""Digits that every int64 has room for."""


class _Column(NamedTuple):
    """One column of an event: a join key's or a field's, and how its value is read."""

    name: str
    key: str
    text: _Read
    json: _Read


def event_decoder(view: ViewPlan) -> DecodeEvent:
    """The function that translates the events of a view's stream.

    Raises (the function):
        ValueRefusedError: It is no event, lacks a join key or its time, or has a value that is not
            of its field's type; `where` names the column.
    """
    stream = view.stream
    renames = dict(stream.columns) if stream else {}
    where = dict(stream.where) if stream else {}
    keys = [_column(renames, k.name, k.dtype) for k in view.key.join_keys]
    fields = [_column(renames, f.name, f.dtype) for f in view.fields]
    timed = view.ordering == "event_time"
    clock = (stream and stream.event_timestamp_field) or EVENT_TIMESTAMP

    def translate(event: StreamEvent) -> Event | None:
        if event.fault:
            raise ValueRefusedError(event.fault)
        columns = event.columns
        for key, text in where.items():
            if key not in columns or _text(columns[key]) != text:
                return None
        is_json = event.form == "json"
        try:
            parts, values = _read(columns, keys, fields, is_json=is_json)
        except (ValueError, KeyError, TypeError):
            parts, values = _read_carefully(columns, keys, fields, is_json=is_json)
        entity = parts if len(parts) > 1 else parts[0]
        return (entity, values, _time(columns.get(clock), clock)) if timed else (entity, values)

    return translate


_Parts = tuple[tuple[object, ...], dict[str, object]]
"""An event's join keys and its values."""


def _read(
    columns: Mapping[str, Any], keys: list[_Column], fields: list[_Column], *, is_json: bool
) -> _Parts:
    """The values of an event that is as it should be, which nearly all are."""
    if is_json:
        return (
            tuple([from_json(columns[key]) for _, key, _, from_json in keys]),
            {
                name: from_json(columns[key])
                for name, key, _, from_json in fields
                if key in columns
            },
        )
    return (
        tuple([from_text(columns[key]) for _, key, from_text, _ in keys]),
        {name: from_text(columns[key]) for name, key, from_text, _ in fields if key in columns},
    )


def _read_carefully(
    columns: Mapping[str, Any], keys: list[_Column], fields: list[_Column], *, is_json: bool
) -> _Parts:
    """The same, one by one: nulls are nulls, and what is wrong is named."""

    def value(column: _Column) -> object:
        given = columns[column.key]
        if given is None:
            return None
        try:
            return column.json(given) if is_json else column.text(given)
        except UnicodeDecodeError as error:
            raise ValueRefusedError(f"{given!r} is not UTF-8", where=column.key) from error
        except ValueRefusedError as error:
            raise ValueRefusedError(error.message, where=column.key, hint=error.hint) from error

    for column in keys:
        if columns.get(column.key) is None:
            raise ValueRefusedError("an event without it is of no entity", where=column.key)
    values = {column.name: value(column) for column in fields if column.key in columns}
    return tuple(map(value, keys)), values


def _column(renames: Mapping[str, str], name: str, dtype: DType) -> _Column:
    codec = codec_of(dtype)
    return _Column(name, renames.get(name, name), codec.bytes_parser(), codec.from_json)


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueRefusedError(f"{data!r} is not UTF-8", where=where) from None


def _time(given: object, where: str) -> Timestamp:
    """The time of an event: milliseconds since the epoch as a number or in digits, or RFC 3339."""
    if isinstance(given, bytes):
        given = _utf8(given, where)
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= _SHORT:
        return int(given)
    if given is None or isinstance(given, str) or type(given) is int:
        return given
    raise ValueRefusedError(f"{short_repr(given)} is no time", where=where)


def _text(value: object) -> str | None:
    """A value as `where:` compares it: as it stands, JSON's other values as JSON writes them."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=float)
