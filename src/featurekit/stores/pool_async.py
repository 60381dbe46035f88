"""A connection pool for one server, bound to one asyncio event loop at a time."""

from __future__ import annotations

from featurekit.stores.connect import connect_async
from featurekit.stores.connection import PING, AsyncConnection
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool_state import LoopPoolState


class AsyncPool(LoopPoolState[AsyncConnection]):
    """Opens connections when none is idle, and checks those that were idle for long."""

    async def connect(self, deadline: Deadline) -> AsyncConnection:
        """Open a connection.

        Raises:
            StoreError: The server cannot be reached or refuses the login.
        """
        return await connect_async(self.url, deadline)

    async def get(self, deadline: Deadline, now: float) -> AsyncConnection:
        """Return a connection for the caller alone; end its use with `put` or `discard`.

        Args:
            deadline: The limits of the call.
            now: The monotonic clock.

        Raises:
            StoreError: No connection is idle, and none could be opened.
        """
        await self.follow_server(deadline, now)
        while (connection := self._pop_idle()) is not None:
            is_fresh = now - connection.used_at <= self._health_check_s
            connection.used_at = now
            if is_fresh or await self._is_alive(connection, deadline):
                return connection
        connection = await self.connect(deadline)
        self._count_connect(connection)
        return connection

    async def _is_alive(self, connection: AsyncConnection, deadline: Deadline) -> bool:
        """Send a `PING` on a connection that was idle for long; if it fails, close all idle ones."""
        try:
            timeout_s = deadline.cap(self.url.connect_timeout_s, share=0.5)
            await connection.exchange(PING, 1, timeout_s)
        except OSError:
            self.discard(connection)
            self.close_idle()  # they have been idle even longer
            return False
        except BaseException:
            self.discard(connection)
            raise
        return True
