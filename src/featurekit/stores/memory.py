"""A store in this process, on fakeredis, for tests without a server.

Each process has one server for each name, which may have a clock of its own. It differs from a real one:
it deletes expired fields at once, and never runs out of memory. See `memory_server`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf
from typing import Any

from typing_extensions import override

from featurekit.errors import MissingExtraError, StoreError
from featurekit.ports import BeforeSend, Chunk
from featurekit.stores.connection import AsyncConnection, Connection, OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool import Pool
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis import RedisStore
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply, first_error

_servers: dict[str, Any] = {}
_clocks: dict[str, Callable[[], int]] = {}


def set_memory_clock(name: str, now_ms: Callable[[], int]) -> None:
    """Let the server of a name take its time from a function, in milliseconds since the epoch."""
    _clocks[name] = now_ms


def memory_time_ms(name: str) -> int:
    """Return the time of the server of a name: that of its clock, or else the system's."""
    return _time(name)[0]


def delete_expired(name: str) -> None:
    """Delete what has expired by now on the server of a name, as a server does after a while."""
    if (server := _servers.get(name)) is not None:
        server.delete_expired()


def delete_memory_server(name: str) -> None:
    """Forget the server of a name, with its data and its clock."""
    _servers.pop(name, None)
    _clocks.pop(name, None)


def _time(name: str) -> tuple[int, bool]:
    """Return the time of a server, and whether its clock was set."""
    clock = _clocks.get(name)
    return (time.time_ns() // 1_000_000, False) if clock is None else (clock(), True)


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
        reply: Reply = self._fake.read_response(disconnect_on_error=False)
        return reply


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
        from featurekit.stores.memory_server import MemoryServer
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("testing", "a memory:// store") from error
    except ImportError as error:
        raise StoreError(
            f"a memory:// store does not work with the installed version of fakeredis: {error}",
            hint="install the version of the extra: pip install 'featurekit[testing]'",
        ) from error
    if (server := _servers.get(name)) is None:
        server = _servers.setdefault(name, MemoryServer(partial(_time, name)))
    return server.connect()
