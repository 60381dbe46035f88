"""The asyncio side of the embedded server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typing_extensions import override

from featurekit.stores.connection_async import AsyncConnection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.embedded import EmbeddedServer, socket_url
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.url import StoreUrl


class _AsyncEmbeddedPool(AsyncPool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        await asyncio.to_thread(self._server.ensure)
        return await connect(socket_url(self.url, self._server), deadline)


class AsyncEmbeddedStore(AsyncRedisStore):
    """As `EmbeddedStore`: starts the server when needed and again when lost, on another thread."""

    def __init__(self, url: StoreUrl) -> None:
        self.server = EmbeddedServer(Path(url.path))
        super().__init__(url, _AsyncEmbeddedPool(url, self.server))
