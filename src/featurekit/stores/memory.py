"""A store in this process, on fakeredis, for tests without a server.

Each process has one server for each name. It differs from a real one: it deletes expired fields
at once, never runs out of memory, and rounds TTLs down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from redis.exceptions import RedisError
from typing_extensions import override

from featurekit.errors import MissingExtraError
from featurekit.ports import BeforeSend, Chunk
from featurekit.stores.connection import AsyncConnection, Connection, OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool import Pool
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis import RedisStore
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, first_error

VERSION = (8, 0)
_servers: dict[str, Any] = {}


class MemoryConnection(Connection):
    """A connection to a server in this process. It never breaks."""

    __slots__ = ("_fake",)

    def __init__(self, fake: Any) -> None:
        self._fake = fake
        self.used_at = inf
        self.closed = False

    @override
    def exchange(
        self,
        data: bytes,
        count: int,
        timeout_s: float,
        on_reply: OnReply = None,
        deadline_s: float = inf,
    ) -> list[Any]:
        self._fake.send_packed_command([data], check_health=False)
        replies = [self._read_reply() for _ in range(count)]
        return list(map(on_reply, replies)) if on_reply else replies

    @override
    def is_stale(self) -> bool:
        return False

    @override
    def close(self) -> None:
        self.closed = True
        self._fake.disconnect()

    def _read_reply(self) -> Reply:
        try:
            return _as_reply(self._fake.read_response(disconnect_on_error=False))
        except RedisError as error:
            return _error_reply(error)


class AsyncMemoryConnection(AsyncConnection):
    """The asyncio form of `MemoryConnection`. It never waits."""

    def __init__(self, fake: Any) -> None:
        self._connection = MemoryConnection(fake)
        self.used_at = inf

    @override
    async def exchange(
        self,
        data: bytes,
        count: int,
        timeout_s: float,
        on_reply: OnReply = None,
        deadline_s: float = inf,
    ) -> list[Any]:
        return self._connection.exchange(data, count, timeout_s, on_reply)

    @override
    def close(self) -> None:
        self.broken = True
        self._connection.close()


class _MemoryPool(Pool):
    @override
    def connect(self, deadline: Deadline) -> Connection:
        return MemoryConnection(_connect_fake(self.url.path))


class _AsyncMemoryPool(AsyncPool):
    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        return AsyncMemoryConnection(_connect_fake(self.url.path))


class MemoryStore(RedisStore):
    """An online store in this process. It pickles as its name; each process has its own data."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, _MemoryPool(url))

    @override
    def load(
        self, chunks: Iterable[Chunk], before_send: BeforeSend | None = None
    ) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        for chunk in chunks:
            if before_send is not None:
                before_send()
            replies = self._exchange_slow(bytes(chunk.data), chunk.replies)
            is_needed = chunk.keep_replies or chunk.reply_lines is None or first_error(replies)
            yield chunk, replies if is_needed else None


class AsyncMemoryStore(AsyncRedisStore):
    """The asyncio form of `MemoryStore`."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url, _AsyncMemoryPool(url))


def _connect_fake(name: str) -> Any:
    try:
        import fakeredis
    except ImportError as error:
        raise MissingExtraError.of("testing", "a memory:// store") from error
    server = _servers.setdefault(name, fakeredis.FakeServer(version=VERSION))
    connection = fakeredis.FakeRedisConnection(server=server, version=VERSION, protocol=2)
    connection.connect()
    return connection


def _as_reply(reply: Any) -> Reply:
    """Return a reply as hiredis does: errors are values, inside transactions too."""
    if isinstance(reply, list):
        return [_as_reply(item) for item in reply]
    if isinstance(reply, RedisError):
        return _error_reply(reply)
    plain: Reply = reply
    return plain


def _error_reply(error: RedisError) -> ErrorReply:
    """Return the server's text, with the error code that redis-py removed."""
    code = error.status_code
    return ErrorReply(f"{code} {error}" if code else str(error))
