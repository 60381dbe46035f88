"""Links: one connection each, that sends prepared bytes and collects parsed replies.

redis-py connects, does TLS, AUTH and SELECT; after that a link has the socket to itself. Whatever
goes wrong on a link is an `OSError`, and a link that had one must be closed: what arrives on it
later could be taken for the answer to another request.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable
from math import inf
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
from featurekit.stores.deadline import LEAST_S, Deadline
from featurekit.stores.error_mapping import (
    NOT_READY_HINTS,
    GarbledReplyError,
    NotReadyError,
    check_greeting,
    connect_error,
)
from featurekit.stores.options import SSL_FILES, WHERE
from featurekit.stores.url import StoreUrl
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply, command

INCOMPLETE = object()
PING = command(b"PING")
ROLE = command(b"ROLE")
READ_BYTES = 65536
OnReply = Callable[[Reply], Any] | None
SLACK_S = 0.005


def reply_reader(error: Callable[[str], ErrorReply] = ErrorReply) -> hiredis.Reader:
    """A parser whose errors are `ErrorReply` values and which answers `INCOMPLETE` for an incomplete reply."""
    return hiredis.Reader(
        protocolError=GarbledReplyError, replyError=error, notEnoughData=INCOMPLETE
    )


class _Connection(Protocol):
    """What is used of redis-py's connections, which have no types of their own."""

    deadline_s: float

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def connected_socket(self) -> socket.socket: ...


class _HandsOutSocket(AbstractConnection):
    _sock: Any
    deadline_s: float

    @override
    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's, with all of its waiting over in time."""
        if self.deadline_s != inf:
            self._sock.settimeout(max(self.deadline_s - monotonic(), LEAST_S))
        return super().read_response(*args, **kwargs)

    def connected_socket(self) -> socket.socket:
        sock: socket.socket = self._sock
        return sock


class _Tcp(_HandsOutSocket, RedisConnection):
    pass


class _Tls(_HandsOutSocket, SSLConnection):
    pass


class _Unix(_HandsOutSocket, UnixDomainSocketConnection):
    pass


KINDS: dict[str, Any] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


class Connection:
    """One connection. Not for two threads at once.

    Attributes:
        sock: The connected socket.
        used_at: When it last began an exchange, by the monotonic clock.
        era: That of the pool when it was opened.
    """

    __slots__ = (
        "_buffer",
        "_connection",
        "_reader",
        "_timeout_s",
        "generation",
        "sock",
        "used_at",
    )

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.sock = connection.connected_socket()
        self.used_at = monotonic()
        self.generation = 0
        self._timeout_s = -1.0
        self._reader = reply_reader()
        self._buffer = bytearray(READ_BYTES)

    def exchange(
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply = None
    ) -> list[Any]:
        """Send `data` and wait until it has got its `count` replies, each taken by `on_reply`.

        Raises:
            OSError: It did not; close the link.
        """
        sock, reader, buffer = self.sock, self._reader, self._buffer
        if timeout_s != self._timeout_s:
            self.set_timeout(timeout_s)
        began = self.used_at = monotonic()
        replies: list[Any] = []
        try:
            sock.sendall(data)
            while len(replies) < count:
                if not (size := sock.recv_into(buffer)):
                    raise ConnectionResetError("the server closed the connection")
                reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
                new = iter(reader.gets, INCOMPLETE)
                replies.extend(map(on_reply, new) if on_reply else new)
                if len(replies) < count:
                    self._shorten(began + timeout_s - monotonic())
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        if len(replies) > count or reader.has_data():
            raise GarbledReplyError("more replies than requests")
        return replies

    def set_timeout(self, timeout_s: float) -> None:
        """How long each step on the socket may take; 0 for not at all."""
        # The kernel can keep the time of a plain socket, which saves two polls for each exchange.
        in_kernel = timeout_s > 0 and type(self.sock).__module__ == "socket"
        self.sock.settimeout(None if in_kernel else timeout_s)
        if in_kernel:
            span = struct.pack("@ll", int(timeout_s), max(1, int(timeout_s % 1 * 1e6)))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)
        self._timeout_s = timeout_s

    def _shorten(self, remaining_s: float) -> None:
        """Let no step on the socket take longer than what is left of the exchange."""
        if remaining_s <= 0:
            raise TimeoutError("timed out")
        if remaining_s < self._timeout_s - SLACK_S:
            self.set_timeout(remaining_s)

    def is_stale(self) -> bool:
        """Whether an idle link has been closed by the other side."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def close(self) -> None:
        """Close it. In a child process nothing is sent: the connection belongs to the parent."""
        self._connection.disconnect()


def connect(url: StoreUrl, deadline: Deadline | None = None) -> Connection:
    """Open a link, with TLS, AUTH and SELECT as the URL says, each within `connect_timeout_s`.

    Args:
        url: Where, and as whom.
        deadline: That of the call that needs it, if its time may be over sooner.

    Raises:
        StoreUnavailableError: The server cannot be reached, or is not ready.
        StoreError: It refused this user, password or database.
    """
    check_tls_files(url)
    deadline = connect_deadline(url, deadline)
    options = connection_options(url, deadline.remaining_s())
    connection: _Connection = KINDS[url.scheme](**options, retry=Retry(NoBackoff(), 0))
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


def connect_deadline(url: StoreUrl, deadline: Deadline | None = None) -> Deadline:
    """The patience for connecting, for a call that has the one given."""
    step = Deadline(url.connect_timeout_s)
    return (
        deadline
        if deadline and deadline.remaining_s() < step.attempt_timeout_s and deadline.bounds_call
        else step
    )


def check_tls_files(url: StoreUrl) -> None:
    """Say which file of the TLS options is missing, which OpenSSL does not.

    Raises:
        StoreError: One is.
    """
    for name, value in url.tls:
        if name in SSL_FILES and not Path(str(value)).is_file():
            raise StoreError(f"{name}: there is no file {value}", where=WHERE)


def connection_options(url: StoreUrl, timeout_s: float) -> dict[str, Any]:
    """A URL as the arguments of redis-py's connections, except `retry`."""
    place = {"path": url.path} if url.scheme == "unix" else {"host": url.host, "port": url.port}
    return {
        **place,
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
    """What stands in the place of the replies of a server that is away."""
    reply = ErrorReply(f"{UNAVAILABLE} {error.message}")
    return [on_reply(reply) if on_reply else reply for _ in range(count)]


def raise_if_not_ready(on_reply: OnReply) -> Callable[[Reply], Any]:
    """As `on_reply`, for the replies of a server that another may stand in for.

    Raises:
        AwayError: It says that it is not ready.
    """

    def taken(reply: Reply) -> Any:
        if reply.__class__ is ErrorReply and reply.code in NOT_READY_HINTS:
            raise NotReadyError(reply.code)
        return on_reply(reply) if on_reply else reply

    return taken
