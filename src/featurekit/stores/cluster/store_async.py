"""A store on a cluster, from one asyncio event loop at a time."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, AsyncOnlineStore, ConnectionStats, ReadOptions
from featurekit.store_options import REPLICA
from featurekit.stores.cluster.client import ClusterClient
from featurekit.stores.cluster.fan_out_async import AsyncFanOut
from featurekit.stores.cluster.node_pool_async import AsyncNodePool
from featurekit.stores.cluster.retry import DEFAULT_CALL_OPTIONS, CallOptions, RetryState
from featurekit.stores.cluster.routed_requests import RoutedRequests
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.connection import OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.permits import LoopPermits
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply


class AsyncClusterStore(ClusterClient[AsyncNodePool], AsyncOnlineStore):
    """An online store on a cluster. Used from another event loop, it opens connections there."""

    pool_class = AsyncNodePool
    fan_out_class = AsyncFanOut

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, self.pool_class)
        self._refreshing = LoopPermits(1)

    @override
    async def close(self) -> None:
        for pool in list(self.pools.values()):
            await pool.close()

    @override
    async def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        routed = RoutedRequests(keys, requests, replies_per_request, ordered=True)
        return await self.execute(routed, self.serving)

    @override
    async def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        on_reply: OnReply = None,
        *,
        replies_per_request: int = 1,
        options: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        deadline = self.serving
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        routed = RoutedRequests(keys, requests, replies_per_request, on_reply)
        replicas = self.url.read_from == REPLICA
        return await self.execute(
            routed, deadline, CallOptions(options.partial, replicas=replicas)
        )

    async def execute(
        self,
        requests: RoutedRequests,
        deadline: Deadline,
        options: CallOptions = DEFAULT_CALL_OPTIONS,
    ) -> list[Any]:
        """Send requests, as often as necessary, and return their replies.

        Raises:
            StoreError: A request cannot be answered.
        """
        topologies, replicas = self.topologies, options.replicas
        retry = RetryState(self.url, requests, deadline, options)
        while requests.todo:
            try:
                topology = topologies.known or await self.refresh(None, retry.deadline)
            except StoreUnavailableError as error:
                retry.give_up_or_raise(dict.fromkeys(requests.todo, error))
                break
            route = topologies.route(topology, replicas=replicas)
            batches, unserved = requests.batches(topology, route)
            # A replica may use half of the time, which leaves the rest to its primary.
            timeout_s = retry.timeout_s(share=0.5 if replicas else 1.0)
            pool_of = self.reading_pool if replicas else self.pool
            fan_out = self.fan_out_class(requests, batches, pool_of, deadline, timeout_s)
            pause_s = retry.after_fan_out(await fan_out.run(), unserved, topology)
            if not requests.todo:
                break
            self._stats += ConnectionStats(retries=1)
            if replicas:
                topologies.skip_replicas(retry.unresponsive, topology)
                replicas = False  # the primaries are asked at once
            elif pause_s:
                await sleep(pause_s)
            if retry.refresh:
                await self.refresh(topology, retry.deadline, retry.unresponsive)
        return requests.replies

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
