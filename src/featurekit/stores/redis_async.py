"""One Redis or Valkey server, from one asyncio event loop at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, AsyncOnlineStore, ReadOptions, Traffic
from featurekit.stores.connection import Take, unanswered
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable, unless_demoted
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply


class AsyncRedisStore(AsyncOnlineStore):
    """The asyncio side of `RedisStore`. Used from another loop, it opens connections there.

    Attributes:
        url: Where it is. Its text shows no password.
    """

    def __init__(self, url: StoreUrl, pool: AsyncPool | None = None) -> None:
        self.url = url
        self._pool = pool or AsyncPool(url)
        self._serving = Deadline(url.timeout_s, url.retries)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    def describe(self) -> str:
        """Where it is, for people."""
        return str(self.url)

    @property
    @override
    def traffic(self) -> Traffic:
        return self._pool.traffic

    @override
    async def run(
        self, keys: Sequence[bytes], requests: Sequence[bytes], width: int | Sequence[int] = 1
    ) -> list[Reply]:
        if not requests:
            return []
        count = len(requests) * width if isinstance(width, int) else sum(width)
        return await self._exchange(b"".join(requests), count, self._serving, unless_demoted)

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
        if not requests:
            return []
        count, patience = len(requests) * width, self._serving
        if terms.timeout_s:
            patience = Deadline.of_call(terms.timeout_s, patience.retries)
        try:
            return await self._exchange(b"".join(requests), count, patience, take)
        except StoreUnavailableError as error:
            if not terms.partial:
                raise
            return unanswered(error, count, take)

    @override
    async def close(self) -> None:
        await self._pool.close()

    async def _exchange(
        self, data: bytes, count: int, patience: Deadline, take: Take = None
    ) -> list[Any]:
        """Send and collect; again while there are retries and time for them."""
        began = now = monotonic()
        retries = patience.retries
        pool = self._pool
        if asyncio.get_running_loop() is not pool.loop:
            await pool.settle()
        room = pool.room
        if room.locked():
            await pool.wait(room, patience)
        else:
            await room.acquire()
        try:
            while True:
                try:
                    return await self._try(data, count, patience, take, now)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or not patience.again(began):
                        raise
                self._pool.retries += 1
                now = monotonic()
        finally:
            room.release()

    async def _try(
        self, data: bytes, count: int, patience: Deadline, take: Take, now: float
    ) -> list[Any]:
        pool = self._pool
        wire = pool.ready(now) or await pool.take(patience, now)
        pool.trips += 1
        timeout_s = patience.left_s() if patience.bounds_call else patience.try_s
        try:
            replies = await wire.exchange(data, count, timeout_s, take)
        except OSError as error:
            pool.lost(wire, error)
            raise unavailable(self.url, "waiting for replies", patience, error) from error
        except BaseException:
            pool.discard(wire)
            raise
        pool.give(wire)
        return replies
