"""Nodes: as `nodes` has them, on an event loop."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.stores.cluster.nodes import READONLY, check_readonly
from featurekit.stores.cluster.routed_requests import refusal
from featurekit.stores.connection import Take, reply_reader
from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.url import StoreUrl


class AsyncNodeConnection(AsyncConnection):
    """A wire whose exchange may be begun now and awaited later."""

    def __init__(self, wire: AsyncConnection) -> None:
        super().__init__(wire._connection)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(refusal)
        self._alarm: asyncio.TimerHandle | None = None

    def begin(
        self, data: bytes, count: int, timeout_s: float, take: Take
    ) -> asyncio.Future[list[Any]]:
        """Send `data`; its `count` replies, each taken by `take`, are to be awaited by `end`."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        self._replies, self._count, self._taken = [], count, take
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
    async def connect(self, patience: Deadline) -> AsyncConnection:
        wire = AsyncNodeConnection(await connect(self.url, patience))
        if self._reading:
            timeout_s = patience.bounded(self.url.connect_timeout_s)
            try:
                check_readonly(self.url, (await wire.exchange(READONLY, 1, timeout_s))[0])
            except BaseException:
                wire.close()
                raise
        return wire

    async def at_once(self, now: float) -> AsyncNodeConnection | None:
        """A wire that needs no waiting for, if there is one; `now` by the monotonic clock."""
        if asyncio.get_running_loop() is not self.loop or self.room.locked():
            return None
        wire = self.ready(now)
        if not isinstance(wire, AsyncNodeConnection):
            return None
        await self.room.acquire()  # which is at once, since there is room
        self.trips += 1
        return wire

    async def obtain(self, patience: Deadline) -> AsyncNodeConnection:
        """A wire, after waiting for room and opening one if need be.

        Raises:
            StoreError: There is no room in time, or none could be opened.
        """
        if asyncio.get_running_loop() is not self.loop:
            await self.settle()
        if self.room.locked():
            await self.wait(self.room, patience)
        else:
            await self.room.acquire()
        try:
            wire = await self.take(patience, monotonic())
        except BaseException:
            self.room.release()
            raise
        assert isinstance(wire, AsyncNodeConnection)  # noqa: S101  (they are all made by `connect`)
        self.trips += 1
        return wire

    def release(self, wire: AsyncNodeConnection) -> None:
        """Take back a wire on which every request got its reply."""
        self.give(wire)
        self.room.release()

    def give_up(self, wire: AsyncNodeConnection, error: OSError) -> None:
        """Close a wire that broke, and others that most likely broke with it."""
        self.lost(wire, error)
        self.room.release()

    def abandon(self, wire: AsyncNodeConnection) -> None:
        """Close a wire whose replies nobody waits for any more."""
        self.discard(wire)
        self.room.release()
