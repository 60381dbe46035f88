"""Scalars of definition files: unquoted YAML text and the annotated types that models use.

`country: NO` and `ttl: 1e3` are text where a model expects text, and `min: 1e3` is a number where
a model expects a number. The loader therefore keeps an unquoted scalar as its source text, and
the model's type decides what it means. `PlainScalar.value` follows the core schema of YAML 1.2
(section 10.3.2). All types are strict: a quoted `"5"` is not a number, and a number is not a
duration.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
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

_MAX_MESSAGE_LENGTH = 60
_PASSWORD = re.compile(r"://[^/@\s]*@")
_MAX_DIGITS = 4000  # Python refuses to convert more than 4300


class PlainScalar(str):
    """The source text of an unquoted scalar."""

    __slots__ = ()

    @property
    def value(self) -> object:
        """The value in the core schema: null, bool, int, float, or the text itself."""
        if len(self) > _MAX_DIGITS:
            return str(self)
        for pattern, convert in _CORE_SCHEMA:
            if pattern.fullmatch(self):
                return convert(str(self))
        return str(self)


def _parse_int(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _parse_special_float(text: str) -> float:
    return float(text.lower().replace(".", ""))


_CORE_SCHEMA: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = tuple(
    (re.compile(pattern), convert)
    for pattern, convert in (
        (r"null|Null|NULL|~|", lambda _: None),
        (r"true|True|TRUE", lambda _: True),
        (r"false|False|FALSE", lambda _: False),
        (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _parse_int),
        (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
        (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", _parse_special_float),
    )
)


def resolve_plain(raw: object) -> object:
    """Return a tree of scalars, lists and mappings with each plain scalar as its value."""
    if isinstance(raw, PlainScalar):
        return raw.value
    if isinstance(raw, list):
        return [resolve_plain(item) for item in raw]
    if isinstance(raw, dict):
        return {str(key): resolve_plain(item) for key, item in raw.items()}
    return raw


def format_raw(raw: object) -> str:
    """Return a value for a message: as the file spells it, at most 60 characters, no password."""
    match raw:
        case PlainScalar():
            text = format_raw(str(raw)) if isinstance(raw.value, str) else str(raw) or "nothing"
        case dict():
            text = "a mapping"
        case list() | tuple():
            text = "a list"
        case bool():
            text = str(raw).lower()
        case None | "":
            text = "nothing"
        case str():
            text = _PASSWORD.sub("://***@", repr(raw))
        case _:
            text = repr(raw)
    return text if len(text) <= _MAX_MESSAGE_LENGTH else text[: _MAX_MESSAGE_LENGTH - 1] + "…"


_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"(?:(\d{1,18})(ms|[smhd]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+)(ms|[smhd])", re.ASCII)
_TEN_YEARS_MS = 3650 * _UNIT_MS["d"]


def parse_duration(text: str) -> int:
    """Return a duration such as `90s`, `24h`, `1h30m` or `250ms` in milliseconds.

    Raises:
        ValueRefusedError: The text is not a duration, or not above zero and below ten years.

    Examples:
        >>> parse_duration("1h30m")
        5400000
    """
    if not _DURATION.fullmatch(text):
        hint = "write a number and a unit: ms, s, m, h or d"
        if re.fullmatch(r"\d+", text, re.ASCII):
            hint = f"write a unit: {text}s, {text}m, {text}h or {text}d"
        raise ValueRefusedError(
            f"found {format_raw(PlainScalar(text))}, expected a duration such as 90s, 5m, 24h or "
            "1h30m",
            hint=hint,
        )
    parts = _DURATION_PART.findall(text)
    ranks = [list(_UNIT_MS).index(unit) for _, unit in parts]
    if ranks != sorted(set(ranks)):
        raise ValueRefusedError(
            f"found '{text}', expected each unit once, largest first, for example 1h30m"
        )
    total_ms = sum(int(count) * _UNIT_MS[unit] for count, unit in parts)
    if not 0 < total_ms < _TEN_YEARS_MS:
        raise ValueRefusedError(f"found '{text}', expected a duration above 0 and below 3650d")
    return total_ms


def format_duration(duration_ms: int) -> str:
    """Return milliseconds as text that `parse_duration` reads back.

    Examples:
        >>> format_duration(5_400_000)
        '1h30m'
    """
    parts = []
    for unit, unit_ms in _UNIT_MS.items():
        count, duration_ms = divmod(duration_ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _validate_duration(raw: object) -> int:
    if not isinstance(raw, str):
        raise ValueRefusedError(
            f"found {format_raw(raw)}, expected a duration such as 90s, 5m or 24h"
        )
    return parse_duration(str(raw))


_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?", re.ASCII)


def _validate_time_of_day(raw: object) -> int:
    found = _TIME_OF_DAY.fullmatch(raw) if isinstance(raw, str) else None
    if found is None:
        raise ValueRefusedError(
            f"found {format_raw(raw)}, expected a time of day in UTC such as 02:00"
        )
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * _UNIT_MS["h"] + minutes * _UNIT_MS["m"] + seconds * _UNIT_MS["s"]


def format_time_of_day(time_ms: int) -> str:
    """Return the milliseconds since midnight as `02:00`, with seconds only where there are some."""
    minutes, seconds = divmod(time_ms // 1000, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")


def _at_most_one_hour(duration_ms: int) -> int:
    if duration_ms > _UNIT_MS["h"]:
        raise ValueRefusedError(f"found '{format_duration(duration_ms)}', expected at most 1h")
    return duration_ms


_NAME = "[a-z][a-z0-9_]*"
_RESERVED_FIELD_NAMES = ("event_timestamp",)


def _validate_name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected a name of lower-case letters, digits and _ "
            "that starts with a letter"
        )
    return text


def _validate_field_name(text: str) -> str:
    is_attribute = text.isidentifier() and not text.startswith("_") and not iskeyword(text)
    if not is_attribute or unicodedata.normalize("NFKC", text) != text:
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected a Python identifier that starts with a letter "
            "and is not a keyword"
        )
    if text in _RESERVED_FIELD_NAMES:
        raise ValueRefusedError(f"the name '{text}' is reserved for the time of a row")
    return text


def _validate_flag(raw: object) -> bool:
    value = resolve_plain(raw)
    if not isinstance(value, bool):
        raise ValueRefusedError(f"found {format_raw(raw)}, expected true or false")
    return value


def _validate_flag_or_text(raw: object) -> bool | str:
    if isinstance(raw, PlainScalar) and isinstance(raw.value, bool):
        return raw.value
    if isinstance(raw, (bool, str)):
        return raw if isinstance(raw, bool) else str(raw)
    raise ValueRefusedError(f"found {format_raw(raw)}, expected true, false or a reason as text")


def _integer_from(minimum: int, expected: str) -> Callable[[object], int]:
    def validate(raw: object) -> int:
        value = resolve_plain(raw)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueRefusedError(f"found {format_raw(raw)}, expected {expected}")
        return value

    return validate


def _above_zero(share: float) -> float:
    if share <= 0:
        raise ValueRefusedError(f"found {share:g}, expected a number above 0, up to 1")
    return share


def _validate_share(raw: object) -> float:
    value = resolve_plain(raw)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueRefusedError(f"found {format_raw(raw)}, expected a number from 0 to 1")
    return float(value)


def _validate_non_empty(text: str) -> str:
    if not text.strip():
        raise ValueRefusedError("found nothing, expected text")
    return text


def list_of_one(raw: object) -> object:
    """Return a single text as a list, for keys that take one or several."""
    return (raw,) if isinstance(raw, str) else raw


Text = Annotated[str, Field(strict=True)]
NonEmptyText = Annotated[
    Text, AfterValidator(_validate_non_empty), Field(json_schema_extra={"minLength": 1})
]
ScalarText = Annotated[Text, WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""Text whose source may look like a number, as in `tags: {tier: 1}`; it stays text."""

Name = Annotated[
    Text, AfterValidator(_validate_name), Field(json_schema_extra={"pattern": f"^{_NAME}$"})
]
FieldName = Annotated[
    Text,
    AfterValidator(_validate_field_name),
    Field(json_schema_extra={"pattern": r"^[^_\d\s]\S*$"}),
]
Duration = Annotated[
    int,
    BeforeValidator(_validate_duration),
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
TimeOfDay = Annotated[
    int,
    BeforeValidator(_validate_time_of_day),
    PlainSerializer(format_time_of_day, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"}
    ),
]
"""A time of day in UTC, as milliseconds since midnight."""

ShortDuration = Annotated[Duration, AfterValidator(_at_most_one_hour)]

Flag = Annotated[bool, PlainValidator(_validate_flag, json_schema_input_type=bool)]
FlagOrText = Annotated[
    bool | str, PlainValidator(_validate_flag_or_text, json_schema_input_type=bool | str)
]
PositiveInt = Annotated[
    int,
    PlainValidator(_integer_from(1, "a whole number above 0")),
    WithJsonSchema({"type": "integer", "minimum": 1}),
]
NonNegativeInt = Annotated[
    int,
    PlainValidator(_integer_from(0, "a whole number, 0 or more")),
    WithJsonSchema({"type": "integer", "minimum": 0}),
]
Share = Annotated[
    float,
    PlainValidator(_validate_share),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]
PositiveShare = Annotated[
    Share,
    AfterValidator(_above_zero),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]
TextList = Annotated[
    tuple[NonEmptyText, ...],
    BeforeValidator(list_of_one),
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
