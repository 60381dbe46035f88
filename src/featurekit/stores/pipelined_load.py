"""Flows: chunks go out while replies come in, a few chunks under way at any time.

Replies are counted by their lines and not parsed; where a `-` shows up, the replies of that chunk
are. A chunk that got no answer before its connection was cut is sent again, whole; so is one that
was answered by `READONLY`, for then its server was the primary once.
"""

from __future__ import annotations

import selectors
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic, sleep

from featurekit.errors import StoreUnavailableError
from featurekit.ports import Chunk
from featurekit.stores.connection import PING, Connection, reply_reader
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import (
    DemotedError,
    GarbledReplyError,
    is_demoted,
    unavailable_error,
)
from featurekit.stores.pool import Pool
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply, first_error

WINDOW = 3
READ_BYTES = 1 << 18
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
LOOK_S = 0.5
Answered = tuple[Chunk, list[Reply] | None]


class PipelinedLoad:
    """One load, that has a connection to itself.

    Args:
        url: Whose `load_timeout_s` and `retries` hold here.
        pool: Gives the connection, and gives another after a cut.
    """

    def __init__(self, url: StoreUrl, pool: Pool) -> None:
        self._url = url
        self._pool = pool
        self._deadline = Deadline(url.load_timeout_s)
        self._link: Connection | None = None
        self._selector: selectors.BaseSelector | None = None
        self._sent: deque[Chunk] = deque()
        self._came = bytearray()
        self._lines = 0
        self._cuts = 0

    def run(self, chunks: Iterator[Chunk]) -> Iterator[Answered]:
        """Send all chunks; yield each when all of it was answered, in order."""
        more = True
        while more or self._sent:
            if more and len(self._sent) < WINDOW:
                chunk = next(chunks, None)
                more = chunk is not None
                if chunk is not None:
                    self._sent.append(chunk)
                    self._do(partial(self._send, chunk.data))
            else:
                self._do(self._wait)
            yield from self._answered()

    def release(self) -> None:
        """Give back the connection, if all that was sent on it was answered; else close it."""
        if self._link and not self._sent and not self._came:
            self._pool.put(self._link)
            self._link = None
        self._close()

    def _close(self, error: OSError | None = None) -> None:
        if self._selector:
            self._selector.close()
        if self._link and error:
            self._pool.handle_loss(self._link, error)
        elif self._link:
            self._pool.discard(self._link)
        self._link = self._selector = None
        self._came.clear()
        self._lines = 0

    def _do(self, act: Callable[[], None]) -> None:
        """Send or wait; on a cut, connect again and send all that got no answer."""
        try:
            if self._link is None:
                self._open()
            act()
        except OSError as error:
            self._recover(error)

    def _recover(self, error: OSError) -> None:
        while True:
            self._close(error)
            self._cuts += 1
            if self._cuts > self._url.retries or isinstance(error, TimeoutError):
                raise unavailable_error(self._url, "loading", self._deadline, error) from error
            self._reconnect()
            try:
                for chunk in list(self._sent):
                    self._send(chunk.data)
            except OSError as again:
                error = again
            else:
                return

    def _reconnect(self) -> None:
        """Connect, patiently: a server that restarts takes its time, and reads its data first."""
        deadline_s, pause = monotonic() + self._url.load_timeout_s, FIRST_PAUSE_S
        while True:
            try:
                return self._open()
            except (StoreUnavailableError, OSError) as error:
                self._close(error if isinstance(error, OSError) else None)
                if monotonic() + pause > deadline_s:
                    if isinstance(error, StoreUnavailableError):
                        raise
                    raise unavailable_error(
                        self._url, "connecting", self._deadline, error
                    ) from error
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _open(self) -> None:
        link = self._link = self._pool.get(self._deadline, monotonic())
        link.exchange(PING, 1, self._url.load_timeout_s)
        if not isinstance(link.sock, ssl.SSLSocket):
            link.set_timeout(0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(link.sock, selectors.EVENT_READ)

    def _send(self, data: bytes | memoryview) -> None:
        """Send all of it, reading replies whenever the server takes no more."""
        link, selector = self._link, self._selector
        assert link  # noqa: S101  (`_do` opened it)
        assert selector  # noqa: S101
        self._pool.round_trips += 1
        if isinstance(link.sock, ssl.SSLSocket):
            link.sock.sendall(data)
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[link.sock.send(rest) :]
            except BlockingIOError:
                selector.modify(link.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
                self._wait()
                selector.modify(link.sock, selectors.EVENT_READ)

    def _wait(self) -> None:
        """Wait until something may be sent or has come, and take what came."""
        link = self._link
        assert link  # noqa: S101  (`_do` opened it)
        if not isinstance(link.sock, ssl.SSLSocket) or not link.sock.pending():
            self._await(link)
        try:
            data = link.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._came += data
        self._lines += data.count(b"\n")

    def _await(self, link: Connection) -> None:
        """Wait for the socket, but not for a server whose place another has taken."""
        assert self._selector  # noqa: S101  (`_do` opened it)
        deadline_s = monotonic() + self._url.load_timeout_s
        while not self._selector.select(min(LOOK_S, deadline_s - monotonic())):
            if self._pool.is_outdated(link):
                raise ConnectionResetError("another server has taken its place")
            if monotonic() >= deadline_s:
                raise TimeoutError("timed out")

    def _answered(self) -> Iterator[Answered]:
        while self._sent and (answer := self._next()):
            yield answer

    def _next(self) -> Answered | None:
        """The oldest chunk under way, if all of it was answered."""
        chunk = self._sent[0]
        try:
            taken = self._parse_replies(chunk)
        except OSError as error:
            self._recover(error)
            return None
        if taken is None:
            return None
        end, replies = taken
        self._lines -= self._came.count(b"\n", 0, end)
        del self._came[:end]
        self._sent.popleft()
        self._cuts = 0
        return chunk, replies

    def _parse_replies(self, chunk: Chunk) -> tuple[int, list[Reply] | None] | None:
        """Where the replies to a chunk end, and the replies if any is an error; `None` if not all came."""
        lines = chunk.reply_lines
        end = -1
        if lines is not None and lines <= self._lines:
            end = line_end(self._came, lines)
        if (
            lines is not None
            and self._came.find(b"-", 0, end if end >= 0 else len(self._came)) < 0
        ):
            return (end, None) if end >= 0 else None
        end = reply_end(self._came, chunk.replies)
        if end < 0:
            return None
        reader = reply_reader()
        reader.feed(bytes(self._came[:end]))
        replies: list[Reply] = [reader.gets() for _ in range(chunk.replies)]
        if is_demoted(replies):
            raise DemotedError("READONLY")
        return end, replies if lines is None or first_error(replies) else None


def line_end(data: bytearray, lines: int) -> int:
    r"""Where the given number of lines, all of them there, ends. Halves: C counts faster than we walk.

    Examples:
        >>> line_end(bytearray(b":1\r\n+OK\r\n:0\r\n"), 2)
        9
    """
    low, high = 0, len(data) if lines else 0
    while high - low > 1:
        middle = (low + high) // 2
        before = data.count(b"\n", low, middle)
        if before >= lines:
            high = middle
        else:
            lines -= before
            low = middle
    return high


def reply_end(data: bytearray, count: int) -> int:
    r"""Where the given number of replies ends, whatever they are; -1 if they are not all there.

    Examples:
        >>> reply_end(bytearray(b"-EXECABORT refused\r\n*1\r\n:1\r\n"), 2)
        28
    """
    position = 0
    while count:
        end = data.find(b"\r\n", position)
        if end < 0:
            return -1
        kind = data[position : position + 1]
        if kind not in b"+-:$*":
            raise GarbledReplyError("not a reply")
        size = int(data[position + 1 : end]) if kind in b"$*" else -1
        position = end + 2 + (size + 2 if kind == b"$" and size >= 0 else 0)
        count += max(size, 0) - 1 if kind == b"*" else -1
    return position if position <= len(data) else -1
