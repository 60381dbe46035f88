"""Pools: the idle links to one server, and what is done before one of them is used again."""

from __future__ import annotations

import os
import threading
from collections import deque

from featurekit.ports import ConnectionStats
from featurekit.stores.connection import PING, Connection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import pool_exhausted_error
from featurekit.stores.url import StoreUrl


class Pool:
    """Links to one server, for threads.

    Idle links wait in a deque, the last one used on top: taking and giving back are atomic, so
    no lock is held that a `fork` could freeze. A child process begins with an empty pool.

    Attributes:
        url: Where the server is, and how many links there may be.
        era: How often another server has taken the place of the one before.
        idle: The links that nobody uses.
        room: How many more may be used at once; `None` for no bound.
        trips: FanOut trips made over its links.
        retries: How many of them were repeats.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self.generation = 0
        self._health_check_s = url.health_check_s
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self.round_trips = self.retries = 0
        self._connects = self._waits = self._alive = 0
        self.idle: deque[Connection] = deque()
        most = self.url.max_connections
        self.permits = threading.Semaphore(most) if most else None

    def connect(self, deadline: Deadline) -> Connection:
        """Open a link.

        Raises:
            StoreError: As `featurekit.stores.connection.connect`.
        """
        return connect(self.url, deadline)

    def wait_for_permit(self, permits: threading.Semaphore, deadline: Deadline) -> None:
        """Wait until one more link may be used.

        Raises:
            StoreUnavailableError: It took longer than the call may take.
        """
        if permits.acquire(blocking=False):
            return
        self._waits += 1
        if not permits.acquire(timeout=deadline.cap(deadline.attempt_timeout_s)):
            raise pool_exhausted_error(self.url, self.url.max_connections, deadline)

    def get(self, deadline: Deadline, now: float) -> Connection:
        """A link to use alone, `now` by the monotonic clock; give it back, or close it.

        Raises:
            StoreError: None is idle, and no new one could be opened.
        """
        if os.getpid() != self._pid:
            self._leave_to_parent()
        try:
            link = self.idle.pop()
        except IndexError:
            return self._new(deadline)
        if now - link.used_at > self._health_check_s:
            return self._proven(link, deadline)
        return link

    def put(self, link: Connection) -> None:
        """Take back a link on which every request got its reply."""
        self.idle.append(link)

    def discard(self, link: Connection) -> None:
        """Close a link that was taken."""
        self._alive -= 1
        link.close()

    def handle_loss(self, link: Connection, error: OSError) -> None:
        """Close a link; if it was cut, the idle ones were most likely cut with it."""
        self.discard(link)
        if not isinstance(error, TimeoutError):
            self.close_idle()

    def is_outdated(self, link: Connection) -> bool:
        """Whether another server is to be used by now in the place of the link's."""
        return link.generation != self.generation

    def close_idle(self, *, stale_only: bool = False) -> None:
        """Close the idle links, or those of them that the server has closed."""
        if os.getpid() != self._pid:
            self._leave_to_parent()
        for _ in range(len(self.idle)):
            try:
                link = self.idle.popleft()
            except IndexError:
                return
            if stale_only and not link.is_stale():
                self.idle.append(link)
            else:
                self.discard(link)

    @property
    def connection_stats(self) -> ConnectionStats:
        """What went over its links in this process, and how many there are."""
        if os.getpid() != self._pid:
            return ConnectionStats()
        in_use = max(0, self._alive - len(self.idle))
        return ConnectionStats(
            self.round_trips, self.retries, self._connects, self._waits, self._alive, in_use
        )

    def _new(self, deadline: Deadline) -> Connection:
        link = self.connect(deadline)
        self._connects += 1
        self._alive += 1
        return link

    def _proven(self, link: Connection, deadline: Deadline) -> Connection:
        """A link that was idle for long, if it still works; else another."""
        try:
            link.exchange(PING, 1, deadline.cap(self.url.connect_timeout_s, share=0.5))
        except OSError:
            self.discard(link)
            self.close_idle()  # they have been idle for longer
            return self._new(deadline)
        except BaseException:
            self.discard(link)
            raise
        return link

    def _leave_to_parent(self) -> None:
        """Start anew in a child process, closing what it inherited without a byte sent."""
        inherited = self.idle
        self._start()
        for link in inherited:
            link.close()
