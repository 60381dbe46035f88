# Generated from store_async.py by featurekit.codegen.unasync: edit that file.
"""A store on a cluster, from threads."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep
from typing import Any, cast

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.stores.cluster.client import (
    Pause,
    Replies,
    SendBatches,
    Steps,
)
from featurekit.stores.cluster.fan_out import FanOut
from featurekit.stores.cluster.node_pool import NodePool
from featurekit.stores.cluster.server_commands import ClusterCommands
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.permits import ProcessPermits
from featurekit.stores.url import Address, StoreUrl


class ClusterStore(ClusterCommands):
    """An online store on a cluster; thread-safe, survives `fork`, pickles as its URL."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, NodePool)
        self._refreshing = ProcessPermits(1)

    @override
    def close(self) -> None:
        for pool in list(self.pools.values()):
            pool.close()

    @override
    def perform(self, steps: Steps[NodePool]) -> Replies:
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                return cast("Replies", end.value)
            if isinstance(step, SendBatches):
                result = FanOut(step).run()
            elif isinstance(step, Pause):
                sleep(step.seconds)
            else:
                try:
                    result = self.refresh(*step)
                except StoreUnavailableError as error:
                    result = error

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
