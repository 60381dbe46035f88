"""Define the clients that benchmarks compare featurekit with, for one server and for a cluster.

`PreparedClient` and `PreparedClusterClient` set the lower bound for Python: request bytes built in
advance, one socket and one parser per server. `RedisPyClient` is what redis-py's documentation shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import hiredis
import redis
from redis.cluster import ClusterNode

from featurekit.errors import StoreError
from featurekit.ports import OnlineStore
from featurekit.store_options import CLUSTER_SCHEMES
from featurekit.stores.cluster.store import ClusterStore
from featurekit.stores.cluster.topology import fetch_topology
from featurekit.stores.connect import check_tls_files, connect
from featurekit.stores.connection import READ_BYTES
from featurekit.stores.deadline import Deadline
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.redis import RedisStore
from featurekit.stores.sentinel import SentinelStore
from featurekit.stores.url import StoreUrl
from featurekit.wire import Reply

Exchange = Callable[[], list[Any]]
"""Sends prepared requests and returns their replies in order."""


class PreparedClient:
    """One socket and one parser, with no other code between them and the caller."""

    def __init__(self, url: StoreUrl) -> None:
        self._connection = connect(url)
        self._sock = self._connection.sock
        self._sock.settimeout(None)
        self._reader = hiredis.Reader()

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send `data` and return its `count` replies."""
        self.send(data)
        return self.receive(count)

    def prepare(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> Exchange:
        """Return a function that sends these requests and returns their replies."""
        data, count = b"".join(requests), len(keys)
        return lambda: self.exchange(data, count)

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self._sock.sendall(data)

    def receive(self, count: int) -> list[Any]:
        """Return the next `count` replies."""
        feed, gets, recv = self._reader.feed, self._reader.gets, self._sock.recv
        replies: list[Reply] = []
        while len(replies) < count:
            if not (data := recv(READ_BYTES)):
                raise ConnectionResetError("the server closed the connection")
            feed(data)
            while (reply := gets()) is not False:
                replies.append(reply)
        return replies

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PreparedClusterClient:
    """A `PreparedClient` for each primary of a cluster."""

    def __init__(self, url: StoreUrl) -> None:
        self._topology = fetch_topology(url, url.hosts, Deadline(url.load_timeout_s))
        self._servers = [
            PreparedClient(url.for_server(*shard.primary)) for shard in self._topology.shards
        ]

    def prepare(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> Exchange:
        """Return a function that sends these requests to all servers and returns their replies."""
        groups: dict[int, list[int]] = {}
        for index, owner in enumerate(self._topology.owners_of(keys)):
            groups.setdefault(owner, []).append(index)
        batches = [
            (self._servers[owner], b"".join([requests[index] for index in indices]), indices)
            for owner, indices in groups.items()
        ]

        def exchange() -> list[Any]:
            replies: list[Any] = [None] * len(keys)
            for server, data, _ in batches:
                server.send(data)
            for server, _, indices in batches:
                for index, reply in zip(indices, server.receive(len(indices)), strict=True):
                    replies[index] = reply
            return replies

        return exchange

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.close()


class RedisPyClient:
    """redis-py with its default settings: `redis.Redis`, or `redis.RedisCluster` for a cluster."""

    def __init__(self, url: StoreUrl) -> None:
        self._client: Any
        if url.scheme not in CLUSTER_SCHEMES:
            self._client = redis.Redis(**redis_py_options(url))
            return
        make_node: Any = ClusterNode  # it has no type annotations
        nodes = [make_node(*address) for address in url.hosts]
        options = redis_py_options(url.for_server(*url.hosts[0]))
        for name in ("host", "port", "db"):
            del options[name]
        self._client = redis.RedisCluster(startup_nodes=nodes, **options)

    def read(
        self, keys: Sequence[bytes], fields: list[str], *, transaction: bool = False
    ) -> list[Any]:
        """Return the fields of each key with one pipeline; `transaction=True` is redis-py's default."""
        pipeline = self._client.pipeline(transaction=transaction)
        for key in keys:
            pipeline.hmget(key, fields)
        return list(pipeline.execute())

    def write(self, rows: Iterable[tuple[bytes, dict[Any, Any]]], ttl_ms: int) -> None:
        """Set the fields of each key and renew its TTL with one pipeline."""
        pipeline = self._client.pipeline()
        for key, row in rows:
            pipeline.hset(key, mapping=row)
            pipeline.pexpire(key, ttl_ms)
        pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextmanager
def reference_clients(
    store: OnlineStore,
) -> Iterator[tuple[PreparedClient | PreparedClusterClient, RedisPyClient]]:
    """Connect both reference clients to the servers of a store, and close them after the block."""
    prepared: PreparedClient | PreparedClusterClient
    if isinstance(store, ClusterStore):
        url = store.url
        prepared = PreparedClusterClient(url)
    else:
        url = _server_url(store)
        prepared = PreparedClient(url)
    redis_py = RedisPyClient(url)
    try:
        yield prepared, redis_py
    finally:
        prepared.close()
        redis_py.close()


def _server_url(store: OnlineStore) -> StoreUrl:
    """Return the URL of the one server behind a store.

    Raises:
        StoreError: The store runs in this process.
    """
    if not isinstance(store, RedisStore) or store.url.scheme == "memory":
        raise StoreError(f"bench needs a store on a server, not {store.describe()}")
    if store.url.scheme == "embedded":
        socket = EmbeddedServer(Path(store.url.path)).socket
        return replace(store.url, scheme="unix", path=str(socket))
    if isinstance(store, SentinelStore):
        store.call("PING")  # asks the sentinels for the primary
        return store.server
    return store.url


def redis_py_options(url: StoreUrl) -> dict[str, Any]:
    """Return the arguments of `redis.Redis`, sync or asyncio, for a server's URL."""
    check_tls_files(url)
    address = (
        {"unix_socket_path": url.path}
        if url.scheme == "unix"
        else {"host": url.host, "port": url.port, "ssl": url.scheme == "rediss"}
    )
    login = {"db": url.db, "username": url.username or None, "password": url.password or None}
    return {**address, **login, **dict(url.tls)}
