"""Define the sync store on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from time import monotonic, sleep
from typing import Any, cast

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import BeforeSend, Capabilities, Chunk, OnlineStore
from featurekit.stores.cluster.client import ClusterClient, Pause, SendBatches, Steps
from featurekit.stores.cluster.fan_out import FanOut
from featurekit.stores.cluster.nodes import NodePool
from featurekit.stores.cluster.pipelined_load import ClusterPipelinedLoad
from featurekit.stores.cluster.retry import CallOptions
from featurekit.stores.cluster.routed_requests import RoutedRequests
from featurekit.stores.cluster.topology import MIN_REFRESH_S, Topology, key_on_server
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.forks import renew_after_fork
from featurekit.stores.permits import Permits
from featurekit.stores.probe import fetch_capabilities, verify_row_writes
from featurekit.stores.server_commands import scan_pages
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply, parse_info, text_command


class ClusterStore(ClusterClient[NodePool, list[Any]], OnlineStore):
    """An online store on a cluster. Thread-safe; survives `fork`; pickles as its URL."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, NodePool)
        self._maintenance = Deadline(url.load_timeout_s, url.retries)
        self._capabilities: Capabilities | None = None
        self._writable: set[str] = set()
        self.renew_in_child()
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Forget a refresh of the topology that was under way in the parent."""
        self._refreshing = Permits(1)
        self._pid = os.getpid()  # last: a thread that sees it sees the rest

    @property
    @override
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            each = [
                fetch_capabilities(
                    partial(self._exchange, address), str(self.url.for_server(*address))
                )
                for address in self._primaries()
            ]
            versions = " and ".join(sorted({one.server for one in each}))
            self._capabilities = Capabilities(
                hsetex=all(one.hsetex for one in each),
                transactions=False,
                server=f"{versions}, a cluster of {len(each)} primaries",
            )
        return self._capabilities

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        for pool in list(self.pools.values()):
            pool.close_idle(stale_only=True)
        routed = RoutedRequests(
            [key.encode() if isinstance(key, str) else key], [text_command(*args)]
        )
        deadline = Deadline(self.url.load_timeout_s)
        reply: Reply = self.execute(routed, deadline, CallOptions(once=True))[0]
        return reply

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._writable:
            return
        capabilities, end = self.capabilities, monotonic() + self.url.load_timeout_s
        while True:
            topology = self._refresh(self.topologies.known, self._maintenance)
            try:
                for address in topology.primaries:
                    key = key_on_server(topology, address, f"{prefix}:@probe:")
                    exchange = partial(self._exchange, address)
                    verify_row_writes(exchange, self.url.for_server(*address), capabilities, key)
            except StoreUnavailableError:
                if monotonic() > end:
                    raise
                sleep(MIN_REFRESH_S)
            else:
                break
        self._writable.add(prefix)

    @override
    def load(
        self, chunks: Iterable[Chunk], before_send: BeforeSend | None = None
    ) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        load = ClusterPipelinedLoad(
            self.url, self._locate, self.pool, self._execute_patiently, self._has_lost_slots
        )
        load.before_send = before_send
        try:
            yield from load.run(iter(chunks))
        finally:
            load.close()

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        request = text_command("INFO", section)
        return [parse_info(self._exchange(each, request, 1)[0]) for each in self._primaries()]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        scans = [
            scan_pages(
                partial(self._exchange, address), pattern, str(self.url.for_server(*address))
            )
            for address in self._primaries()
        ]
        while scans:
            # In turns, so that a caller that takes a few pages sees keys of every server.
            for scan in list(scans):
                if (page := next(scan, None)) is None:
                    scans.remove(scan)
                else:
                    yield page

    @override
    def close(self) -> None:
        for pool in list(self.pools.values()):
            pool.close_idle()

    @override
    def perform(self, steps: Steps[NodePool]) -> list[Any]:
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                return cast("list[Any]", end.value)
            if isinstance(step, SendBatches):
                result = FanOut(step).run()
            elif isinstance(step, Pause):
                sleep(step.seconds)
            else:
                try:
                    result = self._refresh(*step)
                except StoreUnavailableError as error:
                    result = error

    def _refresh(
        self, seen: Topology | None, deadline: Deadline, unresponsive: Iterable[Address] = ()
    ) -> Topology:
        """Request the topology, unless another thread did since `seen`, or a moment ago."""
        if os.getpid() != self._pid:
            self.renew_in_child()
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

    def _primaries(self) -> list[Address]:
        """Return the primaries as of now; without a key, no server would answer `MOVED`."""
        return self._refresh(self.topologies.known, self._maintenance).primaries

    def _locate(self, keys: Sequence[bytes]) -> list[Address | None]:
        topology = self.topologies.known or self._refresh(None, self._maintenance)
        return topology.primaries_of(keys)

    def _execute_patiently(self, requests: RoutedRequests) -> list[Any]:
        """Execute what a load sends again, for as long as a load may wait."""
        deadline = Deadline.for_call(self.url.load_timeout_s, self.url.retries)
        return self.execute(requests, deadline)

    def _has_lost_slots(self, address: Address) -> bool:
        """Return whether a silent server is not a primary any more."""
        topology = self._refresh(self.topologies.known, self._maintenance, [address])
        return address not in topology.primaries

    def _exchange(self, address: Address, data: bytes, replies: int) -> list[Reply]:
        """Send a request to one server, regardless of its keys; retry if the connection breaks."""
        pool, retries = self.pool(address), self.url.retries
        while True:
            connection = pool.acquire(self._maintenance)
            try:
                values = connection.exchange(data, replies, self.url.load_timeout_s)
            except OSError as error:
                pool.release_failed(connection, error)
                retries -= 1
                if retries < 0 or isinstance(error, TimeoutError):
                    raise unavailable_error(
                        pool.url, "waiting for replies", self._maintenance, error
                    ) from error
            except BaseException:
                pool.abandon(connection)
                raise
            else:
                pool.release(connection)
                return values
