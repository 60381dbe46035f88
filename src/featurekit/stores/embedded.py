# Generated from embedded_async.py by featurekit.codegen.unasync: edit that file.
"""A store on an embedded server, which it starts when needed and again when it was lost."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from featurekit.errors import StoreUnavailableError
from featurekit.stores.connect import connect, connect_deadline
from featurekit.stores.connection import Connection
from featurekit.stores.deadline import Deadline
from featurekit.stores.embedded_folder import GET_DIRECTORY
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.error_mapping import connect_error
from featurekit.stores.pool import Pool
from featurekit.stores.redis import RedisStore
from featurekit.stores.url import StoreUrl


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
        with self._server.socket_path() as path:
            connection = connect(self.url, deadline, path)
        limits = connect_deadline(self.url, deadline)
        try:
            self._server.place.check_peer(connection.sock)
            [directory] = connection.exchange(GET_DIRECTORY, 1, limits.remaining_s())
            self._server.check_directory(directory)
        except OSError as error:
            connection.close()
            raise connect_error(self.url, error, limits) from error
        except BaseException:
            connection.close()
            raise
        return connection


class EmbeddedStore(RedisStore):
    """An online store on the embedded server of a folder."""

    def __init__(self, url: StoreUrl) -> None:
        self.server = EmbeddedServer(Path(url.path))
        super().__init__(url, _EmbeddedPool(url, self.server))
