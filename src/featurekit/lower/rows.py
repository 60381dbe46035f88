"""Decode rows from JSON, and check and encode rows, one at a time.

For few rows, or rows that are dicts; whole tables go through `columns`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal

from featurekit.errors import FeatureKitError, ValueRefusedError, name_hint
from featurekit.lower.encoders import field_encoder
from featurekit.lower.keys import join_key_text, key_function
from featurekit.plan import EVENT_TIMESTAMP, FieldPlan, ViewPlan
from featurekit.types import DType, codec_of

Row = Mapping[str, object]
"""The Python values of a row's join keys and fields, by name."""

JsonObject = Mapping[str, object]
"""A decoded JSON object; its fractions are floats or `Decimal`."""

JsonObjectDecoder = Callable[[str | bytes], dict[str, object]]

EncodedRow = tuple[bytes, dict[str, bytes | None]]
"""The key of a row, and the bytes of each field; `None` where the row has null or no value."""

_MAX_REPR = 40


def row_encoder(view: ViewPlan) -> Callable[[Row], EncodedRow]:
    """Return the function that checks and encodes a row of a batch view, without its time.

    Raises (the function):
        ValueRefusedError: A value does not fit, or a field is unknown; `where` names the field.
    """
    join_keys = [k.name for k in view.key.join_keys]
    key_of = key_function(view.key)
    encoders = [(f.name, field_encoder(f)) for f in view.fields]
    known = {*join_keys, *(f.name for f in view.fields)}
    if view.event_time_field:
        known.add(EVENT_TIMESTAMP)

    def encode_row(row: Row) -> EncodedRow:
        for name in row:
            if name not in known:
                raise _unknown_field(view, name, known)
        for name in join_keys:
            if row.get(name) is None:
                raise ValueRefusedError("null is not allowed", where=f"join key {name}")
        entity = row[join_keys[0]] if len(join_keys) == 1 else tuple(row[n] for n in join_keys)
        return key_of(entity), {name: encode(row.get(name)) for name, encode in encoders}

    return encode_row


def json_object_decoder(view: ViewPlan) -> JsonObjectDecoder:
    """Return the function from JSON text to an object, for rows and events of a view.

    Fractions become `Decimal` if a field needs their exact value, else floats, which are faster.

    Raises (the function):
        ValueRefusedError: The text is not a JSON object.
    """
    is_exact = any(codec_of(f.dtype).needs_exact_json for f in view.event_fields)
    decode_json = json.JSONDecoder(parse_float=Decimal if is_exact else None).decode

    def decode_object(data: str | bytes) -> dict[str, object]:
        try:
            text = data.decode() if isinstance(data, bytes) else data
            value = decode_json(text)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise ValueRefusedError(f"not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValueRefusedError(f"expected a JSON object, found {text[:_MAX_REPR]}")
        return value

    return decode_object


def object_row_decoder(view: ViewPlan, *, strict: bool) -> Callable[[JsonObject], Row]:
    """Return the function from a JSON object to a row.

    Args:
        view: The compiled view; its source's `columns:` map fields to members.
        strict: Whether to refuse unknown members; if so, the members have the fields' names, and
            one may be the time of the row.

    Raises (the function):
        ValueRefusedError: A member does not fit its type; `where` names it.
    """
    dtypes = {k.name: k.dtype for k in view.key.join_keys} | {f.name: f.dtype for f in view.fields}
    member_of = view.source.column if view.source and not strict else str
    columns = [(name, member_of(name), codec_of(dtype)) for name, dtype in dtypes.items()]
    known = {member for _, member, _ in columns}
    has_time = strict and view.event_time_field is not None and EVENT_TIMESTAMP not in known
    if has_time:
        known.add(EVENT_TIMESTAMP)

    def decode_row(members: JsonObject) -> Row:
        if strict and (unknown := members.keys() - known):
            raise _unknown_field(view, min(unknown), known)
        row = {EVENT_TIMESTAMP: members.get(EVENT_TIMESTAMP)} if has_time else {}
        for name, member, codec in columns:
            value = members.get(member)
            try:
                row[name] = None if value is None else codec.from_json(value)
            except ValueRefusedError as error:
                raise ValueRefusedError(error.message, where=name, hint=error.hint) from error
        return row

    return decode_row


def json_row_decoder(view: ViewPlan, *, strict: bool) -> Callable[[str], Row]:
    """Return the function from a line of JSON to a row; see `object_row_decoder`."""
    decode_object, decode_row = json_object_decoder(view), object_row_decoder(view, strict=strict)
    return lambda text: decode_row(decode_object(text))


def check_value(dtype: DType, field: FieldPlan | None, value: object) -> None:
    """Raise `ValueRefusedError` if a value of a field, or of a join key without one, is refused."""
    if field is not None:
        field_encoder(field)(value)
    elif value is None:
        raise ValueRefusedError("null is not allowed")
    elif not codec_of(dtype).encode(value):
        raise ValueRefusedError("must not be empty")


def json_row_errors(view: ViewPlan, line: str) -> list[ValueRefusedError]:
    """Return what is wrong with each member of a line; empty if it is not a JSON object."""
    try:
        members = json_object_decoder(view)(line)
    except ValueRefusedError:
        return []
    member_of = view.source.column if view.source else str
    parts: list[tuple[str, str, DType, FieldPlan | None]] = [
        *((k.name, f"join key {k.name}", k.dtype, None) for k in view.key.join_keys),
        *((f.name, f.name, f.dtype, f) for f in view.fields),
    ]
    errors = []
    for name, where, dtype, field in parts:
        value = members.get(member_of(name))
        try:
            check_value(dtype, field, None if value is None else codec_of(dtype).from_json(value))
        except ValueRefusedError as error:
            errors.append(ValueRefusedError(error.message, where=where, hint=error.hint))
    return errors


def key_of_row(view: ViewPlan, row: Row) -> bytes | None:
    """Return the key of a row; `None` if its join keys do not fit."""
    values = [row.get(join_key.name) for join_key in view.key.join_keys]
    try:
        return view.key.key([join_key_text(view.key, i, each) for i, each in enumerate(values)])
    except FeatureKitError:
        return None


def key_of_line(view: ViewPlan, line: str, *, is_source: bool = True) -> bytes | None:
    """Return the key of a row that is a line of JSON; `None` if it has none.

    Args:
        view: The compiled view.
        line: The line.
        is_source: Whether members are named as in the view's source, or else as fields.
    """
    member_of = view.source.column if view.source and is_source else str
    try:
        members = json_object_decoder(view)(line)
        row = {
            k.name: codec_of(k.dtype).from_json(members.get(member_of(k.name)))
            for k in view.key.join_keys
        }
    except FeatureKitError:
        return None
    return key_of_row(view, row)


def _unknown_field(
    view: ViewPlan, name: str, known: Mapping[str, object] | set[str]
) -> ValueRefusedError:
    return ValueRefusedError(
        f"no such field in {view.name}", where=name, hint=name_hint(name, known)
    )
