"""Times and durations in the forms that callers may pass: integers, datetimes, timedeltas or text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.models import parse_duration
from featurekit.runtime.write_arguments import MAX_TTL_MS, to_duration_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_MS = -62_135_596_800_000
_MAX_MS = 253_402_300_799_999

Time = int | datetime | date | str | None
"""Milliseconds since the epoch; a datetime with a time zone; a date; or `2026-11-22[T10:00:00Z]`."""


Span = str | timedelta | int
"""A duration such as `2m` or `1h30m`, a timedelta, or whole seconds."""


def to_span_ms(span: Span, *, where: str) -> int:
    """Return a duration in milliseconds.

    Args:
        span: The duration.
        where: The argument's name, for errors.

    Raises:
        RequestError: `span` is not a duration, or not positive.
    """
    if isinstance(span, str):
        try:
            return parse_duration(span)
        except ValueRefusedError as error:
            raise RequestError(error.message, where=where, hint=error.hint) from error
    ms = to_duration_ms(span)
    if ms <= 0:
        raise RequestError(
            f"{span!r} is not a duration",
            where=where,
            hint="pass text such as '2m', a timedelta, or whole seconds; it must be positive",
        )
    return ms


def to_ttl_ms(ttl: Span | None) -> int | None:
    """Return a TTL in milliseconds; `None` stays `None`.

    Raises:
        RequestError: It is not a duration above zero and below 10 years.
    """
    if ttl is None:
        return None
    ttl_ms = to_span_ms(ttl, where="ttl")
    if ttl_ms >= MAX_TTL_MS:
        raise RequestError(f"{ttl!r} is not a TTL below 10 years", where="ttl")
    return ttl_ms


def to_ms(time: Time, *, where: str) -> int | None:
    """Return a time as milliseconds since the epoch; `None` stays `None`.

    Args:
        time: The time.
        where: The argument's name, for errors.

    Raises:
        RequestError: `time` is not a time, or has no time zone.
    """
    if time is None:
        return None
    ms = time if type(time) is int else _datetime_to_ms(time, where)
    if not _MIN_MS <= ms <= _MAX_MS:
        raise RequestError(f"{time} is outside the years 1 to 9999", where=where)
    return ms


def to_window(start: Time, end: Time) -> tuple[int | None, int | None]:
    """Return a start and an end as milliseconds since the epoch; `None` means unbounded.

    Raises:
        RequestError: `start` or `end` is not a time, or `start` is after `end`.
    """
    start_ms, end_ms = to_ms(start, where="start"), to_ms(end, where="end")
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise RequestError(f"the start {start} is after the end {end}")
    return start_ms, end_ms


def format_time_ms(time_ms: int) -> str:
    """Return a time as RFC 3339 text in UTC, for messages."""
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    except OverflowError:
        return f"{time_ms} ms"
    return time.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace(
        "+00:00", "Z"
    )


def _datetime_to_ms(time: object, where: str) -> int:
    if isinstance(time, str):
        time = _parse_iso(time, where)
    if isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    if not isinstance(time, datetime):
        raise _not_a_time(time, where)
    if time.tzinfo is None:
        raise RequestError(
            f"{time.isoformat()} has no time zone", where=where, hint="append Z for UTC"
        )
    return (time - _EPOCH) // timedelta(milliseconds=1)


def _parse_iso(text: str, where: str) -> datetime | date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise _not_a_time(text, where) from error


def _not_a_time(time: object, where: str) -> RequestError:
    return RequestError(
        f"{time!r} is not a time", where=where, hint="write 2026-11-22 or 2026-11-22T10:00:00Z"
    )
