"""One connection to a server: send prepared bytes, return parsed replies.

redis-py opens the connection, including TLS, AUTH and SELECT. Then `Connection` takes the socket
and reads from it alone, with hiredis as the parser.

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
"""

from __future__ import annotations

import ctypes
import select
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import ceil, inf
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.connection import (
    Connection as RedisConnection,
)
from redis.retry import Retry
from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.store_options import TLS_FILES
from featurekit.stores.deadline import MIN_TIMEOUT_S, Deadline
from featurekit.stores.error_mapping import (
    GarbledReplyError,
    check_greeting,
    connect_error,
    to_error_reply,
)
from featurekit.stores.options import WHERE
from featurekit.stores.url import StoreUrl
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply, command

INCOMPLETE = object()
PING = command(b"PING")
ROLE = command(b"ROLE")
READ_BYTES = 65536
OnReply = Callable[[Reply], Any] | None
TIMEOUT_SLACK_S = 0.005

# Without declared argument types, a call is cheaper; `Connection` passes values of the right types.
_recv = ctypes.CDLL(None).recv
_recv.restype = ctypes.c_ssize_t
_RECV_SIZE = ctypes.c_size_t(READ_BYTES)


def reply_reader(error: Callable[[str], ErrorReply] = to_error_reply) -> hiredis.Reader:
    """Return a parser that gives `error` values for errors and `INCOMPLETE` when data is missing.

    What `error` raises, `Reader.gets` raises.
    """
    return hiredis.Reader(
        protocolError=GarbledReplyError, replyError=error, notEnoughData=INCOMPLETE
    )


class _RedisConnection(Protocol):
    """The part of redis-py's untyped connections that is used here."""

    deadline_s: float

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def connected_socket(self) -> socket.socket: ...


class _SocketAccess(AbstractConnection):
    _sock: Any
    deadline_s: float

    @override
    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply of the login, but not beyond the deadline of the call."""
        if self.deadline_s != inf:
            self._sock.settimeout(max(self.deadline_s - monotonic(), MIN_TIMEOUT_S))
        return super().read_response(*args, **kwargs)

    def connected_socket(self) -> socket.socket:
        sock: socket.socket = self._sock
        return sock


_CLASSES: dict[str, Any] = {
    "redis": type("_Tcp", (_SocketAccess, RedisConnection), {}),
    "rediss": type("_Tls", (_SocketAccess, SSLConnection), {}),
    "unix": type("_Unix", (_SocketAccess, UnixDomainSocketConnection), {}),
}


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

    def __init__(self, connection: _RedisConnection) -> None:
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
            memory = (ctypes.c_char * READ_BYTES).from_buffer(self._buffer)
            self._receive = partial(_recv, self.sock.fileno(), memory, _RECV_SIZE, 0)

    def exchange(  # noqa: C901 - the hot path, where a call of a method counts
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply = None
    ) -> list[Any]:
        """Send `data` and return its `count` replies, each converted by `on_reply` if given.

        Raises:
            OSError: The replies did not arrive. Close the connection.
        """
        reader, buffer = self._reader, self._buffer
        if timeout_s != self._timeout_s:
            self.set_timeout(timeout_s)
        began = self.used_at = monotonic()
        replies: list[Any] = []
        try:
            size = self.sock.send(data, self._flags)
        except BlockingIOError:
            size = 0
        if size != len(data):
            self._send_rest(data, size, began + timeout_s)
        while len(replies) < count:
            size = self._receive()
            if size < 0:
                size = self._receive_until(began + timeout_s)
            if not size:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            new = iter(reader.gets, INCOMPLETE)
            replies.extend(map(on_reply, new) if on_reply else new)
            if len(replies) < count:
                self._lower_timeout(began + timeout_s - monotonic())
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

    def _lower_timeout(self, remaining_s: float) -> None:
        """Keep the next operation on the socket within the rest of the exchange."""
        if remaining_s <= 0:
            raise TimeoutError("timed out")
        if remaining_s < self._timeout_s - TIMEOUT_SLACK_S:
            self.set_timeout(remaining_s)

    def is_stale(self) -> bool:
        """Return whether the server has closed this idle connection."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection. In a forked child this sends nothing to the server."""
        self.closed = True
        self._receive = _receive_nothing
        self._connection.disconnect()


def _receive_nothing() -> int:
    """Stand in for the `recv` of a closed connection, whose descriptor may belong to another now."""
    return -1


def connect(url: StoreUrl, deadline: Deadline | None = None, socket_path: str = "") -> Connection:
    """Open a connection with the URL's TLS settings, login and database.

    Args:
        url: The server and the login.
        deadline: The limits of the call that needs the connection. Connecting takes at most the
            URL's `connect_timeout_s`, and less if the call must end sooner.
        socket_path: The Unix socket to connect to, if the URL does not name it.

    Raises:
        StoreUnavailableError: The server cannot be reached, or is not ready.
        StoreError: The server refuses this user, password or database.
    """
    deadline = connect_deadline(url, deadline)
    arguments = connection_arguments(url, deadline.remaining_s(), socket_path)
    connection_class = _CLASSES["unix" if socket_path else url.scheme]
    connection: _RedisConnection = connection_class(**arguments, retry=Retry(NoBackoff(), 0))
    connection.deadline_s = deadline.deadline_s
    try:
        connection.connect()
        [greeting] = Connection(connection).exchange(PING, 1, deadline.remaining_s())
        check_greeting(url, greeting)
    except (redis.RedisError, OSError) as error:
        connection.disconnect()
        raise connect_error(url, error, deadline) from error
    except BaseException:
        connection.disconnect()
        raise
    return Connection(connection)


def connect_deadline(url: StoreUrl, call: Deadline | None = None) -> Deadline:
    """Return the limits for connecting: the URL's, or those of the call if it must end sooner."""
    default = Deadline(url.connect_timeout_s)
    if call and call.bounds_call and call.remaining_s() < default.attempt_timeout_s:
        return call
    return default


def check_tls_files(url: StoreUrl) -> None:
    """Check that the files of the TLS options exist; OpenSSL does not say which one is missing.

    Raises:
        StoreError: A file does not exist.
    """
    for name, value in url.tls:
        if name in TLS_FILES and not Path(str(value)).is_file():
            raise StoreError(f"{name}: file {value} does not exist", where=WHERE)


def connection_arguments(url: StoreUrl, timeout_s: float, socket_path: str = "") -> dict[str, Any]:
    """Return a URL as arguments of redis-py's connection classes, except `retry`.

    Raises:
        StoreError: A file of the TLS options does not exist.
    """
    check_tls_files(url)
    path = socket_path or (url.path if url.scheme == "unix" else "")
    server = {"path": path} if path else {"host": url.host, "port": url.port}
    return {
        **server,
        **dict(url.tls),
        "db": url.db,
        "username": url.username or None,
        "password": url.password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "protocol": 2,
        "driver_info": None,
    }


def unavailable_replies(error: StoreUnavailableError, count: int, on_reply: OnReply) -> list[Any]:
    """Return `UNAVAILABLE` errors as the replies of a server that does not answer."""
    reply = ErrorReply(f"{UNAVAILABLE} {error.message}")
    return [on_reply(reply) if on_reply else reply for _ in range(count)]
