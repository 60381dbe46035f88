"""The connection pools of a cluster's servers and its topology, for both forms of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from typing_extensions import override

from featurekit.ports import ConnectionStats
from featurekit.stores.cluster.topology import Topology, TopologyCache
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool_state import PoolState
from featurekit.stores.url import Address, StoreUrl

PoolT = TypeVar("PoolT", bound=PoolState[Any])


class ClusterClient(Generic[PoolT]):
    """What the sync and asyncio stores of a cluster share.

    Attributes:
        url: The cluster's URL. Its text does not show the password.
    """

    def __init__(self, url: StoreUrl, make_pool: Callable[..., PoolT]) -> None:
        self.url = url
        self.serving = Deadline(url.timeout_s, url.retries)
        self.topologies = TopologyCache(url)
        self.pools: dict[tuple[Address, bool], PoolT] = {}
        self._make_pool = make_pool
        self._stats = ConnectionStats()

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def describe(self) -> str:
        """Return the cluster's address for messages, without its password."""
        return str(self.url)

    @property
    def connection_stats(self) -> ConnectionStats:
        """Counters of the connections to all servers, including those that left the cluster."""
        pools = list(self.pools.values())
        return sum((pool.connection_stats for pool in pools), self._stats)

    def pool(self, address: Address) -> PoolT:
        """Return the pool for writes to a server, and for reads from a primary."""
        return self._pool(address, reading=False)

    def reading_pool(self, address: Address) -> PoolT:
        """Return the pool for reads from a server that may be a replica."""
        return self._pool(address, reading=True)

    def _pool(self, address: Address, *, reading: bool) -> PoolT:
        pool = self.pools.get((address, reading))
        if pool is None:
            made = self._make_pool(self.url.for_server(*address), reading=reading)
            pool = self.pools.setdefault((address, reading), made)
        return pool

    def close_departed(self, topology: Topology) -> None:
        """Close the pools of servers that are no longer in the cluster."""
        known = set(topology.addresses)
        for key in [key for key in self.pools if key[0] not in known]:
            pool = self.pools.pop(key)
            pool.close_idle()
            self._stats += pool.connection_stats
