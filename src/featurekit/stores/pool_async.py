"""Pools of wires: as `pool` has them, on one event loop at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from time import monotonic

from featurekit.ports import ConnectionStats
from featurekit.stores.connection import PING
from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import pool_exhausted_error
from featurekit.stores.url import StoreUrl

MAX_CONNECTIONS = 64


class AsyncPool:
    """Wires to one server. Used from another loop, it opens new ones there.

    Attributes:
        url: Where the server is, and how many wires there may be.
        era: How often another server has taken the place of the one before.
        idle: The wires that nobody uses.
        room: How many more may be used at once.
        loop: The event loop that it belongs to.
        trips: FanOut trips made over its wires.
        retries: How many of them were repeats.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self.generation = 0
        self.round_trips = self.retries = 0
        self._connects = self._waits = self._alive = 0
        self._health_check_s = url.health_check_s
        self.most = url.max_connections or MAX_CONNECTIONS
        self.idle: deque[AsyncConnection] = deque()
        self.permits = asyncio.Semaphore(self.most)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._keeper: AsyncGenerator[None, None] | None = None

    async def connect(self, deadline: Deadline) -> AsyncConnection:
        """Open a wire.

        Raises:
            StoreError: As `featurekit.stores.connection.connect`.
        """
        return await connect(self.url, deadline)

    async def bind_to_loop(self) -> None:
        """Belong to the running loop from now on."""
        self.idle = deque()
        self._alive = 0
        self.permits = asyncio.Semaphore(self.most)
        self.loop = asyncio.get_running_loop()
        self._keeper = _keep(self.idle)
        await anext(self._keeper)

    async def wait_for_permit(self, permits: asyncio.Semaphore, deadline: Deadline) -> None:
        """Wait until one more wire may be used.

        Raises:
            StoreUnavailableError: It took longer than the call may take.
        """
        self._waits += 1
        try:
            async with asyncio.timeout(deadline.cap(deadline.attempt_timeout_s)):
                await permits.acquire()
        except TimeoutError:
            raise pool_exhausted_error(self.url, self.most, deadline) from None

    def get_idle(self, now: float) -> AsyncConnection | None:
        """A wire that may be used at once, if there is one; `now` by the monotonic clock."""
        if not self.idle:
            return None
        wire = self.idle[-1]
        if wire.broken or now - wire.used_at > self._health_check_s:
            return None
        wire.used_at = now
        return self.idle.pop()

    async def get(self, deadline: Deadline, now: float) -> AsyncConnection:
        """A wire to use alone, proven or opened if none is ready; give it back, or close it.

        Raises:
            StoreError: No new one could be opened.
        """
        while self.idle:
            if (wire := self.get_idle(now)) is not None:
                return wire
            wire = self.idle.pop()
            if not wire.broken and await self._is_proven(wire, deadline):
                return wire
            self.discard(wire)
        wire = await self.connect(deadline)
        self._connects += 1
        self._alive += 1
        return wire

    def put(self, wire: AsyncConnection) -> None:
        """Take back a wire on which every request got its reply."""
        self.idle.append(wire)

    def discard(self, wire: AsyncConnection) -> None:
        """Close a wire that was taken."""
        self._alive -= 1
        wire.close()

    def handle_loss(self, wire: AsyncConnection, error: OSError) -> None:
        """Close a wire; if it was cut, the idle ones were most likely cut with it."""
        self.discard(wire)
        if not isinstance(error, TimeoutError):
            self.close_idle()

    def close_idle(self) -> None:
        """Close the idle wires."""
        while self.idle:
            self.discard(self.idle.pop())

    @property
    def connection_stats(self) -> ConnectionStats:
        """What went over its wires, and how many there are."""
        in_use = max(0, self._alive - len(self.idle))
        return ConnectionStats(
            self.round_trips, self.retries, self._connects, self._waits, self._alive, in_use
        )

    async def close(self) -> None:
        """Close the idle wires, and belong to no loop."""
        keeper, self._keeper, self.loop = self._keeper, None, None
        if keeper is not None:
            self._alive -= len(self.idle)
            await keeper.aclose()

    async def _is_proven(self, wire: AsyncConnection, deadline: Deadline) -> bool:
        """Whether a wire that was idle for long still works; if not, all that were are closed."""
        wire.used_at = monotonic()
        try:
            await wire.exchange(PING, 1, deadline.cap(self.url.connect_timeout_s, share=0.5))
        except OSError:
            self.close_idle()  # they have been idle for longer
            return False
        except BaseException:
            self.discard(wire)
            raise
        return True


async def _keep(idle: deque[AsyncConnection]) -> AsyncGenerator[None, None]:
    """Close idle wires when the loop shuts down: it closes the generators started on it."""
    try:
        yield
    finally:
        _close_all(idle)
        await asyncio.sleep(0)


def _close_all(wires: deque[AsyncConnection]) -> None:
    while wires:
        wires.pop().close()
