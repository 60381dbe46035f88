"""Stores on an embedded server, which they start when needed and again when it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.stores import connection, connection_async
from featurekit.stores.connection import Connection, connect_deadline
from featurekit.stores.connection_async import AsyncConnection
from featurekit.stores.deadline import Deadline
from featurekit.stores.embedded_folder import GET_DIRECTORY
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.error_mapping import connect_error
from featurekit.stores.pool import Pool
from featurekit.stores.pool_async import AsyncPool
from featurekit.stores.redis import RedisStore
from featurekit.stores.redis_async import AsyncRedisStore
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply


class _EmbeddedPool(Pool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    def connect(self, deadline: Deadline) -> Connection:
        try:
            return self._connect(deadline)
        except StoreUnavailableError:
            self._server.ensure_running()
        return self._connect(deadline)

    def _connect(self, deadline: Deadline) -> Connection:
        """Connect to the server of the folder, and to no other."""
        with _socket_path(self.url, self._server) as path:
            opened = connection.connect(self.url, deadline, path)
        limits = connect_deadline(self.url, deadline)
        try:
            self._server.place.check_peer(opened.sock)
            [directory] = opened.exchange(GET_DIRECTORY, 1, limits.remaining_s())
            _check_directory(self._server, directory)
        except OSError as error:
            opened.close()
            raise connect_error(self.url, error, limits) from error
        except BaseException:
            opened.close()
            raise
        return opened


class _AsyncEmbeddedPool(AsyncPool):
    def __init__(self, url: StoreUrl, server: EmbeddedServer) -> None:
        super().__init__(url)
        self._server = server

    @override
    async def connect(self, deadline: Deadline) -> AsyncConnection:
        await asyncio.to_thread(self._server.ensure_running)
        with _socket_path(self.url, self._server) as path:
            opened = await connection_async.connect(self.url, deadline, path)
        limits = connect_deadline(self.url, deadline)
        try:
            self._server.place.check_peer(opened.sock)
            [directory] = await opened.exchange(GET_DIRECTORY, 1, limits.remaining_s())
            _check_directory(self._server, directory)
        except OSError as error:
            opened.close()
            raise connect_error(self.url, error, limits) from error
        except BaseException:
            opened.close()
            raise
        return opened


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


@contextmanager
def _socket_path(url: StoreUrl, server: EmbeddedServer) -> Iterator[str]:
    """Yield the path of the socket.

    Raises:
        StoreUnavailableError: The folder does not exist.
    """
    try:
        with server.place.socket_path() as path:
            yield path
    except OSError as error:
        raise StoreUnavailableError(f"cannot open {url}: {error.strerror}") from error


def _check_directory(server: EmbeddedServer, reply: Reply) -> None:
    """Check a server's reply to `GET_DIRECTORY`.

    Raises:
        StoreUnavailableError: It is the server of another folder.
    """
    if not server.place.is_data_directory(reply):
        raise StoreUnavailableError(
            f"the socket in {server.folder} belongs to the server of another folder",
            hint=f"remove {server.socket}",
        )


def socket_url(url: StoreUrl, server: EmbeddedServer) -> StoreUrl:
    """Return the `unix://` URL of an embedded server, with the options of its own URL."""
    return replace(url, scheme="unix", path=str(server.socket))
