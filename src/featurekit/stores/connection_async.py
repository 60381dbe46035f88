"""One connection to a server, on an asyncio event loop.

redis-py opens the connection, including TLS, AUTH and SELECT. Then `AsyncConnection` replaces its
stream reader as the transport's protocol, so that an exchange wakes its task once, however many
replies it has. The invariants are those of `connection`.
"""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import Any

import redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.connection import (
    INCOMPLETE,
    PING,
    READ_BYTES,
    OnReply,
    connect_deadline,
    connection_arguments,
    reply_reader,
)
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import GarbledReplyError, check_greeting, connect_error
from featurekit.stores.url import StoreUrl


class _TransportAccess:
    _reader: Any
    _writer: Any

    def connected_transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self._writer.transport
        return transport

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


_CLASSES = {
    scheme: type(f"_{scheme}", (_TransportAccess, base), {})
    for scheme, base in (
        ("redis", Connection),
        ("rediss", SSLConnection),
        ("unix", UnixDomainSocketConnection),
    )
}


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
        self.used_at = monotonic()

    async def exchange(
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply = None
    ) -> list[Any]:
        """Send `data` and return its `count` replies; see `Connection.exchange`."""
        if self.broken:
            raise ConnectionResetError("the server closed the connection")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[list[Any]] = loop.create_future()
        self._waiter = waiter
        self._replies, self._count, self._on_reply = [], count, on_reply
        self._transport.write(data)
        timer = loop.call_later(timeout_s, self._fail, TimeoutError("timed out"))
        try:
            return await waiter
        finally:
            timer.cancel()
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
            new = iter(self._reader.gets, INCOMPLETE)
            self._replies.extend(map(self._on_reply, new) if self._on_reply else new)
        except (OSError, StoreError) as error:  # from the parser, or from `_on_reply`
            self._fail(error)
            return
        if len(self._replies) < self._count:
            return
        if len(self._replies) > self._count or self._reader.has_data():
            self._fail(GarbledReplyError("more replies than requests"))
        else:
            waiter.set_result(self._replies)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError(str(exc or "the server closed the connection")))

    def _fail(self, error: OSError | StoreError) -> None:
        self.broken = True
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """Close the connection at once, even during an exchange."""
        self.broken = True
        self._opened.abort()


async def connect(
    url: StoreUrl, deadline: Deadline | None = None, socket_path: str = ""
) -> AsyncConnection:
    """Open a connection; see `featurekit.stores.connection.connect`."""
    limits = connect_deadline(url, deadline)
    arguments = connection_arguments(url, limits.remaining_s(), socket_path)
    opened = _CLASSES["unix" if socket_path else url.scheme](
        **arguments, retry=Retry(NoBackoff(), 0)
    )
    # TCP or TLS and the login each take up to the timeout, unless the whole call is limited.
    steps = 1 if limits.bounds_call else 2
    try:
        async with asyncio.timeout(steps * limits.remaining_s()):
            await opened.connect()
        result = AsyncConnection(opened)
        greeting = await result.exchange(PING, 1, limits.remaining_s())
        check_greeting(url, greeting[0])
    except BaseException as error:
        opened.abort()
        if isinstance(error, (redis.RedisError, OSError)):
            raise connect_error(url, error, limits) from error
        raise
    return result
