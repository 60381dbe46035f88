"""The loads that began and never ended, and that no later load has recorded yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from featurekit.ports import OnlineStore
from featurekit.repo.history import History, LoadRecord
from featurekit.runtime.lock import is_locked


def unended_loads(
    history: History, store: OnlineStore, prefix: str, views: Sequence[str]
) -> dict[str, LoadRecord]:
    """Return the loads of views that never ended, by view, without those that are running.

    Raises:
        StoreError: The store is unavailable, or refuses a command.
    """
    begun = history.begun_loads(views)
    idle = [view for view in begun if not is_locked(store, prefix, view)]
    # A load removes its note before its lock, so one that has just ended has none any more.
    still = history.begun_loads(idle) if idle else {}
    return {
        view: note for view, note in still.items() if note.started_ms == begun[view].started_ms
    }


def with_unended_loads(
    loads: Sequence[LoadRecord], unended: Iterable[LoadRecord], now_ms: int
) -> list[LoadRecord]:
    """Return loads, newest first, with those that never ended, as a later load would record them."""
    found = [replace(load, ended_ms=now_ms) for load in unended]
    return sorted([*found, *loads], key=lambda load: load.ended_ms, reverse=True)
