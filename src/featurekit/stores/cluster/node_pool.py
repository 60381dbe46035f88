# Generated from node_pool_async.py by featurekit.codegen.unasync: edit that file.
"""The connections to one server of a cluster, from threads."""

from __future__ import annotations

from time import monotonic

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.node_connections import NodeConnection
from featurekit.stores.connect import connect
from featurekit.stores.connection import Connection
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import user_text
from featurekit.stores.permits import NO_PERMIT
from featurekit.stores.pool import Pool
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, command

READONLY = command(b"READONLY")


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
    def connect(self, deadline: Deadline) -> Connection:
        connection = NodeConnection(connect(self.url, deadline))
        if self._reading:
            try:
                self._allow_reads(connection, deadline)
            except BaseException:
                connection.close()
                raise
        return connection

    def _allow_reads(self, connection: NodeConnection, deadline: Deadline) -> None:
        timeout_s = deadline.cap(self.url.connect_timeout_s)
        [reply] = connection.exchange(READONLY, 1, timeout_s)
        if isinstance(reply, ErrorReply):
            raise StoreError(
                f"{user_text(self.url)} may not read from {self.url} as a replica: {reply}",
                hint="grant +readonly, or read from primaries",
            )

    def acquire_idle(self, now: float) -> NodeConnection | None:
        """Return an idle connection that needs no check, if there is one."""
        if not self.idle or (permit := self.try_acquire_permit()) is None:
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
