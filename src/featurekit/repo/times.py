"""Times as callers give them: milliseconds, datetimes, or RFC 3339 text."""

from __future__ import annotations

from datetime import UTC, date, datetime

from featurekit.errors import RequestError

Time = int | datetime | date | str | None
"""Milliseconds since the epoch; a datetime with a zone; a date; or `2026-11-22[T10:00:00Z]`."""


def to_ms(time: Time, *, where: str) -> int | None:
    """A time as milliseconds since the epoch; `None` stays `None`.

    Raises:
        RequestError: It is none of the forms above, or has no time zone.
    """
    if time is None or isinstance(time, int):
        return time
    if isinstance(time, str):
        time = _parse(time, where)
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    if time.tzinfo is None:
        raise RequestError(
            f"{time.isoformat()} has no time zone", where=where, hint="end it in Z for UTC"
        )
    return int(time.timestamp() * 1000)


def _parse(text: str, where: str) -> datetime | date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(
            f"'{text}' is no time", where=where, hint="write 2026-11-22 or 2026-11-22T10:00:00Z"
        ) from error
