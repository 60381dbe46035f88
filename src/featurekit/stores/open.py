"""Open the store of a URL, importing only the adapter that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featurekit.ports import AsyncOnlineStore, OnlineStore
from featurekit.store_options import CLUSTER_SCHEMES, SENTINEL_SCHEMES
from featurekit.stores.url import NO_OPTIONS, StoreUrl


def open_store(
    url: str,
    root: Path,
    env: Mapping[str, str] | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
) -> OnlineStore:
    """Return the online store of a URL. It connects or starts nothing before the first call.

    Args:
        url: A URL as described in `featurekit.stores.url`.
        root: The folder that the URL's relative paths start from.
        env: Environment variables with user names and passwords, which a URL without a password
            takes from there.
        options: Further options by their names in URLs; the URL's own win.

    Raises:
        StoreError: The URL is invalid.
        MissingExtraError: The store needs an extra that is not installed.
    """
    return create_store(_parse(url, root, env, options))


def open_async_store(
    url: str,
    root: Path,
    env: Mapping[str, str] | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
) -> AsyncOnlineStore:
    """Return the asyncio form of the store; see `open_store`."""
    return create_async_store(_parse(url, root, env, options))


def create_store(url: StoreUrl) -> OnlineStore:
    """Return the store of a URL that has absolute paths and its passwords."""
    return _adapters(url.scheme)[0](url)


def create_async_store(url: StoreUrl) -> AsyncOnlineStore:
    """Return the asyncio form of the store of a URL that has absolute paths and its passwords."""
    kind: Callable[[StoreUrl], AsyncOnlineStore] = _adapters(url.scheme)[1]
    if url.coalesce and url.scheme in CLUSTER_SCHEMES:
        from featurekit.stores.cluster.coalescing import CoalescingClusterStore

        return CoalescingClusterStore(url)
    if url.coalesce and url.scheme != "memory":
        from featurekit.stores.coalescing import coalescing_form

        kind = coalescing_form(_adapters(url.scheme)[1])
    return kind(url)


def _parse(
    url: str, root: Path, env: Mapping[str, str] | None, options: Mapping[str, str]
) -> StoreUrl:
    parsed = StoreUrl.parse(url, options)
    return parsed.with_absolute_paths(root.absolute()).with_secrets(env or {})


def _adapters(
    scheme: str,
) -> tuple[Callable[[StoreUrl], OnlineStore], type[Any]]:
    """Return the stores of a scheme for threads and for event loops."""
    if scheme == "memory":
        from featurekit.stores.memory import AsyncMemoryStore, MemoryStore

        return MemoryStore, AsyncMemoryStore
    if scheme == "embedded":
        from featurekit.stores.embedded import EmbeddedStore
        from featurekit.stores.embedded_async import AsyncEmbeddedStore

        return EmbeddedStore, AsyncEmbeddedStore
    if scheme in CLUSTER_SCHEMES:
        from featurekit.stores.cluster.store import ClusterStore
        from featurekit.stores.cluster.store_async import AsyncClusterStore

        return ClusterStore, AsyncClusterStore
    if scheme in SENTINEL_SCHEMES:
        from featurekit.stores.sentinel import SentinelStore
        from featurekit.stores.sentinel_async import AsyncSentinelStore

        return SentinelStore, AsyncSentinelStore
    from featurekit.stores.redis import RedisStore
    from featurekit.stores.redis_async import AsyncRedisStore

    return RedisStore, AsyncRedisStore
