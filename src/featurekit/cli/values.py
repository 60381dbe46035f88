"""Values: what features hold, as text for people, as JSON for programs, and read from arguments."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from featurekit.errors import RequestError, ValueRefusedError, name_hint
from featurekit.plan import ReadPlan
from featurekit.types import DType, codec_of


def value_json(dtype: DType, value: object) -> object:
    """A value as the JSON value that a row of JSON would carry; `None` for none."""
    return None if value is None else codec_of(dtype).to_json(value)


def plain(value: object) -> object:
    """A report as what JSON can hold: dataclasses are objects, what JSON lacks is text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return _leaf(value)


def _leaf(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    finite = not isinstance(value, float) or math.isfinite(value)
    is_json = value is None or isinstance(value, int | float | str)
    return value if finite and is_json else str(value)


def to_text(document: object) -> str:
    """One JSON document, indented."""
    return json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def entity_rows(plan: ReadPlan, entities: Sequence[str]) -> list[dict[str, object]]:
    """Rows of join keys out of arguments such as `user_id=u0001` and `origin=JFK,dest=LAX`.

    Raises:
        RequestError: An argument is not of that form, or names no join key of the read.
        ValueRefusedError: A value is no text of its join key's type.
    """
    dtypes = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
    return [_entity_row(dtypes, text) for text in entities]


def _entity_row(dtypes: dict[str, DType], text: str) -> dict[str, object]:
    row: dict[str, object] = {}
    for pair in re.split(f",(?=(?:{'|'.join(dtypes)})=)", text):
        name, equals, value = pair.partition("=")
        if not equals:
            example = ",".join(f"{name}=…" for name in dtypes)
            raise RequestError(
                f"'{pair}' is not NAME=VALUE", where="--entity", hint=f"as {example}"
            )
        if name not in dtypes:
            raise RequestError(
                f"unknown join key '{name}'", where="--entity", hint=name_hint(name, dtypes)
            )
        try:
            row[name] = codec_of(dtypes[name]).parse(value)
        except ValueRefusedError as error:
            raise ValueRefusedError(
                error.message, where=f"--entity {name}", hint=error.hint
            ) from error
    return row
