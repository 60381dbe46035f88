"""What is applied, for commands that tell of it."""

from __future__ import annotations

from featurekit.errors import RegistryError
from featurekit.registry import Registry
from featurekit.repo import FeatureStore


def applied_registry(store: FeatureStore) -> Registry:
    """What is applied.

    Raises:
        RegistryError: Nothing is.
    """
    if store.registry is None:
        raise RegistryError("nothing is applied yet", hint="run `featurekit apply` first")
    return store.registry
