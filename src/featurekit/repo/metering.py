"""Metering: what was counted, what the connections tell, and how old the views are, together."""

from __future__ import annotations

from dataclasses import replace

from featurekit.errors import RegistryError, StoreError
from featurekit.repo.history import History
from featurekit.repo.inspection import status
from featurekit.repo.registry_state import RegistryState
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.counters import Counters
from featurekit.runtime.metrics import Metrics, ViewAge


def metrics(
    tally: Counters, door: LazyStoreHandle, applied: RegistryState, history: History
) -> Metrics:
    """A snapshot of one feature store in this process."""
    ages = _ages(applied, history, door.now_ms())
    return replace(tally.snapshot(), store=door.connection_stats, views=ages)


def _ages(applied: RegistryState, history: History, now_ms: int) -> dict[str, ViewAge]:
    """The age of each view; none if there is no telling."""
    try:
        states = status(applied.plan, history, now_ms)
    except (RegistryError, StoreError):
        return {}
    return {s.view: ViewAge(s.kind, s.refresh_ms, s.age_ms, s.late) for s in states}
