"""Define the asyncio store on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, cast

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import AsyncOnlineStore
from featurekit.stores.cluster.client import ClusterClient, Pause, SendBatches, Steps
from featurekit.stores.cluster.fan_out_async import AsyncFanOut
from featurekit.stores.cluster.nodes_async import AsyncNodePool
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.url import Address, StoreUrl


class AsyncClusterStore(
    ClusterClient[AsyncNodePool, Coroutine[Any, Any, list[Any]]], AsyncOnlineStore
):
    """An asyncio store on a cluster. On another event loop it opens new connections."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, AsyncNodePool)
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @override
    async def close(self) -> None:
        for pool in list(self.pools.values()):
            await pool.close()

    @override
    async def perform(self, steps: Steps[AsyncNodePool]) -> list[Any]:
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                return cast("list[Any]", end.value)
            if isinstance(step, SendBatches):
                result = await AsyncFanOut(step).run()
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                try:
                    result = await self._refresh(*step)
                except StoreUnavailableError as error:
                    result = error

    async def _refresh(
        self, seen: Topology | None, deadline: Deadline, unresponsive: Iterable[Address] = ()
    ) -> Topology:
        """Request the topology, unless another task did since `seen`, or a moment ago."""
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop, self._lock = loop, asyncio.Lock()
        lock = self._lock
        try:
            async with asyncio.timeout(deadline.cap(deadline.attempt_timeout_s)):
                await lock.acquire()
        except TimeoutError:
            return self.topologies.known_or_fail()
        try:
            if (newer := self.topologies.newer_than(seen)) is not None:
                return newer
            fetch = self.topologies.fetch
            fetched = await asyncio.to_thread(fetch, deadline, tuple(unresponsive))
            self.close_departed(fetched)
        finally:
            lock.release()
        return fetched
