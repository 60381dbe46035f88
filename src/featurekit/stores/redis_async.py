"""One Redis or Valkey server, from one asyncio event loop at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, AsyncOnlineStore, ConnectionStats, ReadOptions
from featurekit.stores.connection import OnReply, unavailable_replies
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import raise_if_demoted, unavailable_error
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
    def connection_stats(self) -> ConnectionStats:
        return self._pool.connection_stats

    @override
    async def run(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        replies_per_request: int | Sequence[int] = 1,
    ) -> list[Reply]:
        if not requests:
            return []
        count = (
            len(requests) * replies_per_request
            if isinstance(replies_per_request, int)
            else sum(replies_per_request)
        )
        return await self._exchange(b"".join(requests), count, self._serving, raise_if_demoted)

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
        if not requests:
            return []
        count, deadline = len(requests) * replies_per_request, self._serving
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        try:
            return await self._exchange(b"".join(requests), count, deadline, on_reply)
        except StoreUnavailableError as error:
            if not options.partial:
                raise
            return unavailable_replies(error, count, on_reply)

    @override
    async def close(self) -> None:
        await self._pool.close()

    async def _exchange(
        self, data: bytes, count: int, deadline: Deadline, on_reply: OnReply = None
    ) -> list[Any]:
        """Send and collect; again while there are retries and time for them."""
        began = now = monotonic()
        retries = deadline.retries
        pool = self._pool
        if asyncio.get_running_loop() is not pool.loop:
            await pool.bind_to_loop()
        permits = pool.permits
        if permits.locked():
            await pool.wait_for_permit(permits, deadline)
        else:
            await permits.acquire()
        try:
            while True:
                try:
                    return await self._try(data, count, deadline, on_reply, now)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or not deadline.allows_retry(began):
                        raise
                self._pool.retries += 1
                now = monotonic()
        finally:
            permits.release()

    async def _try(
        self, data: bytes, count: int, deadline: Deadline, on_reply: OnReply, now: float
    ) -> list[Any]:
        pool = self._pool
        wire = pool.get_idle(now) or await pool.get(deadline, now)
        pool.round_trips += 1
        timeout_s = deadline.remaining_s() if deadline.bounds_call else deadline.attempt_timeout_s
        try:
            replies = await wire.exchange(data, count, timeout_s, on_reply)
        except OSError as error:
            pool.handle_loss(wire, error)
            raise unavailable_error(self.url, "waiting for replies", deadline, error) from error
        except BaseException:
            pool.discard(wire)
            raise
        pool.put(wire)
        return replies
