"""Workers: from a source of events into the store, at least once, losing none.

A batch is read, translated, written, and only then acknowledged; the next is read after that. So a
worker never holds more than it can write, and one that dies leaves nothing but what is handed out
again. What the store refuses for reasons of its own (no memory, a replica, a right that is gone)
is held and written again and again; what does not fit the view is buried among the dead letters.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TypeVar

from featurekit.errors import (
    FeatureKitError,
    StoreUnavailableError,
    StreamUnavailableError,
    ValueRefusedError,
)
from featurekit.ports import EventSource, StreamEvent
from featurekit.runtime.event_decoder import DecodeEvent, event_decoder
from featurekit.runtime.writer import Event, StreamWriter, WriteReport

T = TypeVar("T")

SHOWN = 3
"""Reasons of rejects that one report tells."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker goes about its work.

    Attributes:
        batch: Most events read at once.
        wait_s: How long to wait for events before looking around.
        interval_s: How often to report.
        first_pause_s: How long to wait before trying again what failed; doubled each time.
        longest_pause_s: The most of that.
        grace_s: How long to go on trying once asked to stop.
    """

    batch: int = 500
    wait_s: float = 1.0
    interval_s: float = 10.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 0.8
    grace_s: float = 2.0


@dataclass(slots=True)
class StreamReport:
    """What a worker did since its last report.

    Attributes:
        view: The view it feeds.
        seconds: How long that was.
        read: Events read and done with.
        written: Events that the store took.
        ignored: Events that `where:` leaves out, or that tell nothing about the view.
        dropped_older: Events older than what the store holds; only with `ordering: event_time`.
        dropped_expired: Events that were past their expiry on arrival; likewise.
        rejected: Events put among the dead letters.
        lag: Events that the group has yet to read; `None` if the source does not tell.
        newest_age_ms: How long ago the newest event arrived at the source; `None` if none did.
        trouble: Why the worker is waiting; empty if it is not.
        reasons: Why events were rejected: the first few.
    """

    view: str
    seconds: float = 0.0
    read: int = 0
    written: int = 0
    ignored: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    rejected: int = 0
    lag: int | None = None
    newest_age_ms: int | None = None
    trouble: str = ""
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The report as plain data, with the rate of events."""
        rate = self.read / self.seconds if self.seconds else 0.0
        return asdict(self) | {"events_per_second": round(rate, 1)}

    def add(self, other: StreamReport) -> None:
        """Count another report in: what it did, and how things stand at its end."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lag, self.newest_age_ms, self.trouble = other.lag, other.newest_age_ms, other.trouble
        self.reasons = (self.reasons + other.reasons)[:SHOWN]


_COUNTS = ("seconds", "read", "written", "ignored", "rejected", "dropped_older", "dropped_expired")

OnReport = Callable[[StreamReport], None]


class _GivingUpError(Exception):
    """The worker was asked to stop, and what it tries does not succeed."""


class _Batch:
    """Events that are translated as they are taken, so that the store works meanwhile.

    Attributes:
        wanted: The events that were translated to something, in order.
        bad: Those that could not be, and why.
    """

    def __init__(self, events: Sequence[StreamEvent], translate: DecodeEvent) -> None:
        self._events = events
        self._translate = translate
        self.wanted: list[StreamEvent] = []
        self.bad: list[tuple[StreamEvent, str]] = []

    def __iter__(self) -> Iterator[Event]:
        self.wanted, self.bad = [], []
        for event in self._events:
            try:
                translated = self._translate(event)
            except ValueRefusedError as error:
                self.bad.append((event, _reason(error)))
                continue
            if translated is not None:
                self.wanted.append(event)
                yield translated


class Worker:
    """Feeds one stream view from its source, in one thread.

    Args:
        writer: The view's writer.
        source: Where events come from. The worker does not close it.
        pace: How to go about it.
        tell: Called with a report once in each interval, and at the end.
        now_ms: The clock.

    Attributes:
        view: The view's name.
        last_error: The last thing that went wrong, over or not; empty if nothing did.
    """

    def __init__(
        self,
        writer: StreamWriter,
        source: EventSource,
        pace: WorkerOptions,
        tell: OnReport,
        now_ms: Callable[[], int],
    ) -> None:
        self.view = writer.plan.name
        self.last_error = ""
        self._writer = writer
        self._source = source
        self._pace = pace
        self._tell = tell
        self._now_ms = now_ms
        self._translate = event_decoder(writer.plan)
        self._total = StreamReport(writer.plan.name)
        self._report = StreamReport(writer.plan.name)
        self._since = time.monotonic()
        self._newest_ms = 0
        self._stop = threading.Event()
        self._counting = threading.Lock()

    def run(self, stop: threading.Event, *, once: bool = False) -> StreamReport:
        """Work until asked to stop; what was read by then is written and acknowledged.

        Args:
            stop: Set by whoever wants it to stop.
            once: Whether to stop when there is nothing left to read.

        Returns:
            All that it did.

        Raises:
            StreamError: The source refuses, as for a right that is lacking.
            StoreError: The store refuses this server or user as a whole.
        """
        self._stop = stop
        self._since = time.monotonic()
        try:
            while not stop.is_set():
                events = self._insist(partial(self._source.read, self._pace.batch, self._wait_s()))
                if events:
                    self._handle(events)
                elif once and not self._insist(self._source.lag):
                    break
                self._report_if_due()
        except _GivingUpError:
            pass  # what was not acknowledged is handed out again
        finally:
            self._tell_now()
        return self._total

    def snapshot(self) -> StreamReport:
        """All that it did so far, and how things stand. For other threads to ask."""
        with self._counting:
            standing = StreamReport(self.view)
            standing.add(self._total)
            standing.add(replace(self._report, lag=self._total.lag))
        standing.newest_age_ms = self._newest_age_ms()
        return standing

    def _wait_s(self) -> float:
        return min(self._pace.wait_s, self._pace.interval_s)

    def _handle(self, events: Sequence[StreamEvent]) -> None:
        """Write a batch, bury what does not fit, and only then acknowledge it."""
        batch = _Batch(events, self._translate)
        written = self._insist(partial(self._write, batch))
        bad = batch.bad + [(batch.wanted[index], reason) for index, reason in written.rejected]
        for event, reason in bad:
            self._insist(partial(self._source.dead_letter, event, reason))
        self._insist(partial(self._source.acknowledge, events))
        self._count(events, written, bad)

    def _write(self, batch: _Batch) -> WriteReport:
        report = self._writer.write_many(batch, on_bad_event="skip")
        if report.refusal:
            raise StoreUnavailableError(f"the store takes no writes now: {report.refusal}")
        return report

    def _count(
        self,
        events: Sequence[StreamEvent],
        written: WriteReport,
        bad: Sequence[tuple[StreamEvent, str]],
    ) -> None:
        report = self._report
        report.read += len(events)
        report.written += written.written
        report.dropped_older += written.dropped_older
        report.dropped_expired += written.dropped_expired
        report.rejected += len(bad)
        done = written.written + written.dropped_older + written.dropped_expired + len(bad)
        report.ignored += len(events) - done
        room = SHOWN - len(report.reasons)
        report.reasons += [f"{event.id}: {reason}" for event, reason in bad[:room]]
        if bad:
            self.last_error = f"{bad[-1][0].id}: {bad[-1][1]}"
        self._newest_ms = max(self._newest_ms, *(event.arrived_ms for event in events))

    def _insist(self, act: Callable[[], T]) -> T:
        """Do it, trying again for as long as the store or the source is away."""
        pause_s = self._pace.first_pause_s
        deadline = 0.0
        while True:
            try:
                done = act()
            except (StoreUnavailableError, StreamUnavailableError) as error:
                self._report.trouble = self.last_error = error.message
            else:
                self._report.trouble = ""
                return done
            if self._stop.is_set():
                deadline = deadline or time.monotonic() + self._pace.grace_s
                if time.monotonic() > deadline:
                    raise _GivingUpError
                time.sleep(self._pace.first_pause_s)
            else:
                self._stop.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            pause_s = min(2 * pause_s, self._pace.longest_pause_s)
            self._report_if_due()

    def _report_if_due(self) -> None:
        if time.monotonic() - self._since >= self._pace.interval_s:
            self._tell_now()

    def _tell_now(self) -> None:
        report, now = self._report, time.monotonic()
        report.seconds = now - self._since
        report.lag = self._lag()
        report.newest_age_ms = self._newest_age_ms()
        with self._counting:
            self._total.add(report)
            self._report = StreamReport(report.view, trouble=report.trouble)
        self._since = now
        self._tell(report)

    def _newest_age_ms(self) -> int | None:
        return self._now_ms() - self._newest_ms if self._newest_ms else None

    def _lag(self) -> int | None:
        if self._report.trouble:
            return None
        try:
            return self._source.lag()
        except FeatureKitError:
            return None


def _reason(error: FeatureKitError) -> str:
    return f"{error.where}: {error.message}" if error.where else error.message
