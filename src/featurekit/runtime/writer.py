"""Write events into a stream view. Each event is written with its expiry, completely or not at all.

`write` sends one event in one round trip. `write_many` cuts the events into slices of `SLICE`:

- Encoding and sending overlap: while the server works on one slice, the next one is encoded. A
  slice is one chunk of `OnlineStore.load`; the asyncio form sends slice after slice.
- With `on_bad_event="fail"`, an event that does not fit stops the write before anything of its
  slice is sent. Earlier slices stay written. `encode_first` encodes all slices before the first
  is sent, so that nothing is written unless all events fit.
- Events of one entity keep their order, because slices are sent in order on one connection (on
  one connection for each node of a cluster).

A view with `ordering: event_time` writes by a script that compares event times on the server. Each
slice starts with `SCRIPT LOAD`, so that a restarted server cannot miss the script for a part of a
slice and reorder events. A single event saves these bytes, and loads the script when it is missing.
Repeating an event is safe: at an equal time the same values are written again.

Rejected: one transaction for a slice. It would make other clients wait, and an error in one event
could discard the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
    join_where,
)
from featurekit.lower.events import (
    arrival_write_group,
    event_error,
    event_time_write_group,
    is_script_missing,
    server_refusal,
    timed_arrival_write_group,
)
from featurekit.lower.keys import key_function
from featurekit.lower.scripts import EVENT
from featurekit.plan import ViewPlan
from featurekit.ports import Chunk, Progress, RowSpans, StoreHandle
from featurekit.runtime.marks import write_mark
from featurekit.runtime.metrics import EventMetrics
from featurekit.runtime.row_log import EventLog
from featurekit.runtime.tracing import STORE, Attributes, traced
from featurekit.runtime.window_writer import WindowWriter, WriteAttempt
from featurekit.runtime.write_arguments import (
    Event,
    PositionedEvent,
    Timestamp,
    Ttl,
    Values,
    event_time_to_ms,
    skip_bad_events,
    split_event,
    ttl_to_ms,
)
from featurekit.runtime.write_report import WriteReport
from featurekit.wire import Reply

SLICE = 128
"""Events that are encoded while the server works on the slice before."""

_EncodedEvent = tuple[int, bytes, bytes, int, Event]
"""An event's index, its key, its commands, the number of their replies, and the event itself."""


def _start_attributes(writer: StreamWriter) -> Attributes:
    return {"featurekit.view": writer.plan.name}


def _end_attributes(result: Any) -> Attributes:
    if not isinstance(result, WriteReport):
        return {STORE: "ok", "featurekit.events_written": int(result)}
    return {
        STORE: "ok",
        "featurekit.events_written": result.written,
        "featurekit.events_dropped": result.dropped_older + result.dropped_expired,
        "featurekit.events_rejected": len(result.rejected),
    }


_traced = traced("featurekit.write_events", _start_attributes, _end_attributes)


class StreamWriter:
    """A writer of one stream view. Thread-safe; survives `fork`; pickles without connections.

    Attributes:
        plan: The compiled view.
        total: The counts of all writes so far, without rejected events.
    """

    def __init__(
        self,
        plan: ViewPlan,
        handle: StoreHandle,
        metrics: EventMetrics | None = None,
        log: EventLog | None = None,
    ) -> None:
        if plan.kind != "stream":
            raise RequestError(
                f"feature view '{plan.name}' is a batch view", hint="write it with write_batch()"
            )
        self.plan = plan
        self.total = WriteReport()
        self._metrics = metrics or EventMetrics()
        self._handle = handle
        self._log = log
        self._by_event_time = plan.ordering == "event_time"
        self._load_script = b""
        self._key = key_function(plan.key)
        self._event_commands: Any = None
        self._timed_commands: Any = None
        self._windows: WindowWriter | None = None

    @property
    def has_log(self) -> bool:
        """Whether accepted events are logged."""
        return self._log is not None

    @property
    def needs_positions(self) -> bool:
        """Whether it uses the positions of events: for a log, or to find repeated events."""
        return self._log is not None or self.plan.windows is not None

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.plan, self._handle, None, self._log)

    @override
    def __repr__(self) -> str:
        return f"<StreamWriter {self.plan.name}: {self.total.written} events written>"

    @_traced
    def write(
        self,
        entity: object,
        values: Values,
        *,
        ttl: Ttl = None,
        event_timestamp: Timestamp = None,
    ) -> bool:
        """Write one event in one round trip.

        Args:
            entity: The value of the join key; a tuple or dict for several join keys.
            values: The fields of the event. `None` deletes a field; other fields stay unchanged.
            ttl: How long these values live instead of their declared TTLs: a timedelta, or whole
                seconds.
            event_timestamp: When the event happened: an aware datetime, milliseconds since the
                epoch, or RFC 3339 text. The TTLs count from it; without it, from the write.
                Required if the view has `ordering: event_time`.

        Returns:
            Whether the event was written. It is not if the store holds a newer event, or if all
            its values have expired already.

        Raises:
            ValueRefusedError: A value does not fit; nothing was sent.
            StoreError: The store refused the event; nothing of it was written.
            StoreUnavailableError: No reply in time. Safe to retry.
        """
        self._prepare()
        event = (entity, values, event_timestamp)
        if self._windows is not None:
            report = WriteReport()
            _refuse_ttl(ttl)
            self._windows.write([event], report, self._refuse)
            return self._finish_one(report)
        encoded = self._encode_one(event, ttl_to_ms(ttl))
        report = WriteReport()
        if encoded is None:
            report.dropped_expired = 1
        elif encoded[2]:
            self._count_event((0, *encoded, event), self._send_one(*encoded), report)
        return self._finish_one(report)

    @_traced
    async def write_async(
        self,
        entity: object,
        values: Values,
        *,
        ttl: Ttl = None,
        event_timestamp: Timestamp = None,
    ) -> bool:
        """Do the same as `write` without blocking the event loop."""
        await self._prepare_async()
        event = (entity, values, event_timestamp)
        if self._windows is not None:
            report = WriteReport()
            _refuse_ttl(ttl)
            await self._windows.write_async([event], report, self._refuse)
            return self._finish_one(report)
        encoded = self._encode_one(event, ttl_to_ms(ttl))
        report = WriteReport()
        if encoded is None:
            report.dropped_expired = 1
        elif encoded[2]:
            await self._send_slice_async([(0, *encoded, event)], report)
        return self._finish_one(report)

    @_traced
    def write_many(
        self,
        events: Iterable[Event],
        *,
        ttl: Ttl = None,
        on_bad_event: str = "fail",
        encode_first: bool = False,
    ) -> WriteReport:
        """Write events in order, in one round trip for each slice of 128 events.

        Args:
            events: `(entity, values)`, or `(entity, values, event_timestamp)`.
            ttl: The TTL of all events, see `write`.
            on_bad_event: `fail` raises at the first event that does not fit: nothing of its slice
                is sent, nor anything after it. `skip` writes the others and reports the bad ones.
                If the store refuses an event, `fail` raises after all events were sent.
            encode_first: Encode all events before the first is sent, so that with `fail` nothing
                is written unless all of them fit.

        Raises:
            BadEventError: An event does not fit; names its index, field and value.
            StoreError: The store refused an event.
            StoreUnavailableError: No reply in time. It is safe to write all events again.
        """
        self._prepare()
        skip = skip_bad_events(on_bad_event)
        if self._windows is not None:
            report = self._write_windows(
                self._windows, events, ttl, skip=skip, encode_first=encode_first
            )
            return self._finish(report, skip=skip)
        report = WriteReport()
        slices = self._encode_slices(events, ttl_to_ms(ttl), report, skip=skip)
        self._send_slices(iter(list(slices)) if encode_first else slices, report)
        return self._finish(report, skip=skip)

    @_traced
    async def write_many_async(
        self,
        events: Iterable[Event],
        *,
        ttl: Ttl = None,
        on_bad_event: str = "fail",
    ) -> WriteReport:
        """Do the same as `write_many` without blocking the event loop."""
        await self._prepare_async()
        skip = skip_bad_events(on_bad_event)
        if self._windows is not None:
            report = WriteReport()
            _refuse_ttl(ttl)
            reject = partial(self._reject, report=report, skip=skip)
            await self._windows.write_async(events, report, reject)
            return self._finish(report, skip=skip)
        report = WriteReport()
        for part in self._encode_slices(events, ttl_to_ms(ttl), report, skip=skip):
            await self._send_slice_async(part, report)
        return self._finish(report, skip=skip)

    def write_read(self, events: Iterable[Event], attempt: WriteAttempt) -> WriteReport:
        """Write the events that a worker has read. Those that do not fit are in the report.

        Args:
            events: The events, with their positions in the source.
            attempt: What is known of earlier attempts to write them.
        """
        self._prepare()
        if self._windows is None:
            return self.write_many(events, on_bad_event="skip")
        report = self._write_windows(self._windows, events, None, skip=True, attempt=attempt)
        return self._finish(report, skip=True)

    def write_mark(self, key: bytes, progress: Progress) -> None:
        """Write up to when all events are applied, see `runtime.marks`."""
        write_mark(self._handle.store, key, progress)

    def close(self) -> None:
        """Close the connections of threads, which the store's other readers and writers share.

        Also completes the files of the view's log.
        """
        self._handle.close()
        if self._log is not None:
            self._log.close()

    def _prepare(self) -> None:
        """At the first write, check the store and lower the plan to the server's commands."""
        self._handle.check_store()
        if self._event_commands is not None or self._windows is not None:
            return
        store = self._handle.store
        store.check_writable(self.plan.key.prefix)
        dialect = store.capabilities
        if self.plan.windows is not None:
            self._windows = WindowWriter(self.plan, self.plan.windows, self._handle, self._log)
            return
        # A cluster store loads missing scripts itself.
        self._load_script = EVENT.load if self._by_event_time and dialect.transactions else b""
        timed = event_time_write_group if self._by_event_time else timed_arrival_write_group
        self._timed_commands = timed(self.plan, dialect)
        self._event_commands = arrival_write_group(self.plan, dialect)

    async def _prepare_async(self) -> None:
        is_prepared = self._event_commands is not None or self._windows is not None
        if not is_prepared or self._handle.is_check_due():
            await asyncio.to_thread(self._prepare)

    def _encode_one(self, event: Event, ttl_ms: int) -> tuple[bytes, bytes, int] | None:
        try:
            return self._encode(event, ttl_ms)
        except FeatureKitError:
            self._metrics.rejected += 1
            raise

    def _encode(self, event: Event, ttl_ms: int) -> tuple[bytes, bytes, int] | None:
        """Return an event's key, commands and number of replies; `None` if it has expired."""
        if event.__class__ is tuple and len(event) == 3 and event[1].__class__ is dict:  # noqa: PLR2004
            entity, values, time = event
        else:
            entity, values, time = split_event(event)
        if time is not None:
            now_ms = self._handle.now_ms()
            event_ms = event_time_to_ms(time, now_ms, self.plan.max_ahead_ms)
            key = self._key(entity)
            commands = self._timed_commands(key, values, ttl_ms, event_ms, now_ms)
            return None if commands is None else (key, *commands)
        if self._by_event_time:
            raise ValueRefusedError(
                "an event of a view with `ordering: event_time` must have a time",
                where="event_timestamp",
            )
        key = self._key(entity)
        return (key, *self._event_commands(key, values, ttl_ms))

    def _encode_slices(
        self, events: Iterable[Event], ttl_ms: int, report: WriteReport, *, skip: bool
    ) -> Iterator[list[_EncodedEvent]]:
        remaining = enumerate(events)
        while part := list(islice(remaining, SLICE)):
            encoded: list[_EncodedEvent] = []
            for index, event in part:
                try:
                    commands = self._encode(event, ttl_ms)
                except FeatureKitError as error:
                    self._reject(index, error, report, skip=skip)
                    continue
                if commands is None:
                    report.dropped_expired += 1
                elif commands[2]:
                    encoded.append((index, *commands, event))
            if encoded:
                yield encoded

    def _reject(
        self, index: int, error: FeatureKitError, report: WriteReport, *, skip: bool
    ) -> None:
        if not skip:
            self._metrics.rejected += 1
            where = join_where(self.plan.name, f"event {index}", error.where)
            raise BadEventError(
                error.message, where=where, hint=error.hint, index=index
            ) from error
        where = f"{error.where}: " if error.where else ""
        report.rejected.append((index, where + error.message))

    def _send_one(self, key: bytes, data: bytes, replies: int) -> list[Reply]:
        store = self._handle.store
        result = store.run((key,), (data,), replies)
        if is_script_missing(result):
            store.run((key,), (EVENT.load,))
            result = store.run((key,), (data,), replies)
        return result

    def _send_slices(self, slices: Iterator[list[_EncodedEvent]], report: WriteReport) -> None:
        unanswered: deque[list[_EncodedEvent]] = deque()
        script_replies = 1 if self._load_script else 0

        def chunks() -> Iterator[Chunk]:
            for part in slices:
                unanswered.append(part)
                replies = sum([replies for _, _, _, replies, _ in part])
                # The reply to a script or a transaction matters even if it is not an error.
                counts_lines = not self._by_event_time and replies == len(part)
                yield Chunk(
                    data=self._load_script + b"".join([data for _, _, data, _, _ in part]),
                    replies=script_replies + replies,
                    reply_lines=len(part) if counts_lines else None,
                    rows=len(part),
                    row_spans=partial(_row_spans, part),
                )

        for _, replies in self._handle.store.load(chunks()):
            part = unanswered.popleft()
            if replies is None:
                self._count_written(part, report)
                continue
            start = script_replies
            for encoded in part:
                _, key, data, count, _ = encoded
                own = replies[start : start + count]
                start += count
                if is_script_missing(own):
                    own = self._send_one(key, data, count)
                self._count_event(encoded, own, report)

    async def _send_slice_async(self, part: list[_EncodedEvent], report: WriteReport) -> None:
        store = self._handle.async_store()
        script = [self._load_script] if self._load_script else []
        keys = [part[0][1]] * len(script) + [key for _, key, _, _, _ in part]
        requests = script + [data for _, _, data, _, _ in part]
        counts = [1] * len(script) + [count for _, _, _, count, _ in part]
        replies = await store.run(keys, requests, counts)
        if is_script_missing(replies):
            # Events written before the script was lost are written again, with the same result.
            replies = await store.run(keys, requests, counts)
        start = len(script)
        for encoded in part:
            count = encoded[3]
            self._count_event(encoded, replies[start : start + count], report)
            start += count

    def _count_event(
        self, encoded: _EncodedEvent, replies: Sequence[Reply], report: WriteReport
    ) -> None:
        if error := event_error(replies):
            index, key, *_ = encoded
            report.rejected.append((index, f"{key.decode(errors='replace')}: {error}"))
            report.refusal = report.refusal or server_refusal(replies)
        elif self._by_event_time and replies[0] == 0:
            report.dropped_older += 1
        else:
            self._count_written([encoded], report)

    def _count_written(self, part: list[_EncodedEvent], report: WriteReport) -> None:
        report.written += len(part)
        if self._log is not None:
            for encoded in part:
                self._log_event(self._log, encoded)

    def _log_event(self, log: EventLog, encoded: _EncodedEvent) -> None:
        _, key, _, _, event = encoded
        _, values, time = split_event(event)
        now_ms, max_ahead_ms = self._handle.now_ms(), self.plan.max_ahead_ms
        event_ms = None if time is None else event_time_to_ms(time, now_ms, max_ahead_ms)
        position = event.position if isinstance(event, PositionedEvent) else None
        log.add(key, values, event_ms, position)

    def _write_windows(
        self,
        windows: WindowWriter,
        events: Iterable[Event],
        ttl: Ttl,
        *,
        skip: bool,
        encode_first: bool = False,
        attempt: WriteAttempt | None = None,
    ) -> WriteReport:
        report = WriteReport()
        _refuse_ttl(ttl)
        reject = partial(self._reject, report=report, skip=skip)
        windows.write(events, report, reject, encode_first=encode_first, attempt=attempt)
        return report

    def _refuse(self, _index: int, error: FeatureKitError) -> None:
        """Raise the error of the only event of a write."""
        self._metrics.rejected += 1
        raise error

    def _count_report(self, report: WriteReport) -> None:
        self.total.add(report)
        metrics = self._metrics
        metrics.add_events(report.written, report.dropped_older, report.dropped_expired)
        metrics.repeated += report.repeated
        metrics.rejected += len(report.rejected)

    def _finish_one(self, report: WriteReport) -> bool:
        self._count_report(report)
        if report.rejected:
            raise StoreError(report.rejected[0][1], where=self.plan.name)
        return report.written == 1

    def _finish(self, report: WriteReport, *, skip: bool) -> WriteReport:
        self._count_report(report)
        if report.rejected and not skip:
            raise StoreError(
                f"the store refused {len(report.rejected)} events; {report.rejected[0][1]}",
                where=self.plan.name,
                hint=f"{report.written} events are written completely",
            )
        return report


def _refuse_ttl(ttl: Ttl) -> None:
    if ttl is not None:
        raise RequestError(
            "events of a view with windows have no TTL", hint="the windows decide when they end"
        )


def _row_spans(part: list[_EncodedEvent]) -> RowSpans:
    ends = accumulate(len(data) for _, _, data, _, _ in part)
    return [key for _, key, _, _, _ in part], list(ends)
