"""The connections to one server of a cluster, from one asyncio event loop at a time."""

from __future__ import annotations

from time import monotonic

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.node_connections import AsyncNodeConnection
from featurekit.stores.connect import connect_async
from featurekit.stores.connection import AsyncConnection
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import user_text
from featurekit.stores.permits import NO_PERMIT
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, command

READONLY = command(b"READONLY")


class AsyncNodePool(AsyncPool):
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
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        connection = AsyncNodeConnection(await connect_async(self.url, deadline))
        if self._reading:
            try:
                await self._allow_reads(connection, deadline)
            except BaseException:
                connection.close()
                raise
        return connection

    async def _allow_reads(self, connection: AsyncNodeConnection, deadline: Deadline) -> None:
        timeout_s = deadline.cap(self.url.connect_timeout_s)
        [reply] = await connection.exchange(READONLY, 1, timeout_s)
        if isinstance(reply, ErrorReply):
            raise StoreError(
                f"{user_text(self.url)} may not read from {self.url} as a replica: {reply}",
                hint="grant +readonly, or read from primaries",
            )

    def acquire_idle(self, now: float) -> AsyncNodeConnection | None:
        """Return an idle connection that needs no check, if there is one."""
        if not self.idle or (permit := self.try_acquire_permit()) is None:
            return None
        connection = self.get_idle(now)
        if isinstance(connection, AsyncNodeConnection):
            connection.permit = permit
            self.round_trips += 1
            return connection
        permit.release()
        return None

    async def acquire(self, deadline: Deadline) -> AsyncNodeConnection:
        """Return a connection, after waiting for a permit and connecting if necessary.

        Raises:
            StoreError: No permit became free in time, or no connection could be opened.
        """
        permit = await self.acquire_permit(deadline)
        try:
            connection = await self.get(deadline, monotonic())
        except BaseException:
            permit.release()
            raise
        assert isinstance(connection, AsyncNodeConnection)  # noqa: S101 - made by `connect`
        connection.permit = permit
        self.round_trips += 1
        return connection

    def release(self, connection: AsyncNodeConnection) -> None:
        """Take back a connection on which every request got its reply."""
        # An idle connection holds no permit, not even if a signal handler raises in between.
        permit, connection.permit = connection.permit, NO_PERMIT
        self.put(connection)
        permit.release()

    def release_failed(self, connection: AsyncNodeConnection, error: OSError) -> None:
        """Close a connection that broke, and the idle ones, which probably broke too."""
        self.handle_loss(connection, error)
        connection.permit.release()

    def abandon(self, connection: AsyncNodeConnection) -> None:
        """Close a connection whose replies are not awaited any more."""
        self.discard(connection)
        connection.permit.release()
