"""The door to one online store: opened when first needed, for threads and for event loops."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path

from typing_extensions import override

from featurekit.ports import AsyncOnlineStore, ConnectionStats, OnlineStore, StoreHandle
from featurekit.stores import open_async_store, open_store_url
from featurekit.stores.url import NO_OPTIONS, StoreUrl


class LazyStoreHandle(StoreHandle):
    """Opens a store by its URL. Pickles as that URL; connections stay where they are.

    Attributes:
        url: The store's URL.
        root: The folder that its relative paths start from.
        options: What `online_store:` says beside the URL, by the names of the URL's options.
    """

    def __init__(self, url: str, root: Path, options: Mapping[str, str] = NO_OPTIONS) -> None:
        self.url = url
        self.root = root
        self.options = dict(options)
        self._store: OnlineStore | None = None
        self._pid = os.getpid()
        self._past = ConnectionStats()
        self._loops: dict[asyncio.AbstractEventLoop, AsyncOnlineStore] = {}

    @property
    def shown(self) -> str:
        """The URL for people: without its password.

        Raises:
            StoreError: It is no store's URL.
        """
        return str(self._place)

    @property
    def options_text(self) -> str:
        """The options of its connections, for people."""
        return self._place.options_text

    @property
    def load_timeout_s(self) -> float:
        """How long the store waits for the next reply where nobody is served."""
        return self._place.load_timeout_s

    @property
    def _place(self) -> StoreUrl:
        return StoreUrl.parse(self.url, self.options)

    def another(self, patience_s: float = inf) -> OnlineStore:
        """The store once more, with connections of its own; whoever asks closes it.

        Args:
            patience_s: How long it waits for a reply where nobody is served, if that is less than
                its `load_timeout`.
        """
        place = self._place.with_absolute_paths(self.root.absolute()).with_secrets(os.environ)
        return open_store_url(replace(place, load_timeout_s=min(place.load_timeout_s, patience_s)))

    @property
    @override
    def store(self) -> OnlineStore:
        """The store for threads."""
        if self._store is None:
            self._store = self.another()
        return self._store

    @override
    def running(self) -> AsyncOnlineStore:
        """The store of the running event loop."""
        loop = asyncio.get_running_loop()
        store = self._loops.get(loop)
        if store is None:
            self._forget_loops()
            store = open_async_store(self.url, self.root, os.environ, self.options)
            self._loops[loop] = store
        return store

    @property
    def connection_stats(self) -> ConnectionStats:
        """What went over the connections, of threads and of event loops."""
        self._forget_loops()
        stores = list(self._loops.values())
        threads = self._store.connection_stats if self._store is not None else ConnectionStats()
        return sum((store.connection_stats for store in stores), self._past + threads)

    def _forget_loops(self) -> None:
        """Keep of event loops that are closed what went over their connections, and no more."""
        if os.getpid() != self._pid:
            self._pid, self._past = os.getpid(), ConnectionStats()
            self._loops.clear()
        for loop in [loop for loop in list(self._loops) if loop.is_closed()]:
            self._remember(self._loops.pop(loop, None))

    def _remember(self, store: AsyncOnlineStore | None) -> None:
        if store is not None:
            self._past += replace(store.connection_stats, open=0, in_use=0)

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
            self._remember(store)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return LazyStoreHandle, (self.url, self.root, self.options)


def now_ms() -> int:
    """The time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
