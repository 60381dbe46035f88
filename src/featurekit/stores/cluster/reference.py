"""References on a cluster: what `reference` has for one server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.cluster import ClusterNode

from featurekit.stores.cluster.store import ClusterStore
from featurekit.stores.cluster.topology import find_topology
from featurekit.stores.deadline import Deadline
from featurekit.stores.reference import Ask, PreparedBytes, plain_options
from featurekit.stores.url import StoreUrl


class PreparedCluster:
    """A socket and a parser for each primary, and nothing between them and the caller."""

    def __init__(self, store: ClusterStore) -> None:
        url = store.url
        self._topology = find_topology(url, url.hosts, Deadline(url.load_timeout_s))
        primaries = [shard.primary for shard in self._topology.shards]
        self._servers = [PreparedBytes(url.at(*address)) for address in primaries]

    def asking(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> Ask:
        """The function that sends these requests to all servers and gives the replies in order."""
        groups: dict[int, list[int]] = {}
        for place, owner in enumerate(self._topology.owners_of(keys)):
            groups.setdefault(owner, []).append(place)
        parts = [
            (self._servers[owner], b"".join([requests[place] for place in places]), places)
            for owner, places in groups.items()
        ]

        def ask() -> list[Any]:
            replies: list[Any] = [None] * len(keys)
            for server, data, _ in parts:
                server.send(data)
            for server, _, places in parts:
                for place, reply in zip(places, server.receive(len(places)), strict=True):
                    replies[place] = reply
            return replies

        return ask

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.close()


class PlainCluster:
    """redis-py's cluster client with its defaults, used as its documentation shows."""

    def __init__(self, url: StoreUrl) -> None:
        make_node: Any = ClusterNode  # it has no types
        nodes = [make_node(*address) for address in url.hosts]
        options = plain_options(url.at(*url.hosts[0]))
        for name in ("host", "port", "db"):
            del options[name]
        self._client: Any = redis.RedisCluster(startup_nodes=nodes, **options)

    def read(
        self, keys: Sequence[bytes], fields: list[str], *, transaction: bool = False
    ) -> list[Any]:
        """The fields of each key, by one pipeline; there are no transactions over several servers."""
        pipeline = self._client.pipeline(transaction=transaction)
        for key in keys:
            pipeline.hmget(key, fields)
        return list(pipeline.execute())

    def write(self, rows: Iterable[tuple[bytes, dict[Any, Any]]], ttl_ms: int) -> None:
        """Set the fields of each key and renew its TTL, in one pipeline."""
        pipeline = self._client.pipeline()
        for key, row in rows:
            pipeline.hset(key, mapping=row)
            pipeline.pexpire(key, ttl_ms)
        pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
