"""Move events from a stream into a view: at least once, and without losing any.

The loop of a worker:

    read up to `batch_size` events -> decode and write them -> write the bad ones to the dead letters
    -> acknowledge all -> read the next

Invariant: an event is acknowledged only after its values or its dead letter are stored. If a worker
dies, the source delivers the unacknowledged events again, and writing them again has the same result.

Each step is retried, with growing pauses, while the store or the source is unavailable. The same
holds for an event that the server refuses for a reason of its own (no memory, a read-only replica,
a permission that was revoked). An event that does not fit the view goes to the dead letters. If the
worker is asked to stop while it retries, it gives up after `grace_s` without acknowledging.

Rejected: reading ahead while a batch is written (a worker that dies would leave more events to
others, for a small gain: encoding already overlaps with writing), and acknowledging before writing
(at most once).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TypeVar, cast

from featurekit.errors import (
    FeatureKitError,
    StoreError,
    StoreUnavailableError,
    StreamError,
    StreamUnavailableError,
    ValueRefusedError,
)
from featurekit.lower.window_scripts import MAX_IDS
from featurekit.ports import EventSource, StreamEvent
from featurekit.printable import printable
from featurekit.runtime.event_decoder import DecodeEvent, event_decoder
from featurekit.runtime.marks import mark_interval_s
from featurekit.runtime.window_writer import WriteAttempt
from featurekit.runtime.write_arguments import Event, PositionedEvent
from featurekit.runtime.write_report import WriteReport
from featurekit.runtime.writer import StreamWriter

T = TypeVar("T")

_log = logging.getLogger("featurekit.streams")

MAX_REASONS = 3
"""Reasons of rejected events in one report."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Batch size, waits and report interval of a worker.

    Attributes:
        batch_size: Maximum number of events read at once.
        wait_s: How long a read waits for events.
        report_interval_s: Interval between reports.
        min_retry_s: Pause before the first retry. It doubles with each further retry.
        max_retry_s: Longest pause between retries.
        grace_s: How long to retry after a request to stop.
    """

    batch_size: int = 500
    wait_s: float = 1.0
    report_interval_s: float = 10.0
    min_retry_s: float = 0.1
    max_retry_s: float = 0.8
    grace_s: float = 2.0


@dataclass(slots=True)
class StreamReport:
    """What a worker did since its last report.

    Attributes:
        view: The stream view.
        seconds: The time covered.
        read: Events read and acknowledged.
        written: Events that the store accepted.
        ignored: Events that `where:` excludes, or without any field of the view.
        dropped_older: Events older than the stored ones; only with `ordering: event_time`.
        dropped_expired: Events whose TTL had passed before they were written, or that were too late for
            every window.
        repeated: Events that had been applied before; only of views with windows.
        rejected: Events written to the dead letters.
        lost: Events that the source deleted before they were done, as far as it reports them.
        lag: Events that the group has not read yet; `None` if not known.
        newest_age_ms: Time since the newest event arrived at the source; `None` without events.
        trouble: Why the worker is retrying; empty if it is not.
        reasons: Why the first rejected events were rejected.
    """

    view: str
    seconds: float = 0.0
    read: int = 0
    written: int = 0
    ignored: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    repeated: int = 0
    rejected: int = 0
    lost: int = 0
    lag: int | None = None
    newest_age_ms: int | None = None
    trouble: str = ""
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data, with the rate of events."""
        rate = self.read / self.seconds if self.seconds else 0.0
        return asdict(self) | {"events_per_second": round(rate, 1)}

    def add(self, later: StreamReport) -> None:
        """Add the counts of a later report, and take over its lag, age and trouble."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.lag, self.newest_age_ms, self.trouble = later.lag, later.newest_age_ms, later.trouble
        self.reasons = (self.reasons + later.reasons)[:MAX_REASONS]


_COUNTS = (
    *("seconds", "read", "written", "ignored", "rejected", "lost"),
    *("dropped_older", "dropped_expired", "repeated"),
)

OnReport = Callable[[StreamReport], None]


class _GaveUpError(Exception):
    """A retried step did not succeed in time after a request to stop."""


class _DecodedBatch:
    """Decodes events as they are iterated, so that the server works on earlier ones meanwhile.

    Iterating again, after a failed write, starts over.

    Attributes:
        attempt: What is known of earlier attempts to write it.
        decoded: The events that the last iteration yielded, in order.
        rejected: The events that could not be decoded, and the reasons.
    """

    def __init__(
        self, events: Sequence[StreamEvent], decode: DecodeEvent, *, positioned: bool
    ) -> None:
        self._events = events
        self._positioned = positioned
        self._decode = decode
        self.attempt = WriteAttempt()
        self.decoded: list[StreamEvent] = []
        self.rejected: list[tuple[StreamEvent, str]] = []

    def __iter__(self) -> Iterator[Event]:
        self.decoded, self.rejected = [], []
        for event in self._events:
            try:
                decoded = self._decode(event)
            except ValueRefusedError as error:
                where = f"{error.where}: " if error.where else ""
                self.rejected.append((event, where + error.message))
                continue
            if decoded is not None:
                self.decoded.append(event)
                yield _positioned(decoded, event) if self._positioned else decoded


def _positioned(decoded: Event, event: StreamEvent) -> Event:
    positioned = PositionedEvent(decoded)
    positioned.position = event.id
    return cast("Event", positioned)


class Worker:
    """Writes the events of one source into one stream view, in one thread.

    Args:
        writer: The view's writer.
        source: The source of events. The worker does not close it.
        options: Batch size, waits and report interval.
        on_report: Called with a report after each interval, and at the end.
        now_ms: The clock.

    Attributes:
        view: The view's name.
        last_error: The last problem, even if it is over; empty without any.
    """

    def __init__(
        self,
        writer: StreamWriter,
        source: EventSource,
        options: WorkerOptions,
        on_report: OnReport,
        now_ms: Callable[[], int],
    ) -> None:
        self.view = writer.plan.name
        self.last_error = ""
        self._writer = writer
        self._source = source
        self._options = options
        self._on_report = on_report
        self._now_ms = now_ms
        self._decode = event_decoder(writer.plan, writer.plan.event_timestamp_field)
        self._total = StreamReport(writer.plan.name)
        self._report = StreamReport(writer.plan.name)
        self._reported_at = time.monotonic()
        self._newest_ms = 0
        self._next_mark_s = 0.0
        self._stop = threading.Event()
        self._report_lock = threading.Lock()

    def run(self, stop: threading.Event, *, once: bool = False) -> StreamReport:
        """Process events until asked to stop. Events read by then are written and acknowledged.

        Args:
            stop: Set it to stop the worker.
            once: Stop when no events are left.

        Returns:
            The counts of the whole run.

        Raises:
            StreamError: The source refuses the request, for example for lack of a permission.
            StoreError: The store refuses this server or user.
        """
        self._stop = stop
        self._reported_at = time.monotonic()
        wait_s = min(self._options.wait_s, self._options.report_interval_s)
        read = partial(self._source.read, self._batch_size(), wait_s)
        try:
            while not stop.is_set():
                events = self._retry(read)
                if events:
                    self.process(events)
                is_last = once and not events and not self._retry(self._source.lag)
                self._mark_if_due(at_once=is_last)
                if is_last:
                    break
                self._report_if_due()
        except _GaveUpError:
            pass  # the source delivers the unacknowledged events again
        finally:
            self._send_report()
        return self._total

    def _batch_size(self) -> int:
        """Return how many events to read at once: no more than the ids that find repeated ones."""
        windows, size = self._writer.plan.windows, self._options.batch_size
        return min(size, MAX_IDS) if windows and windows.once == "event_id" else size

    def snapshot(self) -> StreamReport:
        """Return the counts and the state of the run so far. Other threads may call this."""
        with self._report_lock:
            report = StreamReport(self.view)
            report.add(self._total)
            report.add(replace(self._report, lag=self._total.lag))
        report.newest_age_ms = self._newest_age_ms()
        return report

    def process(self, events: Sequence[StreamEvent]) -> None:
        """Write a batch, then its dead letters, and only then acknowledge it."""
        batch = _DecodedBatch(events, self._decode, positioned=self._writer.needs_positions)
        written = self._retry(partial(self._write, batch))
        refused = [(batch.decoded[index], reason) for index, reason in written.rejected]
        rejected = batch.rejected + refused
        for event, reason in rejected:
            self._retry(partial(self._source.dead_letter, event, reason))
        self._retry(
            partial(self._source.acknowledge, self._unacknowledged(events, batch, rejected))
        )
        self._count(events, written, rejected)

    def _unacknowledged(
        self,
        events: Sequence[StreamEvent],
        batch: _DecodedBatch,
        rejected: Sequence[tuple[StreamEvent, str]],
    ) -> Sequence[StreamEvent]:
        """Return the events that the script of a view with windows did not acknowledge."""
        windows = self._writer.plan.windows
        if windows is None or windows.once != "group":
            return events
        left = {event.id for event, _ in rejected}
        written = {event.id for event in batch.decoded} - left
        return [event for event in events if event.id not in written]

    def _write(self, batch: _DecodedBatch) -> WriteReport:
        attempt = replace(batch.attempt)
        batch.attempt.is_repeated = True
        report = self._writer.write_read(batch, attempt)
        if report.refusal:
            raise StoreUnavailableError(f"the store does not accept writes now: {report.refusal}")
        return report

    def _count(
        self,
        events: Sequence[StreamEvent],
        written: WriteReport,
        rejected: Sequence[tuple[StreamEvent, str]],
    ) -> None:
        report = self._report
        report.read += len(events)
        report.written += written.written
        report.dropped_older += written.dropped_older
        report.dropped_expired += written.dropped_expired
        report.repeated += written.repeated
        report.rejected += len(rejected)
        dropped = written.dropped_older + written.dropped_expired + written.repeated
        report.ignored += len(events) - written.written - dropped - len(rejected)
        reasons = [f"{event.id}: {reason}" for event, reason in rejected]
        report.reasons += reasons[: MAX_REASONS - len(report.reasons)]
        if reasons:
            self.last_error = reasons[-1]
        self._newest_ms = max(self._newest_ms, *(event.arrived_ms for event in events))

    def _retry(self, step: Callable[[], T]) -> T:
        """Call `step` until neither the store nor the source is unavailable."""
        options, pause_s = self._options, self._options.min_retry_s
        give_up_at = 0.0
        while True:
            try:
                result = step()
            except (StoreUnavailableError, StreamUnavailableError) as error:
                self._report.trouble = self.last_error = error.message
            else:
                self._report.trouble = ""
                return result
            if self._stop.is_set():
                give_up_at = give_up_at or time.monotonic() + options.grace_s
                if time.monotonic() > give_up_at:
                    raise _GaveUpError
                time.sleep(options.min_retry_s)
            else:
                self._stop.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            pause_s = min(2 * pause_s, options.max_retry_s)
            self._report_if_due()

    def _mark_if_due(self, *, at_once: bool) -> None:
        """Write up to when all events are applied, if the view has windows.

        Call it when all events that were read are done. If the mark cannot be written, it ages.
        """
        plan = self._writer.plan
        if plan.windows is None or plan.mark_key is None:
            return
        if not at_once and time.monotonic() < self._next_mark_s:
            return
        self._next_mark_s = time.monotonic() + mark_interval_s(plan.windows.max_mark_age_ms)
        try:
            progress = self._source.progress(self._now_ms())
            if progress is not None:
                self._writer.write_mark(plan.mark_key, progress)
        except (StoreError, StreamError) as error:
            self.last_error = error.message

    def _report_if_due(self) -> None:
        if time.monotonic() - self._reported_at >= self._options.report_interval_s:
            self._send_report()

    def _send_report(self) -> None:
        report, now = self._report, time.monotonic()
        report.seconds = now - self._reported_at
        report.lag = self._lag()
        self._count_lost(report)
        report.newest_age_ms = self._newest_age_ms()
        with self._report_lock:
            self._total.add(report)
            self._report = StreamReport(report.view, trouble=report.trouble)
        self._reported_at = now
        self._on_report(report)

    def _newest_age_ms(self) -> int | None:
        return max(0, self._now_ms() - self._newest_ms) if self._newest_ms else None

    def _count_lost(self, report: StreamReport) -> None:
        lost = self._source.take_lost()
        if lost:
            report.lost += lost
            self.last_error = f"{lost} events were deleted from the source before they were done"
            _log.warning("%s: %s", self.view, printable(self.last_error))

    def _lag(self) -> int | None:
        if self._report.trouble:
            return None
        try:
            return self._source.lag()
        except FeatureKitError:
            return None
