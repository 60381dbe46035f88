"""Nodes: as `nodes` has them, on an event loop."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.stores.cluster.nodes import READONLY, check_readonly
from featurekit.stores.cluster.routed_requests import refusal
from featurekit.stores.connection import OnReply, reply_reader
from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.url import StoreUrl


class AsyncNodeConnection(AsyncConnection):
    """A wire whose exchange may be begun now and awaited later."""

    def __init__(self, wire: AsyncConnection) -> None:
        super().__init__(wire._opened)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(refusal)
        self._alarm: asyncio.TimerHandle | None = None

    def begin(
        self, data: bytes, count: int, timeout_s: float, on_reply: OnReply
    ) -> asyncio.Future[list[Any]]:
        """Send `data`; its `count` replies, each taken by `on_reply`, are to be awaited by `end`."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        self._replies, self._count, self._on_reply = [], count, on_reply
        if self.broken:
            self._fail(ConnectionResetError("the server closed the connection"))
        else:
            self._transport.write(data)
            self._alarm = loop.call_later(timeout_s, self._fail, TimeoutError("timed out"))
        return waiter

    async def end(self, waiter: asyncio.Future[list[Any]]) -> list[Any]:
        """The replies to what was begun.

        Raises:
            OSError: They did not come; close the wire.
        """
        try:
            return await waiter
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            self._waiter = None


class AsyncNodePool(AsyncPool):
    """The wires to one server of a cluster; as `NodePool`."""

    def __init__(self, url: StoreUrl, *, reading: bool = False) -> None:
        super().__init__(url)
        self._reading = reading

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        wire = AsyncNodeConnection(await connect(self.url, deadline))
        if self._reading:
            timeout_s = deadline.cap(self.url.connect_timeout_s)
            try:
                check_readonly(self.url, (await wire.exchange(READONLY, 1, timeout_s))[0])
            except BaseException:
                wire.close()
                raise
        return wire

    async def at_once(self, now: float) -> AsyncNodeConnection | None:
        """A wire that needs no waiting for, if there is one; `now` by the monotonic clock."""
        if asyncio.get_running_loop() is not self.loop or self.permits.locked():
            return None
        wire = self.get_idle(now)
        if not isinstance(wire, AsyncNodeConnection):
            return None
        await self.permits.acquire()  # which is at once, since there is room
        self.round_trips += 1
        return wire

    async def obtain(self, deadline: Deadline) -> AsyncNodeConnection:
        """A wire, after waiting for room and opening one if need be.

        Raises:
            StoreError: There is no room in time, or none could be opened.
        """
        await self.acquire_permit(deadline)
        try:
            wire = await self.get(deadline, monotonic())
        except BaseException:
            self.permits.release()
            raise
        assert isinstance(wire, AsyncNodeConnection)  # noqa: S101  (they are all made by `connect`)
        self.round_trips += 1
        return wire

    def release(self, wire: AsyncNodeConnection) -> None:
        """Take back a wire on which every request got its reply."""
        self.put(wire)
        self.permits.release()

    def give_up(self, wire: AsyncNodeConnection, error: OSError) -> None:
        """Close a wire that broke, and others that most likely broke with it."""
        self.handle_loss(wire, error)
        self.permits.release()

    def abandon(self, wire: AsyncNodeConnection) -> None:
        """Close a wire whose replies nobody waits for any more."""
        self.discard(wire)
        self.permits.release()
