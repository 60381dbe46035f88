"""One asyncio connection that many calls share.

Calls that start in the same turn of the event loop leave in one write, and one wake-up of the loop
takes all replies that have arrived: system calls, timers and turns of the loop are then paid once for
many calls. Nothing waits for others to come; while calls come one by one, each is written at once.

Invariants: replies belong to calls in the order in which the calls were sent. A call that is cancelled,
or whose time is over, keeps its place: its replies are read and dropped. What one call gets, an error
reply or an error while its replies are decoded, concerns no other call. If the connection breaks, all
calls on it fail, and each is sent again within its own limits.

One timer serves all calls: it is set to the earliest end among them. The time in which this process
decodes replies is added to the time that the store gives to the server. If a call is over time and the
server has been silent for the store's timeout, it counts as unavailable: the connection is closed, and
each call on it is sent again by its own limits. Otherwise the server is slow, or the caller impatient.
A call without a limit of its own then goes on waiting in its place as often as it might be sent again,
because another copy of it would only come later. Rejected alternatives: a timer for each call, which
costs as much as the rest of the call; closing the connection on any timeout or cancellation, where one
impatient caller fails all others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from copy import copy
from math import inf
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.connection import (
    INCOMPLETE,
    READ_BYTES,
    AsyncConnection,
    OnReply,
    is_readable,
)
from featurekit.stores.deadline import MIN_TIMEOUT_S, Deadline
from featurekit.stores.error_mapping import GarbledReplyError

MAX_REPLIES = 256
"""A call with more replies takes a connection of its own: others would wait for its replies."""

MAX_REQUEST_BYTES = 65536
"""The same for the size of its requests."""

MAX_CALLS = 1024
"""How many calls may be under way on one connection."""

MAX_BYTES_UNDER_WAY = 4 * 2**20
"""How many bytes of requests may be under way on one connection."""


class _Call:
    """One call that is under way.

    Attributes:
        waiter: The future of the caller.
        count: The number of replies to the call.
        on_reply: Converts each reply.
        replies: The converted replies that have arrived.
        size: The size of the requests.
        began: When it began, on the monotonic clock.
        attempt_s: The time that its store gives to the server.
        end: When its time is over; `decoding` shifts it.
        decoding: The seconds spent with decoding on the connection when the call began; `None`
            if the call must end at `end` in any case.
        extensions: How often `end` may be moved by `attempt_s`.
    """

    __slots__ = (
        *("attempt_s", "began", "count", "decoding", "end", "extensions"),
        *("on_reply", "replies", "size", "waiter"),
    )

    waiter: asyncio.Future[list[Any]]
    count: int
    on_reply: OnReply
    replies: list[Any]
    size: int
    began: float
    attempt_s: float
    end: float
    decoding: float | None
    extensions: int


class SharedConnection(asyncio.BufferedProtocol):
    """A connection for any number of calls of one event loop at a time.

    Args:
        connection: An open connection that no call is using.
        max_silence_s: How long the server may be silent while calls wait.
        discard: Closes the connection.

    Attributes:
        connection: The connection that was taken over.
        broken: Whether the connection must not be used any more.
        used_at: When the last call began, on the monotonic clock.
        loop: The event loop.
        closer: What closes the connection when the loop shuts down; kept here for as long.
    """

    broken = False

    def __init__(
        self,
        connection: AsyncConnection,
        max_silence_s: float,
        discard: Callable[[AsyncConnection], None],
    ) -> None:
        self.connection = connection
        self._discard = discard
        self.closer: object = None
        self.loop = asyncio.get_running_loop()
        self.used_at = self._heard_at = monotonic()
        self._max_silence_s = max_silence_s
        self._transport, self._reader = connection.hand_over(self)
        self._buffer = bytearray(READ_BYTES)
        self._calls: deque[_Call] = deque()
        self._unsent: list[bytes] = []
        self._are_alone = True  # whether the last calls came one by one
        self._bytes = 0
        self._decoding = 0.0
        self._replies = self._replies_seen = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._retired = False

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._calls

    @property
    def is_full(self) -> bool:
        """Whether another call should take another connection."""
        return len(self._calls) >= MAX_CALLS or self._bytes >= MAX_BYTES_UNDER_WAY

    def begin(
        self, data: bytes, count: int, deadline: Deadline, on_reply: OnReply = None
    ) -> asyncio.Future[list[Any]]:
        """Send `data` in this turn of the loop; return the future of its replies.

        Args:
            data: Commands that get `count` replies.
            count: The number of replies.
            deadline: The limits of the call.
            on_reply: Converts each reply as it arrives. It may raise `StoreError`.

        Raises:
            OSError: From the future. The replies did not arrive; see `broken`.
            StoreError: From the future, raised by `on_reply`.
        """
        call = _Call()
        call.waiter = waiter = self.loop.create_future()
        if self.broken:
            waiter.set_exception(ConnectionResetError("the connection is closed"))
            return waiter
        call.count, call.on_reply, call.replies, call.size = count, on_reply, [], len(data)
        call.began = self.used_at = monotonic()
        if deadline.bounds_call:
            call.end, call.decoding, call.extensions = deadline.deadline_s, None, 0
        else:
            call.attempt_s = deadline.attempt_timeout_s
            call.end = call.began + call.attempt_s
            call.decoding, call.extensions = self._decoding, deadline.retries
        if self._are_alone and not self._calls:
            self._transport.write(data)
        else:
            if not self._unsent:
                self.loop.call_soon(self._flush)
            self._unsent.append(data)
        self._bytes += call.size
        self._calls.append(call)
        if call.end < self._timer_at:
            self._set_timer(call.end, call.began)
        return waiter

    def retire(self) -> None:
        """Close the connection as soon as all calls on it have ended."""
        self._retired = True
        if not self._calls:
            self.close()

    def close(self) -> None:
        """Close the connection at once; calls on it fail."""
        self._fail(ConnectionResetError("the connection was closed"))

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        arrived = self._heard_at = monotonic()
        try:
            self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # takes any buffer
            is_complete = self._take_replies()
        except OSError as error:  # from the parser
            self._fail(error)
            return
        self._decoding += monotonic() - arrived
        if is_complete and self._reader.has_data():
            self._fail(GarbledReplyError("more replies than requests"))
        elif self._retired and not self._calls:
            self.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError(str(exc or "the server closed the connection")))

    def _take_replies(self) -> bool:
        """Give the replies that have arrived to their calls; return whether no call is left."""
        calls, gets = self._calls, self._reader.gets
        while calls:
            call = calls[0]
            replies, count, waiter = call.replies, call.count, call.waiter
            on_reply = None if waiter.done() else call.on_reply
            while len(replies) < count:
                reply = gets()
                if reply is INCOMPLETE:
                    return False
                self._replies += 1
                if on_reply:
                    try:
                        reply = on_reply(reply)
                    except StoreError as error:
                        waiter.set_exception(error)
                        on_reply = None
                replies.append(reply)
            calls.popleft()
            self._bytes -= call.size
            if not waiter.done():
                waiter.set_result(replies)
        return True

    def _flush(self) -> None:
        self._are_alone = len(self._unsent) == 1
        if not self.broken:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _set_timer(self, end: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = end
        self._timer = self.loop.call_later(max(end - now, 0.0), self._check_ends)

    def _check_ends(self) -> None:
        """End the calls whose time is over, and set the timer to the next end."""
        self._timer, self._timer_at = None, inf
        now, next_end = monotonic(), inf
        is_readable_now = is_readable(self._sock)
        if self._is_silent(now) and not is_readable_now:
            self._fail(TimeoutError("timed out"))
            return
        is_behind = is_readable_now and self._replies > self._replies_seen
        self._replies_seen = self._replies
        for call in self._calls:
            if call.waiter.done():
                continue
            end = self._end_of(call, now, is_behind=is_behind)
            if end > now:
                next_end = min(next_end, end)
            else:
                call.waiter.set_exception(TimeoutError("timed out"))
        if next_end < inf:
            self._set_timer(next_end, now)

    def _end_of(self, call: _Call, now: float, *, is_behind: bool) -> float:
        """Return when a call's time is over, after extending it if that is allowed."""
        if call.decoding is None:
            return call.end
        end = call.end + self._decoding - call.decoding
        if end <= now and is_behind:  # it was this process that took the time
            return now + MIN_TIMEOUT_S
        if end <= now and call.extensions:
            call.extensions -= 1
            call.end += call.attempt_s
            end += call.attempt_s
        return end

    def _is_silent(self, now: float) -> bool:
        """Return whether calls are under way, and nothing has come for too long."""
        if not self._calls:
            return False
        return now - max(self._heard_at, self._calls[0].began) >= self._max_silence_s

    @property
    def _sock(self) -> Any:
        return self._transport.get_extra_info("socket")

    def _fail(self, error: OSError) -> None:
        """Close the connection and fail all calls on it, in their order."""
        if self.broken:
            return
        self.broken = True
        self._discard(self.connection)
        if self._timer is not None:
            self._timer.cancel()
        while self._calls:
            waiter = self._calls.popleft().waiter
            if not waiter.done():
                waiter.set_exception(copy(error))  # each gets a traceback of its own
