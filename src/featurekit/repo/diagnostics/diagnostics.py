"""The diagnostics of one feature store, as `FeatureStore.diagnostics` offers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from featurekit.feature_lists import GLOBAL
from featurekit.plan import RepoPlan
from featurekit.ports import OnlineStore, ReadOptions
from featurekit.repo.diagnostics.observation import Observation, observe
from featurekit.repo.diagnostics.overview import Overview, ServerInfo, overview, server_info
from featurekit.repo.diagnostics.sampling import (
    MAX_KEYS,
    Sample,
    ids_from_keys,
    sample_entities,
    sample_keys,
)
from featurekit.repo.diagnostics.stream_lag import StreamLag, stream_lag
from featurekit.runtime.lock import is_locked
from featurekit.wire import command


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Read-only views of what is stored. All methods but `all_ids` do a bounded amount of work.

    Attributes:
        plan: The applied registry, compiled.
        store: The online store.
    """

    plan: RepoPlan
    store: OnlineStore

    def ping(self, timeout_s: float = 1.0) -> None:
        """Send a `PING` to the store.

        Raises:
            StoreUnavailableError: No reply within `timeout_s` seconds.
        """
        key = self.plan.prefix.encode()
        self.store.read([key], [command(b"PING")], options=ReadOptions(timeout_s=timeout_s))

    def is_loading(self, view: str) -> bool:
        """Return whether a load of the view is running, in any process."""
        return is_locked(self.store, self.plan.prefix, view)

    def samples(self, max_keys: int = MAX_KEYS) -> dict[str, Sample]:
        """Return up to `max_keys` stored keys of each entity, found by a bounded scan."""
        return sample_entities(self.plan, self.store, max_keys)

    def overview(self, samples: Mapping[str, Sample] | None = None) -> Overview:
        """Count entities, views and fields in a sample of what is stored.

        Args:
            samples: A result of `samples()`, to count the same entities again.
        """
        return overview(self.plan, self.store, samples or self.samples())

    def server(self) -> ServerInfo:
        """Return the server's version, memory, clients and command rate."""
        return server_info(self.store)

    def ids(self, entity: str, max_keys: int = MAX_KEYS) -> list[str]:
        """Return ids of some stored entities, sorted; parts of a composite id are joined by `:`."""
        if entity == GLOBAL:
            return [each.key.entity.partition(":")[2] for each in self.plan.entities_named(GLOBAL)]
        key = self.plan.entity(entity).key
        return sorted(
            ids_from_keys(key, sample_keys(self.store, key.scan_pattern(), max_keys).keys)
        )

    def all_ids(self, entity: str) -> Iterator[list[str]]:
        """Yield the ids of all stored entities, one page of the scan at a time.

        An id may occur twice, and an entity whose last field has just expired may still occur.
        """
        key = self.plan.entity(entity).key
        for keys in self.store.scan(key.scan_pattern()):
            yield ids_from_keys(key, keys)

    def stream_lag(self) -> list[StreamLag]:
        """Return the length, lag and dead letters of the stream behind each stream view."""
        return stream_lag(self.plan, self.store)

    def observe(self, counted: Overview | None = None) -> Observation:
        """Return what `FeatureStore.status` needs to know of the store.

        Args:
            counted: A result of `overview()`, to count nothing again.
        """
        return observe(self.plan, self.store, counted)
