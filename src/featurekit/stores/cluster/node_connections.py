"""Connections to one server of a cluster, on which a call begins an exchange and ends it later.

So a call has exchanges under way with several servers. A thread advances each one when its socket is
ready; a task awaits one after another.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from featurekit.stores.cluster.routed_requests import to_error_reply
from featurekit.stores.connection import (
    INCOMPLETE,
    AsyncConnection,
    Connection,
    DecodingTime,
    OnReply,
    reply_reader,
)
from featurekit.stores.error_mapping import GarbledReplyError
from featurekit.stores.permits import NO_PERMIT, HeldPermit
from featurekit.stores.pipelined_load import WOULD_BLOCK


class NodeConnection(Connection):
    """A connection that sends and receives without blocking, between `begin` and the last reply.

    Attributes:
        values: The converted replies that have arrived.
        permit: The permit of the call that uses the connection.
    """

    __slots__ = ("_count", "_on_reply", "_unsent", "permit", "values")

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection._connection)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(to_error_reply)
        self._unsent = memoryview(b"")
        self._count = 0
        self._on_reply: OnReply = None
        self.permit: HeldPermit = NO_PERMIT
        self.values: list[Any] = []

    def begin(self, data: bytes, count: int, timeout_s: float, on_reply: OnReply) -> bool:
        """Send as much of `data` as possible; return whether that is all of it.

        Args:
            data: Commands that get `count` replies.
            count: The number of replies.
            timeout_s: The socket's timeout for later calls of `exchange`.
            on_reply: Converts each reply.

        Raises:
            OSError: The connection broke; close it.
        """
        if (timeout_s if self._flags else 0) != self._timeout_s:
            self.set_timeout(timeout_s if self._flags else 0)
        self.used_at = monotonic()
        self._count, self._on_reply, self.values = count, on_reply, []
        try:
            size = self.sock.send(data, self._flags)
        except WOULD_BLOCK:
            size = 0
        if size == len(data):
            return True
        self._unsent = memoryview(data)[size:]
        return self.send()

    def send(self) -> bool:
        """Send as much as possible of what is left; return whether that is all of it.

        Raises:
            OSError: The connection broke; close it.
        """
        while self._unsent:
            try:
                size = self.sock.send(self._unsent, self._flags)
            except WOULD_BLOCK:
                return False
            self._unsent = self._unsent[size:]
        return True

    def receive(self) -> bool:
        """Read what has arrived; return whether all replies are in `values`.

        Raises:
            OSError: The connection broke; close it.
        """
        buffer, reader, on_reply, values = self._buffer, self._reader, self._on_reply, self.values
        while True:
            try:
                size = self.sock.recv_into(buffer, 0, self._flags)
            except WOULD_BLOCK:
                return False
            if not size:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            new = iter(reader.gets, INCOMPLETE)
            values.extend(map(on_reply, new) if on_reply else new)
            if len(values) >= self._count:
                break
            if self._flags:
                return False  # but TLS may hold back bytes that no poll reports
        if len(values) > self._count or reader.has_data():
            raise GarbledReplyError("more replies than requests")
        return True


class AsyncNodeConnection(AsyncConnection):
    """A connection whose redirections are replies, so that a call can follow them.

    Attributes:
        permit: The permit of the call that uses the connection.
    """

    def __init__(self, plain: AsyncConnection) -> None:
        super().__init__(plain._opened)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(to_error_reply)
        self.permit: HeldPermit = NO_PERMIT

    def share_decoding_time(self, decoding: DecodingTime) -> None:
        """Let the next exchange that `begin` sends count its decoding together with others."""
        self._decoding = decoding
