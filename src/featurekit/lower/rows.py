"""Rows in Python: checked, encoded, and read from JSON, one at a time.

The way of rows that are few or that come as dicts; whole tables go through `columns`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal

from featurekit.errors import ValueRefusedError, name_hint
from featurekit.lower.encoders import field_encoder
from featurekit.lower.keys import key_function
from featurekit.plan import ViewPlan
from featurekit.types import codec_of

Row = Mapping[str, object]
"""Join keys and fields by name, as Python values."""

JsonObject = Mapping[str, object]
"""A JSON object, as `json` reads it."""

EncodedRow = tuple[bytes, dict[str, bytes | None]]
"""The row's key, and its fields' bytes; `None` where the row has null or nothing."""


def row_encoder(view: ViewPlan) -> Callable[[Row], EncodedRow]:
    """The function that checks and encodes a row of a batch view.

    Raises (the function):
        ValueRefusedError: A value does not fit, or a field is unknown; `where` names the field.
    """
    keys = [k.name for k in view.key.join_keys]
    key_of = key_function(view.key)
    encoders = [(f.name, field_encoder(f)) for f in view.fields]
    known = {*keys, *(f.name for f in view.fields)}

    def encode(row: Row) -> EncodedRow:
        for name in row:
            if name not in known:
                raise ValueRefusedError(
                    f"no such field in {view.name}", where=name, hint=name_hint(name, known)
                )
        for name in keys:
            if row.get(name) is None:
                raise ValueRefusedError("null is not allowed", where=f"join key {name}")
        entity = row[keys[0]] if len(keys) == 1 else tuple(row[name] for name in keys)
        return key_of(entity), {name: encode(row.get(name)) for name, encode in encoders}

    return encode


def json_row_decoder(view: ViewPlan, *, strict: bool) -> Callable[[str], Row]:
    """The function from a line of JSON to a row.

    Args:
        view: The compiled view; its source's `columns:` say which member a field comes from.
        strict: Whether a member that is no field is refused; else it is left out.

    Raises (the function):
        ValueRefusedError: The line is no object, or a member does not fit its type.
    """
    row_of = object_reader(view, strict=strict)
    exact = bool(decimals_of(view))

    def read(text: str) -> Row:
        found = _object(text)
        return row_of(found, _object(text, exact=True) if exact else found)

    return read


def decimals_of(view: ViewPlan) -> frozenset[str]:
    """The fields whose numbers JSON has to be read exactly for, and not by way of a float."""
    return frozenset(f.name for f in view.fields if codec_of(f.dtype).needs_exact_json)


def object_reader(view: ViewPlan, *, strict: bool) -> Callable[[JsonObject, JsonObject], Row]:
    """The function from a JSON object to a row; the second form of it has fractions as decimals.

    Args:
        view: As of `json_row_decoder`.
        strict: As of `json_row_decoder`.

    Raises (the function):
        ValueRefusedError: A member does not fit its type; `where` names it.
    """
    dtypes = {k.name: k.dtype for k in view.key.join_keys} | {f.name: f.dtype for f in view.fields}
    rename = view.source.column if view.source and not strict else str
    members = {name: (rename(name), codec_of(dtype)) for name, dtype in dtypes.items()}
    exact = decimals_of(view)

    def read(found: JsonObject, exactly: JsonObject) -> Row:
        if strict and (odd := set(found) - {member for member, _ in members.values()}):
            name = min(odd)
            raise ValueRefusedError(
                f"no such field in {view.name}", where=name, hint=name_hint(name, dtypes)
            )
        row = {}
        for name, (member, codec) in members.items():
            value = (exactly if name in exact else found).get(member)
            try:
                row[name] = None if value is None else codec.from_json(value)
            except ValueRefusedError as error:
                raise ValueRefusedError(error.message, where=name, hint=error.hint) from error
        return row

    return read


def _object(text: str, *, exact: bool = False) -> dict[str, object]:
    try:
        found = json.loads(text, parse_float=Decimal) if exact else json.loads(text)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ValueRefusedError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueRefusedError(f"a JSON object is expected, not {text[:40]}")
    return found
