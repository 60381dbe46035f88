"""Stores whose small calls share one connection for each event loop.

See `shared_connection` for what sharing means. A call that is large, or that finds too much under way,
takes a connection of its own from the pool, as all calls do with `coalesce=false`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.ports import ConnectionStats
from featurekit.stores.connection import PING, OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.shared_connection import MAX_REPLIES, MAX_REQUEST_BYTES, SharedConnection
from featurekit.stores.url import StoreUrl


def is_small(data: bytes, count: int) -> bool:
    """Return whether a call with these requests and that many replies may share a connection."""
    return count <= MAX_REPLIES and len(data) <= MAX_REQUEST_BYTES


class SharedConnections:
    """The connection to one server that the calls of an event loop share.

    One call opens it, and those that come meanwhile wait for it. Used from another loop, another
    connection is opened there.

    Args:
        pool: The pool that opens it. It is not one of the pool's `max_connections`.
    """

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._connection: SharedConnection | None = None
        self._opening: asyncio.Future[StoreError | None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is a connection that no call is using."""
        return self._connection is not None and self._connection.is_idle

    @property
    def is_full(self) -> bool:
        """Whether another call should take a connection of its own."""
        return self._connection is not None and self._connection.is_full

    def current(self, now: float) -> SharedConnection | None:
        """Return the connection if it needs no check.

        Args:
            now: The monotonic clock.
        """
        connection, pool = self._connection, self._pool
        if connection is None or connection.broken or not pool.is_settled(now):
            return None
        is_fresh = now - connection.used_at <= pool.url.health_check_s or not connection.is_idle
        return connection if is_fresh and self._belongs_here(connection) else None

    async def get(self, deadline: Deadline, now: float) -> SharedConnection:
        """Return the connection, after opening or checking it if necessary.

        Raises:
            StoreError: It could not be opened.
        """
        pool, loop = self._pool, asyncio.get_running_loop()
        if pool.loop is not loop:
            await pool.bind_to_loop()
        await pool.follow_server(deadline, now)
        while (connection := self.current(now)) is None:
            opening = self._opening
            if opening is None or opening.get_loop() is not loop:
                return await self._open(deadline, now)
            timeout_s = deadline.cap(2 * pool.url.connect_timeout_s)
            await asyncio.wait([opening], timeout=timeout_s)
            if not opening.done():
                error = TimeoutError("timed out")
                raise unavailable_error(pool.url, "connecting", deadline, error)
            if failure := opening.result():
                raise failure
        return connection

    def handle_loss(self, connection: SharedConnection, error: OSError) -> None:
        """Open another connection for the next call, after this one broke."""
        if self._connection is connection:
            self._connection = None
            self._pool.handle_loss(connection.connection, error)

    def retire(self, connection: SharedConnection) -> None:
        """Open another connection for the next call; the calls on this one go on."""
        if self._connection is connection:
            self._connection = None
        connection.retire()

    def retire_current(self) -> None:
        """Close the connection as soon as the calls on it have ended."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.loop is asyncio.get_running_loop():
            connection.retire()

    def _belongs_here(self, connection: SharedConnection) -> bool:
        """Return whether the connection is of this loop, and to the server in use now."""
        is_current = connection.connection.generation == self._pool.generation
        return is_current and connection.loop is asyncio.get_running_loop()

    async def _open(self, deadline: Deadline, now: float) -> SharedConnection:
        """Check the connection that was idle for long, or open one; wake those who wait for it."""
        loop = asyncio.get_running_loop()
        opening = self._opening = loop.create_future()
        failure: StoreError | None = None
        try:
            if await self._is_alive(deadline):
                assert self._connection is not None  # noqa: S101 - it is alive
                return self._connection
            pool = self._pool
            opened = await pool.get(deadline, now)
            connection = SharedConnection(opened, pool.url.timeout_s, pool.discard)
            self._connection = connection
            connection.closer = _close_at_shutdown(connection)
            await anext(connection.closer)
        except StoreError as error:
            failure = error
            raise
        else:
            return connection
        finally:
            if self._opening is opening:
                self._opening = None
            opening.set_result(failure)

    async def _is_alive(self, deadline: Deadline) -> bool:
        """Return whether the connection answers; if it does not, close the pool's idle ones too."""
        connection = self._connection
        if connection is None or connection.broken:
            return False
        if not self._belongs_here(connection):
            self.retire_current()
            return False
        timeout_s = deadline.cap(self._pool.url.connect_timeout_s, share=0.5)
        try:
            await connection.begin(PING, 1, Deadline.for_call(timeout_s, 0))
        except OSError as error:
            connection.close()
            self.handle_loss(connection, error)
            self._pool.close_idle()  # they have been idle even longer
            return False
        return True


class _CoalescingCalls(AsyncRedisStore):
    """The part of a store that shares connections; before its class among the bases."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._shared = SharedConnections(self._pool)
        self._shared_for_reads = self._shared
        if self._reading_pool is not self._pool:
            self._shared_for_reads = SharedConnections(self._reading_pool)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self).__bases__[1], self.url)

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        stats = super().connection_stats
        idle = sum(shared.is_idle for shared in {self._shared, self._shared_for_reads})
        return replace(stats, in_use=max(0, stats.in_use - idle))

    @override
    async def close(self) -> None:
        self._shared.retire_current()
        self._shared_for_reads.retire_current()
        await super().close()

    @override
    async def _exchange(
        self,
        data: bytes,
        count: int,
        deadline: Deadline,
        on_reply: OnReply = None,
        pool: AsyncPool | None = None,
    ) -> list[Any]:
        shared = self._shared if pool is None else self._shared_for_reads
        if shared.is_full or not is_small(data, count):
            return await super()._exchange(data, count, deadline, on_reply, pool)
        pool = pool or self._pool
        began = now = monotonic()
        retries = deadline.retries
        while True:
            connection: SharedConnection | None = None
            try:
                connection = shared.current(now) or await shared.get(deadline, now)
                pool.round_trips += 1
                return await connection.begin(data, count, deadline, on_reply)
            except OSError as error:
                assert connection is not None  # noqa: S101 - opening raises `StoreError`
                failure = unavailable_error(self.url, "waiting for replies", deadline, error)
                failure.__cause__ = error
                if not connection.broken:  # the server is slow, and the call is still under way
                    raise failure from error
                shared.handle_loss(connection, error)
            except StoreUnavailableError as error:
                if connection is not None:  # the server refuses writes: it is a replica now
                    shared.retire(connection)
                failure = error
            retries -= 1
            if retries < 0 or not deadline.allows_retry(began):
                raise failure
            pool.retries += 1
            now = monotonic()


def coalescing_form(kind: type[AsyncRedisStore]) -> type[AsyncRedisStore]:
    """Return the form of a store's class whose small calls share a connection."""
    return type(f"Coalescing{kind.__name__}", (_CoalescingCalls, kind), {})


def _restore(kind: type[AsyncRedisStore], url: StoreUrl) -> AsyncRedisStore:
    """Return a store that was pickled."""
    return coalescing_form(kind)(url)


async def _close_at_shutdown(connection: SharedConnection) -> AsyncGenerator[None, None]:
    """Close the connection when the loop shuts down, which closes its generators."""
    try:
        yield
    finally:
        connection.close()
        await asyncio.sleep(0)
