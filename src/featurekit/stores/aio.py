"""One Redis or Valkey server, from one asyncio event loop at a time.

redis-py connects, does TLS, AUTH and SELECT; then a `Wire` takes the place of its stream reader on
the transport, so that a call wakes its task once, whatever the number of replies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from time import monotonic
from typing import Any, Protocol

import redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import TERMS, AsyncOnlineStore, Terms
from featurekit.stores.link import (
    NOT_YET,
    PING,
    READ_BYTES,
    GarbledReplyError,
    Take,
    check_files,
    check_greeting,
    connection_options,
    reply_reader,
    unanswered,
    unavailable,
    unconnected,
)
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply

MAX_CONNECTIONS = 64
GRACE_S = 0.05


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


class _Tcp(_HandsOutTransport, Connection):
    pass


class _Tls(_HandsOutTransport, SSLConnection):
    pass


class _Unix(_HandsOutTransport, UnixDomainSocketConnection):
    pass


KINDS: dict[str, Any] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


class Wire(asyncio.BufferedProtocol):
    """One connection, with at most one exchange under way."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._transport = connection.connected_transport()
        self._transport.set_protocol(self)
        self._reader = reply_reader()
        self._buffer = bytearray(READ_BYTES)
        self._replies: list[Any] = []
        self._count = 0
        self._taken: Take = None
        self._waiter: asyncio.Future[list[Any]] | None = None
        self.broken = False

    async def exchange(
        self, data: bytes, count: int, timeout_s: float, take: Take = None
    ) -> list[Any]:
        """Send `data` and wait until it has got its `count` replies, each taken by `take`.

        Raises:
            OSError: It did not; close the wire.
        """
        if self.broken:
            raise ConnectionResetError("the server closed the connection")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[list[Any]] = loop.create_future()
        self._waiter = waiter
        self._replies, self._count, self._taken = [], count, take
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
            new = iter(self._reader.gets, NOT_YET)
            self._replies.extend(map(self._taken, new) if self._taken else new)
        except GarbledReplyError as error:
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


class AsyncRedisStore(AsyncOnlineStore):
    """The asyncio side of `RedisStore`. Used from another loop, it opens connections there.

    Attributes:
        url: Where it is. Its text shows no password.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: deque[Wire] = deque()
        self._keeper: AsyncGenerator[None, None] | None = None
        self._room = asyncio.Semaphore(url.max_connections or MAX_CONNECTIONS)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    def describe(self) -> str:
        """Where it is, for people."""
        return str(self.url)

    @override
    async def run(
        self, keys: Sequence[bytes], requests: Sequence[bytes], width: int | Sequence[int] = 1
    ) -> list[Reply]:
        if not requests:
            return []
        count = len(requests) * width if isinstance(width, int) else sum(width)
        return await self._exchange(b"".join(requests), count)

    @override
    async def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        take: Take = None,
        *,
        width: int = 1,
        terms: Terms = TERMS,
    ) -> list[Any]:
        if not requests:
            return []
        count = len(requests) * width
        try:
            return await self._exchange(b"".join(requests), count, take)
        except StoreUnavailableError as error:
            if not terms.partial:
                raise
            return unanswered(error, count, take)

    async def _exchange(self, data: bytes, count: int, take: Take = None) -> list[Any]:
        """Send and collect; again while there are retries and time for them."""
        if asyncio.get_running_loop() is not self._loop:
            await self._settle()
        room, retries = self._room, self.url.retries
        late = monotonic() + self.url.timeout_s * retries
        if room.locked():
            await self._wait_for_room(room)
        else:
            await room.acquire()
        try:
            while True:
                try:
                    return await self._exchange_once(data, count, take)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or monotonic() > late + GRACE_S:
                        raise
        finally:
            room.release()

    async def _exchange_once(self, data: bytes, count: int, take: Take) -> list[Any]:
        idle, timeout_s = self._idle, self.url.timeout_s
        wire = await self._take()
        try:
            replies = await wire.exchange(data, count, timeout_s, take)
        except OSError as error:
            self._broken(wire, error)
            raise unavailable(self.url, "waiting for replies", timeout_s, error) from error
        except BaseException:
            wire.close()
            raise
        idle.append(wire)
        return replies

    @override
    async def close(self) -> None:
        keeper, self._keeper, self._loop = self._keeper, None, None
        if keeper is not None:
            await keeper.aclose()

    async def _settle(self) -> None:
        """Belong to the running loop from now on."""
        self._idle = deque()
        self._room = asyncio.Semaphore(self.url.max_connections or MAX_CONNECTIONS)
        self._loop = asyncio.get_running_loop()
        self._keeper = _keep(self._idle)
        await anext(self._keeper)

    async def _take(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if not wire.broken:
                return wire
            wire.close()
        return await self._connect()

    async def _connect(self) -> Wire:
        return await connect(self.url)

    async def _wait_for_room(self, room: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self.url.load_timeout_s):
                await room.acquire()
        except TimeoutError:
            raise StoreUnavailableError(
                f"all {self.url.max_connections or MAX_CONNECTIONS} connections to {self.describe()} are in use",
                hint="raise max_connections in the URL, or read more entities in each call",
            ) from None

    def _broken(self, wire: Wire, error: OSError) -> None:
        """Close a wire; if it was cut, the idle ones were most likely cut with it."""
        wire.close()
        if not isinstance(error, TimeoutError):
            _close_all(self._idle)


async def connect(url: StoreUrl) -> Wire:
    """Open a wire, with TLS, AUTH and SELECT as the URL says; errors as those of `link.connect`."""
    check_files(url)
    connection: _Connection = KINDS[url.scheme](
        **connection_options(url), retry=Retry(NoBackoff(), 0)
    )
    try:
        async with asyncio.timeout(2 * url.connect_timeout_s):
            await connection.connect()
    except (redis.RedisError, OSError) as error:
        connection.abandon()
        raise unconnected(url, error) from error
    except BaseException:
        connection.abandon()
        raise
    wire = Wire(connection)
    try:
        [greeting] = await wire.exchange(PING, 1, url.connect_timeout_s)
        check_greeting(url, greeting)
    except OSError as error:
        wire.close()
        raise unconnected(url, error) from error
    except BaseException:
        wire.close()
        raise
    return wire


async def _keep(idle: deque[Wire]) -> AsyncGenerator[None, None]:
    """Close idle wires when the loop shuts down: it closes the generators started on it."""
    try:
        yield
    finally:
        _close_all(idle)
        await asyncio.sleep(0)


def _close_all(wires: deque[Wire]) -> None:
    while wires:
        wires.pop().close()
