"""Opening: from a store URL to the adapter that serves it, importing only that one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from featurekit.ports import AsyncOnlineStore, OnlineStore
from featurekit.stores.url import CLUSTER_SCHEMES, NO_OPTIONS, SENTINEL_SCHEMES, StoreUrl


def open_store(
    url: str,
    root: Path,
    env: Mapping[str, str] | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
) -> OnlineStore:
    """The online store of a URL; nothing is connected or started before the first call.

    Args:
        url: As in `featurekit.stores.url`.
        root: The folder that relative paths of the URL are relative to.
        env: Where `FEATUREKIT_ONLINE_USERNAME` and `FEATUREKIT_ONLINE_PASSWORD` are looked for,
            if the URL has no password, and those of Sentinel.
        options: More options, by the names that they have in URLs; the URL's own win.

    Raises:
        StoreError: The URL is wrong.
        MissingExtraError: It needs an extra that is not installed.
    """
    return open_store_url(
        StoreUrl.parse(url, options).with_absolute_paths(root.absolute()).with_secrets(env or {})
    )


def open_store_url(place: StoreUrl) -> OnlineStore:
    """As `open_store`, for a URL that was read, with its paths and secrets in place."""
    if place.scheme == "memory":
        from featurekit.stores.memory import MemoryStore

        return MemoryStore(place)
    if place.scheme == "embedded":
        from featurekit.stores.embedded import EmbeddedStore

        return EmbeddedStore(place)
    if place.scheme in CLUSTER_SCHEMES:
        from featurekit.stores.cluster.store import ClusterStore

        return ClusterStore(place)
    if place.scheme in SENTINEL_SCHEMES:
        from featurekit.stores.sentinel import SentinelStore

        return SentinelStore(place)
    from featurekit.stores.redis import RedisStore

    return RedisStore(place)


def open_async_store(
    url: str,
    root: Path,
    env: Mapping[str, str] | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
) -> AsyncOnlineStore:
    """The asyncio side of `open_store`."""
    place = (
        StoreUrl.parse(url, options).with_absolute_paths(root.absolute()).with_secrets(env or {})
    )
    if place.scheme == "memory":
        from featurekit.stores.memory import AsyncMemoryStore

        return AsyncMemoryStore(place)
    if place.scheme == "embedded":
        from featurekit.stores.embedded_async import AsyncEmbeddedStore

        return AsyncEmbeddedStore(place)
    if place.scheme in CLUSTER_SCHEMES:
        from featurekit.stores.cluster.store_async import AsyncClusterStore

        return AsyncClusterStore(place)
    if place.scheme in SENTINEL_SCHEMES:
        from featurekit.stores.sentinel_async import AsyncSentinelStore

        return AsyncSentinelStore(place)
    from featurekit.stores.redis_async import AsyncRedisStore

    return AsyncRedisStore(place)
