"""Adapters for online stores: one server, Sentinel, a cluster, embedded, and in memory."""

from __future__ import annotations

from featurekit.stores.open import (
    create_async_store,
    create_store,
    open_async_store,
    open_store,
)

__all__ = ["create_async_store", "create_store", "open_async_store", "open_store"]
