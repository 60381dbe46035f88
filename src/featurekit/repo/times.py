"""Times and spans as callers give them: milliseconds, Python's own, or text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.models import parse_duration

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_999

Time = int | datetime | date | str | None
"""Milliseconds since the epoch; a datetime with a zone; a date; or `2026-11-22[T10:00:00Z]`."""


Span = str | timedelta | int
"""A duration such as `2m` or `1h30m`, a timedelta, or whole milliseconds."""


def to_span_ms(span: Span, *, where: str) -> int:
    """A span of time in milliseconds.

    Raises:
        RequestError: It is none of the forms above, or not above zero.
    """
    if isinstance(span, str):
        try:
            return parse_duration(span)
        except ValueRefusedError as error:
            raise RequestError(error.message, where=where, hint=error.hint) from error
    ms = span // timedelta(milliseconds=1) if isinstance(span, timedelta) else span
    if type(ms) is not int or ms <= 0:
        raise RequestError(
            f"{span!r} is no span of time",
            where=where,
            hint="give a duration as '2m', a timedelta, or whole milliseconds, above zero",
        )
    return ms


def to_ms(time: Time, *, where: str) -> int | None:
    """A time as milliseconds since the epoch; `None` stays `None`.

    Raises:
        RequestError: It is none of the forms above, or has no time zone.
    """
    if time is None:
        return None
    ms = time if type(time) is int else _ms(time, where)
    if not _FIRST_MS <= ms <= _LAST_MS:
        raise RequestError(f"{time} is outside the years 1 to 9999", where=where)
    return ms


def to_window(start: Time, end: Time) -> tuple[int | None, int | None]:
    """A start and an end as milliseconds since the epoch, either of which may be open.

    Raises:
        RequestError: One of them is no time, or the start is after the end.
    """
    start_ms, end_ms = to_ms(start, where="start"), to_ms(end, where="end")
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise RequestError(f"the start {start} is after the end {end}")
    return start_ms, end_ms


def _ms(time: object, where: str) -> int:
    if isinstance(time, str):
        time = _parse(time, where)
    if isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    if not isinstance(time, datetime):
        raise _no_time(time, where)
    if time.tzinfo is None:
        raise RequestError(
            f"{time.isoformat()} has no time zone", where=where, hint="end it in Z for UTC"
        )
    return (time - _EPOCH) // timedelta(milliseconds=1)


def _parse(text: str, where: str) -> datetime | date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_time(text, where) from error


def _no_time(time: object, where: str) -> RequestError:
    return RequestError(
        f"{time!r} is no time", where=where, hint="write 2026-11-22 or 2026-11-22T10:00:00Z"
    )
