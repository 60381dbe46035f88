"""Connections to a server, of a thread or an event loop: send prepared bytes, return parsed replies.

redis-py opens a connection, see `connect`. Then `Connection` takes its socket, or `AsyncConnection`
its transport, and reads from it alone, with hiredis as the parser. On an event loop, an exchange
wakes its task once, however many replies it has.

Invariants: a connection has at most one exchange at a time, and an exchange ends with exactly as
many replies as were asked for. Everything that goes wrong is an `OSError` (a timeout, a cut, or
bytes that are not RESP), and the connection must then be closed: bytes that arrive later could be
taken for the answer to the next request. Rejected alternative: redis-py's own send and read; it
parses and wraps each reply in Python, which costs several times the parsing itself.

The kernel times the wait for a reply (`SO_RCVTIMEO`), and starts again after each signal. Python's
`recv` repeats an interrupted call by itself, so that signals which come more often than the timeout
would keep it waiting without an end. Replies of a plain socket are therefore read with the C library's
`recv`, which returns when a signal arrives; what remains of the time is then waited for with `poll`.
Rejected alternative: `poll` before each read; one more system call costs twice as much.

The time limit of an exchange is for the server: time in which this process decodes replies is added to
it. Other threads or tasks may keep this one busy too, so an exchange that is over time goes on for as
long as bytes are waiting to be read and each read completes a reply. `deadline_s` is never exceeded.
"""

from __future__ import annotations

import asyncio
import ctypes
import select
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import islice
from math import ceil, inf
from time import monotonic
from typing import Any, Protocol

import hiredis
from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.error_mapping import GarbledReplyError, to_error_reply
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply, command

INCOMPLETE = object()
PING = command(b"PING")
ROLE = command(b"ROLE")
READ_BYTES = 65536
OnReply = Callable[[Reply], Any] | None
TIMEOUT_SLACK_S = 0.005
SLICE_REPLIES = 128
"""How many replies are converted before other tasks of the event loop run: about a millisecond."""

# A call is cheapest without declared argument types, and with arguments that are converted before.
_recv = ctypes.CDLL(None).recv
_recv.restype = ctypes.c_ssize_t
_RECV_SIZE = ctypes.c_size_t.from_param(READ_BYTES)
_NO_FLAGS = ctypes.c_int.from_param(0)


def reply_reader(error: Callable[[str], ErrorReply] = to_error_reply) -> hiredis.Reader:
    """Return a parser that gives `error` values for errors and `INCOMPLETE` when data is missing.

    What `error` raises, `Reader.gets` raises.
    """
    return hiredis.Reader(
        protocolError=GarbledReplyError, replyError=error, notEnoughData=INCOMPLETE
    )


def unavailable_replies(error: StoreUnavailableError, count: int, on_reply: OnReply) -> list[Any]:
    """Return `UNAVAILABLE` errors as the replies of a server that does not answer."""
    reply = ErrorReply(f"{UNAVAILABLE} {error.message}")
    return [on_reply(reply) if on_reply else reply for _ in range(count)]


class OpenedConnection(Protocol):
    """The part of redis-py's untyped connections that `Connection` uses."""

    def disconnect(self) -> None:
        """Close the connection."""

    def connected_socket(self) -> socket.socket:
        """Return the socket that was opened."""


class Connection:
    """One connection, for one thread at a time.

    Attributes:
        sock: The connected socket.
        used_at: When the last exchange began, on the monotonic clock.
        generation: The pool's generation when the connection was opened.
        closed: Whether `close` was called.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_connection",
        "_flags",
        "_reader",
        "_receive",
        "_timeout_s",
        "closed",
        "generation",
        "sock",
        "used_at",
    )

    def __init__(self, connection: OpenedConnection) -> None:
        self._connection = connection
        self.sock = connection.connected_socket()
        self.used_at = monotonic()
        self.generation = 0
        self.closed = False
        self._timeout_s = -1.0
        self._reader = reply_reader()
        self._buffer = bytearray(READ_BYTES)
        # A flag on each call keeps a plain socket's timeout as it is. TLS cannot have it.
        self._flags = 0 if isinstance(self.sock, ssl.SSLSocket) else socket.MSG_DONTWAIT
        self._receive: Callable[[], int] = partial(self.sock.recv_into, self._buffer)
        if self._flags:
            memory = ctypes.byref((ctypes.c_char * READ_BYTES).from_buffer(self._buffer))
            number = ctypes.c_int.from_param(self.sock.fileno())
            self._receive = partial(_recv, number, memory, _RECV_SIZE, _NO_FLAGS)

    def exchange(  # noqa: C901, PLR0912, PLR0915 - the hot path, where a call counts
        self,
        data: bytes,
        count: int,
        timeout_s: float,
        on_reply: OnReply = None,
        deadline_s: float = inf,
    ) -> list[Any]:
        """Send `data` and return its `count` replies, each converted by `on_reply` if given.

        Args:
            data: Commands that get `count` replies.
            count: The number of replies.
            timeout_s: How long to wait for the server.
            on_reply: Converts each reply as it arrives.
            deadline_s: When the exchange must end in any case, on the monotonic clock.

        Raises:
            OSError: The replies did not arrive. Close the connection.
        """
        reader, buffer = self._reader, self._buffer
        if timeout_s != self._timeout_s:
            self.set_timeout(timeout_s)
        self.used_at = monotonic()
        end, seen = self.used_at + timeout_s, 0
        replies: list[Any] = []
        try:
            size = self.sock.send(data, self._flags)
        except BlockingIOError:
            size = 0
        if size != len(data):
            self._send_rest(data, size, end)
        while len(replies) < count:
            size = self._receive()
            if size < 0:
                size = self._receive_until(end)
            if not size:
                raise ConnectionResetError("the server closed the connection")
            arrived = monotonic()
            reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            if count == 1:
                reply = reader.gets()
                if reply is not INCOMPLETE:
                    replies.append(on_reply(reply) if on_reply else reply)
            else:
                new = iter(reader.gets, INCOMPLETE)
                replies.extend(map(on_reply, new) if on_reply else new)
            if len(replies) < count:
                end += monotonic() - arrived
                self._lower_timeout(
                    min(end, deadline_s), may_lag=len(replies) > seen and deadline_s == inf
                )
                seen = len(replies)
        if len(replies) > count or reader.has_data():
            raise GarbledReplyError("more replies than requests")
        return replies

    def set_timeout(self, timeout_s: float) -> None:
        """Set how long one operation on the socket may block; 0 makes it non-blocking."""
        # The kernel can time a plain socket, which saves a poll for each exchange.
        in_kernel = timeout_s > 0 and self._flags
        self.sock.settimeout(None if in_kernel else timeout_s)
        if in_kernel:
            timeval = struct.pack("@ll", int(timeout_s), max(1, int(timeout_s % 1 * 1e6)))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self._timeout_s = timeout_s

    def _send_rest(self, data: bytes, size: int, end: float) -> None:
        """Send what is left of `data` after the first `size` bytes."""
        while size < len(data):
            self._wait(select.POLLOUT, end)
            with suppress(BlockingIOError):
                size += self.sock.send(memoryview(data)[size:], self._flags)

    def _receive_until(self, end: float) -> int:
        """Read what arrives before `end`, after a read that a signal or the timeout ended."""
        while True:
            self._wait(select.POLLIN, end)
            with suppress(BlockingIOError):
                return self.sock.recv_into(self._buffer, 0, self._flags)

    def _wait(self, event: int, end: float) -> None:
        """Wait until the socket is ready.

        Raises:
            TimeoutError: It is not ready by `end`.
        """
        if self.closed:
            raise ConnectionResetError("the connection is closed")
        remaining_s = end - monotonic()
        poll = select.poll()
        poll.register(self.sock, event)
        if remaining_s <= 0 or not poll.poll(ceil(remaining_s * 1000)):
            raise TimeoutError("timed out")

    def _lower_timeout(self, end: float, *, may_lag: bool) -> None:
        """Keep the next operation on the socket within the rest of the exchange."""
        remaining_s = end - monotonic()
        if remaining_s <= 0 and not (may_lag and is_readable(self.sock)):
            raise TimeoutError("timed out")
        if 0 < remaining_s < self._timeout_s - TIMEOUT_SLACK_S:
            self.set_timeout(remaining_s)

    def is_stale(self) -> bool:
        """Return whether the server has closed this idle connection."""
        return is_readable(self.sock)

    def close(self) -> None:
        """Close the connection. In a forked child this sends nothing to the server."""
        self.closed = True
        self._receive = _receive_nothing
        self._connection.disconnect()


def is_readable(sock: socket.socket) -> bool:
    """Return whether bytes, or the end of the stream, are waiting to be read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _receive_nothing() -> int:
    """Stand in for the `recv` of a closed connection, whose descriptor may belong to another now."""
    return -1


class DecodingTime:
    """How long the replies to one call took to decode, on all its connections to several servers."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


class AsyncConnection(asyncio.BufferedProtocol):
    """One connection, with at most one exchange at a time.

    Attributes:
        broken: Whether the connection must not be used any more.
        used_at: When a call last took the connection, on the monotonic clock.
        generation: As of `Connection`.
    """

    broken = False
    generation = 0

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self._transport: asyncio.Transport = opened.connected_transport()
        self._transport.set_protocol(self)
        self._reader = reply_reader()
        self._buffer = bytearray(READ_BYTES)
        self._replies: list[Any] = []
        self._count = 0
        self._on_reply: OnReply = None
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end = self._deadline_s = inf
        self._decoding = DecodingTime()
        self._seen = 0
        self._is_paused = False
        self.used_at = monotonic()

    def exchange(
        self,
        data: bytes,
        count: int,
        timeout_s: float,
        on_reply: OnReply = None,
        deadline_s: float = inf,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Send `data` and return its `count` replies; see `Connection.exchange`."""
        self._decoding = DecodingTime()
        return self.end(self.begin(data, count, timeout_s, on_reply, deadline_s))

    def begin(
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply, deadline_s: float
    ) -> asyncio.Future[list[Any]]:
        """Send `data`; return the future of its `count` converted replies, for `end`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[list[Any]] = loop.create_future()
        self._waiter = waiter
        self._replies, self._count, self._on_reply = [], count, on_reply
        if self.broken:
            self._fail(ConnectionResetError("the server closed the connection"))
            return waiter
        self._end, self._deadline_s, self._seen = monotonic() + timeout_s, deadline_s, 0
        self._transport.write(data)
        self._timer = loop.call_later(timeout_s, self._time_out)
        return waiter

    async def end(self, waiter: asyncio.Future[list[Any]]) -> list[Any]:
        """Return the replies to what `begin` sent.

        Raises:
            OSError: They did not arrive; close the connection.
        """
        try:
            return await waiter
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._waiter = None

    @property
    def sock(self) -> socket.socket:
        """The connected socket, to examine only."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        return sock

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.broken = True
            return
        try:
            self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # takes any buffer
        except OSError as error:
            self._fail(error)
            return
        self._take_replies()

    def _take_replies(self) -> None:
        """Convert the replies that have arrived, and give the loop back every few of them."""
        waiter, began = self._waiter, monotonic()
        if waiter is None or waiter.done():
            self.broken = True
            return
        before = len(self._replies)
        new = islice(iter(self._reader.gets, INCOMPLETE), SLICE_REPLIES)
        try:
            self._replies.extend(map(self._on_reply, new) if self._on_reply else new)
        except (OSError, StoreError) as error:  # from the parser, or from `_on_reply`
            self._fail(error)
            return
        self._decoding.seconds += monotonic() - began
        if len(self._replies) - before == SLICE_REPLIES and len(self._replies) < self._count:
            self._transport.pause_reading()
            self._is_paused = True
            asyncio.get_running_loop().call_soon(self._take_replies)
            return
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if len(self._replies) < self._count:
            return
        if len(self._replies) > self._count or self._reader.has_data():
            self._fail(GarbledReplyError("more replies than requests"))
        else:
            waiter.set_result(self._replies)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError(str(exc or "the server closed the connection")))

    def _time_out(self) -> None:
        """End the exchange, unless it was this process that took the time."""
        remaining_s = min(self._end + self._decoding.seconds, self._deadline_s) - monotonic()
        may_lag = len(self._replies) > self._seen and self._deadline_s == inf
        self._seen = len(self._replies)
        if remaining_s > 0 or (may_lag and (self._is_paused or is_readable(self.sock))):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(remaining_s, 0), self._time_out)
        else:
            self._fail(TimeoutError("timed out"))

    def _fail(self, error: OSError | StoreError) -> None:
        self.broken = True
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(error)

    def hand_over(
        self, protocol: asyncio.BaseProtocol
    ) -> tuple[asyncio.Transport, hiredis.Reader]:
        """Give the transport and the parser to another protocol, while this connection is open."""
        self._transport.set_protocol(protocol)
        return self._transport, self._reader

    def close(self) -> None:
        """Close the connection at once, even during an exchange."""
        self.broken = True
        self._opened.abort()
