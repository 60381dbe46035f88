"""Connection pool state: idle connections, permits and counters, for threads and event loops.

A connection is idle (in `idle`), in use (owned by exactly one call) or closed:

    connect ──> in use ──put──> idle ──get_idle / get──> in use ──discard──> closed

Invariants: a call returns a connection only after every request on it got its reply, because a
late reply would be taken for the answer to the next request. All other ends discard it. A call
holds a permit while it uses a connection, so `max_connections` limits those in use. A connection
that was idle for longer than `health_check_s` answers a `PING` before it is used. If the server
cut one connection, it most likely cut the others too: then all idle ones are closed.

`generation` changes when the pool turns to another server; connections of an older generation
are closed when they come back. Idle connections are a stack, so that surplus ones age and are
noticed. A forked child closes all connections that it inherits, idle or in use, before any thread
runs there: two processes that read from one connection get each other's replies. Rejected
alternatives: a lock around the stack (a `fork` can copy it while it is held; `deque` operations are
atomic), and redis-py's pool (it has no permits with a deadline, and checks every connection at every
use).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Generic, Protocol, TypeVar
from weakref import ReferenceType, ref

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.forks import renew_after_fork
from featurekit.ports import ConnectionStats
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import pool_exhausted_error
from featurekit.stores.permits import NO_PERMIT, HeldPermit, Permits
from featurekit.stores.url import StoreUrl

ASYNC_MAX_CONNECTIONS = 64

_renewal = threading.Lock()


class _Closable(Protocol):
    """The part of a connection that every pool needs."""

    used_at: float
    generation: int

    def close(self) -> None: ...


class _ThreadConnection(_Closable, Protocol):
    """The part of a connection that a pool for threads needs."""

    closed: bool

    def is_stale(self) -> bool: ...


class _LoopConnection(_Closable, Protocol):
    """The part of a connection that a pool for an event loop needs."""

    broken: bool


C = TypeVar("C", bound=_Closable)
TC = TypeVar("TC", bound=_ThreadConnection)
LC = TypeVar("LC", bound=_LoopConnection)


class PoolState(Generic[C]):
    """The idle connections to one server, and counters.

    Attributes:
        url: The server, and the limit on connections.
        generation: Increases when the pool turns to another server.
        idle: Connections that are not in use; the one used last is at the end.
        round_trips: Requests sent and answered over the pool's connections.
        retries: Round trips that repeated an earlier one.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self.generation = 0
        self._health_check_s = url.health_check_s
        self._reset()

    def _reset(self) -> None:
        self.idle: deque[C] = deque()
        self.round_trips = self.retries = 0
        self._connects = self._waits = 0
        # Forgets connections by itself, should a signal handler interrupt the call that uses one.
        self._opened: dict[ReferenceType[C], None] = {}

    def put(self, connection: C) -> None:
        """Take back a connection on which every request got its reply."""
        self.idle.append(connection)

    def discard(self, connection: C) -> None:
        """Close a connection that was in use."""
        self._forget(connection)
        connection.close()

    def handle_loss(self, connection: C, error: OSError) -> None:
        """Close a connection that failed; unless it timed out, close all idle ones too."""
        self.discard(connection)
        if not isinstance(error, TimeoutError):
            self.close_idle()

    def close_idle(self) -> None:
        """Close all idle connections."""
        while self.idle:
            self.discard(self.idle.pop())

    def is_settled(self, now: float) -> bool:  # noqa: ARG002 - the default server never changes
        """Return whether the pool need not look for another server before the next call."""
        return True

    @property
    def connection_stats(self) -> ConnectionStats:
        """Counters of the pool's connections."""
        is_open = len(self._opened)
        in_use = max(0, is_open - len(self.idle))
        return ConnectionStats(
            self.round_trips, self.retries, self._connects, self._waits, is_open, in_use
        )

    def _count_connect(self, connection: C) -> None:
        self._connects += 1
        self._opened[ref(connection, self._opened.pop)] = None

    def _forget(self, connection: C) -> None:
        self._opened.pop(ref(connection), None)


class ThreadPoolState(PoolState[TC]):
    """Pool state shared by threads. A forked child starts with an empty pool.

    Attributes:
        permits: Limits the connections in use; `None` without a limit.
    """

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        renew_after_fork(self)

    @override
    def _reset(self) -> None:
        super()._reset()
        limit = self.url.max_connections
        self.permits = Permits(limit) if limit else None
        self._pid = os.getpid()  # last: a thread that sees it sees the rest

    @override
    def put(self, connection: TC) -> None:
        if not connection.closed:  # a forked child closed it
            self.idle.append(connection)

    def acquire_permit(self, deadline: Deadline) -> HeldPermit:
        """Wait until one more connection may be used; the caller releases the permit.

        Raises:
            StoreUnavailableError: All connections stayed in use until the deadline.
        """
        if self.permits is None:
            return NO_PERMIT
        permit = self.permits.request()
        if not permit.is_granted:
            self._waits += 1
            if not permit.wait(deadline.cap(deadline.attempt_timeout_s)):
                permit.release()
                raise pool_exhausted_error(self.url, self.url.max_connections, deadline)
        return permit

    def try_acquire_permit(self) -> HeldPermit | None:
        """Return a permit, or `None` if the caller would have to wait for it."""
        return NO_PERMIT if self.permits is None else self.permits.try_acquire()

    def get_idle(self, now: float) -> TC | None:
        """Return an idle connection that needs no check, if there is one."""
        if os.getpid() != self._pid or not self.idle:
            return None
        try:
            connection = self.idle.pop()
        except IndexError:  # another thread took it
            return None
        if now - connection.used_at > self._health_check_s:
            self.idle.append(connection)
            return None
        return connection

    @override
    def close_idle(self, *, stale_only: bool = False) -> None:
        """Close all idle connections, or only those that the server has closed."""
        self._check_process()
        for _ in range(len(self.idle)):
            try:
                connection = self.idle.popleft()
            except IndexError:
                return
            if stale_only and not connection.is_stale():
                self.idle.append(connection)
            else:
                self.discard(connection)

    def close(self) -> None:
        """Close all idle connections."""
        self.close_idle()

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        return super().connection_stats if os.getpid() == self._pid else ConnectionStats()

    def follow_server(self, deadline: Deadline, now: float) -> None:
        """Turn to the server that should be used now. The default server never changes."""

    def is_outdated(self, connection: TC) -> bool:
        """Return whether the pool now uses another server than this connection's."""
        try:
            self.follow_server(Deadline(self.url.connect_timeout_s), monotonic())
        except StoreUnavailableError:
            return False
        return connection.generation != self.generation

    def _pop_idle(self) -> TC | None:
        self._check_process()
        try:
            return self.idle.pop()
        except IndexError:
            return None

    def renew_in_child(self) -> None:
        """Close the parent's connections without sending a byte on them, and start empty."""
        inherited = list(self._opened)
        self._reset()
        for reference in inherited:
            if (connection := reference()) is not None:
                connection.close()

    def _check_process(self) -> None:
        """Start empty in a child that was forked without Python's knowledge, as by uWSGI."""
        if os.getpid() != self._pid:
            with _renewal:
                if os.getpid() != self._pid:
                    self.renew_in_child()


class LoopPoolState(PoolState[LC]):
    """Pool state bound to one event loop. Used on another loop, it starts empty there.

    Attributes:
        loop: The event loop; `None` before the first call and after `close`.
        permits: Limits the connections in use.
    """

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._max_connections = url.max_connections or ASYNC_MAX_CONNECTIONS
        self.permits = Permits(self._max_connections)
        self._closer: AsyncGenerator[None, None] | None = None

    async def bind_to_loop(self) -> None:
        """Bind the pool to the running event loop, with no connections."""
        self.idle = deque()
        self._opened = {}
        self.permits = Permits(self._max_connections)
        self.loop = asyncio.get_running_loop()
        self._closer = _close_at_shutdown(self.idle)
        await anext(self._closer)

    async def acquire_permit(self, deadline: Deadline) -> HeldPermit:
        """Wait until one more connection may be used; the caller releases the permit.

        Raises:
            StoreUnavailableError: All connections stayed in use until the deadline.
        """
        if asyncio.get_running_loop() is not self.loop:
            await self.bind_to_loop()
        permit = self.permits.request()
        if permit.is_granted:
            return permit
        self._waits += 1
        try:
            is_granted = await permit.wait_async(deadline.cap(deadline.attempt_timeout_s))
        except BaseException:  # the task was cancelled
            permit.release()
            raise
        if not is_granted:
            permit.release()
            raise pool_exhausted_error(self.url, self._max_connections, deadline)
        return permit

    def try_acquire_permit(self) -> HeldPermit | None:
        """Return a permit, or `None` if the caller would have to wait for it."""
        is_bound = asyncio.get_running_loop() is self.loop
        return self.permits.try_acquire() if is_bound else None

    def get_idle(self, now: float) -> LC | None:
        """Return an idle connection that needs no check, if there is one."""
        if not self.idle:
            return None
        connection = self.idle[-1]
        if connection.broken or now - connection.used_at > self._health_check_s:
            return None
        connection.used_at = now
        return self.idle.pop()

    async def close(self) -> None:
        """Close all idle connections and leave the event loop."""
        closer, self._closer, self.loop = self._closer, None, None
        if closer is not None:
            for connection in self.idle:
                self._forget(connection)
            await closer.aclose()

    async def follow_server(self, deadline: Deadline, now: float) -> None:
        """Turn to the server that should be used now. The default server never changes."""

    def _pop_idle(self) -> LC | None:
        """Return the idle connection used last, closing those that broke while idle."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.broken:
                return connection
            self.discard(connection)
        return None


async def _close_at_shutdown(idle: deque[LC]) -> AsyncGenerator[None, None]:
    """Close idle connections when the loop shuts down, which closes its generators."""
    try:
        yield
    finally:
        while idle:
            idle.pop().close()
        await asyncio.sleep(0)
