"""Simulate user events and write them with the library's own streaming worker.

`SimulatedUsers` is an event source like any other, so the demo waits, retries and reports exactly
as `featurekit stream run` does.

A tick is the batch of events of one `read()`. It ends when the worker acknowledges the batch, or
gives it up; the pause before the next tick starts then, so ticks never overlap. `_tick_lock` is
held during a tick, and by `resetting()`, so a reset never runs within a tick.

Users take turns in the order of the store's scan: every user has a turn before any user has a
second one. Users are looked up before their turn, so an expired user is not written again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import monotonic

from typing_extensions import override

from featurekit.demo.synthetic_users import SEED, activity
from featurekit.errors import FeatureKitError, StoreUnavailableError, StreamUnavailableError
from featurekit.ports import DeadLetter, EventSource, StreamEvent
from featurekit.repo.store_handle import now_ms
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.worker import StreamReport, Worker, WorkerOptions
from featurekit.runtime.writer import StreamWriter

IdPages = Callable[[], Iterable[list[str]]]
"""Scans the store and returns the ids of its users, page by page."""

WAIT_S = 0.2
"""Seconds that an idle worker waits before it checks whether to stop."""

RESET_TIMEOUT_S = 1.0
"""Seconds that a reset waits for the current tick, which an unavailable store delays."""


@dataclass(slots=True)
class SimulatorStats:
    """Counters since the start or the last reset.

    Attributes:
        tick_count: Ticks written.
        writes_count: Fields written.
        events: Events written.
        failed_count: Failures reported: one per tick while the store is unavailable.
        error: Why the last tick failed or is delayed; empty if it succeeded.
        error_ms: Time of the last failure; 0 if there was none.
        last_ms: Time of the last written tick; 0 if there was none.
    """

    tick_count: int = 0
    writes_count: int = 0
    events: int = 0
    failed_count: int = 0
    error: str = ""
    error_ms: int = 0
    last_ms: int = 0

    def count_failure(self, reason: str) -> None:
        """Count a failure."""
        self.failed_count += 1
        self.error, self.error_ms = reason, now_ms()


class SimulatedUsers(EventSource):
    """An event source in which some of the stored users act in each tick.

    Args:
        reader: Reads the users' features, to skip users that have expired.
        id_pages: Scans the ids of stored users.
        per_tick: Users that act in each tick.
        tick_s: The pause between two ticks, in seconds.

    Attributes:
        stats: Counters.
        paused: Whether ticks are paused.
        after_write: Called in each tick when its events are written; returns what it failed at, or nothing.
        stop: Set when no more events are wanted.
    """

    def __init__(
        self, reader: OnlineReader, id_pages: IdPages, per_tick: int, tick_s: float
    ) -> None:
        self.stats = SimulatorStats()
        self.paused = False
        self.after_write: Callable[[], str] = str
        self.stop = threading.Event()
        self.per_tick, self.tick_s = per_tick, tick_s
        self._reader = reader
        self._id_pages = id_pages
        self._random = random.Random(SEED)  # noqa: S311 - the same sequence in each run
        self._queue: Iterator[str] = iter(())
        self._tick_lock = threading.Lock()
        self._in_tick = False
        self._rejected: list[str] = []
        self.schedule_tick()

    def schedule_tick(self, delay_s: float | None = None) -> None:
        """Schedule the next tick after a delay, by default the pause between two ticks."""
        self._due = monotonic() + (self.tick_s if delay_s is None else delay_s)

    @contextmanager
    def resetting(self) -> Iterator[None]:
        """Run no tick during the block; then reset the counters and the order of users.

        Raises:
            StoreUnavailableError: The store delays the current tick.
        """
        if not self._tick_lock.acquire(timeout=RESET_TIMEOUT_S):
            raise StoreUnavailableError(
                f"the streaming worker is waiting for the store: {self.stats.error}",
                hint="try again when the store is available",
            )
        try:
            yield
            self.stats = SimulatorStats()
            self._queue = iter(())
        finally:
            self._tick_lock.release()

    @override
    def read(self, max_events: int, wait_s: float) -> Sequence[StreamEvent]:
        left_s = wait_s if self.paused else min(wait_s, self._due - monotonic())
        if left_s > 0:
            self.stop.wait(left_s)
            return ()
        if self.paused or not self._tick_lock.acquire(timeout=wait_s):
            return ()
        self._in_tick = True
        events: list[StreamEvent] = []
        try:
            at_ms = now_ms()
            for user in self._next_users(min(max_events, self.per_tick)):
                columns = {"user_id": user, **activity(at_ms, self._random)}
                events.append(StreamEvent(user, columns, "json", at_ms, ()))
        except FeatureKitError as error:
            events.clear()
            self._queue = iter(())
            raise StreamUnavailableError(error.message) from error
        finally:
            if not events:
                self.end_tick()
        return events

    @override
    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        failure = self.after_write()
        stats, written = self.stats, len(events) - len(self._rejected)
        stats.tick_count += 1
        stats.events += written
        stats.writes_count += written * (len(events[0].columns) - 1)
        stats.last_ms = now_ms()
        stats.error = ""
        for reason in [*self._rejected, *filter(None, [failure])]:
            stats.count_failure(reason)
        self.end_tick()

    def end_tick(self) -> None:
        """End the current tick, if there is one; its unwritten events are dropped."""
        self._rejected = []
        self.schedule_tick()
        if self._in_tick:
            self._in_tick = False
            self._tick_lock.release()

    @override
    def dead_letter(self, event: StreamEvent, reason: str) -> None:
        self._rejected.append(f"{event.id}: {reason}")

    @override
    def dead_letters(self, count: int) -> Sequence[DeadLetter]:
        return ()  # `stats` counts rejected events; they are not kept

    @override
    def lag(self) -> int:
        return 0

    @override
    def close(self) -> None:
        self.stop.set()

    def _next_users(self, count: int) -> list[str]:
        """Return the users whose turn it is; fewer if the store holds fewer."""
        users: list[str] = []
        restarted = False
        while (missing := count - len(users)) > 0:
            candidates = [user for user in islice(self._queue, missing) if user not in users]
            if candidates:
                rows = self._reader.read_many(candidates)
                users += [user for user, row in zip(candidates, rows, strict=True) if row.found]
            elif restarted:
                break
            else:
                restarted = True
                self._queue = (user for page in self._id_pages() for user in page)
        return users


class EventSimulator:
    """A thread with a streaming worker that writes the events of simulated users.

    Attributes:
        users: The event source.
        worker: The streaming worker.
    """

    def __init__(self, writer: StreamWriter, users: SimulatedUsers) -> None:
        self.users = users
        options = WorkerOptions(
            batch_size=users.per_tick, wait_s=WAIT_S, report_interval_s=users.tick_s, grace_s=0.5
        )
        self.worker = Worker(writer, users, options, self.on_report, now_ms)
        self._thread = threading.Thread(target=self._run, name="event simulator", daemon=True)

    @property
    def running(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; the first tick follows after one pause."""
        self.users.schedule_tick()
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current tick, without waiting long for an unavailable store."""
        self.users.close()
        self._thread.join(1.0)

    def _run(self) -> None:
        stop = self.users.stop
        while not stop.is_set():
            try:
                self.worker.run(stop)
            except FeatureKitError as error:  # the worker gave up; the cause may be temporary
                self.users.stats.count_failure(error.message)
                self.users.end_tick()
                stop.wait(self.users.tick_s)

    def on_report(self, report: StreamReport) -> None:
        """Count what a worker waits for as a failure."""
        if report.trouble:
            self.users.stats.count_failure(report.trouble)
