# Generated from store_async.py by featurekit.codegen.unasync: edit that file.
"""A store on a cluster, from threads."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, ConnectionStats, ReadOptions
from featurekit.store_options import REPLICA
from featurekit.stores.cluster.fan_out import FanOut
from featurekit.stores.cluster.node_pool import NodePool
from featurekit.stores.cluster.retry import DEFAULT_CALL_OPTIONS, CallOptions, RetryState
from featurekit.stores.cluster.routed_requests import RoutedRequests
from featurekit.stores.cluster.server_commands import ClusterCommands
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.connection import OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.permits import ProcessPermits
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply


class ClusterStore(ClusterCommands):
    """An online store on a cluster; thread-safe, survives `fork`, pickles as its URL."""

    pool_class = NodePool
    fan_out_class = FanOut

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, self.pool_class)
        self._refreshing = ProcessPermits(1)

    @override
    def close(self) -> None:
        for pool in list(self.pools.values()):
            pool.close()

    @override
    def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        routed = RoutedRequests(keys, requests, replies_per_request, ordered=True)
        return self.execute(routed, self.serving)

    @override
    def read(
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
        return self.execute(routed, deadline, CallOptions(options.partial, replicas=replicas))

    @override
    def execute(
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
                topology = topologies.known or self.refresh(None, retry.deadline)
            except StoreUnavailableError as error:
                retry.give_up_or_raise(dict.fromkeys(requests.todo, error))
                break
            route = topologies.route(topology, replicas=replicas)
            batches, unserved = requests.batches(topology, route)
            # A replica may use half of the time, which leaves the rest to its primary.
            timeout_s = retry.timeout_s(share=0.5 if replicas else 1.0)
            pool_of = self.reading_pool if replicas else self.pool
            fan_out = self.fan_out_class(requests, batches, pool_of, deadline, timeout_s)
            pause_s = retry.after_fan_out(fan_out.run(), unserved, topology)
            if not requests.todo:
                break
            self._stats += ConnectionStats(retries=1)
            if replicas:
                topologies.skip_replicas(retry.unresponsive, topology)
                replicas = False  # the primaries are asked at once
            elif pause_s:
                sleep(pause_s)
            if retry.refresh:
                self.refresh(topology, retry.deadline, retry.unresponsive)
        return requests.replies

    @override
    def refresh(
        self, seen: Topology | None, deadline: Deadline, unresponsive: Sequence[Address] = ()
    ) -> Topology:
        """Request the topology, unless another call did since `seen`, or a moment ago."""
        permit = self._refreshing.request()
        try:
            if not permit.wait(deadline.cap(deadline.attempt_timeout_s)):
                return self.topologies.known_or_fail()
            topology = self.topologies.newer_than(seen)
            if topology is None:
                topology = self.topologies.fetch(deadline, unresponsive)
                self.close_departed(topology)
            return topology
        finally:
            permit.release()
