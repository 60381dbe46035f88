"""The stream writer: events into a stream view, each with its expiry, each whole or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import accumulate, islice
from typing import Any

from typing_extensions import override

from featurekit.errors import (
    BadEventError,
    FeatureKitError,
    RequestError,
    StoreError,
    ValueRefusedError,
)
from featurekit.lower.events import (
    arrival_write_group,
    event_error,
    event_time_write_group,
    is_script_missing,
    server_refusal,
)
from featurekit.lower.keys import key_function
from featurekit.lower.scripts import EVENT
from featurekit.plan import ViewPlan
from featurekit.ports import Chunk, RowSpans, StoreHandle
from featurekit.runtime.metrics import EventMetrics
from featurekit.runtime.tracing import STORE, Attributes, traced
from featurekit.runtime.write_arguments import Timestamp, event_time_to_ms, ttl_to_ms
from featurekit.wire import Reply

SLICE = 128
"""Events encoded while the server works on those before them."""

Values = Mapping[str, object]
Event = tuple[object, Values] | tuple[object, Values, Timestamp]
"""An entity, its values, and the event's time where the view is ordered by it."""


@dataclass(slots=True)
class WriteReport:
    """What became of some events.

    Attributes:
        written: Events that the store took.
        dropped_older: Events older than what the store holds; only with `ordering: event_time`.
        dropped_expired: Events that were past their expiry on arrival; likewise.
        rejected: Events that did not fit the view or that the store refused: index and reason.
        refusal: What the store said when it refused events for reasons of its own, as for want of
            memory: it may take them later. Empty if there was no such refusal.
    """

    written: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    refusal: str = ""

    def add(self, other: WriteReport) -> None:
        """Count another report's events too; its rejects stay with it."""
        self.written += other.written
        self.dropped_older += other.dropped_older
        self.dropped_expired += other.dropped_expired


def _began(writer: StreamWriter) -> Attributes:
    return {"featurekit.view": writer.plan.name}


def _ended(done: Any) -> Attributes:
    if not isinstance(done, WriteReport):
        return {STORE: "ok", "featurekit.events_written": int(done)}
    dropped = done.dropped_older + done.dropped_expired
    return {
        STORE: "ok",
        "featurekit.events_written": done.written,
        "featurekit.events_dropped": dropped,
        "featurekit.events_rejected": len(done.rejected),
    }


_traced = traced("featurekit.write_events", _began, _ended)


class StreamWriter:
    """Writes one stream view. Thread-safe; survives `fork`; pickles without connections.

    Attributes:
        plan: The view.
        total: All that this writer did, without the reasons of rejects.
    """

    def __init__(
        self, plan: ViewPlan, door: StoreHandle, count: EventMetrics | None = None
    ) -> None:
        if plan.kind != "stream":
            raise RequestError(
                f"feature view '{plan.name}' is a batch view", hint="write it with write_batch()"
            )
        self.plan = plan
        self.total = WriteReport()
        self._counted = count or EventMetrics()
        self._door = door
        self._timed = plan.ordering == "event_time"
        self._preface = b""
        self._key = key_function(plan.key)
        self._unit: Any = None

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.plan, self._door)

    @_traced
    def write(
        self,
        entity: object,
        values: Values,
        *,
        ttl: timedelta | int | None = None,
        event_timestamp: Timestamp = None,
    ) -> bool:
        """Write one event, in one round trip.

        Args:
            entity: The value of the join key; a tuple or dict if there are several.
            values: Just the fields that the event tells. `None` deletes a field, one that is
                absent is left alone.
            ttl: How long these values live, in the place of the declared TTLs; a timedelta, or
                milliseconds.
            event_timestamp: When the event happened: an aware datetime, milliseconds since the
                epoch, or RFC 3339 text. Required just where the view has `ordering: event_time`.

        Returns:
            Whether it was written. It is not if the store holds a newer event, or if all it
            says has expired by now.

        Raises:
            ValueRefusedError: A value does not fit; nothing was sent.
            StoreError: The store refused the event; nothing of it was written.
            StoreUnavailableError: No reply. It is safe to write the event again.
        """
        self._ready()
        unit = self._fitting((entity, values, event_timestamp), ttl_to_ms(ttl))
        report = WriteReport()
        if unit is None:
            report.dropped_expired = 1
        elif unit[2]:
            self._count(0, unit[0], self._run(*unit), report)
        return self._done_one(report)

    @_traced
    async def write_async(
        self,
        entity: object,
        values: Values,
        *,
        ttl: timedelta | int | None = None,
        event_timestamp: Timestamp = None,
    ) -> bool:
        """As `write`, without blocking the event loop."""
        await self._ready_async()
        unit = self._fitting((entity, values, event_timestamp), ttl_to_ms(ttl))
        report = WriteReport()
        if unit is None:
            report.dropped_expired = 1
        elif unit[2]:
            await self._send_async([(0, *unit)], report)
        return self._done_one(report)

    @_traced
    def write_many(
        self,
        events: Iterable[Event],
        *,
        ttl: timedelta | int | None = None,
        on_bad_event: str = "fail",
        encode_first: bool = False,
    ) -> WriteReport:
        """Write events in their order, as few round trips as there are slices of them.

        Args:
            events: `(entity, values)`, or `(entity, values, event_timestamp)`.
            ttl: As in `write`, for all of them.
            on_bad_event: `fail` raises at the first event that does not fit: nothing of its
                slice of 128 events is sent, nor anything after it. `skip` writes the others and
                reports the bad ones. An event that the store refuses is reported, or raised once
                all are sent.
            encode_first: Whether all are made ready before any is sent, so that with `fail` one that
                does not fit means that none is written.

        Raises:
            BadEventError: An event does not fit; names its index, field and value.
            StoreError: The store refused an event.
            StoreUnavailableError: No reply. It is safe to write them all again.
        """
        self._ready()
        skip = _skips(on_bad_event)
        report = WriteReport()
        slices = self._slices(events, ttl_to_ms(ttl), report, skip=skip)
        self._send(iter(list(slices)) if encode_first else slices, report)
        return self._done(report, skip=skip)

    @_traced
    async def write_many_async(
        self,
        events: Iterable[Event],
        *,
        ttl: timedelta | int | None = None,
        on_bad_event: str = "fail",
    ) -> WriteReport:
        """As `write_many`, without blocking the event loop."""
        await self._ready_async()
        skip = _skips(on_bad_event)
        report = WriteReport()
        for part in self._slices(events, ttl_to_ms(ttl), report, skip=skip):
            await self._send_async(part, report)
        return self._done(report, skip=skip)

    async def _ready_async(self) -> None:
        if self._unit is None:
            await asyncio.to_thread(self._ready)

    async def _send_async(self, units: list[_Unit], report: WriteReport) -> None:
        """Send one slice of events and count what became of it."""
        store = self._door.running()
        preface = [self._preface] if self._preface else []
        keys = [units[0][1]] * len(preface) + [key for _, key, _, _ in units]
        requests = preface + [data for _, _, data, _ in units]
        widths = [1] * len(preface) + [count for _, _, _, count in units]
        replies = await store.run(keys, requests, widths)
        if is_script_missing(replies):
            # What was written before the script was lost is written again, to the same effect.
            replies = await store.run(keys, requests, widths)
        at = len(preface)
        for index, key, _, count in units:
            self._count(index, key, replies[at : at + count], report)
            at += count

    def _ready(self) -> None:
        """Prove the store once, and lower the plan to what its server can do."""
        if self._unit is not None:
            return
        store = self._door.store
        store.check_writable(self.plan.key.prefix)
        dialect = store.capabilities
        make = event_time_write_group if self._timed else arrival_write_group
        # Events that are under way together stay in their order if none finds the script missing.
        # Where there is a server for each key, the store sees to that.
        self._preface = EVENT.load if self._timed and dialect.transactions else b""
        self._unit = make(self.plan, dialect)

    def _fitting(self, event: Event, ttl_ms: int) -> tuple[bytes, bytes, int] | None:
        try:
            return self._unit_of(event, ttl_ms)
        except FeatureKitError:
            self._counted.rejected += 1
            raise

    def _unit_of(self, event: Event, ttl_ms: int) -> tuple[bytes, bytes, int] | None:
        try:
            entity, values, time = event if len(event) == 3 else (*event, None)  # noqa: PLR2004
        except (TypeError, ValueError):
            raise ValueRefusedError(f"an event is (entity, values), not {event!r}") from None
        if values.__class__ is not dict and not isinstance(values, Mapping):
            raise ValueRefusedError(f"a dict of fields is expected, not {values!r}")
        if self._timed:
            now_ms = self._door.now_ms()
            key, event_ms = self._key(entity), event_time_to_ms(time, now_ms)
            unit = self._unit(key, values, ttl_ms, event_ms, now_ms)
            return None if unit is None else (key, *unit)
        if time is not None:
            raise ValueRefusedError(
                f"feature view '{self.plan.name}' orders events by arrival and takes no time",
                where="event_timestamp",
            )
        key = self._key(entity)
        return (key, *self._unit(key, values, ttl_ms))

    def _slices(
        self, events: Iterable[Event], ttl_ms: int, report: WriteReport, *, skip: bool
    ) -> Iterator[list[_Unit]]:
        """The units of the events, slice by slice."""
        source = enumerate(events)
        while part := list(islice(source, SLICE)):
            units: list[_Unit] = []
            for index, event in part:
                try:
                    unit = self._unit_of(event, ttl_ms)
                except FeatureKitError as error:
                    self._bad(index, error, report, skip=skip)
                    continue
                if unit is None:
                    report.dropped_expired += 1
                elif unit[2]:
                    units.append((index, *unit))
            if units:
                yield units

    def _bad(self, index: int, error: FeatureKitError, report: WriteReport, *, skip: bool) -> None:
        if not skip:
            self._counted.rejected += 1
            where = ", ".join(p for p in (self.plan.name, f"event {index}", error.where) if p)
            raise BadEventError(
                error.message, where=where, hint=error.hint, index=index
            ) from error
        where = f"{error.where}: " if error.where else ""
        report.rejected.append((index, where + error.message))

    def _run(self, key: bytes, data: bytes, count: int) -> list[Reply]:
        store = self._door.store
        replies = store.run((key,), (data,), count)
        if is_script_missing(replies):
            store.run((key,), (EVENT.load,))
            replies = store.run((key,), (data,), count)
        return replies

    def _send(self, slices: Iterator[list[_Unit]], report: WriteReport) -> None:
        """Send slices of events, encoding the next while the server works on the last."""
        under_way: deque[list[_Unit]] = deque()
        ahead = 1 if self._preface else 0

        def chunks() -> Iterator[Chunk]:
            for part in slices:
                under_way.append(part)
                count = sum([count for _, _, _, count in part])
                single = not self._timed and count == len(part)
                yield Chunk(
                    data=self._preface + b"".join([data for _, _, data, _ in part]),
                    replies=ahead + count,
                    # Where the replies themselves matter, they are wanted whatever they are.
                    reply_lines=len(part) if single else None,
                    rows=len(part),
                    row_spans=partial(_apart, part),
                )

        for _, replies in self._door.store.load(chunks()):
            part = under_way.popleft()
            if replies is None:
                report.written += len(part)
                continue
            at = ahead
            for index, key, data, count in part:
                own = replies[at : at + count]
                at += count
                if is_script_missing(own):
                    own = self._run(key, data, count)
                self._count(index, key, own, report)

    def _count(
        self, index: int, key: bytes, replies: Sequence[Reply], report: WriteReport
    ) -> None:
        if fault := event_error(replies):
            report.rejected.append((index, f"{key.decode(errors='replace')}: {fault}"))
            report.refusal = report.refusal or server_refusal(replies)
        elif self._timed and replies[0] == 0:
            report.dropped_older += 1
        else:
            report.written += 1

    def _done_one(self, report: WriteReport) -> bool:
        self._tell(report)
        if report.rejected:
            raise StoreError(report.rejected[0][1], where=self.plan.name)
        return report.written == 1

    def _tell(self, report: WriteReport) -> None:
        self.total.add(report)
        counted = self._counted
        counted.add_events(report.written, report.dropped_older, report.dropped_expired)
        counted.rejected += len(report.rejected)

    def _done(self, report: WriteReport, *, skip: bool) -> WriteReport:
        self._tell(report)
        if report.rejected and not skip:
            raise StoreError(
                f"the store refused {len(report.rejected)} events; {report.rejected[0][1]}",
                where=self.plan.name,
                hint=f"{report.written} events are written, each whole",
            )
        return report


_Unit = tuple[int, bytes, bytes, int]
"""An event's index, its key, its commands, and how many replies they get."""


def _apart(units: list[_Unit]) -> RowSpans:
    ends = accumulate(len(data) for _, _, data, _ in units)
    return [key for _, key, _, _ in units], list(ends)


def _skips(on_bad_event: str) -> bool:
    if on_bad_event not in ("fail", "skip"):
        raise RequestError(f"on_bad_event is fail or skip, not '{on_bad_event}'")
    return on_bad_event == "skip"
