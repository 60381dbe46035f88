"""The scalars of definitions: names, texts, durations, flags.

Each is strict: a quoted `"5"` is no number and a number is no duration.
"""

from __future__ import annotations

import re
import unicodedata
from keyword import iskeyword
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from featurekit.errors import ValueRefusedError
from featurekit.models.plain import Plain, found

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"(?:(\d{1,18})(ms|[smhd]))+", re.ASCII)
_PIECE = re.compile(r"(\d+)(ms|[smhd])", re.ASCII)
_TEN_YEARS_MS = 3650 * _UNITS["d"]
_NAME = "[a-z][a-z0-9_]*"
_RESERVED = ("event_timestamp",)


def parse_duration(text: str) -> int:
    """The milliseconds of a duration such as `90s`, `24h`, `1h30m` or `250ms`.

    Raises:
        ValueRefusedError: It is none, or not above zero and below ten years.

    Examples:
        >>> parse_duration("1h30m")
        5400000
    """
    if not _DURATION.fullmatch(text):
        hint = "write a number and a unit: ms, s, m, h or d"
        if re.fullmatch(r"\d+", text, re.ASCII):
            hint = f"write a unit: {text}s, {text}m, {text}h or {text}d"
        raise ValueRefusedError(
            f"found {found(Plain(text))}, expected a duration such as 90s, 5m, 24h or 1h30m",
            hint=hint,
        )
    pieces = _PIECE.findall(text)
    ranks = [list(_UNITS).index(unit) for _, unit in pieces]
    if ranks != sorted(set(ranks)):
        raise ValueRefusedError(
            f"found '{text}', expected each unit once, from large to small, as 1h30m"
        )
    total = sum(int(count) * _UNITS[unit] for count, unit in pieces)
    if not 0 < total < _TEN_YEARS_MS:
        raise ValueRefusedError(f"found '{text}', expected a duration above 0 and below 3650d")
    return total


def format_duration(duration_ms: int) -> str:
    """Milliseconds as a duration that `parse_duration` reads back.

    Examples:
        >>> format_duration(5_400_000)
        '1h30m'
    """
    pieces = []
    for unit, size_ms in _UNITS.items():
        count, duration_ms = divmod(duration_ms, size_ms)
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0s"


def _duration(raw: object) -> int:
    if not isinstance(raw, str):
        raise ValueRefusedError(f"found {found(raw)}, expected a duration such as 90s, 5m or 24h")
    return parse_duration(str(raw))


def _name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueRefusedError(
            f"found {found(text)}, expected a name of lower-case letters, digits and _, "
            "beginning with a letter"
        )
    return text


def _field_name(text: str) -> str:
    fits = text.isidentifier() and not text.startswith("_") and not iskeyword(text)
    if not fits or unicodedata.normalize("NFKC", text) != text:
        raise ValueRefusedError(
            f"found {found(text)}, expected a Python name, since rows have it as an attribute: "
            "letters, digits and _, beginning with a letter, and no keyword"
        )
    if text in _RESERVED:
        raise ValueRefusedError(f"the name '{text}' is taken: it is the time of a row")
    return text


def _flag(raw: object) -> bool:
    value = raw.value if isinstance(raw, Plain) else raw
    if not isinstance(value, bool):
        raise ValueRefusedError(f"found {found(raw)}, expected true or false")
    return value


def _count(raw: object) -> int:
    value = raw.value if isinstance(raw, Plain) else raw
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueRefusedError(f"found {found(raw)}, expected a whole number above 0")
    return value


def _whole(raw: object) -> int:
    value = raw.value if isinstance(raw, Plain) else raw
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueRefusedError(f"found {found(raw)}, expected a whole number, 0 or more")
    return value


def _short(duration_ms: int) -> int:
    if duration_ms > _UNITS["h"]:
        raise ValueRefusedError(f"found '{format_duration(duration_ms)}', expected 1h at most")
    return duration_ms


def _flag_or_text(raw: object) -> bool | str:
    if isinstance(raw, Plain) and isinstance(raw.value, bool):
        return raw.value
    if isinstance(raw, (bool, str)):
        return raw if isinstance(raw, bool) else str(raw)
    raise ValueRefusedError(f"found {found(raw)}, expected true, false or a reason as text")


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueRefusedError("found nothing, expected text")
    return text


def _one_or_more(raw: object) -> object:
    return (raw,) if isinstance(raw, str) else raw


Text = Annotated[str, Field(strict=True)]
FilledText = Annotated[Text, AfterValidator(_filled), Field(json_schema_extra={"minLength": 1})]
ScalarText = Annotated[Text, WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""Text whose source may look like a number, as in `tags: {tier: 1}`; it stays text."""

Name = Annotated[Text, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_NAME}$"})]
FieldName = Annotated[
    Text, AfterValidator(_field_name), Field(json_schema_extra={"pattern": r"^[^_\d\s]\S*$"})
]
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
            "minLength": 2,
            "examples": ["90s", "5m", "24h", "7d", "1h30m"],
        }
    ),
]
Wait = Annotated[Duration, AfterValidator(_short)]
"""A duration of an hour at most."""

Flag = Annotated[bool, PlainValidator(_flag, json_schema_input_type=bool)]
Count = Annotated[int, PlainValidator(_count), WithJsonSchema({"type": "integer", "minimum": 1})]
Whole = Annotated[int, PlainValidator(_whole), WithJsonSchema({"type": "integer", "minimum": 0})]
FlagOrText = Annotated[
    bool | str, PlainValidator(_flag_or_text, json_schema_input_type=bool | str)
]
Texts = Annotated[
    tuple[FilledText, ...],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]
"""One text, or a list of them."""
