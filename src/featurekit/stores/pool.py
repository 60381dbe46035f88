"""Pools: the idle links to one server, and what is done before one of them is used again."""

from __future__ import annotations

import os
import threading
from collections import deque

from featurekit.ports import Traffic
from featurekit.stores.connection import PING, Connection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import no_room
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
        self.era = 0
        self._health_check_s = url.health_check_s
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self.trips = self.retries = 0
        self._connects = self._waits = self._alive = 0
        self.idle: deque[Connection] = deque()
        most = self.url.max_connections
        self.room = threading.Semaphore(most) if most else None

    def connect(self, patience: Deadline) -> Connection:
        """Open a link.

        Raises:
            StoreError: As `featurekit.stores.connection.connect`.
        """
        return connect(self.url, patience)

    def wait(self, room: threading.Semaphore, patience: Deadline) -> None:
        """Wait until one more link may be used.

        Raises:
            StoreUnavailableError: It took longer than the call may take.
        """
        if room.acquire(blocking=False):
            return
        self._waits += 1
        if not room.acquire(timeout=patience.bounded(patience.try_s)):
            raise no_room(self.url, self.url.max_connections, patience)

    def take(self, patience: Deadline, now: float) -> Connection:
        """A link to use alone, `now` by the monotonic clock; give it back, or close it.

        Raises:
            StoreError: None is idle, and no new one could be opened.
        """
        if os.getpid() != self._pid:
            self._leave_to_parent()
        try:
            link = self.idle.pop()
        except IndexError:
            return self._new(patience)
        if now - link.used_at > self._health_check_s:
            return self._proven(link, patience)
        return link

    def give(self, link: Connection) -> None:
        """Take back a link on which every request got its reply."""
        self.idle.append(link)

    def discard(self, link: Connection) -> None:
        """Close a link that was taken."""
        self._alive -= 1
        link.close()

    def lost(self, link: Connection, error: OSError) -> None:
        """Close a link; if it was cut, the idle ones were most likely cut with it."""
        self.discard(link)
        if not isinstance(error, TimeoutError):
            self.drop()

    def moved(self, link: Connection) -> bool:
        """Whether another server is to be used by now in the place of the link's."""
        return link.era != self.era

    def drop(self, *, stale_only: bool = False) -> None:
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
    def traffic(self) -> Traffic:
        """What went over its links in this process, and how many there are."""
        if os.getpid() != self._pid:
            return Traffic()
        in_use = max(0, self._alive - len(self.idle))
        return Traffic(self.trips, self.retries, self._connects, self._waits, self._alive, in_use)

    def _new(self, patience: Deadline) -> Connection:
        link = self.connect(patience)
        self._connects += 1
        self._alive += 1
        return link

    def _proven(self, link: Connection, patience: Deadline) -> Connection:
        """A link that was idle for long, if it still works; else another."""
        try:
            link.exchange(PING, 1, patience.bounded(self.url.connect_timeout_s, share=0.5))
        except OSError:
            self.discard(link)
            self.drop()  # they have been idle for longer
            return self._new(patience)
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
