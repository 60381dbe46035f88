"""Online stores: the adapters that carry prepared bytes to a server, and how one is chosen."""

from __future__ import annotations

from featurekit.stores.open import open_async_store, open_store, open_store_url

__all__ = ["open_async_store", "open_store", "open_store_url"]
