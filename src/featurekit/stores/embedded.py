"""Stores on an embedded server, which they start when needed and again when it was lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.stores import connection, connection_async
from featurekit.stores.connection import Connection
from featurekit.stores.connection_async import AsyncConnection
from featurekit.stores.deadline import Deadline
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.pool import Pool
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis import RedisStore
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.url import StoreUrl


class _EmbeddedPool(Pool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    def connect(self, deadline: Deadline) -> Connection:
        try:
            return connection.connect(socket_url(self.url, self._server), deadline)
        except StoreUnavailableError:
            self._server.ensure_running()
        return connection.connect(socket_url(self.url, self._server), deadline)


class _AsyncEmbeddedPool(AsyncPool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        await asyncio.to_thread(self._server.ensure_running)
        return await connection_async.connect(socket_url(self.url, self._server), deadline)


class EmbeddedStore(RedisStore):
    """An online store on the embedded server of a folder."""

    def __init__(self, url: StoreUrl) -> None:
        self.server = EmbeddedServer(Path(url.path))
        super().__init__(url, _EmbeddedPool(url, self.server))


class AsyncEmbeddedStore(AsyncRedisStore):
    """The asyncio form of `EmbeddedStore`. It starts the server on another thread."""

    def __init__(self, url: StoreUrl) -> None:
        self.server = EmbeddedServer(Path(url.path))
        super().__init__(url, _AsyncEmbeddedPool(url, self.server))


def socket_url(url: StoreUrl, server: EmbeddedServer) -> StoreUrl:
    """Return the `unix://` URL of an embedded server, with the options of its own URL."""
    return replace(url, scheme="unix", path=str(server.socket))
