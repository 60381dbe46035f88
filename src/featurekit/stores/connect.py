"""Open connections with redis-py, which does TLS, AUTH and SELECT."""

from __future__ import annotations

import asyncio
import socket
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import redis
from redis import connection as sync_redis
from redis.asyncio import connection as async_redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.store_options import TLS_FILES
from featurekit.stores.connection import PING, AsyncConnection, Connection
from featurekit.stores.deadline import MIN_TIMEOUT_S, Deadline
from featurekit.stores.error_mapping import check_greeting, connect_error
from featurekit.stores.options import WHERE
from featurekit.stores.url import StoreUrl


class _SocketAccess(sync_redis.AbstractConnection):
    _sock: Any
    deadline_s: float

    @override
    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply of the login, but not beyond the deadline of the call."""
        if self.deadline_s != inf:
            self._sock.settimeout(max(self.deadline_s - monotonic(), MIN_TIMEOUT_S))
        return super().read_response(*args, **kwargs)

    def connected_socket(self) -> socket.socket:
        sock: socket.socket = self._sock
        return sock


class _TransportAccess:
    _reader: Any
    _writer: Any

    def connected_transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self._writer.transport
        return transport

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


def _classes(access: type, module: Any) -> dict[str, Any]:
    """Return redis-py's connection class of each scheme, with `access` to what it has opened."""
    bases = {
        "redis": module.Connection,
        "rediss": module.SSLConnection,
        "unix": module.UnixDomainSocketConnection,
    }
    return {scheme: type(f"_{scheme}", (access, base), {}) for scheme, base in bases.items()}


_CLASSES = _classes(_SocketAccess, sync_redis)
_ASYNC_CLASSES = _classes(_TransportAccess, async_redis)


def connect(url: StoreUrl, deadline: Deadline | None = None, socket_path: str = "") -> Connection:
    """Open a connection with the URL's TLS settings, login and database.

    Args:
        url: The server and the login.
        deadline: The limits of the call that needs the connection. Connecting takes at most the
            URL's `connect_timeout_s`, and less if the call must end sooner.
        socket_path: The Unix socket to connect to, if the URL does not name it.

    Raises:
        StoreUnavailableError: The server cannot be reached, or is not ready.
        StoreError: The server refuses this user, password or database.
    """
    limits = connect_deadline(url, deadline)
    arguments = connection_arguments(url, limits.remaining_s(), socket_path)
    kind = _CLASSES["unix" if socket_path else url.scheme]
    opened = kind(**arguments, retry=Retry(NoBackoff(), 0))
    opened.deadline_s = limits.deadline_s
    try:
        opened.connect()
        [greeting] = Connection(opened).exchange(PING, 1, limits.remaining_s())
        check_greeting(url, greeting)
    except BaseException as error:
        opened.disconnect()
        if isinstance(error, redis.RedisError | OSError):
            raise connect_error(url, error, limits) from error
        raise
    return Connection(opened)


async def connect_async(
    url: StoreUrl, deadline: Deadline | None = None, socket_path: str = ""
) -> AsyncConnection:
    """Do the same as `connect` without blocking the event loop."""
    limits = connect_deadline(url, deadline)
    arguments = connection_arguments(url, limits.remaining_s(), socket_path)
    kind = _ASYNC_CLASSES["unix" if socket_path else url.scheme]
    opened = kind(**arguments, retry=AsyncRetry(NoBackoff(), 0))
    # TCP or TLS and the login each take up to the timeout, unless the whole call is limited.
    steps = 1 if limits.bounds_call else 2
    try:
        async with asyncio.timeout(steps * limits.remaining_s()):
            await opened.connect()
        connection = AsyncConnection(opened)
        [greeting] = await connection.exchange(PING, 1, limits.remaining_s())
        check_greeting(url, greeting)
    except BaseException as error:
        opened.abort()
        if isinstance(error, redis.RedisError | OSError):
            raise connect_error(url, error, limits) from error
        raise
    return connection


def connect_deadline(url: StoreUrl, call: Deadline | None) -> Deadline:
    """Return the limits for connecting: the URL's, or those of the call if it must end sooner."""
    default = Deadline(url.connect_timeout_s)
    if call and call.bounds_call and call.remaining_s() < default.attempt_timeout_s:
        return call
    return default


def connection_arguments(url: StoreUrl, timeout_s: float, socket_path: str = "") -> dict[str, Any]:
    """Return a URL as arguments of redis-py's connection classes, except `retry`.

    Raises:
        StoreError: A file of the TLS options does not exist.
    """
    check_tls_files(url)
    path = socket_path or (url.path if url.scheme == "unix" else "")
    server = {"path": path} if path else {"host": url.host, "port": url.port}
    return {
        **server,
        **dict(url.tls),
        "db": url.db,
        "username": url.username or None,
        "password": url.password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "protocol": 2,
        "driver_info": None,
    }


def check_tls_files(url: StoreUrl) -> None:
    """Check that the files of the TLS options exist; OpenSSL does not say which one is missing.

    Raises:
        StoreError: A file does not exist.
    """
    for name, value in url.tls:
        if name in TLS_FILES and not Path(str(value)).is_file():
            raise StoreError(f"{name}: file {value} does not exist", where=WHERE)
