# Generated from pool_async.py by featurekit.codegen.unasync: edit that file.
"""A connection pool for one server, shared by threads."""

from __future__ import annotations

from featurekit.stores.connect import connect
from featurekit.stores.connection import PING, Connection
from featurekit.stores.deadline import Deadline
from featurekit.stores.pool_state import ThreadPoolState


class Pool(ThreadPoolState[Connection]):
    """Opens connections when none is idle, and checks those that were idle for long."""

    def connect(self, deadline: Deadline) -> Connection:
        """Open a connection.

        Raises:
            StoreError: The server cannot be reached or refuses the login.
        """
        return connect(self.url, deadline)

    def get(self, deadline: Deadline, now: float) -> Connection:
        """Return a connection for the caller alone; end its use with `put` or `discard`.

        Args:
            deadline: The limits of the call.
            now: The monotonic clock.

        Raises:
            StoreError: No connection is idle, and none could be opened.
        """
        self.follow_server(deadline, now)
        while (connection := self._pop_idle()) is not None:
            is_fresh = now - connection.used_at <= self._health_check_s
            connection.used_at = now
            if is_fresh or self._is_alive(connection, deadline):
                return connection
        connection = self.connect(deadline)
        self._count_connect(connection)
        return connection

    def _is_alive(self, connection: Connection, deadline: Deadline) -> bool:
        """Send a `PING` on a connection that was idle for long; if it fails, close all idle ones."""
        try:
            timeout_s = deadline.cap(self.url.connect_timeout_s, share=0.5)
            connection.exchange(PING, 1, timeout_s)
        except OSError:
            self.discard(connection)
            self.close_idle()  # they have been idle even longer
            return False
        except BaseException:
            self.discard(connection)
            raise
        return True
