"""Parts: what a feature store is put together from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from featurekit.loader import find_repo, load_repo
from featurekit.models.definitions import LoadedRepo
from featurekit.repo.registry_store import FileRegistryStore, OnlineRegistryStore, RegistryStore
from featurekit.repo.store_handle import LazyStoreHandle


@dataclass(frozen=True, slots=True)
class Parts:
    """What a feature store is put together from; `loaded` is lacking where there is no YAML."""

    door: LazyStoreHandle
    home: RegistryStore
    loaded: LoadedRepo | None

    @classmethod
    def of(cls, repo_path: str | Path) -> Self:
        """The parts that the nearest `featurerepo.yaml` tells of."""
        loaded = load_repo(find_repo(repo_path), os.environ)
        online = loaded.config.online_store
        door = LazyStoreHandle(online.url, loaded.root, online.options)
        return cls(door, _home(loaded, door), loaded)


def _home(loaded: LoadedRepo, door: LazyStoreHandle) -> RegistryStore:
    if loaded.config.registry == "online":
        return OnlineRegistryStore(door.store, loaded.config.project)
    return FileRegistryStore(loaded.root / loaded.config.registry)
