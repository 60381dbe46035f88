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
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.options import SSL_FILES
from featurekit.stores.url import PASSWORD_VARIABLE, StoreUrl
from featurekit.wire import UNAVAILABLE, ErrorReply, Reply, command

NOT_YET = object()
PING = command(b"PING")
READ_BYTES = 65536
Take = Callable[[Reply], Any] | None


class GarbledReplyError(OSError):
    """What came is not RESP, or more came than was asked for."""


def reply_reader() -> hiredis.Reader:
    """A parser whose errors are `ErrorReply` values and which answers `NOT_YET` for an incomplete reply."""
    return hiredis.Reader(
        protocolError=GarbledReplyError, replyError=ErrorReply, notEnoughData=NOT_YET
    )


class _Connection(Protocol):
    """What is used of redis-py's connections, which have no types of their own."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def connected_socket(self) -> socket.socket: ...


class _HandsOutSocket:
    _sock: Any

    def connected_socket(self) -> socket.socket:
        sock: socket.socket = self._sock
        return sock


class _Tcp(_HandsOutSocket, Connection):
    pass


class _Tls(_HandsOutSocket, SSLConnection):
    pass


class _Unix(_HandsOutSocket, UnixDomainSocketConnection):
    pass


KINDS: dict[str, Any] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


class Link:
    """One connection. Not for two threads at once.

    Attributes:
        sock: The connected socket.
    """

    __slots__ = ("_buffer", "_connection", "_reader", "_timeout_s", "sock")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.sock = connection.connected_socket()
        self._timeout_s = -1.0
        self._reader = reply_reader()
        self._buffer = bytearray(READ_BYTES)

    def exchange(self, data: bytes, count: int, timeout_s: float, take: Take = None) -> list[Any]:
        """Send `data` and wait until it has got its `count` replies, each taken by `take`.

        Raises:
            OSError: It did not; close the link.
        """
        sock, reader, buffer = self.sock, self._reader, self._buffer
        if timeout_s != self._timeout_s:
            self.set_timeout(timeout_s)
        late = monotonic() + timeout_s
        replies: list[Any] = []
        try:
            sock.sendall(data)
            while len(replies) < count:
                if not (size := sock.recv_into(buffer)):
                    raise ConnectionResetError("the server closed the connection")
                reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
                new = iter(reader.gets, NOT_YET)
                replies.extend(map(take, new) if take else new)
                if len(replies) < count and monotonic() > late:
                    raise TimeoutError("timed out")
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

    def is_stale(self) -> bool:
        """Whether an idle link has been closed by the other side."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def close(self) -> None:
        """Close it. In a child process nothing is sent: the connection belongs to the parent."""
        self._connection.disconnect()


def connect(url: StoreUrl) -> Link:
    """Open a link, with TLS, AUTH and SELECT as the URL says.

    Raises:
        StoreUnavailableError: The server cannot be reached.
        StoreError: It refused this user, password or database.
    """
    check_files(url)
    connection: _Connection = KINDS[url.scheme](
        **connection_options(url), retry=Retry(NoBackoff(), 0)
    )
    try:
        connection.connect()
        [greeting] = Link(connection).exchange(PING, 1, url.connect_timeout_s)
        check_greeting(url, greeting)
    except (redis.RedisError, OSError) as error:
        connection.disconnect()
        raise unconnected(url, error) from error
    except BaseException:
        connection.disconnect()
        raise
    return Link(connection)


def check_greeting(url: StoreUrl, reply: Reply) -> None:
    """Look at the answer to the first PING: a server that turns a client away says so only now.

    Raises:
        StoreUnavailableError: It has too many clients.
        StoreError: It wants a password, or takes no clients from here.
    """
    if not isinstance(reply, ErrorReply) or reply.code in {
        "LOADING",
        "MASTERDOWN",
        "NOPERM",
        "BUSY",
    }:
        return
    if reply.code == "NOAUTH":
        raise StoreError(
            f"{url} wants a password",
            hint=f"set {PASSWORD_VARIABLE}, or write redis://user:${{PASSWORD}}@host",
        )
    kind = StoreUnavailableError if "max number of clients" in str(reply) else StoreError
    raise kind(f"{url} turned the connection away: {reply}")


def check_files(url: StoreUrl) -> None:
    """Say which file of the TLS options is missing, which OpenSSL does not.

    Raises:
        StoreError: One is.
    """
    for name, value in url.tls:
        if name in SSL_FILES and not Path(str(value)).is_file():
            raise StoreError(f"{name}: there is no file {value}", where="online store URL")


def connection_options(url: StoreUrl) -> dict[str, Any]:
    """A URL as the arguments of redis-py's connections, except `retry`."""
    place = {"path": url.path} if url.scheme == "unix" else {"host": url.host, "port": url.port}
    return {
        **place,
        **dict(url.tls),
        "db": url.db,
        "username": url.username or None,
        "password": url.password or None,
        "socket_timeout": url.connect_timeout_s,
        "socket_connect_timeout": url.connect_timeout_s,
        "protocol": 2,
        "driver_info": None,
    }


def unconnected(url: StoreUrl, error: Exception) -> StoreError:
    """The error for a connection that could not be made."""
    if isinstance(error, redis.AuthenticationError):
        return StoreError(
            f"{url} refused the login of {user_of(url)}",
            hint="check the user and password of the URL",
        )
    if isinstance(error, redis.ResponseError):
        return StoreError(
            f"{url} refused {user_of(url)}: {error}",
            hint="the user needs +auth and +select, and the database must exist",
        )
    return unavailable(url, "connecting", url.connect_timeout_s, error)


def user_of(url: StoreUrl) -> str:
    """The user that a URL names, for people."""
    return f"user '{url.username}'" if url.username else "the default user"


def unavailable(
    url: StoreUrl, doing: str, timeout_s: float, error: Exception
) -> StoreUnavailableError:
    """The error for a server that did not answer: where, what was tried, for how long."""
    text = str(error).lower()
    if isinstance(error, (redis.TimeoutError, TimeoutError)) or "timeout" in text:
        fact = f"no answer from {url} within {timeout_s * 1000:.0f} ms while {doing}"
    elif isinstance(error, GarbledReplyError):
        fact = f"{url} answered with something that is not RESP while {doing}"
    elif "refused" in text or "no such file" in text or "does not exist" in text:
        fact = f"nothing listens at {url}"
    else:
        fact = f"the connection to {url} broke while {doing}"
    return StoreUnavailableError(fact, hint=_remedy(url, text, error))


def unanswered(error: StoreUnavailableError, count: int, take: Take) -> list[Any]:
    """What stands in the place of the replies of a server that is away."""
    reply = ErrorReply(f"{UNAVAILABLE} {error.message}")
    return [take(reply) if take else reply for _ in range(count)]


def _remedy(url: StoreUrl, text: str, error: Exception) -> str:
    if "certificate" in text:
        return "the server's certificate is not trusted: give ssl_ca_certs=FILE, and ssl_certfile/ssl_keyfile if it asks for a client's"
    if url.scheme == "rediss":
        return "if the port does not speak TLS, write redis://"
    if url.scheme == "redis" and isinstance(error, (ConnectionError, GarbledReplyError)):
        return "if the port speaks TLS, write rediss://"
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return (
            "is the server running? If it is: ask for less at once, or raise timeout= in the URL"
        )
    return "is the server running, and is this its address?"
