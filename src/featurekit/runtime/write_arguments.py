"""Check and normalize the arguments of stream writes: events, their times and their TTLs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.types import short_repr

MAX_TTL_MS = 10 * 365 * 24 * 3600 * 1000

_DAY_S = 24 * 3600

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Ttl = timedelta | int | None
"""How long values live: a timedelta, or whole seconds."""

Timestamp = datetime | int | str | None
"""An aware datetime, milliseconds since the epoch, or RFC 3339 text."""

Values = Mapping[str, object]

Event = tuple[object, Values] | tuple[object, Values, Timestamp]
"""An entity, its values, and the event's time if it is known."""


class PositionedEvent(tuple[Any, ...]):
    """An event from a source.

    Attributes:
        position: Where it is in the source.
    """

    position: str


def split_event(event: Event) -> tuple[object, Values, Timestamp]:
    """Return the entity, the values and the time of an event.

    Raises:
        ValueRefusedError: It is something else.
    """
    try:
        entity, values, time = event if len(event) == 3 else (*event, None)  # noqa: PLR2004
    except (TypeError, ValueError):
        raise ValueRefusedError(
            f"expected (entity, values) or (entity, values, event_timestamp), not {event!r}"
        ) from None
    if values.__class__ is not dict and not isinstance(values, Mapping):
        raise ValueRefusedError(f"expected a dict of fields, not {values!r}")
    return entity, values, time


def skip_bad_events(on_bad_event: str) -> bool:
    """Return whether `on_bad_event` is `skip`.

    Raises:
        RequestError: It is neither `fail` nor `skip`.
    """
    if on_bad_event not in ("fail", "skip"):
        raise RequestError(f"on_bad_event must be 'fail' or 'skip', not '{on_bad_event}'")
    return on_bad_event == "skip"


def to_duration_ms(duration: object) -> int:
    """Return a timedelta or whole seconds in milliseconds; 0 if it is neither."""
    if isinstance(duration, timedelta):
        return duration // timedelta(milliseconds=1)
    if isinstance(duration, bool) or not isinstance(duration, int):
        return 0
    return duration * 1000


def ttl_to_ms(ttl: Ttl) -> int:
    """Return a call's TTL in milliseconds; 0 for `None`."""
    if ttl is None:
        return 0
    ttl_ms = to_duration_ms(ttl)
    if not 0 < ttl_ms < MAX_TTL_MS:
        raise ValueRefusedError(
            f"{ttl!r} is not a TTL above zero and below 10 years",
            where="ttl",
            hint="pass a timedelta, or whole seconds",
        )
    return ttl_ms


def event_time_to_ms(time: datetime | int | str, now_ms: int, max_ahead_ms: int) -> int:
    """Return the time of an event in milliseconds since the epoch.

    Raises:
        ValueRefusedError: It is not a time, or more than `max_ahead_ms` ahead of the clock.
    """
    given = time
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise ValueRefusedError(
                f"{short_repr(time)} is not a time", where="event_timestamp"
            ) from error
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueRefusedError(
                f"{time.isoformat()} has no time zone", where="event_timestamp"
            )
        event_ms = (time - _EPOCH) // timedelta(milliseconds=1)
    else:
        event_ms = time
    if type(event_ms) is not int or event_ms < 0:
        raise ValueRefusedError(f"{short_repr(time)} is not a time", where="event_timestamp")
    _check_unit(given, event_ms, now_ms)
    if event_ms > now_ms + max_ahead_ms:
        ahead_s = (event_ms - now_ms) / 1000
        raise ValueRefusedError(
            f"{short_repr(given)} is {ahead_s:.0f} seconds in the future, above max_ahead "
            f"({max_ahead_ms / 1000:g} seconds)",
            where="event_timestamp",
            hint="times are milliseconds since the epoch, not micro- or nanoseconds"
            if ahead_s > _DAY_S
            else "compare the clocks, or declare a larger `max_ahead` under `stream`",
        )
    return event_ms


def _check_unit(given: datetime | int | str, event_ms: int, now_ms: int) -> None:
    """Raise `ValueRefusedError` for a number that is probably a time in seconds."""
    if isinstance(given, int) and abs(event_ms * 1000 - now_ms) < now_ms / 5:
        raise ValueRefusedError(
            f"{short_repr(given)} is in the first months of 1970",
            where="event_timestamp",
            hint="times are milliseconds since the epoch, not seconds",
        )
