"""One Redis or Valkey server, from threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.ports import TERMS, Capabilities, Chunk, OnlineStore, Terms
from featurekit.stores.flow import Flow
from featurekit.stores.link import Link, Take, connect, unanswered, unavailable
from featurekit.stores.probe import ask_capabilities, prove_writable
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, info_of, text_command

SCAN_PAGE = 1000
GRACE_S = 0.05


class RedisStore(OnlineStore):
    """An online store on one server; thread-safe, survives `fork`, pickles as its URL.

    Idle links wait in a deque, the last one used on top: taking and giving back are atomic, so
    no lock is held that a `fork` could freeze.

    Attributes:
        url: Where it is. Its text shows no password.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[Link] = deque()
        self._capabilities: Capabilities | None = None
        self._proven: set[str] = set()
        self._room = (
            threading.Semaphore(self.url.max_connections) if self.url.max_connections else None
        )

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def describe(self) -> str:
        """Where it is, for people."""
        return str(self.url)

    @property
    @override
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = ask_capabilities(self._patiently, self.describe())
        return self._capabilities

    @override
    def run(
        self, keys: Sequence[bytes], requests: Sequence[bytes], width: int | Sequence[int] = 1
    ) -> list[Reply]:
        if not requests:
            return []
        url = self.url
        count = len(requests) * width if isinstance(width, int) else sum(width)
        return self._exchange(b"".join(requests), count, url.timeout_s, url.retries)

    @override
    def read(
        self,
        keys: Sequence[bytes],
        requests: Sequence[bytes],
        take: Take = None,
        *,
        width: int = 1,
        terms: Terms = TERMS,
    ) -> list[Any]:
        if not requests:
            return []
        url, count = self.url, len(requests) * width
        timeout_s = terms.timeout_s or url.timeout_s
        try:
            return self._exchange(b"".join(requests), count, timeout_s, url.retries, take)
        except StoreUnavailableError as error:
            if not terms.partial:
                raise
            return unanswered(error, count, take)

    @override
    def call(self, *args: str | int | bytes, key: str | bytes = b"") -> Reply:
        self._drop_idle(stale_only=True)
        reply: Reply = self._exchange(text_command(*args), 1, self.url.load_timeout_s, 0)[0]
        return reply

    @override
    def check_writable(self, prefix: str) -> None:
        if prefix in self._proven:
            return
        capabilities = self.capabilities
        self._drop_idle(stale_only=True)
        with self._borrowed() as link:
            exchange = partial(link.exchange, timeout_s=self.url.load_timeout_s)
            prove_writable(exchange, self.url, capabilities, prefix)
        self._proven.add(prefix)

    @override
    def load(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Reply] | None]]:
        flow = Flow(self.url, self._take)
        try:
            yield from flow.run(iter(chunks))
        finally:
            if (link := flow.release()) is not None:
                self._idle.append(link)

    @override
    def info(self, section: str) -> list[dict[str, str]]:
        return [info_of(self.call("INFO", section))]

    @override
    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        cursor: Reply = b"0"
        while True:
            [reply] = self._patiently(
                text_command("SCAN", _bytes(cursor), "MATCH", pattern, "COUNT", SCAN_PAGE), 1
            )
            if isinstance(reply, ErrorReply):
                raise StoreError(f"{self.describe()} refused SCAN: {reply}") from reply
            if not isinstance(reply, list) or not isinstance(keys := reply[1], list):
                raise StoreError(f"{self.describe()} answered SCAN with something else")
            yield [_bytes(key) for key in keys]
            cursor = reply[0]
            if cursor == b"0":
                return

    @override
    def close(self) -> None:
        self._drop_idle()

    def _patiently(self, data: bytes, count: int) -> list[Reply]:
        return self._exchange(data, count, self.url.load_timeout_s, self.url.retries)

    def _exchange(
        self, data: bytes, count: int, timeout_s: float, retries: int, take: Take = None
    ) -> list[Any]:
        """Send and collect; again while there are retries and time for them."""
        late = monotonic() + timeout_s * retries
        if self._room:
            self._wait_for_room(self._room)
        try:
            while True:
                try:
                    return self._exchange_once(data, count, timeout_s, take)
                except StoreUnavailableError:
                    retries -= 1
                    if retries < 0 or monotonic() > late + GRACE_S:
                        raise
        finally:
            if self._room:
                self._room.release()

    def _exchange_once(self, data: bytes, count: int, timeout_s: float, take: Take) -> list[Any]:
        link = self._take()
        try:
            replies = link.exchange(data, count, timeout_s, take)
        except OSError as error:
            self._broken(link, error)
            raise unavailable(self.url, "waiting for replies", timeout_s, error) from error
        except BaseException:
            link.close()
            raise
        self._idle.append(link)
        return replies

    @contextmanager
    def _borrowed(self) -> Iterator[Link]:
        """A link for a dialogue; closed if anything goes wrong."""
        link = self._take()
        try:
            yield link
        except OSError as error:
            self._broken(link, error)
            raise unavailable(
                self.url, "proving that writes expire", self.url.load_timeout_s, error
            ) from error
        except BaseException:
            link.close()
            raise
        self._idle.append(link)

    def _take(self) -> Link:
        if os.getpid() != self._pid:
            self._leave_to_parent()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> Link:
        return connect(self.url)

    def _wait_for_room(self, room: threading.Semaphore) -> None:
        if not room.acquire(timeout=self.url.load_timeout_s):
            raise StoreUnavailableError(
                f"all {self.url.max_connections} connections to {self.describe()} are in use",
                hint="raise max_connections in the URL, or use fewer threads",
            )

    def _broken(self, link: Link, error: OSError) -> None:
        """Close a link; if it was cut, the idle ones were most likely cut with it."""
        link.close()
        if not isinstance(error, TimeoutError):
            self._drop_idle()

    def _drop_idle(self, *, stale_only: bool = False) -> None:
        if os.getpid() != self._pid:
            self._leave_to_parent()
        for _ in range(len(self._idle)):
            try:
                link = self._idle.popleft()
            except IndexError:
                return
            if stale_only and not link.is_stale():
                self._idle.append(link)
            else:
                link.close()

    def _leave_to_parent(self) -> None:
        """Start anew in a child process, closing what it inherited without a byte sent."""
        inherited, capabilities, proven = self._idle, self._capabilities, self._proven
        self._start()
        self._capabilities, self._proven = capabilities, proven
        for link in inherited:
            link.close()


def _bytes(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise StoreError("the server answered SCAN with something else")
    return reply
