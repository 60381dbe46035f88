"""Permits, which limit how many connections of a pool are in use.

A permit is requested, granted and released:

    request ──> waiting ──> granted ──release──> gone
                   └──────────┴──(no reference left)──> gone

All permits that are waiting or granted are in one dict, in the order of their requests; the first
`limit` of them are granted. So a release grants the permit that has waited longest.

Invariant: a permit that nothing refers to any more is not in the dict. Python may raise an exception
of a signal handler between any two steps of a call, also between taking a permit and entering the
`try` that gives it back. The keys of the dict are therefore weak references whose callback is the
dict's own `pop`: it runs without a single step of Python code. There is no lock either, which an
exception or a `fork` could leave locked; each step on the dict is atomic. Rejected alternative:
`threading.Semaphore`, which loses permits, and its own lock, to such exceptions.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol
from weakref import ReferenceType, ref

from featurekit.forks import renew_after_fork

RECHECK_S = 0.25
"""How long to wait at most before looking again, if a release was interrupted before it woke others."""

_Wake = Callable[[None], object]


class HeldPermit(Protocol):
    """What a call holds while it uses a connection."""

    def release(self) -> None:
        """Give the permit back."""


class _NoPermit:
    """Stands for a permit where there is no limit, or while a connection is idle."""

    __slots__ = ()

    def release(self) -> None:
        """Do nothing."""


NO_PERMIT = _NoPermit()


class Permit:
    """One place among the connections in use, granted or waited for."""

    __slots__ = ("__weakref__", "_limit", "_queue")

    def __init__(self, queue: dict[ReferenceType[Permit], _Wake | None], limit: int) -> None:
        self._queue, self._limit = queue, limit
        queue[ref(self, queue.pop)] = None

    @property
    def is_granted(self) -> bool:
        """Whether the permit is among the first `limit`."""
        queue = self._queue
        return len(queue) <= self._limit or ref(self) in list(islice(queue, self._limit))

    def wait(self, timeout_s: float) -> bool:
        """Wait until the permit is granted; return whether it is."""
        woken: SimpleQueue[None] = SimpleQueue()
        self._queue[ref(self)] = woken.put
        end = monotonic() + timeout_s
        while not self.is_granted:
            remaining_s = end - monotonic()
            if remaining_s <= 0:
                return False
            with suppress(Empty):
                woken.get(timeout=min(remaining_s, RECHECK_S))
        self._queue[ref(self)] = None
        return True

    async def wait_async(self, timeout_s: float) -> bool:
        """Wait until the permit is granted; return whether it is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while not self.is_granted:
            remaining_s = end - loop.time()
            if remaining_s <= 0:
                return False
            woken: asyncio.Future[None] = loop.create_future()
            self._queue[ref(self)] = _setter(woken)
            await asyncio.wait([woken], timeout=min(remaining_s, RECHECK_S))
        self._queue[ref(self)] = None
        return True

    def release(self) -> None:
        """Give the permit back, which may grant others."""
        queue = self._queue
        queue.pop(ref(self), None)
        if len(queue) >= self._limit:
            for wake in list(islice(queue.values(), self._limit)):
                if wake is not None:
                    wake(None)


class Permits:
    """The permits of one pool.

    Attributes:
        limit: How many may be granted at the same time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._queue: dict[ReferenceType[Permit], _Wake | None] = {}

    @property
    def in_use(self) -> int:
        """How many permits are granted."""
        return min(len(self._queue), self.limit)

    def request(self) -> Permit:
        """Return a permit, which may have to wait."""
        return Permit(self._queue, self.limit)

    def try_acquire(self) -> Permit | None:
        """Return a granted permit, or `None` if the caller would have to wait."""
        if len(self._queue) >= self.limit:
            return None
        permit = Permit(self._queue, self.limit)
        return permit if permit.is_granted else None


class ProcessPermits:
    """The permits of this process: in a forked child, none is in use."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.renew_in_child()
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Forget the permits that calls in the parent hold."""
        self._permits = Permits(self._limit)
        self._pid = os.getpid()  # last: a thread that sees it sees the rest

    def request(self) -> Permit:
        """Return a permit, which may have to wait."""
        if os.getpid() != self._pid:
            self.renew_in_child()
        return self._permits.request()


class LoopPermits:
    """The permits of the running event loop: on another loop, none is in use."""

    def __init__(self, limit: int) -> None:
        self._permits = Permits(limit)
        self._loop: asyncio.AbstractEventLoop | None = None

    def request(self) -> Permit:
        """Return a permit, which may have to wait."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._permits = loop, Permits(self._permits.limit)
        return self._permits.request()


def _setter(woken: asyncio.Future[None]) -> _Wake:
    def wake(result: None) -> None:
        if not woken.done():
            woken.set_result(result)

    return wake
