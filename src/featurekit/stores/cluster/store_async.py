"""A cluster of servers, from one asyncio event loop at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, AsyncOnlineStore, ConnectionStats, ReadOptions
from featurekit.store_options import REPLICA
from featurekit.stores.cluster.nodes_async import AsyncNodeConnection, AsyncNodePool
from featurekit.stores.cluster.retry import Failure, FanOutResult, RetryState
from featurekit.stores.cluster.routed_requests import NodeBatch, RoutedRequests
from featurekit.stores.cluster.routes import Routes
from featurekit.stores.cluster.topology import Topology
from featurekit.stores.connection import OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply


class AsyncClusterStore(AsyncOnlineStore):
    """The asyncio side of `ClusterStore`. Used from another loop, it opens connections there.

    Attributes:
        url: Where it is. Its text shows no password.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self._pools: dict[tuple[Address, bool], AsyncNodePool] = {}
        self._serving = Deadline(url.timeout_s, url.retries)
        self._routes = Routes(url)
        self._past = ConnectionStats()
        self._asking = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    @override
    def describe(self) -> str:
        return str(self.url)

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        pools = list(self._pools.values())
        return sum((pool.connection_stats for pool in pools), self._past)

    @override
    async def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        return await self._carry(
            RoutedRequests(keys, requests, replies_per_request, ordered=True), self._serving
        )

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
        deadline = self._serving
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        replicas = self.url.read_from == REPLICA
        errand = RoutedRequests(keys, requests, replies_per_request, on_reply)
        return await self._carry(errand, deadline, partial=options.partial, replicas=replicas)

    @override
    async def close(self) -> None:
        for pool in list(self._pools.values()):
            await pool.close()

    async def _carry(
        self,
        errand: RoutedRequests,
        deadline: Deadline,
        *,
        partial: bool = False,
        replicas: bool = False,
    ) -> list[Any]:
        """Send and collect, in as many rounds as it takes and as there is time for."""
        pool_of = self._reading_pool if replicas else self._pool
        course = RetryState(self.url, errand, deadline, partial=partial)
        while errand.todo:
            try:
                topology = self._routes.known or await self._refresh(None, course.deadline)
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
            outcome = await _Round(errand, pool_of, deadline, timeout_s).run(parcels)
            pause_s = course.next(outcome, lost, topology)
            if not errand.todo:
                break
            self._past += ConnectionStats(retries=1)
            if replicas:
                # Their primaries are asked at once.
                self._routes.leave_alone(course.away, topology)
                replicas = False
            elif pause_s:
                await asyncio.sleep(pause_s)
            if course.refresh:
                await self._refresh(topology, course.deadline, course.away)
        return errand.replies

    def _pool(self, address: Address, *, reading: bool = False) -> AsyncNodePool:
        pool = self._pools.get((address, reading))
        if pool is None:
            pool = AsyncNodePool(self.url.for_server(*address), reading=reading)
            self._pools[address, reading] = pool
        return pool

    def _reading_pool(self, address: Address) -> AsyncNodePool:
        return self._pool(address, reading=True)

    async def _refresh(
        self, seen: Topology | None, deadline: Deadline, away: Iterable[Address] = ()
    ) -> Topology:
        """Ask for the topology, unless another task did since the one seen, or just now."""
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop, self._asking = loop, asyncio.Lock()
        asking = self._asking
        try:
            async with asyncio.timeout(deadline.cap(deadline.attempt_timeout_s)):
                await asking.acquire()
        except TimeoutError:
            return self._routes.known_or_fail()
        try:
            if (newer := self._routes.newer_than(seen)) is not None:
                return newer
            found = await asyncio.to_thread(self._routes.find, deadline, tuple(away))
            known = set(found.addresses)
            for place in [place for place in self._pools if place[0] not in known]:
                pool = self._pools.pop(place)
                pool.close_idle()
                self._past += pool.connection_stats
        finally:
            asking.release()
        return found


class _Round:
    """One exchange with several servers at once; as `rounds.FanOut`."""

    def __init__(
        self,
        errand: RoutedRequests,
        pool_of: Callable[[Address], AsyncNodePool],
        deadline: Deadline,
        timeout_s: float,
    ) -> None:
        self._errand = errand
        self._pool_of = pool_of
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._outcome = FanOutResult()

    async def run(self, parcels: Sequence[NodeBatch]) -> FanOutResult:
        """Send every parcel, and wait until each has got its replies or cannot get them."""
        if len(parcels) == 1:
            self._take_in(parcels[0], await self._carry(parcels[0]))
            return self._outcome
        under_way: list[_UnderWay] = []
        cold: list[tuple[NodeBatch, asyncio.Task[list[Any] | Failure]]] = []
        now = monotonic()
        try:
            for parcel in parcels:
                pool = self._pool_of(parcel.address)
                if (wire := await pool.at_once(now)) is None:
                    cold.append((parcel, asyncio.create_task(self._carry(parcel))))
                else:
                    under_way.append((parcel, pool, wire, self._begin(parcel, wire)))
            while under_way:
                result = await self._end(*under_way[-1])
                self._take_in(under_way.pop()[0], result)
            for parcel, task in cold:
                self._take_in(parcel, await task)
        except BaseException:
            _abandon(under_way, [task for _, task in cold])
            raise
        return self._outcome

    def _begin(self, parcel: NodeBatch, wire: AsyncNodeConnection) -> asyncio.Future[list[Any]]:
        on_reply = self._errand.take_of(parcel)
        return wire.begin(parcel.data, parcel.count, self._timeout_s, on_reply)

    async def _end(
        self,
        parcel: NodeBatch,
        pool: AsyncNodePool,
        wire: AsyncNodeConnection,
        waiter: asyncio.Future[list[Any]],
    ) -> list[Any] | Failure:
        try:
            values = await wire.end(waiter)
        except OSError as error:
            return self._failure(parcel, pool, wire, error)
        pool.release(wire)
        return values

    async def _carry(self, parcel: NodeBatch) -> list[Any] | Failure:
        """Send one parcel, waiting for a wire first if none is ready, and wait for its replies."""
        pool = self._pool_of(parcel.address)
        try:
            wire = await pool.obtain(self._deadline)
        except StoreError as error:
            return Failure(parcel, error, sent=False)
        timeout_s, on_reply = self._deadline.cap(self._timeout_s), self._errand.take_of(parcel)
        try:
            values = await wire.exchange(parcel.data, parcel.count, timeout_s, on_reply)
        except OSError as error:
            return self._failure(parcel, pool, wire, error)
        except BaseException:
            pool.abandon(wire)
            raise
        pool.release(wire)
        return values

    def _failure(
        self, parcel: NodeBatch, pool: AsyncNodePool, wire: AsyncNodeConnection, error: OSError
    ) -> Failure:
        pool.give_up(wire, error)
        fact = unavailable_error(pool.url, "waiting for replies", self._deadline, error)
        fact.__cause__ = error
        return Failure(parcel, fact, sent=True)

    def _take_in(self, parcel: NodeBatch, result: list[Any] | Failure) -> None:
        self._outcome.take_in(self._errand, parcel, result)


_UnderWay = tuple[NodeBatch, AsyncNodePool, AsyncNodeConnection, asyncio.Future[list[Any]]]


def _abandon(
    under_way: Sequence[_UnderWay], tasks: Sequence[asyncio.Task[list[Any] | Failure]]
) -> None:
    """Wait no more for replies, and leave no wire on which some are to come."""
    for _, pool, wire, waiter in under_way:
        waiter.cancel()
        pool.abandon(wire)
    for task in tasks:
        task.cancel()
