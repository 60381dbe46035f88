"""One Redis or Valkey server, from threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.ports import (
    DEFAULT_READ_OPTIONS,
    Capabilities,
    Chunk,
    ConnectionStats,
    OnlineStore,
    ReadOptions,
)
from featurekit.stores.connection import Connection, OnReply, unavailable_replies
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import raise_if_demoted, unavailable_error
from featurekit.stores.pipelined_load import PipelinedLoad
from featurekit.stores.pool import Pool
from featurekit.stores.probe import fetch_capabilities, verify_writes
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, parse_info, text_command

SCAN_PAGE = 1000


class RedisStore(OnlineStore):
    """An online store on one server; thread-safe, survives `fork`, pickles as its URL.

    Attributes:
        url: Where it is. Its text shows no password.
    """

    def __init__(self, url: StoreUrl, pool: Pool | None = None) -> None:
        self.url = url
        self._pool = pool or Pool(url)
        self._serving = Deadline(url.timeout_s, url.retries)
        self._upkeep = Deadline(url.load_timeout_s, url.retries)
        self._capabilities: Capabilities | None = None
        self._proven: set[str] = set()

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
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = fetch_capabilities(self._patiently, self.describe())
        return self._capabilities

    @property
    @override
    def connection_stats(self) -> ConnectionStats:
        return self._pool.connection_stats

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
        return self._exchange(b"".join(requests), count, self._serving, raise_if_demoted)

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
        count, deadline = len(requests) * replies_per_request, self._serving
        if options.timeout_s:
            deadline = Deadline.for_call(options.timeout_s, deadline.retries)
        try:
            return self._exchange(b"".join(requests), count, deadline, on_reply)
        except StoreUnavailableError as error:
            if not options.partial:
                raise
            return unavailable_replies(error, count, on_reply)

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        self._pool.close_idle(stale_only=True)
        once = Deadline(self.url.load_timeout_s)
        reply: Reply = self._exchange(text_command(*args), 1, once, raise_if_demoted)[0]
        return reply

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._proven:
            return
        capabilities = self.capabilities
        self._pool.close_idle(stale_only=True)
        with self._borrowed() as link:
            exchange = partial(link.exchange, timeout_s=self.url.load_timeout_s)
            verify_writes(exchange, self.url, capabilities, prefix)
        self._proven.add(prefix)

    @override
    def load(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        load = PipelinedLoad(self.url, self._pool)
        try:
            yield from load.run(iter(chunks))
        finally:
            load.close()

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        return [parse_info(self.call("INFO", section))]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        return scan_pages(self._patiently, pattern, self.describe())

    @override
    def close(self) -> None:
        self._pool.close_idle()

    def _patiently(self, data: bytes, count: int) -> list[Reply]:
        return self._exchange(data, count, self._upkeep)

    def _exchange(
        self, data: bytes, count: int, deadline: Deadline, on_reply: OnReply = None
    ) -> list[Any]:
        """Send and collect; again while there are retries and time for them."""
        began = now = monotonic()
        retries = deadline.retries
        permits = self._pool.permits
        if permits is not None:
            self._pool.wait_for_permit(permits, deadline)
        try:
            while True:
                try:
                    return self._try(data, count, deadline, on_reply, now)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or not deadline.allows_retry(began):
                        raise
                self._pool.retries += 1
                now = monotonic()
        finally:
            if permits is not None:
                permits.release()

    def _try(
        self, data: bytes, count: int, deadline: Deadline, on_reply: OnReply, now: float
    ) -> list[Any]:
        pool = self._pool
        link = pool.get(deadline, now)
        pool.round_trips += 1
        timeout_s = deadline.remaining_s() if deadline.bounds_call else deadline.attempt_timeout_s
        try:
            replies = link.exchange(data, count, timeout_s, on_reply)
        except OSError as error:
            pool.handle_loss(link, error)
            raise unavailable_error(self.url, "waiting for replies", deadline, error) from error
        except BaseException:
            pool.discard(link)
            raise
        pool.put(link)
        return replies

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        """A link for a dialogue; closed if anything goes wrong."""
        link = self._pool.get(self._upkeep, monotonic())
        try:
            yield link
        except OSError as error:
            self._pool.handle_loss(link, error)
            raise unavailable_error(
                self.url, "proving that writes expire", self._upkeep, error
            ) from error
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.put(link)


def scan_pages(
    exchange: Callable[[bytes, int], list[Reply]], pattern: str, server: str
) -> Iterator[list[bytes]]:
    """The keys of one server that match a glob, by `SCAN`, in pages."""
    cursor: Reply = b"0"
    while True:
        [reply] = exchange(
            text_command("SCAN", _bytes(cursor), "MATCH", pattern, "COUNT", SCAN_PAGE), 1
        )
        if isinstance(reply, ErrorReply):
            raise StoreError(f"{server} refused SCAN: {reply}") from reply
        if not isinstance(reply, list) or not isinstance(keys := reply[1], list):
            raise StoreError(f"{server} answered SCAN with something else")
        yield [_bytes(key) for key in keys]
        cursor = reply[0]
        if cursor == b"0":
            return


def _bytes(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise StoreError("the server answered SCAN with something else")
    return reply
