"""A cluster of servers, from threads.

redis-py tells which server has which slot; what is read and written goes over links of our own to
each server, as with one server. `errand` and `course` decide what is sent where and when again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from time import monotonic, sleep
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import (
    DEFAULT_READ_OPTIONS,
    Capabilities,
    Chunk,
    ConnectionStats,
    OnlineStore,
    ReadOptions,
)
from featurekit.store_options import REPLICA
from featurekit.stores.cluster.fan_out import FanOut
from featurekit.stores.cluster.nodes import NodePool
from featurekit.stores.cluster.pipelined_load import ClusterPipelinedLoad
from featurekit.stores.cluster.retry import RetryState
from featurekit.stores.cluster.routed_requests import RoutedRequests
from featurekit.stores.cluster.routes import FRESH_S, Routes
from featurekit.stores.cluster.topology import Topology, key_at
from featurekit.stores.connection import OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.probe import fetch_capabilities, verify_row_writes
from featurekit.stores.server_commands import scan_pages
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply, parse_info, text_command


class ClusterStore(OnlineStore):
    """An online store on a cluster; thread-safe, survives `fork`, pickles as its URL.

    Attributes:
        url: Where it is. Its text shows no password.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self._pools: dict[tuple[Address, bool], NodePool] = {}
        self._serving = Deadline(url.timeout_s, url.retries)
        self._upkeep = Deadline(url.load_timeout_s, url.retries)
        self._capabilities: Capabilities | None = None
        self._proven: set[str] = set()
        self._routes = Routes(url)
        self._past = ConnectionStats()
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._asking = threading.Lock()

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    @override
    def describe(self) -> str:
        return str(self.url)

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        pools = list(self._pools.values())
        return sum((pool.connection_stats for pool in pools), self._past)

    @property
    @override
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            told = [
                fetch_capabilities(
                    partial(self._exchange_at, address), str(self.url.for_server(*address))
                )
                for address in self._primaries()
            ]
            versions = " and ".join(sorted({each.server for each in told}))
            self._capabilities = Capabilities(
                hsetex=all(each.hsetex for each in told),
                transactions=False,
                server=f"{versions}, a cluster of {len(told)} primaries",
            )
        return self._capabilities

    @override
    def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        return self._carry(
            RoutedRequests(keys, requests, replies_per_request, ordered=True), self._serving
        )

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
        deadline = self._serving
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        replicas = self.url.read_from == REPLICA
        errand = RoutedRequests(keys, requests, replies_per_request, on_reply)
        return self._carry(errand, deadline, partial=options.partial, replicas=replicas)

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        about = key.encode() if isinstance(key, str) else key
        for pool in list(self._pools.values()):
            pool.close_idle(stale_only=True)
        errand = RoutedRequests([about], [text_command(*args)])
        reply: Reply = self._carry(errand, Deadline(self.url.load_timeout_s), once=True)[0]
        return reply

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._proven:
            return
        capabilities, deadline_s = self.capabilities, monotonic() + self.url.load_timeout_s
        while True:
            topology = self._refresh(self._routes.known, self._upkeep)
            try:
                for address in topology.primaries:
                    key = key_at(topology, address, f"{prefix}:@probe:")
                    exchange = partial(self._exchange_at, address)
                    verify_row_writes(exchange, self.url.for_server(*address), capabilities, key)
            except StoreUnavailableError:
                if monotonic() > deadline_s:
                    raise
                sleep(FRESH_S)
            else:
                break
        self._proven.add(prefix)

    @override
    def load(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        load = ClusterPipelinedLoad(
            self.url, self._locate, self._pool, self._carry_patiently, self._is_replaced
        )
        try:
            yield from load.run(iter(chunks))
        finally:
            load.close()

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        request = text_command("INFO", section)
        return [parse_info(self._exchange_at(each, request, 1)[0]) for each in self._primaries()]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        scans = [
            scan_pages(
                partial(self._exchange_at, address), pattern, str(self.url.for_server(*address))
            )
            for address in self._primaries()
        ]
        while scans:
            # In turns, so that whoever looks at a few keys sees some of every server.
            for scan in list(scans):
                if (page := next(scan, None)) is None:
                    scans.remove(scan)
                else:
                    yield page

    @override
    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.close_idle()

    def _primaries(self) -> list[Address]:
        """The primaries as of now: no answer to a key would tell that they are others by now."""
        return self._refresh(self._routes.known, self._upkeep).primaries

    def _carry_patiently(self, errand: RoutedRequests) -> list[Any]:
        """Carry what a load has to send again, for as long as it may wait."""
        return self._carry(errand, Deadline.for_call(self.url.load_timeout_s, self.url.retries))

    def _is_replaced(self, address: Address) -> bool:
        """Whether another server is the primary in the place of one that is silent."""
        topology = self._refresh(self._routes.known, self._upkeep, [address])
        return address not in topology.primaries

    def _carry(
        self,
        errand: RoutedRequests,
        deadline: Deadline,
        *,
        partial: bool = False,
        once: bool = False,
        replicas: bool = False,
    ) -> list[Any]:
        """Send and collect, in as many rounds as it takes and as there is time for."""
        pool_of = self._reading_pool if replicas else self._pool
        course = RetryState(self.url, errand, deadline, partial=partial, once=once)
        while errand.todo:
            try:
                topology = self._current(course.deadline)
            except StoreUnavailableError as error:
                if not partial:
                    raise
                errand.give_up(dict.fromkeys(errand.todo, error))
                break
            parcels, lost = errand.parcels(
                topology, self._routes.route(topology, replicas=replicas)
            )
            # A replica may use up half of the time, so that its primary can be asked after it.
            timeout_s = course.timeout_s(share=0.5 if replicas else 1.0)
            outcome = FanOut(errand, pool_of, deadline, timeout_s).run(parcels)
            pause_s = course.next(outcome, lost, topology)
            if not errand.todo:
                break
            self._past += ConnectionStats(retries=1)
            if replicas:
                # Their primaries are asked at once.
                self._routes.leave_alone(course.away, topology)
                replicas = False
            elif pause_s:
                sleep(pause_s)
            if course.refresh:
                self._refresh(topology, course.deadline, course.away)
        return errand.replies

    def _locate(self, keys: Sequence[bytes]) -> list[Address | None]:
        return self._routes.servers_of(self._current(self._upkeep), keys)

    def _pool(self, address: Address, *, reading: bool = False) -> NodePool:
        pool = self._pools.get((address, reading))
        if pool is None:
            made = NodePool(self.url.for_server(*address), reading=reading)
            pool = self._pools.setdefault((address, reading), made)
        return pool

    def _reading_pool(self, address: Address) -> NodePool:
        return self._pool(address, reading=True)

    def _current(self, deadline: Deadline) -> Topology:
        return self._routes.known or self._refresh(None, deadline)

    def _refresh(
        self, seen: Topology | None, deadline: Deadline, away: Iterable[Address] = ()
    ) -> Topology:
        """Ask for the topology, unless another thread did since the one seen, or just now."""
        if os.getpid() != self._pid:
            self._start()
        if not self._asking.acquire(timeout=deadline.cap(deadline.attempt_timeout_s)):
            return self._routes.known_or_fail()
        try:
            if (newer := self._routes.newer_than(seen)) is not None:
                return newer
            found = self._routes.find(deadline, away)
            known = set(found.addresses)
            for place in [place for place in self._pools if place[0] not in known]:
                pool = self._pools.pop(place)
                pool.close_idle()
                self._past += pool.connection_stats
        finally:
            self._asking.release()
        return found

    def _exchange_at(self, address: Address, data: bytes, replies: int) -> list[Reply]:
        """Ask one server, whatever keys it has; once more if its connection broke."""
        pool, retries = self._pool(address), self.url.retries
        while True:
            link = pool.obtain(self._upkeep)
            try:
                answered = link.exchange(data, replies, self.url.load_timeout_s)
            except OSError as error:
                pool.give_up(link, error)
                retries -= 1
                if retries < 0 or isinstance(error, TimeoutError):
                    raise unavailable_error(
                        pool.url, "waiting for replies", self._upkeep, error
                    ) from error
            except BaseException:
                pool.abandon(link)
                raise
            else:
                pool.release(link)
                return answered
