"""A cluster of servers, from threads and from asyncio."""

from __future__ import annotations

from featurekit.errors import StoreError
from featurekit.stores.aio import AsyncRedisStore
from featurekit.stores.redis import RedisStore
from featurekit.stores.url import StoreUrl


class ClusterStore(RedisStore):
    """An online store on a cluster."""

    def __init__(self, url: StoreUrl) -> None:
        raise StoreError(f"{url}: featurekit cannot talk to a cluster yet")


class AsyncClusterStore(AsyncRedisStore):
    """The asyncio side of `ClusterStore`."""

    def __init__(self, url: StoreUrl) -> None:
        raise StoreError(f"{url}: featurekit cannot talk to a cluster yet")
