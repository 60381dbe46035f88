"""What a store on one server offers threads beyond `run` and `read`: loads and administration."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.ports import BeforeSend, Capabilities, Chunk, KeyedCommand, OnlineStore
from featurekit.stores.connection import OnReply
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import raise_if_demoted, unavailable_error
from featurekit.stores.pipelined_load import PipelinedLoad
from featurekit.stores.pool import Pool
from featurekit.stores.probe import fetch_capabilities, verify_writes
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, parse_info, text_command

SCAN_COUNT = 1000


class ServerCommands(OnlineStore):
    """Base of `RedisStore`: all calls that wait `load_timeout_s`, not `timeout_s`, for replies."""

    url: StoreUrl
    _pool: Pool
    _capabilities: Capabilities | None = None
    _checked_prefixes: frozenset[str] = frozenset()

    @abstractmethod
    def _exchange(
        self, data: bytes, count: int, deadline: Deadline, on_reply: OnReply = None
    ) -> list[Any]:
        """Send `data` and return its replies, with retries while the deadline allows them."""

    @property
    @override
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = fetch_capabilities(self._exchange_slow, self.describe())
        return self._capabilities

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        reply: Reply = self.call_many([("-", args)])[0]
        return reply

    @override
    def call_many(self, commands: Sequence[KeyedCommand]) -> list[Any]:
        # A command must not run twice, so a connection that the server closed is not tried.
        self._pool.close_idle(stale_only=True)
        once = Deadline(self.url.load_timeout_s)
        data = b"".join([text_command(*args) for _, args in commands])
        replies = self._exchange(data, len(commands), once, raise_if_demoted)
        pairs = zip(commands, replies, strict=True)
        return [reply if key else [reply] for (key, _), reply in pairs]

    @override
    def run_admin(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> list[Reply]:
        if not requests:
            return []
        data, deadline = b"".join(requests), self._slow_deadline()
        return self._exchange(data, len(requests), deadline, raise_if_demoted)

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._checked_prefixes:
            return
        capabilities, deadline = self.capabilities, self._slow_deadline()
        self._pool.close_idle(stale_only=True)
        connection = self._pool.get(deadline, monotonic())
        try:
            exchange = partial(connection.exchange, timeout_s=self.url.load_timeout_s)
            verify_writes(exchange, self.url, capabilities, prefix)
        except OSError as error:
            self._pool.handle_loss(connection, error)
            raise unavailable_error(self.url, "checking writes", deadline, error) from error
        except BaseException:
            self._pool.discard(connection)
            raise
        self._pool.put(connection)
        self._checked_prefixes |= {prefix}

    @override
    def load(
        self, chunks: Iterable[Chunk], before_send: BeforeSend | None = None
    ) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        load = PipelinedLoad(self.url, self._pool, before_send)
        try:
            yield from load.run(iter(chunks))
        finally:
            load.close()

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        return [parse_info(self.call("INFO", section))]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        return scan_pages(self._exchange_slow, pattern, self.describe())

    def _slow_deadline(self) -> Deadline:
        return Deadline(self.url.load_timeout_s, self.url.retries)

    def _exchange_slow(self, data: bytes, count: int) -> list[Reply]:
        return self._exchange(data, count, self._slow_deadline())


def scan_pages(
    exchange: Callable[[bytes, int], list[Reply]], pattern: str, server: str
) -> Iterator[list[bytes]]:
    """Yield the keys of one server that match a glob pattern, one page for each `SCAN`.

    Raises:
        StoreError: The server refuses `SCAN`.
    """
    cursor: Reply = b"0"
    while True:
        command = text_command(
            "SCAN", _as_bytes(cursor, server), "MATCH", pattern, "COUNT", SCAN_COUNT
        )
        [reply] = exchange(command, 1)
        if isinstance(reply, ErrorReply):
            raise StoreError(f"{server} refused SCAN: {reply}") from reply
        match reply:
            case [cursor, list(keys)]:
                yield [_as_bytes(key, server) for key in keys]
            case _:
                raise StoreError(f"{server} sent an invalid reply to SCAN")
        if cursor == b"0":
            return


def _as_bytes(reply: Reply, server: str) -> bytes:
    if not isinstance(reply, bytes):
        raise StoreError(f"{server} sent an invalid reply to SCAN")
    return reply
