"""The sampler: what the console shows of a running store, taken anew about once in a second."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict
from typing import Any

from featurekit.errors import FeatureKitError, RegistryError, StoreError, StoreUnavailableError
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import Diagnostics, Overview, Sample, ids_from_keys
from featurekit.repo.heartbeats import WorkerStatus
from featurekit.repo.store_handle import now_ms
from featurekit.runtime.metrics import Metrics

MOST = 1000
"""Entities of each kind that are looked at."""

_CHEAP_PAGES = 3
"""A scan of so few steps is made each time; a longer one is made now and then."""

_RESCAN_S = 10.0

_FEW = 500
"""So few entities are looked at each time; more of them every few seconds."""

_RELOOK_S = 3.0

UNREACHED = "is it running, and can it be reached from here?"

Document = dict[str, Any]


class Sampler:
    """Looks at one store, for all pages. Thread-safe; what it finds is plain data."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._samples: dict[str, Sample] = {}
        self._fingerprint = ""
        self._scanned_s = 0.0
        self._seen: Overview | None = None
        self._seen_s = 0.0

    def take(self) -> Document:
        """How things stand now; never raises for a store that is away."""
        document: Document = {"at_ms": now_ms()}
        try:
            return document | self._look()
        except StoreUnavailableError as error:
            return document | away(error.message, UNREACHED)
        except RegistryError as error:
            return document | {"store": {"up": True}, "nothing": error.message, "hint": error.hint}
        except FeatureKitError as error:
            return document | away(error.message, error.hint, refused=True)

    def forget(self) -> None:
        """Scan anew the next time: something was written or deleted."""
        self._scanned_s = self._seen_s = 0.0

    def ids(self, entity: str) -> list[str]:
        """Ids of entities that were there when last looked at."""
        look = self._store.diagnostics
        plan = look.plan.entity(entity)
        return ids_from_keys(plan.key, self._sampled(look)[entity].keys)

    def _look(self) -> Document:
        look = self._store.diagnostics
        look.ping()
        seen = self._overview(look)
        return {
            "store": {"up": True},
            "fingerprint": look.plan.fingerprint,
            "server": asdict(look.server()),
            "entities": [asdict(entity) for entity in seen.entities],
            "views": [asdict(view) for view in seen.views],
            "feeds": [asdict(feed) for feed in look.stream_lag()],
            **_served(self._store.metrics()),
            "workers": [asdict(worker) for worker in self._workers()],
            "loads": [asdict(state) for state in self._store.status(streams=False)],
        }

    def _workers(self) -> list[WorkerStatus]:
        """The workers that live; none where this user may not read of them."""
        try:
            return self._store.streams.workers()
        except StoreUnavailableError:
            raise
        except StoreError:
            return []

    def _overview(self, look: Diagnostics) -> Overview:
        """How much is stored, as of now or, where looking costs the server much, of a moment ago."""
        samples = self._sampled(look)
        many = sum(len(sample.keys) for sample in samples.values()) > _FEW
        due_s = self._seen_s + (_RELOOK_S if many else 0.0)
        if (
            self._seen is None
            or time.monotonic() > due_s
            or self._seen.fingerprint != look.plan.fingerprint
        ):
            self._seen, self._seen_s = look.overview(samples), time.monotonic()
        return self._seen

    def _sampled(self, look: Diagnostics) -> dict[str, Sample]:
        """The entities to look at: scanned anew where that is cheap, or long ago."""
        with self._lock:
            known = look.plan.fingerprint == self._fingerprint
            pages = sum(sample.pages for sample in self._samples.values())
            fresh_s = _RESCAN_S if pages > _CHEAP_PAGES * max(1, len(self._samples)) else 0.0
            if not known or time.monotonic() - self._scanned_s > fresh_s:
                self._samples = look.samples(MOST)
                self._fingerprint = look.plan.fingerprint
                self._scanned_s = time.monotonic()
            return self._samples


def _served(metrics: Metrics) -> Document:
    """What this process has read: values by view and status, and calls by service."""
    services = {
        name: {
            "calls": reads.calls,
            "failures": reads.failures,
            "entities": reads.entities,
            "p50_ms": _ms(reads.latency.quantile(0.5)),
            "p99_ms": _ms(reads.latency.quantile(0.99)),
        }
        for name, reads in metrics.reads.items()
    }
    return {"reads": metrics.features, "services": services}


def _ms(seconds: float | None) -> float | None:
    """A bound in milliseconds; `None` where there is none."""
    return None if seconds is None or math.isinf(seconds) else seconds * 1000


def away(message: str, hint: str = "", *, refused: bool = False) -> Document:
    """The part of a document that says that the store is away, or that it refuses to tell."""
    return {"store": {"up": False, "refused": refused, "message": message, "hint": hint}}
