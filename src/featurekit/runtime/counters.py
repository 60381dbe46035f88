"""Tallies: counting as it happens, at next to no cost.

Counting must not slow a read down, so it holds no lock: a thread of CPython is switched at a call
or a jump backwards alone, hence `count.further += n` is whole; and values that are not there are
counted by `Ticks`. A child process starts at zero, since its parent tells of what went before.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import repeat
from operator import length_hint
from weakref import WeakSet, ref

from featurekit.lower.read import absent_status
from featurekit.plan import ReadPlan
from featurekit.runtime.metrics import (
    BOUNDS_S,
    EventMetrics,
    Histogram,
    LoadMetrics,
    Metrics,
    ReadMetrics,
    added,
    by_status,
)
from featurekit.runtime.report import MaterializeReport

_FULL = 2**62
_KEPT = 512
"""Readers counted one by one before those that are gone are counted together."""


class Ticks:
    """A number that goes up by one with each `next(ticks.step)`, which gives `None`.

    `next` of an iterator that counts down in C is one step for all threads, takes a hundredth of
    a microsecond, and is an expression: it stands right where a value is found to be absent.
    """

    __slots__ = ("_before", "step")

    def __init__(self) -> None:
        self.step: Iterator[None] = repeat(None, _FULL)
        self._before = 0

    @property
    def count(self) -> int:
        """How often it went up."""
        return _FULL - length_hint(self.step) - self._before

    def restart(self) -> None:
        """Count from zero again."""
        self._before += self.count


class ReadCount:
    """What one reader has read; it counts up the attributes itself.

    Attributes:
        plan: What it reads.
        buckets: Its reads, by the bucket of how long they took.
        further: Rows asked for beyond the first of each read.
        failures: Reads that failed.
        seconds: How long all reads took.
        nothing: Rows of which nothing was there.
    """

    __slots__ = ("buckets", "failures", "further", "nothing", "plan", "seconds")

    def __init__(self, plan: ReadPlan) -> None:
        self.plan = plan
        self.nothing = Ticks()
        self.restart()

    def restart(self) -> None:
        """Count from zero."""
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.further = 0
        self.failures = 0
        self.seconds = 0.0
        self.nothing.restart()

    @property
    def metrics(self) -> ReadMetrics:
        """What it has counted so far."""
        calls, latency = sum(self.buckets), Histogram(tuple(self.buckets), self.seconds)
        entities = calls + self.further
        return ReadMetrics(calls, self.failures, entities, self.nothing.count, latency)


@dataclass(slots=True)
class EventCount:
    """What became of the events of one stream view; the attributes are those of `EventMetrics`."""

    written: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    rejected: int = 0
    dead_letters: int = 0

    def add(self, written: int, older: int, expired: int) -> None:
        """Count events that fitted."""
        self.written += written
        self.dropped_older += older
        self.dropped_expired += expired

    def restart(self) -> None:
        """Count from zero."""
        self.written = self.dropped_older = self.dropped_expired = 0
        self.rejected = self.dead_letters = 0


@dataclass(slots=True)
class LoadCount:
    """What became of the loads of one batch view; the attributes are those of `LoadMetrics`."""

    loads: int = 0
    failures: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    seconds: float = 0.0

    def restart(self) -> None:
        """Count from zero."""
        self.loads = self.failures = self.rows_written = self.rows_rejected = 0
        self.seconds = 0.0

    def ended(self, report: MaterializeReport, *, failed: bool) -> None:
        """Count a load, whole or not."""
        self.loads += not failed
        self.failures += failed
        self.rows_written += report.rows_written
        self.rows_rejected += report.rows_rejected
        self.seconds += report.seconds


@dataclass(slots=True)
class _Reads:
    """Reads counted together.

    Attributes:
        services: By service.
        asked: Values asked for, by view.
        absent: Values of rows of which nothing was there, by view and status.
    """

    services: dict[str, ReadMetrics] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    absent: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, count: ReadCount) -> None:
        """Count what one reader has read."""
        told, name = count.metrics, count.plan.name
        self.services[name] = added(self.services.get(name, ReadMetrics()), told)
        for column in count.plan.columns:
            if not column.is_event_time:
                self.asked[column.view] += told.entities
                self.absent[column.view, absent_status(column.field)] += told.nothing

    def copy(self) -> _Reads:
        """The same, to count on."""
        return _Reads(dict(self.services), self.asked.copy(), self.absent.copy())


class Counters:
    """What one feature store has read and written in this process, by whichever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ticks: dict[tuple[str, str], Ticks] = {}
        self._open: list[tuple[ref[object], ReadCount]] = []
        self._gone = _Reads()
        self._events: dict[str, EventCount] = {}
        self._loads: dict[str, LoadCount] = {}
        _tallies.add(self)

    def restart(self) -> None:
        """Count from zero, for all that count into it: this is a child process."""
        self._lock = threading.Lock()
        self._gone = _Reads()
        for ticks in self._ticks.values():
            ticks.restart()
        for _, count in self._open:
            count.restart()
        for events in self._events.values():
            events.restart()
        for loads in self._loads.values():
            loads.restart()

    def reader(self, reader: object, plan: ReadPlan) -> ReadCount:
        """The count of a new reader, which is kept when the reader is gone."""
        count = ReadCount(plan)
        with self._lock:
            self._open.append((ref(reader), count))
            if len(self._open) > _KEPT:
                self._gather()
        return count

    def ticks(self, view: str, status: str) -> Ticks:
        """What counts the values of a view that have a status; those present are the rest."""
        return self._ticks.setdefault((view, status), Ticks())

    def events(self, view: str) -> EventCount:
        """The count of a stream view."""
        return self._events.setdefault(view, EventCount())

    def loads(self, view: str) -> LoadCount:
        """The count of a batch view."""
        return self._loads.setdefault(view, LoadCount())

    def metrics(self) -> Metrics:
        """All of it so far."""
        told = {key: ticks.count for key, ticks in list(self._ticks.items())}
        with self._lock:
            reads = self._gone.copy()
            for _, count in self._open:
                reads.add(count)
        others: dict[str, dict[str, int]] = {}
        for (view, status), n in (reads.absent + Counter(told)).items():
            others.setdefault(view, {})[status] = n
        return Metrics(
            reads=reads.services,
            features={v: by_status(n, others.get(v, {})) for v, n in reads.asked.items()},
            events={v: EventMetrics(**asdict(c)) for v, c in list(self._events.items())},
            loads={v: LoadMetrics(**asdict(c)) for v, c in list(self._loads.items())},
        )

    def _gather(self) -> None:
        """Count the readers that are gone together."""
        kept = []
        for reader, count in self._open:
            if reader() is None:
                self._gone.add(count)
            else:
                kept.append((reader, count))
        self._open = kept


_tallies: WeakSet[Counters] = WeakSet()


def _restart_all() -> None:
    for tally in list(_tallies):
        tally.restart()


os.register_at_fork(after_in_child=_restart_all)
