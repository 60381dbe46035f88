"""Count the stored users, at a bounded cost.

Concurrent requests share one count. A count stays valid for a short time, and for longer if
counting took long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.demo.event_simulator import IdPages
from featurekit.errors import StoreError

MAX_IDS = 2000
"""Ids that are kept."""

MIN_VALIDITY_S = 0.25
VALIDITY_FACTOR = 10
"""A count that took one second is valid for ten."""

TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class UserCount:
    """The number of stored users, and the ids of some of them, sorted."""

    users: int = 0
    ids: Sequence[str] = ()


class UserCounter:
    """Counts the users of one store. Must be used from one event loop.

    Attributes:
        latest: The last count.
        error: Why the last attempt failed; empty if it succeeded.
    """

    def __init__(self, id_pages: IdPages) -> None:
        self.latest = UserCount()
        self.error = ""
        self._id_pages = id_pages
        self._pending: asyncio.Task[None] | None = None
        self._valid_until = 0.0

    async def count(self, *, refresh: bool = False) -> UserCount:
        """Return the count; after a timeout, return the last one and set `error`.

        Args:
            refresh: Whether to count again, because users were written or deleted.
        """
        if refresh and self._pending is not None:
            await self._wait(self._pending)
        if refresh or time.monotonic() > self._valid_until:
            self._pending = self._pending or asyncio.create_task(self._update())
            await self._wait(self._pending)
        return self.latest

    async def _wait(self, task: asyncio.Task[None]) -> None:
        _, pending = await asyncio.wait([task], timeout=TIMEOUT_S)
        if pending:
            self.error = self.error or "the store does not answer"

    async def _update(self) -> None:
        start = time.monotonic()
        try:
            self.latest = await asyncio.to_thread(self._scan)
            self.error = ""
        except StoreError as error:
            self.error = error.message
        finally:
            now = time.monotonic()
            self._valid_until = now + max(MIN_VALIDITY_S, VALIDITY_FACTOR * (now - start))
            self._pending = None

    def _scan(self) -> UserCount:
        ids: set[str] = set()
        for page in self._id_pages():
            ids.update(page)
        return UserCount(len(ids), sorted(ids)[:MAX_IDS])
