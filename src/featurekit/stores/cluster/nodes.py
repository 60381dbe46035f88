"""Define the connections to one server of a cluster.

A thread may have exchanges under way on several of them, and advances each one when its socket is
ready.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.routed_requests import to_error_reply
from featurekit.stores.connection import INCOMPLETE, Connection, OnReply, connect, reply_reader
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import GarbledReplyError, user_text
from featurekit.stores.permits import NO_PERMIT, HeldPermit
from featurekit.stores.pipelined_load import WOULD_BLOCK
from featurekit.stores.pool import Pool
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, command

READONLY = command(b"READONLY")


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
        if not self.idle:
            return None
        permit = self.permits.try_acquire() if self.permits is not None else NO_PERMIT
        if permit is None:
            return None
        connection = self.get_idle(now)
        if isinstance(connection, NodeConnection):
            connection.permit = permit
            self.round_trips += 1
            return connection
        permit.release()
        return None

    def acquire(self, deadline: Deadline) -> NodeConnection:
        """Return a connection, after waiting for a permit and connecting if necessary.

        Raises:
            StoreError: No permit became free in time, or no connection could be opened.
        """
        permit = self.acquire_permit(deadline)
        try:
            connection = self.get(deadline, monotonic())
        except BaseException:
            permit.release()
            raise
        assert isinstance(connection, NodeConnection)  # noqa: S101 - made by `connect`
        connection.permit = permit
        self.round_trips += 1
        return connection

    def release(self, connection: NodeConnection) -> None:
        """Take back a connection on which every request got its reply."""
        # An idle connection holds no permit, not even if a signal handler raises in between.
        permit, connection.permit = connection.permit, NO_PERMIT
        self.put(connection)
        permit.release()

    def release_failed(self, connection: NodeConnection, error: OSError) -> None:
        """Close a connection that broke, and the idle ones, which probably broke too."""
        self.handle_loss(connection, error)
        connection.permit.release()

    def abandon(self, connection: NodeConnection) -> None:
        """Close a connection whose replies are not awaited any more."""
        self.discard(connection)
        connection.permit.release()


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
