"""Counters of reads, writes and loads as plain data, which adds up and travels as JSON.

`FeatureStore.metrics()` returns a `Metrics` snapshot of one process. The snapshots of several
processes add up with `sum(snapshots, Metrics())`. Durations are in seconds unless the name ends in
`_ms`. Every number only grows, except the open connections in `store` and the numbers in `views`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from itertools import accumulate
from operator import add
from typing import Any, Self

from featurekit.lower.read import STATUSES
from featurekit.ports import ConnectionStats
from featurekit.runtime.load import MaterializeReport

BOUNDS_S = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""Upper bounds of the histogram buckets. One more bucket holds the longer calls."""


class _Counts:
    """Numbers that are counted up in place by the code that does the work."""

    __slots__ = ()

    def snapshot(self) -> Self:
        """Return a copy that no longer changes."""
        return deepcopy(self)

    def reset(self) -> None:
        """Count from zero again."""
        zero = type(self)()
        for each in fields(self):  # type: ignore[arg-type]
            setattr(self, each.name, getattr(zero, each.name))


@dataclass(slots=True)
class Histogram(_Counts):
    """Durations of calls.

    Attributes:
        counts: Calls in each bucket of `BOUNDS_S`: above the previous bound, up to its own.
        seconds: Total duration of all calls.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        """The number of calls."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the bucket bound that this share of the calls stayed within.

        `inf` means longer than the last bound, `None` that there were no calls.
        """
        if not (calls := self.calls):
            return None
        bounds = (*BOUNDS_S, float("inf"))
        pairs = zip(bounds, accumulate(self.counts), strict=True)
        return next(bound for bound, count in pairs if count >= share * calls)


@dataclass(slots=True)
class ReadMetrics(_Counts):
    """Reads of one feature service, or of lists of features.

    Attributes:
        calls: Reads that returned, including partial results with `partial=True`.
        failures: Reads that raised a store error.
        entities: Rows requested.
        nothing: Requested rows for which no value was stored.
        latency: Time until the store had replied and the rows were decoded.
    """

    calls: int = 0
    failures: int = 0
    entities: int = 0
    nothing: int = 0
    latency: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class EventMetrics(_Counts):
    """Events written into one stream view.

    Attributes:
        written: Events that the store accepted.
        dropped_older: Events older than the stored ones; only with `ordering: event_time`.
        dropped_expired: Events whose TTL had passed on arrival; only with `ordering: event_time`. Of
            windows: events that were too late for all of them.
        rejected: Events that did not fit the view, or that the store refused.
        dead_letters: Rejected events that a worker added to the dead letters.
        lost: Events that a worker's source deleted before they were done.
        repeated: Events that had been applied before; only of views with windows.
    """

    written: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    rejected: int = 0
    dead_letters: int = 0
    lost: int = 0
    repeated: int = 0

    def add_events(self, written: int, dropped_older: int, dropped_expired: int) -> None:
        """Count events that fit the view."""
        self.written += written
        self.dropped_older += dropped_older
        self.dropped_expired += dropped_expired


@dataclass(slots=True)
class LoadMetrics(_Counts):
    """Loads of one batch view.

    Attributes:
        loads: Loads that succeeded.
        failures: Loads that ended with an error.
        rows_written: Rows that the store accepted.
        rows_rejected: Rows that did not fit the view, or that the store refused.
        seconds: Total duration of all loads.
        rows_future: Rows left out because their time was after the start of the load.
        rows_read: Rows read from sources.
        rows_superseded: Rows that a newer row of the same entity replaced.
        rows_kept: Rows left out because their entities had newer rows (`ordering: event_time`), or
            any values (`missing_only`).
        size_bytes: Bytes sent to the store.
        server_seconds: CPU time that the server used during the loads.
        entities_pruned: Entities that lost the view's values because the source no longer had them.
    """

    loads: int = 0
    failures: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    seconds: float = 0.0
    rows_future: int = 0
    rows_read: int = 0
    rows_superseded: int = 0
    rows_kept: int = 0
    size_bytes: int = 0
    server_seconds: float = 0.0
    entities_pruned: int = 0

    def add_load(self, report: MaterializeReport, *, failed: bool) -> None:
        """Count one load, successful or not."""
        self.loads += not failed
        self.failures += failed
        for name in {each.name for each in fields(self)} - {"loads", "failures"}:
            setattr(self, name, getattr(self, name) + getattr(report, name))


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """The log of a stream view's events, or of what a feature service served.

    Attributes:
        written: Rows written to its files.
        dropped: Rows that were dropped: the buffer was full, or they could not be written.
    """

    written: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ViewMetrics:
    """The state of one view, from the shared history of loads and a sample of the store.

    `None` means not known, or not applicable to the kind of view.

    Attributes:
        kind: `batch` or `stream`.
        state: `never`, `expired`, `failed`, `silent`, `late` or `on time`.
        refresh_ms: Expected interval between writes.
        age_ms: Time since the last successful load by any process.
        last_load_age_ms: Time since the end of the last load, successful or not.
        last_load_seconds: Duration of the last load.
        rows_written: Rows that the last load wrote.
        rows_rejected: Rows that the last load rejected.
        live_share: The share of the sampled entities that has a value of the view.
        newest_event_age_ms: Age of the newest event of a stream view.
        lag: Events that the workers of a stream view have not read yet.
        dead_letters: Events in the stream of dead letters.
        workers: Running workers of a stream view.
        mark_age_ms: Time since all events of a view with windows were applied.
    """

    kind: str
    state: str
    refresh_ms: int
    age_ms: int | None = None
    last_load_age_ms: int | None = None
    last_load_seconds: float | None = None
    rows_written: int | None = None
    rows_rejected: int | None = None
    live_share: float | None = None
    newest_event_age_ms: int | None = None
    lag: int | None = None
    dead_letters: int | None = None
    workers: int | None = None
    mark_age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """A snapshot of the reads, writes and loads of one process, or of several.

    Attributes:
        reads: By feature service; reads of feature lists are counted together as `features`.
        features: Values read, by view and by status.
        store: Requests, retries and connections of the online store.
        events: By stream view.
        loads: By batch view.
        logs: By stream view or feature service.
        views: By view; empty if the load history cannot be read, and in a snapshot without views.
        store_state: Whether the store is the one that the registry was applied to: `same`, `replaced` or
            `lost`; empty if not known, and in a snapshot without views.
    """

    reads: Mapping[str, ReadMetrics] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    store: ConnectionStats = field(default_factory=ConnectionStats)
    events: Mapping[str, EventMetrics] = field(default_factory=dict)
    loads: Mapping[str, LoadMetrics] = field(default_factory=dict)
    views: Mapping[str, ViewMetrics] = field(default_factory=dict)
    logs: Mapping[str, LogMetrics] = field(default_factory=dict)
    store_state: str = ""

    def __add__(self, other: Metrics) -> Metrics:
        """Add up two snapshots. Of two states of one view, the first counts."""
        return Metrics(
            reads=add_counts(self.reads, other.reads),
            features=add_counts(self.features, other.features),
            store=add_counts(self.store, other.store),
            events=add_counts(self.events, other.events),
            loads=add_counts(self.loads, other.loads),
            logs=add_counts(self.logs, other.logs),
            views={**other.views, **self.views},
            store_state=self.store_state or other.store_state,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as dicts, lists and numbers."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the snapshot as JSON for `from_json`."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the snapshot that another process of the same version wrote as JSON."""
        data = json.loads(text)
        reads = {
            name: ReadMetrics(**counts | {"latency": Histogram(**counts["latency"])})
            for name, counts in data["reads"].items()
        }
        return cls(
            reads=reads,
            features=data["features"],
            store=ConnectionStats(**data["store"]),
            events={name: EventMetrics(**each) for name, each in data["events"].items()},
            loads={name: LoadMetrics(**each) for name, each in data["loads"].items()},
            logs={name: LogMetrics(**each) for name, each in data["logs"].items()},
            views={name: ViewMetrics(**each) for name, each in data["views"].items()},
            store_state=data["store_state"],
        )


def values_by_status(requested: int, absent: Mapping[str, int]) -> dict[str, int]:
    """Return the number of values for each status; those not counted as absent are present."""
    present = max(0, requested - sum(absent.values()))
    return {status: absent.get(status, 0) for status in STATUSES} | {STATUSES[0]: present}


def add_counts(one: Any, other: Any) -> Any:
    """Add the numbers in two objects of one type: in dicts, lists and dataclasses too."""
    if isinstance(one, dict):
        both = {name: add_counts(one[name], other[name]) for name in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, list):
        return list(map(add, one, other))
    if is_dataclass(one) and not isinstance(one, type):
        names = [each.name for each in fields(one)]
        return replace(one, **{n: add_counts(getattr(one, n), getattr(other, n)) for n in names})
    return one + other
