"""A store on an embedded server, which it starts when needed and again when it was lost."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.stores.connect import connect_async, connect_deadline
from featurekit.stores.connection import AsyncConnection
from featurekit.stores.deadline import Deadline
from featurekit.stores.embedded_folder import GET_DIRECTORY
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.error_mapping import connect_error
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.url import StoreUrl


class _AsyncEmbeddedPool(AsyncPool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        try:
            return await self._connect(deadline)
        except StoreUnavailableError:
            await self._server.ensure_running_async()
        return await self._connect(deadline)

    async def _connect(self, deadline: Deadline) -> AsyncConnection:
        """Connect to the server of the folder, and to no other."""
        with self._server.socket_path() as path:
            connection = await connect_async(self.url, deadline, path)
        limits = connect_deadline(self.url, deadline)
        try:
            self._server.place.check_peer(connection.sock)
            [directory] = await connection.exchange(GET_DIRECTORY, 1, limits.remaining_s())
            self._server.check_directory(directory)
        except OSError as error:
            connection.close()
            raise connect_error(self.url, error, limits) from error
        except BaseException:
            connection.close()
            raise
        return connection


class AsyncEmbeddedStore(AsyncRedisStore):
    """An online store on the embedded server of a folder."""

    def __init__(self, url: StoreUrl) -> None:
        self.server = EmbeddedServer(Path(url.path))
        super().__init__(url, _AsyncEmbeddedPool(url, self.server))
