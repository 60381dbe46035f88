"""Times as writers of events are given them: how long values live, and when an event happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from featurekit.errors import ValueRefusedError
from featurekit.types import short_repr

MAX_FUTURE_MS = 24 * 3600 * 1000
"""How far in the future an event's time may be: more is a wrong unit or a wrong clock."""

MAX_TTL_MS = 10 * 365 * 24 * 3600 * 1000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Timestamp = datetime | int | str | None


def ttl_to_ms(ttl: timedelta | int | None) -> int:
    """A call's TTL in milliseconds; 0 for none of its own."""
    if ttl is None:
        return 0
    ttl_ms = ttl // timedelta(milliseconds=1) if isinstance(ttl, timedelta) else ttl
    if type(ttl_ms) is not int or not 0 < ttl_ms < MAX_TTL_MS:
        raise ValueRefusedError(
            f"{ttl!r} is no TTL",
            where="ttl",
            hint="give a timedelta, or whole milliseconds above 0",
        )
    return ttl_ms


def event_time_to_ms(time: Timestamp, now_ms: int) -> int:
    """The time of an event in milliseconds since the epoch."""
    given = time
    if time is None:
        raise ValueRefusedError(
            "the view orders events by time, and this one has none", where="event_timestamp"
        )
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise ValueRefusedError(
                f"{short_repr(time)} is no time", where="event_timestamp"
            ) from error
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueRefusedError(
                f"{time.isoformat()} has no time zone", where="event_timestamp"
            )
        event_ms = (time - EPOCH) // timedelta(milliseconds=1)
    else:
        event_ms = time
    if type(event_ms) is not int or event_ms < 0:
        raise ValueRefusedError(f"{short_repr(time)} is no time", where="event_timestamp")
    if event_ms > now_ms + MAX_FUTURE_MS:
        raise ValueRefusedError(
            f"{short_repr(given)} is more than a day in the future",
            where="event_timestamp",
            hint="times are milliseconds since the epoch, not micro- or nanoseconds",
        )
    return event_ms
