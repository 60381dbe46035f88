"""The asyncio side of the embedded server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typing_extensions import override

from featurekit.stores.aio import AsyncRedisStore, Wire, connect
from featurekit.stores.embedded import EmbeddedServer, socket_url
from featurekit.stores.url import StoreUrl


class AsyncEmbeddedStore(AsyncRedisStore):
    """As `EmbeddedStore`: starts the server when needed and again when lost, on another thread."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        self.server = EmbeddedServer(Path(url.path))

    @override
    async def _connect(self) -> Wire:
        await asyncio.to_thread(self.server.ensure)
        return await connect(socket_url(self.url, self.server))
