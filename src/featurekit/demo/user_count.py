"""The census: which users are stored, counted when somebody asks, at a bounded cost.

Many pages may ask many times a second: they share one count, which is never older than they would
notice, and a store so large that counting takes long is counted the more seldom.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from featurekit.errors import StoreError

KEPT = 2000
"""Ids that are kept, at most."""

FRESH_S = 0.25
SHARE = 10
"""A count that took a second is good for ten."""

PATIENCE_S = 1.0

Pages = Callable[[], Iterable[list[str]]]


@dataclass(frozen=True, slots=True)
class Count:
    """Users stored at one time: how many, and the ids of some, sorted."""

    users: int = 0
    ids: Sequence[str] = ()


class UserCounter:
    """Counts the users of one store. For one event loop.

    Attributes:
        count: The last count.
        error: Why it could not be counted anew; empty if it could.
    """

    def __init__(self, pages: Pages) -> None:
        self.count = Count()
        self.error = ""
        self._pages = pages
        self._under_way: asyncio.Task[None] | None = None
        self._good_until = 0.0

    async def take(self, *, anew: bool = False) -> Count:
        """The count; after a second of waiting for the store, the last one, with an error.

        Args:
            anew: Whether something was changed that must show.
        """
        if anew and self._under_way is not None:
            await self._wait(self._under_way)
        if anew or time.monotonic() > self._good_until:
            self._under_way = self._under_way or asyncio.create_task(self._count())
            await self._wait(self._under_way)
        return self.count

    async def _wait(self, task: asyncio.Task[None]) -> None:
        _, pending = await asyncio.wait([task], timeout=PATIENCE_S)
        if pending:
            self.error = self.error or "the store does not answer"

    async def _count(self) -> None:
        start = time.monotonic()
        try:
            self.count = await asyncio.to_thread(_counted, self._pages)
            self.error = ""
        except StoreError as error:
            self.error = error.message
        finally:
            now = time.monotonic()
            self._good_until = now + max(FRESH_S, SHARE * (now - start))
            self._under_way = None


def _counted(pages: Pages) -> Count:
    ids: set[str] = set()
    for page in pages():
        ids.update(page)
    return Count(len(ids), sorted(ids)[:KEPT])
