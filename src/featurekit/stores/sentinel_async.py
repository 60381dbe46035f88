"""A primary and its replicas that sentinels watch, from one asyncio event loop at a time."""

from __future__ import annotations

import random
from time import monotonic

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.store_options import REPLICA
from featurekit.stores.connect import connect_async, connect_deadline
from featurekit.stores.connection import ROLE, AsyncConnection
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import check_primary, connect_error
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.sentinels import PrimaryTracker, Sentinels
from featurekit.stores.url import StoreUrl


class AsyncSentinelPool(AsyncPool):
    """Connections to the current primary."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels) -> None:
        super().__init__(url)
        self.tracker = PrimaryTracker(url, sentinels.primary)

    @override
    def get_idle(self, now: float) -> AsyncConnection | None:
        return super().get_idle(now) if self.is_settled(now) else None

    @override
    def is_settled(self, now: float) -> bool:
        return not self.tracker.is_due(now) and self.tracker.generation == self.generation

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        await self.follow_server(deadline, monotonic())
        generation = self.generation
        try:
            connection = await self._open_connection(deadline)
        except StoreUnavailableError as error:
            self.tracker.handle_connect_failure(error)
            raise
        connection.generation = generation
        return connection

    @override
    def put(self, connection: AsyncConnection) -> None:
        if connection.generation == self.generation:
            super().put(connection)
        else:
            self.discard(connection)

    @override
    def handle_loss(self, connection: AsyncConnection, error: OSError) -> None:
        self.tracker.invalidate()
        super().handle_loss(connection, error)

    @override
    async def follow_server(self, deadline: Deadline, now: float) -> None:
        if self.tracker.claim_lookup(now):
            await self.tracker.refresh_async(deadline)
        if self.generation != self.tracker.generation:
            self.generation = self.tracker.generation
            self.close_idle()

    async def _open_connection(self, deadline: Deadline) -> AsyncConnection:
        [address] = self.tracker.addresses
        url = self.url.for_server(*address)
        connection = await connect_async(url, deadline)
        limits = connect_deadline(url, deadline)
        try:
            [role] = await connection.exchange(ROLE, 1, limits.remaining_s())
            check_primary(url, role)
        except OSError as error:
            connection.close()
            raise connect_error(url, error, limits) from error
        except BaseException:
            connection.close()
            raise
        return connection


class AsyncReplicaPool(AsyncSentinelPool):
    """Connections to replicas, each chosen at random; to the primary if no replica answers."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels, primary: AsyncPool) -> None:
        super().__init__(url, sentinels)
        self.tracker = PrimaryTracker(url, sentinels.replicas)
        self._primary = primary

    @override
    async def _open_connection(self, deadline: Deadline) -> AsyncConnection:
        addresses = self.tracker.addresses
        for address in random.sample(addresses, len(addresses)):
            try:
                return await connect_async(self.url.for_server(*address), deadline)
            except StoreUnavailableError:
                # The next list of replicas is then new, so that reads leave the primary again.
                self.tracker.addresses = []
        return await self._primary.connect(deadline)


class AsyncSentinelStore(AsyncRedisStore):
    """An online store on the primary that sentinels report; replicas answer reads if the URL says so."""

    def __init__(self, url: StoreUrl) -> None:
        sentinels = Sentinels(url)
        primary = AsyncSentinelPool(url, sentinels)
        from_replicas = url.read_from == REPLICA
        replicas = AsyncReplicaPool(url, sentinels, primary) if from_replicas else None
        super().__init__(url, primary, replicas)
        self._tracker = primary.tracker

    @property
    def server(self) -> StoreUrl:
        """The primary's URL as last reported; the store's own URL before the first call."""
        addresses = self._tracker.addresses
        return self.url.for_server(*addresses[0]) if addresses else self.url

    @override
    def describe(self) -> str:
        server = self.server
        if server is self.url:
            return str(self.url)
        return f"{self.url}, whose primary is {server.address}"
