"""Counters of what one feature store reads and writes in this process.

They must not slow a read down, so they hold no lock while counting. This relies on CPython:

- A thread switch happens only at a call or a backward jump, so `metrics.entities += n` is atomic
  as long as `n` is a local variable.
- Absent values are counted in the middle of a generated expression. `AtomicCounter` makes one
  step of a C iterator the increment: `next(counter.increments) or default`.

A reader counts into its own `ReaderCounters`. Once there are more than `MAX_READERS` of them, the
counts of collected readers are added up, so that short-lived readers do not use up memory.

After a fork the child counts from zero, because its parent reports the earlier calls. Counters are
reset in place, since readers and writers hold references to them. Rejected: a lock or
`itertools.count` with a wrapper call for each value (both cost more than decoding a value), and
thread-local counters (a thread pool of a server would leak them).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from operator import length_hint
from weakref import WeakSet, ref

from featurekit.lower.cell_decoder import evaluated
from featurekit.lower.read import absent_status
from featurekit.plan import ReadPlan
from featurekit.runtime.metrics import (
    EventMetrics,
    LoadMetrics,
    Metrics,
    ReadMetrics,
    add_counts,
    values_by_status,
)

MAX_READERS = 512
"""Readers that are counted one by one before the counts of collected ones are added up."""

_MAX_COUNT = 2**62


class AtomicCounter:
    """A number that `next(counter.increments)` increases by one. The expression returns `None`."""

    __slots__ = ("_at_reset", "increments")

    def __init__(self) -> None:
        self.increments: Iterator[None] = repeat(None, _MAX_COUNT)
        self._at_reset = 0

    @property
    def value(self) -> int:
        """The number of increments since the last reset."""
        return _MAX_COUNT - length_hint(self.increments) - self._at_reset

    def reset(self) -> None:
        """Count from zero again."""
        self._at_reset += self.value


@dataclass(slots=True)
class ReaderCounters:
    """What one reader has read.

    Attributes:
        plan: The compiled list of features.
        metrics: The reader counts into these; `nothing` stays zero.
        empty_rows: Rows without any stored value.
    """

    plan: ReadPlan
    metrics: ReadMetrics = field(default_factory=ReadMetrics)
    empty_rows: AtomicCounter = field(default_factory=AtomicCounter)

    def snapshot(self) -> ReadMetrics:
        """Return the counts so far."""
        return replace(self.metrics.snapshot(), nothing=self.empty_rows.value)

    def reset(self) -> None:
        """Count from zero again."""
        self.metrics.reset()
        self.empty_rows.reset()


@dataclass(slots=True)
class _ReadTotals:
    """Counts of several readers, added up.

    Attributes:
        services: Reads by feature service.
        requested: Values requested, by view.
        absent: Values of empty rows, by view and status.
    """

    services: dict[str, ReadMetrics] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    absent: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, reader: ReaderCounters) -> None:
        """Add the counts of one reader."""
        counts, name = reader.snapshot(), reader.plan.name
        self.services[name] = add_counts(self.services.get(name, ReadMetrics()), counts)
        plan = reader.plan
        for column in evaluated(plan):
            if not column.is_event_time:
                self.requested[column.view] += counts.entities
        for column in plan.stored:
            if not column.is_event_time and column.field.aggregate is None:
                self.absent[column.view, absent_status(column.field)] += counts.nothing

    def copy(self) -> _ReadTotals:
        """Return a copy to add to."""
        return _ReadTotals(dict(self.services), self.requested.copy(), self.absent.copy())


class Counters:
    """What one feature store has read and written in this process, in all threads.

    Attributes:
        readers: The counters of each reader that was not collected yet.
    """

    def __init__(self) -> None:
        self.readers: list[tuple[ref[object], ReaderCounters]] = []
        self._lock = threading.Lock()
        self._absent: dict[tuple[str, str], AtomicCounter] = {}
        self._collected = _ReadTotals()
        self._events: dict[str, EventMetrics] = {}
        self._loads: dict[str, LoadMetrics] = {}
        _instances.add(self)

    def reset(self) -> None:
        """Count from zero again, in place."""
        self._lock = threading.Lock()
        self._collected = _ReadTotals()
        for absent in self._absent.values():
            absent.reset()
        for _, reader in self.readers:
            reader.reset()
        for written in (*self._events.values(), *self._loads.values()):
            written.reset()

    def add_reader(self, reader: object, plan: ReadPlan) -> ReaderCounters:
        """Return counters for a new reader. Their counts outlive the reader."""
        counters = ReaderCounters(plan)
        with self._lock:
            self.readers.append((ref(reader), counters))
            if len(self.readers) > MAX_READERS:
                self._add_up_collected()
        return counters

    def absent(self, view: str, status: str) -> AtomicCounter:
        """Return the counter of a view's values that have a status other than `present`."""
        return self._absent.setdefault((view, status), AtomicCounter())

    def events(self, view: str) -> EventMetrics:
        """Return the counters of a stream view."""
        return self._events.setdefault(view, EventMetrics())

    def loads(self, view: str) -> LoadMetrics:
        """Return the counters of a batch view."""
        return self._loads.setdefault(view, LoadMetrics())

    def snapshot(self) -> Metrics:
        """Return everything counted so far."""
        absent = Counter({key: counter.value for key, counter in list(self._absent.items())})
        with self._lock:
            reads = self._collected.copy()
            for _, reader in self.readers:
                reads.add(reader)
        by_view: dict[str, dict[str, int]] = {}
        for (view, status), count in (reads.absent + absent).items():
            by_view.setdefault(view, {})[status] = count
        return Metrics(
            reads=reads.services,
            features={
                view: values_by_status(count, by_view.get(view, {}))
                for view, count in reads.requested.items()
            },
            events={view: each.snapshot() for view, each in list(self._events.items())},
            loads={view: each.snapshot() for view, each in list(self._loads.items())},
        )

    def _add_up_collected(self) -> None:
        alive = []
        for reader, counters in self.readers:
            if reader() is None:
                self._collected.add(counters)
            else:
                alive.append((reader, counters))
        self.readers = alive


_instances: WeakSet[Counters] = WeakSet()


def _reset_all() -> None:
    for counters in list(_instances):
        counters.reset()


os.register_at_fork(after_in_child=_reset_all)
