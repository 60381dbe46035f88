"""Define the connections to one server of a cluster.

A thread may have exchanges under way on several of them, and advances each one when its socket is
ready.
"""

from __future__ import annotations

import socket
import ssl
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.routed_requests import to_error_reply
from featurekit.stores.connection import INCOMPLETE, Connection, OnReply, connect, reply_reader
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import GarbledReplyError, user_text
from featurekit.stores.pipelined_load import WOULD_BLOCK
from featurekit.stores.pool import Pool
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, command

READONLY = command(b"READONLY")


class NodeConnection(Connection):
    """A connection that sends and receives without blocking, between `begin` and the last reply.

    Attributes:
        values: The converted replies that have arrived.
    """

    __slots__ = ("_count", "_flags", "_on_reply", "_unsent", "values")

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection._connection)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(to_error_reply)
        # A flag on each call keeps a plain socket's timeout as it is.
        self._flags = 0 if isinstance(self.sock, ssl.SSLSocket) else socket.MSG_DONTWAIT
        self._unsent = memoryview(b"")
        self._count = 0
        self._on_reply: OnReply = None
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


class NodePool(Pool):
    """A pool of connections to one server.

    Args:
        url: The server's URL.
        reading: Whether replicas answer reads on its connections. Such connections never write: a
            replica would start to run a script, instead of naming its primary.
    """

    def __init__(self, url: StoreUrl, *, reading: bool = False) -> None:
        super().__init__(url)
        self._reading = reading

    @override
    def connect(self, deadline: Deadline) -> NodeConnection:
        connection = NodeConnection(connect(self.url, deadline))
        if self._reading:
            try:
                [reply] = connection.exchange(
                    READONLY, 1, deadline.cap(self.url.connect_timeout_s)
                )
                check_readonly(self.url, reply)
            except BaseException:
                connection.close()
                raise
        return connection

    def acquire_idle(self, now: float) -> NodeConnection | None:
        """Return an idle connection that needs no check, if there is one."""
        if not self.idle or (self.permits and not self.permits.acquire(blocking=False)):
            return None
        connection = self.get_idle(now)
        if isinstance(connection, NodeConnection):
            self.round_trips += 1
            return connection
        self.release_permit()
        return None

    def acquire(self, deadline: Deadline) -> NodeConnection:
        """Return a connection, after waiting for a permit and connecting if necessary.

        Raises:
            StoreError: No permit became free in time, or no connection could be opened.
        """
        self.acquire_permit(deadline)
        try:
            connection = self.get(deadline, monotonic())
        except BaseException:
            self.release_permit()
            raise
        assert isinstance(connection, NodeConnection)  # noqa: S101 - made by `connect`
        self.round_trips += 1
        return connection

    def release(self, connection: NodeConnection) -> None:
        """Take back a connection on which every request got its reply."""
        self.put(connection)
        self.release_permit()

    def release_failed(self, connection: NodeConnection, error: OSError) -> None:
        """Close a connection that broke, and the idle ones, which probably broke too."""
        self.handle_loss(connection, error)
        self.release_permit()

    def abandon(self, connection: NodeConnection) -> None:
        """Close a connection whose replies are not awaited any more."""
        self.discard(connection)
        self.release_permit()

    def release_permit(self) -> None:
        """Let another caller use a connection."""
        if self.permits is not None:
            self.permits.release()


def check_readonly(url: StoreUrl, reply: Reply) -> None:
    """Check the reply to `READONLY`.

    Raises:
        StoreError: This user may not read from replicas.
    """
    if isinstance(reply, ErrorReply):
        raise StoreError(
            f"{user_text(url)} may not read from {url} as a replica: {reply}",
            hint="grant +readonly, or read from primaries",
        )
