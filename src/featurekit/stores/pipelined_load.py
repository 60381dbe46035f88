"""Send the chunks of a load to one or more servers while their replies come back.

A chunk is *pending* from the moment its first byte is queued until every reply has arrived; at most
`MAX_PENDING` chunks are. Each server has a `NodeStream`: one non-blocking connection, with the parts
of chunks it has yet to answer in the order in which they were sent.

    chunk -> parts, one per server -> queued -> answered -> chunk complete -> yielded in order
                                        |
                                        +-- connection lost: its parts are marked to be sent again

Invariant: a request that got no reply is either queued on exactly one stream or marked in
`PendingChunk.resend`. Marked requests are sent again once no stream has anything unanswered, and
before any new chunk, so that the last write of a key wins.

Replies are counted by their lines, not parsed: parsing costs as much as building the requests. Only
bytes that contain a `-`, and may hold an error, are parsed. Rejected: a thread per server (the GIL
makes it slower), and blocking sends (client and server deadlock once both socket buffers are full).
"""

from __future__ import annotations

import selectors
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, sleep
from typing import Any

from featurekit.errors import StoreUnavailableError
from featurekit.ports import BeforeSend, Chunk
from featurekit.stores.connection import Connection, reply_reader
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import (
    DemotedError,
    GarbledReplyError,
    is_demoted,
    to_error_reply,
    unavailable_error,
)
from featurekit.stores.pool import Pool
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import ErrorReply, Reply, first_error

MAX_PENDING = 3
READ_BYTES = 1 << 18
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5
POLL_S = 0.5
"""How long a server may be silent before the load asks whether another one replaced it."""

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
ONE_SERVER: Address = ("", 0)
Result = tuple[Chunk, list[Reply] | None]


@dataclass(slots=True)
class PendingChunk:
    """A chunk that was sent, at least in part, and is not yet fully answered.

    Replies are numbered from 0 to `chunk.replies - 1`, in the order of their requests.

    Attributes:
        chunk: The chunk.
        open_parts: How many servers have yet to answer their part.
        resend: Replies that did not arrive, whose requests must be sent again.
    """

    chunk: Chunk
    open_parts: int = 0
    resend: set[int] = field(default_factory=set)
    _answers: list[tuple[Sequence[int], bytes | list[Any]]] = field(default_factory=list)
    _may_have_errors: bool = False

    def data(self, indices: Sequence[int]) -> bytes | memoryview:
        """Return the bytes of the requests that get these replies."""
        assert len(indices) == self.chunk.replies  # noqa: S101 - one server gets whole chunks
        return self.chunk.data

    def parse(self, data: bytes, count: int) -> list[Any]:
        """Parse `count` replies.

        Raises:
            DemotedError: One of them says that the server is a replica.
            NotReadyError: One of them says that the server executes nothing now.
        """
        replies = parse_replies(data, count)
        if is_demoted(replies):
            raise DemotedError("READONLY")
        return replies

    def add_part(self, indices: Sequence[int], data: bytes) -> None:
        """Add a server's replies; they are parsed only if one may be an error."""
        may_have_errors = b"-" in data
        answer = self.parse(data, len(indices)) if may_have_errors else data
        self._answers.append((indices, answer))
        self._may_have_errors |= may_have_errors
        self.open_parts -= 1

    def add_reply(self, index: int, reply: Any) -> None:
        """Add the reply to a request that was sent again; it replaces an earlier one."""
        self._answers.append(([index], [reply]))
        self._may_have_errors = True
        self.resend.discard(index)

    @property
    def is_complete(self) -> bool:
        """Whether every reply has arrived."""
        return not (self.open_parts or self.resend)

    def result(self) -> Result:
        """Return the chunk, and its replies if one is an error or the chunk asks for them."""
        is_needed = self.chunk.keep_replies or self.chunk.reply_lines is None
        if not is_needed and not self._may_have_errors:
            return self.chunk, None
        replies: list[Reply] = [None] * self.chunk.replies
        for indices, answer in self._answers:
            values = answer if isinstance(answer, list) else self.parse(answer, len(indices))
            for index, reply in zip(indices, values, strict=True):
                replies[index] = reply
        return self.chunk, replies if is_needed or first_error(replies) else None


class NodeStream:
    """A load's connection to one server.

    Attributes:
        pool: The pool that the connection belongs to.
        connection: The connection; its socket does not block.
        parts: Chunks and the numbers of their replies that the server has yet to send, in order.
        active_at: When the server last sent or accepted something, or began to owe a reply, by the
            monotonic clock.
        events: The events that the selector waits for.
    """

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self.pool, self.connection = pool, connection
        self.parts: deque[tuple[PendingChunk, Sequence[int]]] = deque()
        self.active_at = 0.0
        self.events = selectors.EVENT_READ
        self._unsent: deque[memoryview] = deque()
        self._received = bytearray()
        self._lines = 0

    @property
    def wanted_events(self) -> int:
        """The events that let this stream make progress."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    @property
    def is_reusable(self) -> bool:
        """Whether every request was sent and answered, so that the connection can serve others."""
        return not (self.parts or self._unsent or self._received)

    def add(self, pending: PendingChunk, indices: Sequence[int]) -> None:
        """Queue the requests that get these replies."""
        if not self.parts:
            self.active_at = monotonic()
        self.parts.append((pending, indices))
        self._unsent.append(memoryview(pending.data(indices)))
        # What follows the last rows is not waited for by itself.
        self.pool.round_trips += bool(pending.chunk.rows)

    def send(self, before_send: BeforeSend | None = None) -> None:
        """Send as much as the server accepts now."""
        while self._unsent:
            if before_send is not None:
                before_send()
            try:
                size = self.connection.sock.send(self._unsent[0])
            except WOULD_BLOCK:
                return
            self.active_at = monotonic()
            if size == len(self._unsent[0]):
                self._unsent.popleft()
            else:
                self._unsent[0] = self._unsent[0][size:]

    def receive(self) -> None:
        """Read what has arrived, and hand complete parts to their chunks."""
        recv = self.connection.sock.recv
        while True:
            try:
                data = recv(READ_BYTES)
            except WOULD_BLOCK:
                break
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._received += data
            self._lines += data.count(b"\n")
            self.active_at = monotonic()
        while self.parts and (end := self._end_of_part(*self.parts[0])) >= 0:
            pending, indices = self.parts[0]
            pending.add_part(indices, bytes(self._received[:end]))
            self.parts.popleft()
            self._lines -= self._received.count(b"\n", 0, end)
            del self._received[:end]

    def _end_of_part(self, pending: PendingChunk, indices: Sequence[int]) -> int:
        """Return where the replies of a part end; -1 if some have yet to arrive."""
        received, lines = self._received, pending.chunk.reply_lines
        if lines is not None and len(indices) != pending.chunk.replies:
            lines = len(indices)  # a cluster's row gets one reply of one line
        if lines is not None:
            end = line_end(received, lines) if lines <= self._lines else -1
            if received.find(b"-", 0, end if end >= 0 else len(received)) < 0:
                return end
        return reply_end(received, len(indices))


class PipelinedLoad:
    """A load into one server; `ClusterPipelinedLoad` overrides what differs with several.

    A chunk without replies when the connection breaks is sent again, whole. So is one that is
    answered with `READONLY`, because its server was the primary and is one no more, or with `BUSY`,
    `LOADING` or `MASTERDOWN`.

    Args:
        url: The store's URL, with `load_timeout_s` and `retries`.
        pool: Provides the connection, and another one after a failure.
        before_send: Called before every piece of data that is sent.
    """

    def __init__(
        self, url: StoreUrl, pool: Pool | None = None, before_send: BeforeSend | None = None
    ) -> None:
        self.url = url
        self.before_send = before_send
        self.deadline = Deadline(url.load_timeout_s)
        self.pending: deque[PendingChunk] = deque()
        self._pool = pool
        self._streams: dict[Address, NodeStream] = {}
        self._selector = selectors.DefaultSelector()
        self._failures = 0

    def run(self, chunks: Iterator[Chunk]) -> Iterator[Result]:
        """Send all chunks; yield each one when it is fully answered, in order."""
        exhausted = False
        while self.pending or not exhausted:
            must_resend = any(pending.resend for pending in self.pending)
            if not exhausted and not must_resend and len(self.pending) < MAX_PENDING:
                chunk = next(chunks, None)
                exhausted = chunk is None
                if chunk is not None:
                    self._dispatch(chunk)
            elif any(stream.parts for stream in self._streams.values()):
                self._poll(min(POLL_S, self.url.load_timeout_s))
            elif must_resend:
                self.send_again()
            while self.pending and self.pending[0].is_complete:
                self._failures = 0
                yield self.pending.popleft().result()

    def close(self) -> None:
        """Give the connections back to their pools; close those that still expect replies."""
        for address in list(self._streams):
            self.detach(address)
        self._selector.close()

    # What a load into several servers overrides.

    def prepare(self, chunk: Chunk) -> PendingChunk:
        """Return the state of a chunk that is about to be sent."""
        return PendingChunk(chunk)

    def route(self, pending: PendingChunk) -> Iterable[tuple[Address, Sequence[int]]]:
        """Return which server gets the requests of which replies."""
        return [(ONE_SERVER, range(pending.chunk.replies))]

    def pool_of(self, address: Address) -> Pool:  # noqa: ARG002 - there is one server
        """Return the pool of a server."""
        assert self._pool is not None  # noqa: S101 - given where this is not overridden
        return self._pool

    def is_replaced(self, address: Address, stream: NodeStream) -> bool:  # noqa: ARG002
        """Return whether another server has taken over from one that is silent."""
        return stream.pool.is_outdated(stream.connection)

    def is_fatal(self, error: OSError) -> bool:
        """Return whether a failure ends the load: a timeout, or one failure too many in a row."""
        self._failures += 1
        return self._failures > self.url.retries or isinstance(error, TimeoutError)

    def send_again(self) -> None:
        """Connect again, for as long as a server needs to restart, and send what is unanswered."""
        deadline, pause_s = monotonic() + self.url.load_timeout_s, FIRST_PAUSE_S
        while True:
            try:
                self.open(ONE_SERVER)
                break
            except StoreUnavailableError:
                if monotonic() + pause_s > deadline:
                    raise
            sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        for pending in self.pending:
            pending.resend.clear()
            self.send(ONE_SERVER, pending, range(pending.chunk.replies))
        self._poll(0)

    def open(self, address: Address) -> NodeStream:
        """Open the stream of a server, on a connection that the server has not closed.

        Raises:
            StoreUnavailableError: The server cannot be reached.
        """
        pool = self.pool_of(address)
        pool.close_idle(stale_only=True)
        connection = pool.get(self.deadline, monotonic())
        connection.set_timeout(0)
        stream = self._streams[address] = NodeStream(pool, connection)
        self._selector.register(connection.sock, stream.events, (address, stream))
        return stream

    def detach(self, address: Address, error: OSError | None = None) -> NodeStream:
        """Give the connection of a stream back to its pool, or close it; return the stream."""
        stream = self._streams.pop(address)
        self._selector.unregister(stream.connection.sock)
        if error is not None:
            stream.pool.handle_loss(stream.connection, error)
        elif stream.is_reusable:
            stream.pool.put(stream.connection)
        else:
            stream.pool.discard(stream.connection)
        return stream

    def send(self, address: Address, pending: PendingChunk, indices: Sequence[int]) -> None:
        """Queue a part of a chunk on the stream of its server."""
        stream = self._streams.get(address) or self.open(address)
        pending.open_parts += 1
        stream.add(pending, indices)

    def _dispatch(self, chunk: Chunk) -> None:
        """Queue the parts of a chunk, and send what the servers accept now."""
        pending = self.prepare(chunk)
        self.pending.append(pending)
        for address, indices in self.route(pending):
            self.send(address, pending, indices)
        self._poll(0)

    def _poll(self, wait_s: float) -> None:
        """Send and receive what is possible within a time, then look for silent servers."""
        began = monotonic()
        for address, stream in list(self._streams.items()):
            self._attempt(address, stream, partial(stream.send, self.before_send))
        for address, stream in self._streams.items():
            if stream.events != stream.wanted_events:
                stream.events = stream.wanted_events
                self._selector.modify(stream.connection.sock, stream.events, (address, stream))
        for key, _ in self._selector.select(wait_s):
            address, stream = key.data
            self._attempt(address, stream, stream.receive)
        if (
            monotonic() - began > wait_s + POLL_S
        ):  # this process was paused, so no server was silent
            for stream in self._streams.values():
                stream.active_at = monotonic()
        self._fail_silent_servers()

    def _fail_silent_servers(self) -> None:
        now = monotonic()
        for address, stream in list(self._streams.items()):
            silent_s = now - stream.active_at if stream.parts else 0.0
            if silent_s >= self.url.load_timeout_s:
                self._fail(address, TimeoutError("timed out"))
            elif silent_s > POLL_S and self.is_replaced(address, stream):
                self._fail(address, ConnectionResetError("another server has taken over"))

    def _attempt(self, address: Address, stream: NodeStream, step: Callable[[], None]) -> None:
        if self._streams.get(address) is not stream:
            return
        try:
            step()
        except OSError as error:
            self._fail(address, error)

    def _fail(self, address: Address, error: OSError) -> None:
        """Close a stream that broke, and mark the requests it leaves without replies."""
        stream = self.detach(address, error)
        for pending, indices in stream.parts:
            pending.open_parts -= 1
            pending.resend.update(indices)
        if self.is_fatal(error):
            raise unavailable_error(stream.pool.url, "loading", self.deadline, error) from error


def parse_replies(
    data: bytes, count: int, error: Callable[[str], ErrorReply] = to_error_reply
) -> list[Any]:
    """Parse `count` replies, all of which are in `data`."""
    reader = reply_reader(error)
    reader.feed(data)
    return [reader.gets() for _ in range(count)]


def line_end(data: bytearray, lines: int) -> int:
    r"""Return where a number of lines ends, all of which are in `data`.

    Searches by halving, since `bytearray.count` is much faster than a loop in Python.

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
    r"""Return where a number of replies of any kind ends; -1 if some have yet to arrive.

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
        try:
            size = int(data[position + 1 : end]) if kind in b"$*" else -1
        except ValueError:
            raise GarbledReplyError("not a length") from None
        position = end + 2 + (size + 2 if kind == b"$" and size >= 0 else 0)
        count += max(size, 0) - 1 if kind == b"*" else -1
    return position if position <= len(data) else -1
