"""Loads into a cluster: each chunk's rows go to their servers at once, a few chunks under way.

Replies are counted by their lines and not parsed, until one is an error. What a server did not take,
for it has moved or is gone, goes again once all that is under way was answered: together with the
later rows of the same keys, so that the last one of a key stays.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic
from typing import Any

from featurekit.errors import StoreUnavailableError
from featurekit.ports import Chunk
from featurekit.stores.cluster.nodes import WOULD_WAIT, NodeConnection, NodePool
from featurekit.stores.cluster.routed_requests import Redirect, RoutedRequests, refusal
from featurekit.stores.connection import PING, reply_reader
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.pipelined_load import READ_BYTES, WINDOW, Answered, line_end
from featurekit.stores.url import Address, StoreUrl
from featurekit.wire import Reply, first_error

LOOK_S = 0.5
READS, BOTH_WAYS = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


@dataclass(slots=True)
class PendingChunk:
    """A chunk under way.

    Attributes:
        chunk: The chunk.
        keys: The key of each row.
        spans: Where the bytes of each row begin and end.
        shares: How many servers have yet to answer for some of its rows.
        answers: Rows, by their index, and the replies to them, parsed or not.
        again: The rows to be sent again.
        faulty: Whether any reply is an error.
    """

    chunk: Chunk
    keys: Sequence[bytes]
    spans: list[tuple[int, int]]
    shares: int = 0
    answers: list[tuple[Sequence[int], bytes | list[Any]]] = field(default_factory=list)
    again: set[int] = field(default_factory=set)
    faulty: bool = False

    @classmethod
    def of(cls, chunk: Chunk) -> PendingChunk:
        """A chunk, taken apart."""
        assert chunk.row_spans  # noqa: S101  (every chunk that is made for a cluster has it)
        keys, ends = chunk.row_spans()
        return cls(chunk, keys, list(pairwise([0, *ends])))

    def data(self, places: Sequence[int]) -> bytes | memoryview:
        """The bytes of some rows."""
        data = self.chunk.data
        if len(places) == len(self.spans):
            return data
        whole, spans = memoryview(data), self.spans
        return b"".join([whole[slice(*spans[place])] for place in places])

    def row(self, place: int) -> bytes:
        """The bytes of a row."""
        start, end = self.spans[place]
        return bytes(self.chunk.data[start:end])

    @property
    def done(self) -> bool:
        """Whether every row has its reply."""
        return not (self.shares or self.again)

    def take(self, places: Sequence[int], came: bytes) -> None:
        """Take the replies to some rows, a line each."""
        self.shares -= 1
        self.answers.append((places, came))
        if b"-" in came:
            replies = _parsed(came, len(places))
            self.answers[-1] = (places, replies)
            pairs = zip(places, replies, strict=True)
            self.again |= {place for place, reply in pairs if isinstance(reply, Redirect)}
            self.faulty = True

    def answer(self) -> Answered:
        """The chunk, and its replies if one is an error or they are wanted."""
        if self.chunk.reply_lines is not None and not self.faulty:
            return self.chunk, None
        replies: list[Reply] = [None] * len(self.spans)
        for places, came in self.answers:
            parsed = came if isinstance(came, list) else _parsed(came, len(places))
            for place, reply in zip(places, parsed, strict=True):
                replies[place] = reply
        return self.chunk, replies if self.chunk.reply_lines is None or first_error(
            replies
        ) else None


class NodeStream:
    """The connection of a load to one server.

    Attributes:
        pool: Where its link is from.
        link: The link.
        shares: What it has yet to be answered for, in order.
        heard_at: When something came, or was first awaited, by the monotonic clock.
    """

    def __init__(self, pool: NodePool, link: NodeConnection) -> None:
        self.pool, self.link = pool, link
        self.shares: deque[tuple[PendingChunk, Sequence[int]]] = deque()
        self.heard_at = 0.0
        self._rest: deque[memoryview] = deque()
        self._came = bytearray()
        self._lines = 0

    @property
    def sending(self) -> bool:
        """Whether there is something left to be sent."""
        return bool(self._rest)

    def add(self, under: PendingChunk, places: Sequence[int]) -> None:
        """Have some rows of a chunk sent."""
        if not self.shares:
            self.heard_at = monotonic()
        self.shares.append((under, places))
        self._rest.append(memoryview(under.data(places)))

    def push(self) -> None:
        """Send as much as the server takes now."""
        while self._rest:
            try:
                size = self.link.sock.send(self._rest[0])
            except WOULD_WAIT:
                return
            if size == len(self._rest[0]):
                self._rest.popleft()
            else:
                self._rest[0] = self._rest[0][size:]

    def pull(self) -> None:
        """Take what has come, and hand it to the chunks that are answered."""
        while True:
            try:
                data = self.link.sock.recv(READ_BYTES)
            except WOULD_WAIT:
                break
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._came += data
            self._lines += data.count(b"\n")
            self.heard_at = monotonic()
        while self.shares and self._lines >= len(self.shares[0][1]):
            under, places = self.shares.popleft()
            end = line_end(self._came, len(places))
            under.take(places, bytes(self._came[:end]))
            del self._came[:end]
            self._lines -= len(places)


class ClusterPipelinedLoad:
    """One load.

    Args:
        url: Whose `load_timeout_s` and `retries` hold here.
        locate: From keys to their servers; `None` where nobody serves the slot.
        pool_of: Where links come from.
        carry: Sends what has to go again, for as long as a load may wait.
        is_replaced: Whether another server is the primary in the place of one that is silent.
    """

    def __init__(
        self,
        url: StoreUrl,
        locate: Callable[[Sequence[bytes]], list[Address | None]],
        pool_of: Callable[[Address], NodePool],
        carry: Callable[[RoutedRequests], list[Any]],
        is_replaced: Callable[[Address], bool],
    ) -> None:
        self._url = url
        self._locate, self._pool_of, self._carry = locate, pool_of, carry
        self._is_replaced = is_replaced
        self._deadline = Deadline(url.load_timeout_s)
        self._selector = selectors.DefaultSelector()
        self._lanes: dict[Address, NodeStream] = {}
        self._under: deque[PendingChunk] = deque()

    def run(self, chunks: Iterator[Chunk]) -> Iterator[Answered]:
        """Send all chunks; yield each when all of it was answered, in order."""
        more = True
        while more or self._under:
            troubled = any(under.again for under in self._under)
            if more and not troubled and len(self._under) < WINDOW:
                chunk = next(chunks, None)
                more = chunk is not None
                if chunk is not None:
                    self._dispatch(chunk)
            elif any(lane.shares for lane in self._lanes.values()):
                self._look(LOOK_S)
            elif troubled:
                self._send_again()
            while self._under and self._under[0].done:
                yield self._under.popleft().answer()

    def close(self) -> None:
        """Give back the connections on which all was answered; close the others."""
        for address, lane in list(self._lanes.items()):
            self._leave(address)
            if lane.shares or lane.sending:
                lane.pool.abandon(lane.link)
            else:
                lane.pool.release(lane.link)
        self._selector.close()

    def _dispatch(self, chunk: Chunk) -> None:
        """Send the rows of a chunk to their servers, as far as they take them now."""
        under = PendingChunk.of(chunk)
        self._under.append(under)
        groups: dict[Address | None, list[int]] = {}
        for place, address in enumerate(self._locate(under.keys)):
            groups.setdefault(address, []).append(place)
        for address, places in groups.items():
            lane = self._lane(address)
            if lane is None:
                under.again.update(places)
                continue
            under.shares += 1
            lane.add(under, places)
        self._look(0)

    def _lane(self, address: Address | None) -> NodeStream | None:
        """The lane to a server; `None` if it is away."""
        if address is None:
            return None
        lane = self._lanes.get(address)
        if lane is None:
            pool = self._pool_of(address)
            try:
                link = _greeted(pool, self._deadline)
            except StoreUnavailableError:
                return None
            lane = self._lanes[address] = NodeStream(pool, link)
            self._selector.register(link.sock, selectors.EVENT_READ, address)
        return lane

    def _look(self, wait_s: float) -> None:
        """Send what can be sent and take what has come; then look after whoever is silent."""
        for address, lane in list(self._lanes.items()):
            self._do(address, lane.push)
        for address, lane in self._lanes.items():
            self._selector.modify(lane.link.sock, BOTH_WAYS if lane.sending else READS, address)
        for key, _ in self._selector.select(wait_s):
            self._do(key.data, self._lanes[key.data].pull)
        for address, lane in list(self._lanes.items()):
            silent_s = monotonic() - lane.heard_at if lane.shares else 0.0
            if silent_s > self._url.load_timeout_s:
                self._cut(address, TimeoutError("timed out"))
            elif silent_s > LOOK_S and self._is_replaced(address):
                self._cut(address, ConnectionResetError("another server has taken its place"))

    def _do(self, address: Address, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            self._cut(address, error)

    def _cut(self, address: Address, error: OSError) -> None:
        """Close a lane; its rows that were not answered for go again."""
        lane = self._leave(address)
        lane.pool.give_up(lane.link, error)
        if not self._url.retries:
            raise unavailable_error(lane.pool.url, "loading", self._deadline, error) from error
        for under, places in lane.shares:
            under.shares -= 1
            under.again.update(places)

    def _leave(self, address: Address) -> NodeStream:
        lane = self._lanes.pop(address)
        self._selector.unregister(lane.link.sock)
        return lane

    def _send_again(self) -> None:
        """Carry to the end what was not taken, in its order."""
        rows: list[tuple[PendingChunk, int]] = []
        keys: set[bytes] = set()
        for under in self._under:
            for place, key in enumerate(under.keys):
                if place in under.again or key in keys:
                    keys.add(key)
                    rows.append((under, place))
        errand = RoutedRequests(
            [under.keys[place] for under, place in rows],
            [under.row(place) for under, place in rows],
            ordered=True,
        )
        replies = self._carry(errand)
        for (under, place), reply in zip(rows, replies, strict=True):
            under.answers.append(([place], [reply]))
            under.again.discard(place)


def _greeted(pool: NodePool, deadline: Deadline) -> NodeConnection:
    """A link that works, made ready not to wait."""
    while True:
        link = pool.obtain(deadline)
        fresh = not pool.idle
        try:
            link.exchange(PING, 1, deadline.attempt_timeout_s)
            link.set_timeout(0)
        except OSError as error:
            pool.give_up(link, error)
            if fresh:
                raise unavailable_error(pool.url, "connecting", deadline, error) from error
        else:
            return link


def _parsed(came: bytes, count: int) -> list[Any]:
    reader = reply_reader(refusal)
    reader.feed(came)
    return [reader.gets() for _ in range(count)]
