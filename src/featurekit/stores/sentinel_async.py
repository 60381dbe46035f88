"""A primary and its replicas that sentinels watch, from one asyncio event loop at a time.

Sentinels are asked on another thread: it is rare, and short.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, ConnectionStats, ReadOptions
from featurekit.stores.connection import ROLE, OnReply, connect_deadline, raise_if_not_ready
from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import check_primary, connect_error, unavailable_error
from featurekit.stores.options import REPLICA
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.sentinels import PrimaryTracker, Sentinels
from featurekit.stores.url import StoreUrl


class AsyncSentinelPool(AsyncPool):
    """Wires to the server that is the primary now."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels) -> None:
        super().__init__(url)
        self.tracker = PrimaryTracker(url, sentinels.primary)

    @override
    def get_idle(self, now: float) -> AsyncConnection | None:
        told = self.tracker
        return (
            None if told.due(now) or told.generation != self.generation else super().get_idle(now)
        )

    @override
    async def get(self, deadline: Deadline, now: float) -> AsyncConnection:
        await self._look_if_due(deadline)
        return await super().get(deadline, now)

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        await self._look_if_due(deadline)
        generation = self.generation
        try:
            wire = await self._open(deadline)
        except StoreUnavailableError as error:
            self.tracker.handle_connect_failure(error)
            raise
        wire.generation = generation
        return wire

    @override
    def put(self, wire: AsyncConnection) -> None:
        if wire.generation == self.generation:
            super().put(wire)
        else:
            self.discard(wire)

    @override
    def handle_loss(self, wire: AsyncConnection, error: OSError) -> None:
        self.tracker.invalidate()
        super().handle_loss(wire, error)

    async def _look_if_due(self, deadline: Deadline) -> None:
        tracker = self.tracker
        if tracker.claim(monotonic()):
            try:
                async with asyncio.timeout(deadline.cap(self.url.load_timeout_s)):
                    await asyncio.to_thread(tracker.look, deadline)
            except TimeoutError as error:
                raise unavailable_error(
                    self.url, "asking the sentinels", deadline, error
                ) from error
        if self.generation != tracker.generation:
            self.generation = tracker.generation
            self.close_idle()

    async def _open(self, deadline: Deadline) -> AsyncConnection:
        [address] = self.tracker.addresses
        url = self.url.for_server(*address)
        wire = await connect(url, deadline)
        step = connect_deadline(url, deadline)
        try:
            [role] = await wire.exchange(ROLE, 1, step.remaining_s())
            check_primary(url, role)
        except OSError as error:
            wire.close()
            raise connect_error(url, error, step) from error
        except BaseException:
            wire.close()
            raise
        return wire


class AsyncReplicaPool(AsyncSentinelPool):
    """Wires to replicas, each to one of them by chance; to the primary if none is up."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels, primary: AsyncPool) -> None:
        super().__init__(url, sentinels)
        self.tracker = PrimaryTracker(url, sentinels.replicas)
        self._primary = primary

    @override
    async def _open(self, deadline: Deadline) -> AsyncConnection:
        addresses = self.tracker.addresses
        for address in random.sample(addresses, len(addresses)):
            try:
                return await connect(self.url.for_server(*address), deadline)
            except StoreUnavailableError:
                # When it is told of again, that is news, and the primary is left in peace.
                self.tracker.addresses = []
        return await self._primary.connect(deadline)


class AsyncSentinelStore(AsyncRedisStore):
    """The asyncio side of `SentinelStore`."""

    def __init__(self, url: StoreUrl) -> None:
        sentinels = Sentinels(url)
        primary = AsyncSentinelPool(url, sentinels)
        super().__init__(url, primary)
        self._replicas = (
            AsyncRedisStore(url, AsyncReplicaPool(url, sentinels, primary))
            if url.read_from == REPLICA
            else None
        )

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        own = super().connection_stats
        return own + self._replicas.connection_stats if self._replicas is not None else own

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
        if self._replicas is None:
            return await super().read(
                keys, requests, on_reply, replies_per_request=replies_per_request, options=options
            )
        return await self._replicas.read(
            keys,
            requests,
            raise_if_not_ready(on_reply),
            replies_per_request=replies_per_request,
            options=options,
        )

    @override
    async def close(self) -> None:
        await super().close()
        if self._replicas is not None:
            await self._replicas.close()
