"""Define what the sync and asyncio stores of a cluster share: state, and calls without I/O.

`ClusterClient.steps` is a generator: it yields what a call must do next, and the store does it, with
or without `await`, and sends the result back. Rejected: a second copy of the loop with `await` in
it, and an event loop behind the sync store, which would cost every read a thread switch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, ConnectionStats, ReadOptions
from featurekit.store_options import REPLICA
from featurekit.stores.cluster.retry import DEFAULT_CALL_OPTIONS, CallOptions, Failure, RetryState
from featurekit.stores.cluster.routed_requests import NodeBatch, RoutedRequests
from featurekit.stores.cluster.topology import Topology, TopologyCache
from featurekit.stores.connection import OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.url import Address, StoreUrl


class NodePoolLike(Protocol):
    """What is common to `NodePool` and `AsyncNodePool`."""

    @property
    def connection_stats(self) -> ConnectionStats:
        """Counters of the pool's connections."""

    def close_idle(self) -> None:
        """Close the idle connections."""


PoolT = TypeVar("PoolT", bound=NodePoolLike)
Replies = list[Any]
AsyncReplies = Coroutine[Any, Any, Replies]
RepliesT = TypeVar("RepliesT", Replies, AsyncReplies)


class SendBatches(NamedTuple, Generic[PoolT]):
    """Send batches to their servers; the result is a `FanOutResult`.

    Attributes:
        requests: The requests in the batches; they store the replies.
        batches: One or more batches, each for another server.
        pool_of: Returns the connection pool of a server.
        deadline: The time limit of the call.
        timeout_s: How long to wait for replies.
    """

    requests: RoutedRequests
    batches: list[NodeBatch]
    pool_of: Callable[[Address], PoolT]
    deadline: Deadline
    timeout_s: float

    def failure(self, batch: NodeBatch, url: StoreUrl, error: OSError) -> Failure:
        """Return the failure of a batch whose connection broke, or timed out, after sending."""
        reason = unavailable_error(url, "waiting for replies", self.deadline, error)
        reason.__cause__ = error
        return Failure(batch, reason, sent=True)


class RefreshTopology(NamedTuple):
    """Refresh the topology; the result is the `Topology`, or the `StoreUnavailableError`."""

    seen: Topology | None
    deadline: Deadline
    unresponsive: Sequence[Address] = ()


class Pause(NamedTuple):
    """Sleep; the result is `None`."""

    seconds: float


Step = SendBatches[PoolT] | RefreshTopology | Pause
Steps = Generator[Step[PoolT], Any, Replies]


class ClusterClient(ABC, Generic[PoolT, RepliesT]):
    """The connection pools of a cluster's servers, its topology, and the steps of a call.

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

    def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> RepliesT:
        """Send all requests; see `OnlineStore.run`."""
        routed = RoutedRequests(keys, requests, replies_per_request, ordered=True)
        return self.execute(routed, self.serving)

    def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        on_reply: OnReply = None,
        *,
        replies_per_request: int = 1,
        options: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> RepliesT:
        """Send requests that only read; see `OnlineStore.read`."""
        deadline = self.serving
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        routed = RoutedRequests(keys, requests, replies_per_request, on_reply)
        replicas = self.url.read_from == REPLICA
        return self.execute(routed, deadline, CallOptions(options.partial, replicas=replicas))

    def execute(
        self,
        requests: RoutedRequests,
        deadline: Deadline,
        options: CallOptions = DEFAULT_CALL_OPTIONS,
    ) -> RepliesT:
        """Send requests, as often as necessary, and return their replies."""
        return self.perform(self.steps(requests, deadline, options))

    @abstractmethod
    def perform(self, steps: Steps[PoolT]) -> RepliesT:
        """Perform the steps of a call, and return the replies that the generator returns."""

    def steps(
        self, requests: RoutedRequests, deadline: Deadline, options: CallOptions
    ) -> Steps[PoolT]:
        """Yield what to do until every request is answered, and return the replies.

        Each `yield` expects the result of the step.

        Raises:
            StoreError: A request cannot be answered.
        """
        topologies, replicas = self.topologies, options.replicas
        retry = RetryState(self.url, requests, deadline, options)
        while requests.todo:
            topology = topologies.known or (yield RefreshTopology(None, retry.deadline))
            if isinstance(topology, StoreUnavailableError):
                retry.give_up_or_raise(dict.fromkeys(requests.todo, topology))
                break
            route = topologies.route(topology, replicas=replicas)
            batches, unserved = requests.batches(topology, route)
            # A replica may use half of the time, which leaves the rest to its primary.
            timeout_s = retry.timeout_s(share=0.5 if replicas else 1.0)
            pool_of = self.reading_pool if replicas else self.pool
            result = yield SendBatches(requests, batches, pool_of, deadline, timeout_s)
            pause_s = retry.after_fan_out(result, unserved, topology)
            if not requests.todo:
                break
            self._stats += ConnectionStats(retries=1)
            if replicas:
                topologies.skip_replicas(retry.unresponsive, topology)
                replicas = False  # the primaries are asked at once
            elif pause_s:
                yield Pause(pause_s)
            if retry.refresh:
                topology = yield RefreshTopology(topology, retry.deadline, retry.unresponsive)
                if isinstance(topology, StoreUnavailableError):
                    raise topology
        return requests.replies
