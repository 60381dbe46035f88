"""What serving would have returned: the hash of an entity, replayed load by load and event by event.

All times are milliseconds. In one millisecond, loads come first, then events in their order, then
reads. The rules are those of servers and of featurekit:

- A value is served up to and including its deadline.
- A load writes the newest row of an entity, by (time, created, n), among those that are known by then and
  in the window of the load. Null deletes. It renews the TTL of the key, or of each field that it sets.
- An event sets the fields that it has; null deletes; the others are left alone. A TTL counts from the
  time of the event, or from its arrival if it has no time. One too far ahead of the clock is refused.
- `ordering: arrival`: a value that has expired on arrival is not written.
- `ordering: event_time`: neither is an event older than one before, nor one that has nothing to write or
  delete. A value of another one that has expired on arrival deletes the field.
- When the TTL of the key ends, all goes, also times of views. A hash without fields has no TTL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Row:
    """A row of a batch source; `n` is its place there."""

    time: int
    created: int | None
    n: int
    values: Mapping[str, object]

    def known(self, *, by_created: bool) -> int:
        created = self.time if self.created is None else self.created
        return max(self.time, created) if by_created else self.time

    @property
    def age(self) -> tuple[int, int, int]:
        return self.time, -(2**62) if self.created is None else self.created, self.n


@dataclass(frozen=True)
class Load:
    """A load of rows known at `scanned`, with times from `start` until before `end`."""

    scanned: int
    written: int
    start: int | None = None
    end: int | None = None

    def newest(self, rows: Iterable[Row], *, by_created: bool) -> Row | None:
        seen = [
            row
            for row in rows
            if row.known(by_created=by_created) <= self.scanned
            and (self.start is None or row.time >= self.start)
            and (self.end is None or row.time < self.end)
        ]
        return max(seen, key=lambda row: row.age, default=None)


@dataclass(frozen=True)
class Event:
    """An event: `values` has the fields that it has, and None to delete."""

    time: int | None
    arrival: int
    n: int
    values: Mapping[str, object]


@dataclass(frozen=True)
class View:
    """A view with the TTLs of its fields; `key` and `field` say how a batch view expires."""

    name: str
    kind: Literal["key", "field", "arrival", "event_time"]
    ttls: Mapping[str, int]
    max_ahead: int = 300_000


@dataclass(frozen=True)
class BatchHistory:
    """The rows of a batch view and the loads that ran."""

    view: View
    rows: Sequence[Row]
    loads: Sequence[Load]
    by_created: bool


@dataclass
class Hash:
    """The hash of an entity: fields with their deadlines, and the deadline of the key."""

    fields: dict[str, tuple[object, int | None]] = field(default_factory=dict)
    deadline: int | None = None

    def reap(self, now: int) -> None:
        if self.deadline is not None and now > self.deadline:
            self.fields.clear()
        for name in [n for n, (_, d) in self.fields.items() if d is not None and now > d]:
            del self.fields[name]
        if not self.fields:
            self.deadline = None

    def put(self, name: str, value: object, deadline: int | None) -> None:
        self.fields.pop(name, None)
        if value is not None:
            self.fields[name] = value, deadline

    def load(self, now: int, view: View, row: Row) -> None:
        for name, ttl in view.ttls.items():
            self.put(name, row.values.get(name), now + ttl if view.kind == "field" else None)
        if view.kind == "key":
            self.deadline = now + max(view.ttls.values())

    def event(self, view: View, event: Event) -> None:
        now, base = event.arrival, event.arrival if event.time is None else event.time
        expired = {
            n for n, v in event.values.items() if v is not None and base + view.ttls[n] <= now
        }
        if base > now + view.max_ahead:
            return
        if view.kind == "arrival":
            for name in event.values.keys() - expired:
                self.put(name, event.values[name], base + view.ttls[name])
            return
        clock, end = f"@{view.name}", base + max(view.ttls.values())
        if expired == event.values.keys() or end <= now:
            return
        if clock in self.fields and int(str(self.fields[clock][0])) > base:
            return
        self.put(clock, base, end)
        for name, value in event.values.items():
            self.put(name, None if name in expired else value, base + view.ttls[name])

    def read(self) -> dict[str, object]:
        return {name: value for name, (value, _) in self.fields.items() if name[0] != "@"}


def served(
    batches: Sequence[BatchHistory],
    streams: Sequence[tuple[View, Sequence[Event]]],
    times: Iterable[int],
) -> dict[int, dict[str, object]]:
    """Return what reads of one entity at these times get."""
    steps: list[tuple[tuple[int, int, int], View | None, Row | Event | None]] = []
    for of in batches:
        for load in of.loads:
            row = load.newest(of.rows, by_created=of.by_created)
            steps.append(((load.written, 0, load.scanned), of.view, row))
    steps += [((e.arrival, 1, e.n), view, e) for view, events in streams for e in events]
    steps += [((time, 2, 0), None, None) for time in set(times)]
    stored = Hash()
    answers: dict[int, dict[str, object]] = {}
    for (now, _, _), view, item in sorted(steps, key=lambda step: step[0]):
        stored.reap(now)
        if view is None:
            answers[now] = stored.read()
        elif isinstance(item, Row):
            stored.load(now, view, item)
        elif isinstance(item, Event):
            stored.event(view, item)
    return answers
