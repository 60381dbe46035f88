"""Sample a running store about once a second, for the console's pages."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict
from typing import Any

from featurekit.errors import FeatureKitError, RegistryError, StoreError, StoreUnavailableError
from featurekit.feature_lists import GLOBAL
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import Diagnostics, Overview, Sample, ids_from_keys
from featurekit.repo.store_handle import now_ms
from featurekit.runtime.metrics import Metrics

MAX_SAMPLED = 1000
"""Entities of each kind that are sampled."""

_CHEAP_SCAN_PAGES = 3
"""A scan of at most this many pages runs each time; a longer one every `_RESCAN_S`."""

_RESCAN_S = 10.0

_CHEAP_ENTITIES = 500
"""Up to this many entities are read each time; more of them every `_REREAD_S`."""

_REREAD_S = 3.0

UNREACHABLE_HINT = "check that the store is running and reachable from this server"

Document = dict[str, Any]


class Sampler:
    """Samples one store for all pages. Thread-safe; its documents are plain data."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._samples: dict[str, Sample] = {}
        self._fingerprint = ""
        self._scanned_s = 0.0
        self._overview: Overview | None = None
        self._overview_s = 0.0

    def sample(self) -> Document:
        """Return the store's current state; an unavailable store is reported, not raised."""
        document: Document = {"at_ms": now_ms()}
        try:
            return document | self._read()
        except StoreUnavailableError as error:
            return document | unavailable_document(error.message, UNREACHABLE_HINT)
        except RegistryError as error:
            return document | {"store": {"up": True}, "nothing": error.message, "hint": error.hint}
        except FeatureKitError as error:
            return document | unavailable_document(error.message, error.hint, refused=True)

    def invalidate(self) -> None:
        """Scan again at the next sample, because data was written or deleted."""
        self._scanned_s = self._overview_s = 0.0

    def ids(self, entity: str) -> list[str]:
        """Return the sampled ids of an entity."""
        diagnostics = self._store.diagnostics
        if entity == GLOBAL:
            return diagnostics.ids(entity)
        plan = diagnostics.plan.entity(entity)
        return ids_from_keys(plan.key, self._current_samples(diagnostics)[entity].keys)

    def _read(self) -> Document:
        diagnostics = self._store.diagnostics
        diagnostics.ping()
        overview = self._current_overview(diagnostics)
        observation = diagnostics.observe(overview)
        workers = observation.workers or {}
        return {
            "store": {"up": True, "state": self._store_state()},
            "fingerprint": diagnostics.plan.fingerprint,
            "server": asdict(diagnostics.server()),
            "entities": [asdict(entity) for entity in overview.entities],
            "views": [asdict(view) for view in overview.views],
            "feeds": [asdict(feed) for feed in observation.streams.values()],
            **_read_metrics(self._store.metrics(views=False)),
            "workers": [asdict(worker) for each in workers.values() for worker in each],
            "loads": [asdict(state) for state in self._store.status(observation)],
        }

    def _store_state(self) -> str:
        """Return whether the store is the registry's own; empty if this user may not know."""
        try:
            return self._store.store_state().value
        except StoreUnavailableError:
            raise
        except StoreError:
            return ""

    def _current_overview(self, diagnostics: Diagnostics) -> Overview:
        """Return the overview; a cached one for a short time if reading it is expensive."""
        samples = self._current_samples(diagnostics)
        is_expensive = sum(len(sample.keys) for sample in samples.values()) > _CHEAP_ENTITIES
        due_s = self._overview_s + (_REREAD_S if is_expensive else 0.0)
        if (
            self._overview is None
            or time.monotonic() > due_s
            or self._overview.fingerprint != diagnostics.plan.fingerprint
        ):
            self._overview, self._overview_s = diagnostics.overview(samples), time.monotonic()
        return self._overview

    def _current_samples(self, diagnostics: Diagnostics) -> dict[str, Sample]:
        """Return the sampled keys; scan again if the scan is cheap or the last one is old."""
        with self._lock:
            is_current = diagnostics.plan.fingerprint == self._fingerprint
            pages = sum(sample.pages for sample in self._samples.values())
            is_expensive = pages > _CHEAP_SCAN_PAGES * max(1, len(self._samples))
            max_age_s = _RESCAN_S if is_expensive else 0.0
            if not is_current or time.monotonic() - self._scanned_s > max_age_s:
                self._samples = diagnostics.samples(MAX_SAMPLED)
                self._fingerprint = diagnostics.plan.fingerprint
                self._scanned_s = time.monotonic()
            return self._samples


def _read_metrics(metrics: Metrics) -> Document:
    """Return what this process has read: values by view and status, and calls by service."""
    services = {
        name: {
            "calls": reads.calls,
            "failures": reads.failures,
            "entities": reads.entities,
            "p50_ms": _milliseconds(reads.latency.quantile(0.5)),
            "p99_ms": _milliseconds(reads.latency.quantile(0.99)),
        }
        for name, reads in metrics.reads.items()
    }
    return {"reads": metrics.features, "services": services}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None or math.isinf(seconds) else seconds * 1000


def unavailable_document(message: str, hint: str = "", *, refused: bool = False) -> Document:
    """Return the part of a sample for a store that is unreachable or refuses a command."""
    return {"store": {"up": False, "refused": refused, "message": message, "hint": hint}}
