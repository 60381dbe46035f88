"""A store on a cluster whose small calls share one connection to each server.

See `stores.shared_connection` for what sharing means. Redirections are replies to one call, so a slot
that moves concerns only the calls with keys in it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, NamedTuple

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.ports import ConnectionStats
from featurekit.stores.cluster.exchanges import Outcome
from featurekit.stores.cluster.fan_out_async import AsyncFanOut
from featurekit.stores.cluster.node_pool_async import AsyncNodePool
from featurekit.stores.cluster.retry import Failure
from featurekit.stores.cluster.routed_requests import NodeBatch
from featurekit.stores.cluster.store_async import AsyncClusterStore
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.coalescing import SharedConnections, is_small
from featurekit.stores.deadline import Deadline
from featurekit.stores.shared_connection import SharedConnection
from featurekit.stores.url import StoreUrl


class CoalescingNodePool(AsyncNodePool):
    """The connections to one server of a cluster, and the one that small calls share.

    Attributes:
        shared: The connection that small calls share.
    """

    def __init__(self, url: StoreUrl, *, reading: bool = False) -> None:
        super().__init__(url, reading=reading)
        self.shared = SharedConnections(self)

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        stats = super().connection_stats
        return replace(stats, in_use=max(0, stats.in_use - self.shared.is_idle))

    @override
    async def close(self) -> None:
        self.shared.retire_current()
        await super().close()


class _SharedExchange(NamedTuple):
    """A batch that was sent on a shared connection, and the future of its replies."""

    pool: CoalescingNodePool
    connection: SharedConnection
    batch: NodeBatch
    waiter: asyncio.Future[list[Any]]


@dataclass(eq=False)
class CoalescingFanOut(AsyncFanOut):
    """Sends small batches on the shared connections of their servers."""

    _shared: list[_SharedExchange] = field(default_factory=list, init=False)

    @override
    async def send_and_wait(self, batch: NodeBatch) -> Outcome:
        pool = self._sharing_pool(batch)
        if pool is None:
            return await super().send_and_wait(batch)
        now = monotonic()
        try:
            connection = pool.shared.current(now) or await pool.shared.get(self.deadline, now)
        except StoreError as error:
            return Failure(batch, error, sent=False)
        return await self._outcome_of(self._send(pool, connection, batch))

    @override
    def begin(self, batch: NodeBatch, now: float) -> bool:
        pool = self._sharing_pool(batch)
        if pool is None:
            return super().begin(batch, now)
        connection = pool.shared.current(now)
        if connection is None:
            return False
        self._shared.append(self._send(pool, connection, batch))
        return True

    @override
    async def collect(self, end: float) -> None:
        await super().collect(end)
        while self._shared:
            outcome = await self._outcome_of(self._shared[-1])
            self.add(self._shared.pop().batch, outcome)

    @override
    def abandon(self, tasks: Any) -> None:
        for exchange in self._shared:
            exchange.waiter.cancel()
        super().abandon(tasks)

    def _sharing_pool(self, batch: NodeBatch) -> CoalescingNodePool | None:
        """Return the pool of a batch that may share a connection."""
        pool = self.pool_of(batch.address)
        assert isinstance(pool, CoalescingNodePool)  # noqa: S101 - made by this store
        small = is_small(batch.data, batch.reply_count) and not pool.shared.is_full
        return pool if small else None

    def _send(
        self, pool: CoalescingNodePool, connection: SharedConnection, batch: NodeBatch
    ) -> _SharedExchange:
        limits = Deadline(self.timeout_s)
        if self.deadline.bounds_call:
            limits.deadline_s = min(monotonic() + self.timeout_s, self.deadline.deadline_s)
        on_reply = self.requests.on_reply(batch)
        pool.round_trips += 1
        waiter = connection.begin(batch.data, batch.reply_count, limits, on_reply)
        return _SharedExchange(pool, connection, batch, waiter)

    async def _outcome_of(self, exchange: _SharedExchange) -> Outcome:
        pool, connection, batch, waiter = exchange
        try:
            return await waiter
        except OSError as error:
            if connection.broken:
                pool.shared.handle_loss(connection, error)
            return self.failure(batch, pool.url, error)


class CoalescingClusterStore(AsyncClusterStore):
    """An online store on a cluster. Small calls share one connection to each server."""

    pool_class = CoalescingNodePool
    fan_out_class = CoalescingFanOut

    @override
    def close_departed(self, topology: Topology) -> None:
        known = set(topology.addresses)
        for (address, _), pool in self.pools.items():
            if address not in known and isinstance(pool, CoalescingNodePool):
                pool.shared.retire_current()
        super().close_departed(topology)
