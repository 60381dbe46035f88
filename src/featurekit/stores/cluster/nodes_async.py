"""Define the asyncio connections to one server of a cluster."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.stores.cluster.nodes import READONLY, check_readonly
from featurekit.stores.cluster.routed_requests import to_error_reply
from featurekit.stores.connection import OnReply, reply_reader
from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.permits import NO_PERMIT, HeldPermit
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.url import StoreUrl


class AsyncNodeConnection(AsyncConnection):
    """A connection that sends in `begin` and is awaited in `end`."""

    def __init__(self, plain: AsyncConnection) -> None:
        super().__init__(plain._opened)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(to_error_reply)
        self._timeout: asyncio.TimerHandle | None = None
        self.permit: HeldPermit = NO_PERMIT

    def begin(
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply
    ) -> asyncio.Future[list[Any]]:
        """Send `data`; return the future of its `count` converted replies, for `end`."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        self._replies, self._count, self._on_reply = [], count, on_reply
        if self.broken:
            self._fail(ConnectionResetError("the server closed the connection"))
        else:
            self._transport.write(data)
            self._timeout = loop.call_later(timeout_s, self._fail, TimeoutError("timed out"))
        return waiter

    async def end(self, waiter: asyncio.Future[list[Any]]) -> list[Any]:
        """Return the replies to what `begin` sent.

        Raises:
            OSError: They did not arrive; close the connection.
        """
        try:
            return await waiter
        finally:
            if self._timeout is not None:
                self._timeout.cancel()
            self._waiter = None


class AsyncNodePool(AsyncPool):
    """A pool of asyncio connections to one server; takes the same arguments as `NodePool`."""

    def __init__(self, url: StoreUrl, *, reading: bool = False) -> None:
        super().__init__(url)
        self._reading = reading

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        made = AsyncNodeConnection(await connect(self.url, deadline))
        if self._reading:
            limit_s = deadline.cap(self.url.connect_timeout_s)
            try:
                check_readonly(self.url, (await made.exchange(READONLY, 1, limit_s))[0])
            except BaseException:
                made.close()
                raise
        return made

    async def acquire_idle(self, now: float) -> AsyncNodeConnection | None:
        """Return an idle connection that needs no check, if there is one."""
        if asyncio.get_running_loop() is not self.loop:
            return None
        if not self.idle or (permit := self.permits.try_acquire()) is None:
            return None
        idle = self.get_idle(now)
        if not isinstance(idle, AsyncNodeConnection):
            permit.release()
            return None
        idle.permit = permit
        self.round_trips += 1
        return idle

    async def acquire(self, deadline: Deadline) -> AsyncNodeConnection:
        """Return a connection; waits and raises like `NodePool.acquire`."""
        permit = await self.acquire_permit(deadline)
        try:
            usable = await self.get(deadline, monotonic())
        except BaseException:
            permit.release()
            raise
        assert isinstance(usable, AsyncNodeConnection)  # noqa: S101 - made by `connect`
        usable.permit = permit
        self.round_trips += 1
        return usable

    def release(self, used: AsyncNodeConnection) -> None:
        """Take back a connection; see `NodePool.release`."""
        permit, used.permit = used.permit, NO_PERMIT
        self.put(used)
        permit.release()

    def release_failed(self, broken: AsyncNodeConnection, error: OSError) -> None:
        """Close a connection that broke; see `NodePool.release_failed`."""
        self.handle_loss(broken, error)
        broken.permit.release()

    def abandon(self, unread: AsyncNodeConnection) -> None:
        """Close a connection that still expects replies."""
        self.discard(unread)
        unread.permit.release()
