"""The door to one online store: opened when first needed, for threads and for event loops."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from weakref import WeakKeyDictionary

from typing_extensions import override

from featurekit.ports import AsyncOnlineStore, Door, OnlineStore, Traffic
from featurekit.stores import open_async_store, open_store
from featurekit.stores.url import StoreUrl


class StoreDoor(Door):
    """Opens a store by its URL. Pickles as that URL; connections stay where they are.

    Attributes:
        url: The store's URL.
        root: The folder that its relative paths start from.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self.root = root
        self._store: OnlineStore | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOnlineStore] = (
            WeakKeyDictionary()
        )

    @property
    def shown(self) -> str:
        """The URL for people: without its password.

        Raises:
            StoreError: It is no store's URL.
        """
        return str(StoreUrl.parse(self.url))

    @property
    @override
    def store(self) -> OnlineStore:
        """The store for threads."""
        if self._store is None:
            self._store = open_store(self.url, self.root, os.environ)
        return self._store

    @override
    def running(self) -> AsyncOnlineStore:
        """The store of the running event loop."""
        loop = asyncio.get_running_loop()
        store = self._loops.get(loop)
        if store is None:
            store = self._loops[loop] = open_async_store(self.url, self.root, os.environ)
        return store

    @property
    def traffic(self) -> Traffic:
        """What went over the connections, of threads and of event loops."""
        traffic = self._store.traffic if self._store is not None else Traffic()
        return sum((store.traffic for store in list(self._loops.values())), traffic)

    @override
    def now_ms(self) -> int:
        """The time, in milliseconds since the epoch."""
        return now_ms()

    def close(self) -> None:
        """Close the connections of threads; the next call opens new ones."""
        if self._store is not None:
            self._store.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        if (store := self._loops.pop(asyncio.get_running_loop(), None)) is not None:
            await store.close()

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return StoreDoor, (self.url, self.root)


def now_ms() -> int:
    """The time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
