# Generated from redis_async.py by featurekit.codegen.unasync: edit that file.
"""One Redis or Valkey server, from threads."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.ports import (
    DEFAULT_READ_OPTIONS,
    ConnectionStats,
    ReadOptions,
)
from featurekit.stores.connection import OnReply, unavailable_replies
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import raise_if_demoted, unavailable_error
from featurekit.stores.pool import Pool
from featurekit.stores.server_commands import ServerCommands
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply


class RedisStore(ServerCommands):
    """An online store on one server; thread-safe, survives `fork`, pickles as its URL.

    Attributes:
        url: The server. Its text contains no password.
    """

    def __init__(
        self, url: StoreUrl, pool: Pool | None = None, reading_pool: Pool | None = None
    ) -> None:
        self.url = url
        self._pool = pool or Pool(url)
        self._reading_pool = reading_pool or self._pool
        self._deadline = Deadline(url.timeout_s, url.retries)

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
        stats = self._pool.connection_stats
        if self._reading_pool is not self._pool:
            stats += self._reading_pool.connection_stats
        return stats

    @override
    def run(
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
        return self._exchange(b"".join(requests), count, self._deadline, raise_if_demoted)

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
        if not requests:
            return []
        count, deadline = len(requests) * replies_per_request, self._deadline
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        try:
            data, pool = b"".join(requests), self._reading_pool
            return self._exchange(data, count, deadline, on_reply, pool)
        except StoreUnavailableError as error:
            if not options.partial:
                raise
            return unavailable_replies(error, count, on_reply)

    @override
    def close(self) -> None:
        self._pool.close()
        self._reading_pool.close()

    @override
    def _exchange(
        self,
        data: bytes,
        count: int,
        deadline: Deadline,
        on_reply: OnReply = None,
        pool: Pool | None = None,
    ) -> list[Any]:
        """Send `data` and return its replies, with retries while the deadline allows them."""
        began = now = monotonic()
        retries = deadline.retries
        pool = pool or self._pool
        permit = pool.acquire_permit(deadline)
        try:
            while True:
                try:
                    return self._attempt(data, count, deadline, on_reply, pool, now)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or not deadline.allows_retry(began):
                        raise
                pool.retries += 1
                now = monotonic()
        finally:
            permit.release()

    def _attempt(
        self,
        data: bytes,
        count: int,
        deadline: Deadline,
        on_reply: OnReply,
        pool: Pool,
        now: float,
    ) -> list[Any]:
        connection = pool.get_idle(now) or pool.get(deadline, now)
        pool.round_trips += 1
        timeout_s = deadline.remaining_s() if deadline.bounds_call else deadline.attempt_timeout_s
        try:
            replies = connection.exchange(data, count, timeout_s, on_reply, deadline.deadline_s)
        except OSError as error:
            pool.handle_loss(connection, error)
            raise unavailable_error(self.url, "waiting for replies", deadline, error) from error
        except BaseException:
            pool.discard(connection)
            raise
        pool.put(connection)
        return replies
