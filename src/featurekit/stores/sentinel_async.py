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
from featurekit.ports import DEFAULT_READ_OPTIONS, ReadOptions, Traffic
from featurekit.stores.connection import ROLE, Take, connecting, unless_away
from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import check_primary, unavailable, unconnected
from featurekit.stores.options import REPLICA
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.sentinels import PrimaryTracker, Sentinels
from featurekit.stores.url import StoreUrl


class AsyncSentinelPool(AsyncPool):
    """Wires to the server that is the primary now."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels) -> None:
        super().__init__(url)
        self.whereabouts = PrimaryTracker(url, sentinels.primary)

    @override
    def ready(self, now: float) -> AsyncConnection | None:
        told = self.whereabouts
        return None if told.due(now) or told.era != self.era else super().ready(now)

    @override
    async def take(self, patience: Deadline, now: float) -> AsyncConnection:
        await self._look_if_due(patience)
        return await super().take(patience, now)

    @override
    async def connect(self, patience: Deadline) -> AsyncConnection:
        await self._look_if_due(patience)
        era = self.era
        try:
            wire = await self._open(patience)
        except StoreUnavailableError as error:
            self.whereabouts.missed(error)
            raise
        wire.era = era
        return wire

    @override
    def give(self, wire: AsyncConnection) -> None:
        if wire.era == self.era:
            super().give(wire)
        else:
            self.discard(wire)

    @override
    def lost(self, wire: AsyncConnection, error: OSError) -> None:
        self.whereabouts.doubt()
        super().lost(wire, error)

    async def _look_if_due(self, patience: Deadline) -> None:
        whereabouts = self.whereabouts
        if whereabouts.claim(monotonic()):
            try:
                async with asyncio.timeout(patience.bounded(self.url.load_timeout_s)):
                    await asyncio.to_thread(whereabouts.look, patience)
            except TimeoutError as error:
                raise unavailable(self.url, "asking the sentinels", patience, error) from error
        if self.era != whereabouts.era:
            self.era = whereabouts.era
            self.drop()

    async def _open(self, patience: Deadline) -> AsyncConnection:
        [address] = self.whereabouts.addresses
        url = self.url.at(*address)
        wire = await connect(url, patience)
        step = connecting(url, patience)
        try:
            [role] = await wire.exchange(ROLE, 1, step.left_s())
            check_primary(url, role)
        except OSError as error:
            wire.close()
            raise unconnected(url, error, step) from error
        except BaseException:
            wire.close()
            raise
        return wire


class AsyncReplicaPool(AsyncSentinelPool):
    """Wires to replicas, each to one of them by chance; to the primary if none is up."""

    def __init__(self, url: StoreUrl, sentinels: Sentinels, primary: AsyncPool) -> None:
        super().__init__(url, sentinels)
        self.whereabouts = PrimaryTracker(url, sentinels.replicas)
        self._primary = primary

    @override
    async def _open(self, patience: Deadline) -> AsyncConnection:
        addresses = self.whereabouts.addresses
        for address in random.sample(addresses, len(addresses)):
            try:
                return await connect(self.url.at(*address), patience)
            except StoreUnavailableError:
                # When it is told of again, that is news, and the primary is left in peace.
                self.whereabouts.addresses = []
        return await self._primary.connect(patience)


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
    def traffic(self) -> Traffic:
        own = super().traffic
        return own + self._replicas.traffic if self._replicas is not None else own

    @override
    async def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        take: Take = None,
        *,
        width: int = 1,
        terms: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> list[Any]:
        if self._replicas is None:
            return await super().read(keys, requests, take, width=width, terms=terms)
        return await self._replicas.read(
            keys, requests, unless_away(take), width=width, terms=terms
        )

    @override
    async def close(self) -> None:
        await super().close()
        if self._replicas is not None:
            await self._replicas.close()
