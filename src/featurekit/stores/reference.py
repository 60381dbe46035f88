"""References: the same work by other hands, which benchmarks measure featurekit against.

`PreparedBytes` is the least that reading from Python can cost: bytes made beforehand, one socket,
one parser. `PlainClient` is what one writes with redis-py and its defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hiredis
import redis

from featurekit.errors import StoreError
from featurekit.ports import OnlineStore
from featurekit.stores.connection import READ_BYTES, check_files, connect
from featurekit.stores.embedded import EmbeddedServer, socket_url
from featurekit.stores.redis import RedisStore
from featurekit.stores.sentinel import SentinelStore
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply


def server_url(store: OnlineStore) -> StoreUrl:
    """Where the server of a store listens.

    Raises:
        StoreError: It has none.
    """
    if not isinstance(store, RedisStore) or store.url.scheme == "memory":
        raise StoreError("only a store on a server can be measured against other clients of it")
    if store.url.scheme == "embedded":
        return socket_url(store.url, EmbeddedServer(Path(store.url.path)))
    if isinstance(store, SentinelStore):
        store.call("PING")  # now it knows its primary
        return store.server
    return store.url


Ask = Callable[[], list[Any]]


class PreparedBytes:
    """A socket and a parser, and nothing between them and the caller."""

    def __init__(self, url: StoreUrl) -> None:
        self._link = connect(url)
        self._sock = self._link.sock
        self._sock.settimeout(None)
        self._reader = hiredis.Reader()

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send `data`, which gets `count` replies, and return them."""
        self.send(data)
        return self.receive(count)

    def asking(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> Ask:
        """The function that sends these requests and gives their replies; the keys are in them."""
        data, count = b"".join(requests), len(keys)
        return lambda: self.exchange(data, count)

    def send(self, data: bytes) -> None:
        """Send `data`, all of it."""
        self._sock.sendall(data)

    def receive(self, count: int) -> list[Any]:
        """The next `count` replies."""
        feed, gets, recv = self._reader.feed, self._reader.gets, self._sock.recv
        replies: list[Reply] = []
        while len(replies) < count:
            if not (came := recv(READ_BYTES)):
                raise ConnectionResetError("the server closed the connection")
            feed(came)
            while (reply := gets()) is not False:
                replies.append(reply)
        return replies

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


class PlainClient:
    """redis-py with its defaults, used as its documentation shows."""

    def __init__(self, url: StoreUrl) -> None:
        self._client = redis.Redis(**plain_options(url))

    def read(
        self, keys: Sequence[bytes], fields: list[str], *, transaction: bool = False
    ) -> list[Any]:
        """The fields of each key, by one pipeline; in a transaction, as is redis-py's default."""
        pipeline = self._client.pipeline(transaction=transaction)
        for key in keys:
            pipeline.hmget(key, fields)
        return pipeline.execute()

    def write(self, rows: Iterable[tuple[bytes, dict[Any, Any]]], ttl_ms: int) -> None:
        """Set the fields of each key and renew its TTL, in one transaction."""
        pipeline = self._client.pipeline()
        for key, row in rows:
            pipeline.hset(key, mapping=row)
            pipeline.pexpire(key, ttl_ms)
        pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def plain_options(url: StoreUrl) -> dict[str, Any]:
    """A server's URL as the arguments of `redis.Redis`, or of its asyncio twin."""
    check_files(url)
    place = (
        {"unix_socket_path": url.path}
        if url.scheme == "unix"
        else {"host": url.host, "port": url.port, "ssl": url.scheme == "rediss"}
    )
    login = {"db": url.db, "username": url.username or None, "password": url.password or None}
    return {**place, **login, **dict(url.tls)}
