"""`timestamp` and `date`, stored as RFC 3339 text in UTC, to the microsecond."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import ClassVar

from typing_extensions import override

from featurekit.errors import ValueRefusedError
from featurekit.types.codec import Codec, ComparedAs, JsonSchema, short_repr

_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
STORED_TIMESTAMP = rf"{_DAY}T{_TIME}:[0-5][0-9](?:\.[0-9]{{6}})?Z"
"""A stored timestamp."""

_STORED = re.compile(STORED_TIMESTAMP.encode())
_WRITTEN = re.compile(
    rf"({_DAY})[Tt ]({_TIME}(?::[0-5][0-9](?:\.[0-9]{{1,6}})?)?)([Zz]|[+-]{_TIME})?"
)
_STORED_DATE = re.compile(_DAY.encode())


@dataclass(frozen=True, slots=True)
class TimestampCodec(Codec):
    """`timestamp`: `2026-11-22T08:30:00Z`, with six fractional digits if they are not zero."""

    python_type: ClassVar[str] = "datetime"
    compared_as: ClassVar[ComparedAs] = "time"
    is_text_in_yaml: ClassVar[bool] = True

    @override
    def encode(self, value: object) -> bytes:
        if not isinstance(value, datetime):
            raise self.refusal(value)
        if type(value) is not datetime:
            value = self._to_datetime(value)
        if value.utcoffset() is None:
            raise _missing_zone(value)
        try:
            utc = value.astimezone(UTC)
        except OverflowError:
            raise self.outside(value) from None
        return utc.isoformat().encode()[:-6] + b"Z"

    def _to_datetime(self, value: datetime) -> datetime:
        """Return an instance of a subclass, such as pandas' Timestamp, as a plain datetime."""
        if value != value:  # noqa: PLR0124 - pandas' NaT
            raise self.refusal(value)
        if getattr(value, "nanosecond", 0):
            raise ValueRefusedError(f"{short_repr(value)} is finer than a microsecond")
        return datetime(
            value.year, value.month, value.day,
            value.hour, value.minute, value.second, value.microsecond,
            value.tzinfo, fold=value.fold,
        )  # fmt: skip

    @override
    def decode(self, data: bytes) -> datetime:
        if not _STORED.fullmatch(data):
            raise ValueError(f"{short_repr(data)} is not {self.noun}")
        return datetime.fromisoformat(data.decode())

    @override
    def parse(self, text: str) -> datetime:
        match = _WRITTEN.fullmatch(text)
        if not match:
            raise self.refusal(text)
        if not match[3]:
            raise _missing_zone(text)
        try:
            return datetime.fromisoformat(f"{match[1]}T{match[2]}{match[3].upper()}").astimezone(
                UTC
            )
        except OverflowError:
            raise self.outside(text) from None
        except ValueError:
            raise self.refusal(text) from None

    @override
    def from_json(self, value: object) -> datetime:
        if not isinstance(value, str):
            raise self.refusal(value)
        return self.parse(value)

    @override
    def to_json(self, value: object) -> str:
        return self.encode(value).decode()

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "string", "format": "date-time"}

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_timestamp({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {"_timestamp": self.decode}


@dataclass(frozen=True, slots=True)
class DateCodec(Codec):
    """`date`: `2026-11-22`."""

    python_type: ClassVar[str] = "date"
    compared_as: ClassVar[ComparedAs] = "time"
    is_key: ClassVar[bool] = True
    is_text_in_yaml: ClassVar[bool] = True

    @override
    def encode(self, value: object) -> bytes:
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.refusal(value)
        return value.isoformat().encode()

    @override
    def decode(self, data: bytes) -> date:
        if not _STORED_DATE.fullmatch(data):
            raise ValueError(f"{short_repr(data)} is not {self.noun}")
        return date.fromisoformat(data.decode())

    @override
    def from_json(self, value: object) -> date:
        if not isinstance(value, str):
            raise self.refusal(value)
        return self.parse(value)

    @override
    def parse(self, text: str) -> date:
        try:
            return self.decode(text.encode())
        except ValueError:
            raise self.refusal(text) from None

    @override
    def to_json(self, value: object) -> str:
        return self.encode(value).decode()

    @override
    def json_schema(self, *, in_request: bool) -> JsonSchema:
        return {"type": "string", "format": "date"}

    @override
    def decoder_expression(self, data: str) -> str:
        return f"_date({data})"

    @override
    def decoder_globals(self) -> dict[str, object]:
        return {"_date": self.decode}


def _missing_zone(value: object) -> ValueRefusedError:
    return ValueRefusedError(
        f"{short_repr(value)} has no time zone", hint="add one, such as Z or +02:00"
    )
