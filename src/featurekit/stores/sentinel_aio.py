"""A primary and replicas that sentinels watch."""

from __future__ import annotations

from featurekit.errors import StoreError
from featurekit.stores.aio import AsyncRedisStore
from featurekit.stores.url import StoreUrl


class AsyncSentinelStore(AsyncRedisStore):
    """An online store on the primary that sentinels name."""

    def __init__(self, url: StoreUrl) -> None:
        raise StoreError(f"{url}: featurekit cannot talk to Sentinel yet")
