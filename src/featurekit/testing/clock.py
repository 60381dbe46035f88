"""A clock that stands still until a test moves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from featurekit.errors import RequestError
from featurekit.repo.time_arguments import Span, Time, format_time_ms, to_ms, to_span_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The time of a store in memory. It stands still; `advance` and `set` move it.

    The store's server and featurekit both take the time from it. It stands just after its millisecond:
    what was written with a TTL of 5 minutes is gone after `advance("5m")`.

    Args:
        start: The time at the start; by default the system's.
    """

    def __init__(self, start: Time = None) -> None:
        started_ms = to_ms(start, where="start")
        self._now_ms = time.time_ns() // 1_000_000 if started_ms is None else started_ms
        self._on_move: list[Callable[[], None]] = []

    @override
    def __repr__(self) -> str:
        return f"<Clock {format_time_ms(self._now_ms)}>"

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now_ms

    def now(self) -> datetime:
        """Return the time as a datetime in UTC."""
        return _EPOCH + timedelta(milliseconds=self._now_ms)

    def advance(self, duration: Span) -> None:
        """Move the clock forward.

        Args:
            duration: Text such as `5m` or `1h30m`, a timedelta, or whole seconds.

        Raises:
            RequestError: It is not a duration above zero, or ends after the year 9999.
        """
        self.set(self._now_ms + to_span_ms(duration, where="duration"))

    def set(self, time: Time) -> None:
        """Move the clock to a time, forward or back. What has expired does not come back.

        Args:
            time: Milliseconds since the epoch, an aware datetime, a date, or text such as
                `2026-11-22T10:00:00Z`.

        Raises:
            RequestError: It is not a time, or has no time zone.
        """
        time_ms = to_ms(time, where="time")
        if time_ms is None:
            raise RequestError("None is not a time", where="time")
        self._move(time_ms)

    def on_move(self, call: Callable[[], None]) -> None:
        """Call a function at the later of the two times of each move, to delete what has expired."""
        self._on_move.append(call)

    def _move(self, time_ms: int) -> None:
        self._now_ms = max(time_ms, self._now_ms)
        for call in self._on_move:
            call()
        self._now_ms = time_ms
