"""Wires: one connection each, as `link` has them, on an event loop.

redis-py connects, does TLS, AUTH and SELECT; then a `AsyncConnection` takes the place of its stream reader on
the transport, so that a call wakes its task once, whatever the number of replies.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Protocol

import redis
from redis.asyncio.connection import Connection as RedisConnection
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

from featurekit.stores.connection import (
    INCOMPLETE,
    PING,
    READ_BYTES,
    OnReply,
    check_tls_files,
    connect_deadline,
    connection_options,
    reply_reader,
)
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import GarbledReplyError, check_greeting, connect_error
from featurekit.stores.url import StoreUrl


class _Connection(Protocol):
    """What is used of redis-py's connections."""

    async def connect(self) -> None: ...
    def connected_transport(self) -> asyncio.Transport: ...
    def abandon(self) -> None: ...


class _HandsOutTransport:
    _reader: Any
    _writer: Any

    def connected_transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self._writer.transport
        return transport

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


class _Tcp(_HandsOutTransport, RedisConnection):
    pass


class _Tls(_HandsOutTransport, SSLConnection):
    pass


class _Unix(_HandsOutTransport, UnixDomainSocketConnection):
    pass


KINDS: dict[str, Any] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


class AsyncConnection(asyncio.BufferedProtocol):
    """One connection, with at most one exchange under way.

    Attributes:
        broken: Whether it must not be used any more.
        used_at: When it was last taken for an exchange, by the monotonic clock.
        era: That of the pool when it was opened.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._transport = connection.connected_transport()
        self._transport.set_protocol(self)
        self._reader = reply_reader()
        self._buffer = bytearray(READ_BYTES)
        self._replies: list[Any] = []
        self._count = 0
        self._taken: OnReply = None
        self._waiter: asyncio.Future[list[Any]] | None = None
        self.broken = False
        self.used_at = monotonic()
        self.generation = 0

    async def exchange(
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply = None
    ) -> list[Any]:
        """Send `data` and wait until it has got its `count` replies, each taken by `on_reply`.

        Raises:
            OSError: It did not; close the wire.
        """
        if self.broken:
            raise ConnectionResetError("the server closed the connection")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[list[Any]] = loop.create_future()
        self._waiter = waiter
        self._replies, self._count, self._taken = [], count, on_reply
        self._transport.write(data)
        alarm = loop.call_later(timeout_s, self._fail, TimeoutError("timed out"))
        try:
            return await waiter
        finally:
            alarm.cancel()
            self._waiter = None

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
            self._replies.extend(map(self._taken, new) if self._taken else new)
        except OSError as error:  # garbled, or what `_taken` makes of it
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

    def _fail(self, error: OSError) -> None:
        self.broken = True
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.broken = True
        self._connection.abandon()


async def connect(url: StoreUrl, deadline: Deadline | None = None) -> AsyncConnection:
    """Open a wire; as `featurekit.stores.connection.connect`."""
    check_tls_files(url)
    deadline = connect_deadline(url, deadline)
    options = connection_options(url, deadline.remaining_s())
    connection: _Connection = KINDS[url.scheme](**options, retry=Retry(NoBackoff(), 0))
    steps = 1 if deadline.bounds_call else 2
    try:
        async with asyncio.timeout(steps * deadline.remaining_s()):
            await connection.connect()
    except (redis.RedisError, OSError) as error:
        connection.abandon()
        raise connect_error(url, error, deadline) from error
    except BaseException:
        connection.abandon()
        raise
    wire = AsyncConnection(connection)
    try:
        [greeting] = await wire.exchange(PING, 1, deadline.remaining_s())
        check_greeting(url, greeting)
    except OSError as error:
        wire.close()
        raise connect_error(url, error, deadline) from error
    except BaseException:
        wire.close()
        raise
    return wire
