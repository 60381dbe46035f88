"""An observation of a store: a sample of what is stored, the streams, and the running workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.plan import RepoPlan
from featurekit.ports import OnlineStore
from featurekit.repo.diagnostics.overview import Overview, ViewCount, overview
from featurekit.repo.diagnostics.sampling import MAX_KEYS, sample_entities
from featurekit.repo.diagnostics.stream_lag import StreamLag, stream_lag
from featurekit.repo.heartbeats import WorkerStatus, read_last_writes, read_workers
from featurekit.runtime.marks import Mark, read_marks


@dataclass(frozen=True, slots=True)
class Observation:
    """What a store held at one moment.

    Attributes:
        counts: A count for each view, of a sample of its entities.
        streams: The stream behind each stream view.
        workers: The running workers by view; `None` if this user may not read their heartbeats.
        last_writes: When workers last wrote each stream view, in milliseconds since the epoch.
        marks: The mark of each view with windows and a worker.
    """

    counts: Mapping[str, ViewCount]
    streams: Mapping[str, StreamLag]
    workers: Mapping[str, tuple[WorkerStatus, ...]] | None
    last_writes: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)


def observe(
    repo: RepoPlan,
    store: OnlineStore,
    counted: Overview | None = None,
) -> Observation:
    """Read a sample of the store, in a few round trips.

    Args:
        repo: The applied registry, compiled.
        store: The online store.
        counted: A recent overview, to count nothing again.

    Raises:
        StoreUnavailableError: The store does not answer.
    """
    if counted is None:
        counted = overview(repo, store, sample_entities(repo, store, MAX_KEYS))
    workers, last_writes = _workers(repo, store)
    return Observation(
        counts={count.view: count for count in counted.views},
        streams={lag.view: lag for lag in stream_lag(repo, store)},
        workers=workers,
        last_writes=last_writes,
        marks=read_marks(store, repo.views),
    )


def _workers(
    repo: RepoPlan, store: OnlineStore
) -> tuple[dict[str, tuple[WorkerStatus, ...]] | None, dict[str, int]]:
    """Return the running workers by view, and when workers last wrote each view."""
    workers: dict[str, tuple[WorkerStatus, ...]] = {}
    try:
        for worker in read_workers(store, repo.project):
            workers[worker.view] = (*workers.get(worker.view, ()), worker)
        return workers, read_last_writes(store, repo.project)
    except StoreUnavailableError:
        raise
    except StoreError:
        return None, {}
