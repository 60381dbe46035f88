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
    OnlineStore,
    ReadOptions,
    Traffic,
)
from featurekit.stores.connection import Connection, Take, unanswered
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable, unless_demoted
from featurekit.stores.pipelined_load import PipelinedLoad
from featurekit.stores.pool import Pool
from featurekit.stores.probe import ask_capabilities, prove_writable
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, info_of, text_command

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
            self._capabilities = ask_capabilities(self._patiently, self.describe())
        return self._capabilities

    @property
    @override
    def traffic(self) -> Traffic:
        return self._pool.traffic

    @override
    def run(
        self, keys: Sequence[bytes], requests: Sequence[bytes], width: int | Sequence[int] = 1
    ) -> list[Reply]:
        if not requests:
            return []
        count = len(requests) * width if isinstance(width, int) else sum(width)
        return self._exchange(b"".join(requests), count, self._serving, unless_demoted)

    @override
    def read(
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
            return self._exchange(b"".join(requests), count, patience, take)
        except StoreUnavailableError as error:
            if not terms.partial:
                raise
            return unanswered(error, count, take)

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        self._pool.drop(stale_only=True)
        once = Deadline(self.url.load_timeout_s)
        reply: Reply = self._exchange(text_command(*args), 1, once, unless_demoted)[0]
        return reply

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._proven:
            return
        capabilities = self.capabilities
        self._pool.drop(stale_only=True)
        with self._borrowed() as link:
            exchange = partial(link.exchange, timeout_s=self.url.load_timeout_s)
            prove_writable(exchange, self.url, capabilities, prefix)
        self._proven.add(prefix)

    @override
    def load(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        flow = PipelinedLoad(self.url, self._pool)
        try:
            yield from flow.run(iter(chunks))
        finally:
            flow.release()

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        return [info_of(self.call("INFO", section))]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        return pages_of(self._patiently, pattern, self.describe())

    @override
    def close(self) -> None:
        self._pool.drop()

    def _patiently(self, data: bytes, count: int) -> list[Reply]:
        return self._exchange(data, count, self._upkeep)

    def _exchange(
        self, data: bytes, count: int, patience: Deadline, take: Take = None
    ) -> list[Any]:
        """Send and collect; again while there are retries and time for them."""
        began = now = monotonic()
        retries = patience.retries
        room = self._pool.room
        if room is not None:
            self._pool.wait(room, patience)
        try:
            while True:
                try:
                    return self._try(data, count, patience, take, now)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or not patience.again(began):
                        raise
                self._pool.retries += 1
                now = monotonic()
        finally:
            if room is not None:
                room.release()

    def _try(
        self, data: bytes, count: int, patience: Deadline, take: Take, now: float
    ) -> list[Any]:
        pool = self._pool
        link = pool.take(patience, now)
        pool.trips += 1
        timeout_s = patience.left_s() if patience.bounds_call else patience.try_s
        try:
            replies = link.exchange(data, count, timeout_s, take)
        except OSError as error:
            pool.lost(link, error)
            raise unavailable(self.url, "waiting for replies", patience, error) from error
        except BaseException:
            pool.discard(link)
            raise
        pool.give(link)
        return replies

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        """A link for a dialogue; closed if anything goes wrong."""
        link = self._pool.take(self._upkeep, monotonic())
        try:
            yield link
        except OSError as error:
            self._pool.lost(link, error)
            raise unavailable(
                self.url, "proving that writes expire", self._upkeep, error
            ) from error
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give(link)


def pages_of(
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
