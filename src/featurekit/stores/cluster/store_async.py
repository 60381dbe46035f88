"""A store on a cluster, from one asyncio event loop at a time."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Sequence
from typing import Any, cast

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import AsyncOnlineStore
from featurekit.stores.cluster.client import (
    AsyncReplies,
    ClusterClient,
    Pause,
    Replies,
    SendBatches,
    Steps,
)
from featurekit.stores.cluster.fan_out_async import AsyncFanOut
from featurekit.stores.cluster.node_pool_async import AsyncNodePool
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.permits import LoopPermits
from featurekit.stores.url import Address, StoreUrl


class AsyncClusterStore(ClusterClient[AsyncNodePool, AsyncReplies], AsyncOnlineStore):
    """An online store on a cluster. Used from another event loop, it opens connections there."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, AsyncNodePool)
        self._refreshing = LoopPermits(1)

    @override
    async def close(self) -> None:
        for pool in list(self.pools.values()):
            await pool.close()

    @override
    async def perform(self, steps: Steps[AsyncNodePool]) -> Replies:
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                return cast("Replies", end.value)
            if isinstance(step, SendBatches):
                result = await AsyncFanOut(step).run()
            elif isinstance(step, Pause):
                await sleep(step.seconds)
            else:
                try:
                    result = await self.refresh(*step)
                except StoreUnavailableError as error:
                    result = error

    async def refresh(
        self, seen: Topology | None, deadline: Deadline, unresponsive: Sequence[Address] = ()
    ) -> Topology:
        """Request the topology, unless another call did since `seen`, or a moment ago."""
        permit = self._refreshing.request()
        try:
            if not await permit.wait_async(deadline.cap(deadline.attempt_timeout_s)):
                return self.topologies.known_or_fail()
            topology = self.topologies.newer_than(seen)
            if topology is None:
                topology = await self.topologies.fetch_async(deadline, unresponsive)
                self.close_departed(topology)
            return topology
        finally:
            permit.release()
