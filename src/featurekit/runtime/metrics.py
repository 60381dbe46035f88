"""Metrics: what one process has read and written since it started, as plain data.

A snapshot is frozen, pickles, and travels as JSON, so that each of several workers can hand its own
to whoever tells of all of them: `sum(snapshots, Metrics())`. Times are in seconds unless their
names say `_ms`; all else is counts that only go up, but for the connections and for `views`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from itertools import accumulate
from operator import add
from typing import Any, Self

from featurekit.lower.read import STATUSES
from featurekit.ports import ConnectionStats

BOUNDS_S = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""The upper bounds of the buckets of a histogram; one more bucket is for what took longer."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long calls took.

    Attributes:
        counts: Calls in each bucket: at most its bound of `BOUNDS_S`, and more than the one before.
        seconds: All of them together.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The bound that this share of the calls kept to; `None` if there were none.

        Calls longer than the last bound are told as `inf`.
        """
        if not (calls := self.calls):
            return None
        bounds = (*BOUNDS_S, float("inf"))
        pairs = zip(bounds, accumulate(self.counts), strict=True)
        return next(bound for bound, count in pairs if count >= share * calls)


@dataclass(frozen=True, slots=True)
class ReadMetrics:
    """Reads of one service, or of lists of features.

    Attributes:
        calls: Reads that were answered, in whole or, with `partial=True`, in part.
        failures: Reads that were not.
        entities: Rows that were asked for.
        nothing: Those of them of which nothing was stored.
        latency: How long the store took to answer, with its rows decoded.
    """

    calls: int = 0
    failures: int = 0
    entities: int = 0
    nothing: int = 0
    latency: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class EventMetrics:
    """Events written into one stream view.

    Attributes:
        written: Events that the store took.
        dropped_older: Events older than what the store holds; only with `ordering: event_time`.
        dropped_expired: Events that were past their expiry on arrival; likewise.
        rejected: Events that did not fit the view, or that the store refused.
        dead_letters: Those of them that a worker put among the dead letters.
    """

    written: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    rejected: int = 0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """Loads of one batch view.

    Attributes:
        loads: Loads that were done.
        failures: Loads that ended with an error.
        rows_written: Rows that the store took.
        rows_rejected: Rows that did not fit, or that the store refused.
        seconds: How long all of them took.
    """

    loads: int = 0
    failures: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ViewAge:
    """How old the last load of a view is, by the history of loads: whichever process did it.

    Attributes:
        kind: `batch` or `stream`; of streams only `refresh_ms` is known.
        refresh_ms: How often the view is expected to be written.
        age_ms: Time since a load last ended well; `None` for never.
        late: Whether that is longer ago than `refresh_ms`, or has never been.
    """

    kind: str
    refresh_ms: int
    age_ms: int | None
    late: bool


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `FeatureStore.metrics()` gives.

    Attributes:
        reads: By service; lists of features are together under `features`.
        features: Values read, by view and by status.
        store: What went over the connections, and how many there are.
        events: By stream view.
        loads: By batch view.
        views: By view; empty while the history of loads is out of reach.
    """

    reads: Mapping[str, ReadMetrics] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    store: ConnectionStats = field(default_factory=ConnectionStats)
    events: Mapping[str, EventMetrics] = field(default_factory=dict)
    loads: Mapping[str, LoadMetrics] = field(default_factory=dict)
    views: Mapping[str, ViewAge] = field(default_factory=dict)

    def __add__(self, other: Metrics) -> Metrics:
        """Both together, as of two workers. Of a view, the younger age is the truer one."""
        return Metrics(
            reads=added(self.reads, other.reads),
            features=added(self.features, other.features),
            store=added(self.store, other.store),
            events=added(self.events, other.events),
            loads=added(self.loads, other.loads),
            views={
                name: min(
                    (each.views[name] for each in (self, other) if name in each.views),
                    key=lambda view: float("inf") if view.age_ms is None else view.age_ms,
                )
                for name in {**self.views, **other.views}
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as dicts, lists and numbers."""
        return asdict(self)

    def to_json(self) -> str:
        """The same as JSON, which `from_json` reads back."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """A snapshot that another process of the same version wrote."""
        told = json.loads(text)
        return cls(
            reads={name: _read(**read) for name, read in told["reads"].items()},
            features=told["features"],
            store=ConnectionStats(**told["store"]),
            events={name: EventMetrics(**each) for name, each in told["events"].items()},
            loads={name: LoadMetrics(**each) for name, each in told["loads"].items()},
            views={name: ViewAge(**each) for name, each in told["views"].items()},
        )


def by_status(asked: int, others: Mapping[str, int]) -> dict[str, int]:
    """Values by status: those that have no other one are present."""
    present = max(0, asked - sum(others.values()))
    return {status: others.get(status, 0) for status in STATUSES} | {STATUSES[0]: present}


def _read(latency: Mapping[str, Any], **counts: int) -> ReadMetrics:
    return ReadMetrics(
        **counts, latency=Histogram(tuple(latency["counts"]), float(latency["seconds"]))
    )


def added(one: Any, other: Any) -> Any:
    """Two things of one kind with their numbers added, in dicts, tuples and dataclasses too."""
    if isinstance(one, dict):
        both = {name: added(one[name], other[name]) for name in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, tuple):
        return tuple(map(add, one, other))
    if is_dataclass(one) and not isinstance(one, type):
        names = [each.name for each in fields(one)]
        return replace(one, **{n: added(getattr(one, n), getattr(other, n)) for n in names})
    return one + other
