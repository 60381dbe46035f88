"""The ticker: users who act each second, and the library's own worker, which writes what they do.

The users are a source of events like any other. So the demo waits, tries again, counts and tells of
itself just as `featurekit stream run` does. Ticks never overlap: the pause begins when all that a
tick told is written. Users come in the order of the store's own scan, page by page, so everyone has
a turn before anyone has a second one; and a user who expired is not brought back.
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

Pages = Callable[[], Iterable[list[str]]]

LOOK_S = 0.2
"""How long a worker that has nothing to do waits before it looks whether to stop."""

PATIENCE_S = 1.0
"""How long a reset waits for the tick under way, which a store that is away holds up."""


@dataclass(slots=True)
class Ticks:
    """What the ticker did since the start or the last reset.

    Attributes:
        tick_count: Ticks that wrote.
        writes_count: Fields written.
        events: Events written.
        failed_count: Times that it had to tell of a failure: once a tick while the store is away.
        error: Why the last tick failed, or is held up; empty if it is not.
        error_ms: When that was last so; 0 for never.
        last_ms: When a tick last wrote; 0 for never.
    """

    tick_count: int = 0
    writes_count: int = 0
    events: int = 0
    failed_count: int = 0
    error: str = ""
    error_ms: int = 0
    last_ms: int = 0

    def failed(self, reason: str) -> None:
        """Count a failure."""
        self.failed_count += 1
        self.error, self.error_ms = reason, now_ms()


class Users(EventSource):
    """The stored users, some of whom act in each tick.

    Args:
        reader: A reader of the users' features: who has none is there no more.
        pages: The ids of stored users.
        per_tick: How many act in each tick.
        tick_s: The pause between two ticks.

    Attributes:
        ticks: What came of it.
        paused: Whether they rest.
        stop: Set once no more is wanted.
    """

    def __init__(self, reader: OnlineReader, pages: Pages, per_tick: int, tick_s: float) -> None:
        self.ticks = Ticks()
        self.paused = False
        self.stop = threading.Event()
        self.per_tick, self.tick_s = per_tick, tick_s
        self._reader = reader
        self._pages = pages
        self._rng = random.Random(SEED)  # noqa: S311 - the same each time is what is wanted
        self._turns: Iterator[str] = iter(())
        self._working = threading.Lock()  # held from a tick's events to their acknowledgement
        self._acting = False
        self._rejected: list[str] = []
        self.rest()

    def rest(self) -> None:
        """Let the next tick be one pause from now."""
        self._due = monotonic() + self.tick_s

    @contextmanager
    def resting(self) -> Iterator[None]:
        """No tick while the block runs; at its end all counts are 0, and everyone's turn is new.

        Raises:
            StoreUnavailableError: A tick is under way that the store holds up.
        """
        if not self._working.acquire(timeout=PATIENCE_S):
            raise StoreUnavailableError(
                f"the streaming worker waits for the store: {self.ticks.error}",
                hint="try again when it is back",
            )
        try:
            yield
            self.ticks = Ticks()
            self._turns = iter(())
        finally:
            self._working.release()

    @override
    def read(self, max_events: int, wait_s: float) -> Sequence[StreamEvent]:
        left_s = wait_s if self.paused else min(wait_s, self._due - monotonic())
        if left_s > 0:
            self.stop.wait(left_s)
            return ()
        if self.paused or not self._working.acquire(timeout=wait_s):
            return ()
        events: list[StreamEvent] = []
        try:
            at_ms = now_ms()
            events += [
                self._event(user, at_ms) for user in self._next(min(max_events, self.per_tick))
            ]
        except FeatureKitError as error:
            self._turns = iter(())
            raise StreamUnavailableError(error.message) from error
        finally:
            self._acting = True
            if not events:
                self.end()
        return events

    @override
    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        ticks, written = self.ticks, len(events) - len(self._rejected)
        ticks.tick_count += 1
        ticks.events += written
        ticks.writes_count += written * (len(events[0].columns) - 1)
        ticks.last_ms = now_ms()
        ticks.error = ""
        for reason in self._rejected:
            ticks.failed(reason)
        self.end()

    def end(self) -> None:
        """End the tick under way, if there is one; what it told and was not written is dropped."""
        self._rejected = []
        self.rest()
        if self._acting:
            self._acting = False
            self._working.release()

    @override
    def dead_letter(self, event: StreamEvent, reason: str) -> None:
        self._rejected.append(f"{event.id}: {reason}")

    @override
    def dead_letters(self, count: int) -> Sequence[DeadLetter]:
        return ()  # they are told of in `ticks`, and not kept

    @override
    def lag(self) -> int:
        return 0

    @override
    def close(self) -> None:
        self.stop.set()

    def _event(self, user: str, at_ms: int) -> StreamEvent:
        columns = {"user_id": user, **activity(at_ms, self._rng)}
        return StreamEvent(user, columns, "json", at_ms, ())

    def _next(self, count: int) -> list[str]:
        """Whose turn it is; nobody's in an empty store."""
        users: list[str] = []
        began = False
        while (lacking := count - len(users)) > 0:
            drawn = [user for user in islice(self._turns, lacking) if user not in users]
            if drawn:
                rows = self._reader.read_many(drawn)
                users += [user for user, row in zip(drawn, rows, strict=True) if row.found]
            elif began:
                break
            else:
                began = True
                self._turns = (user for page in self._pages() for user in page)
        return users


class EventSimulator:
    """The worker that writes what users do, in a thread of its own.

    Attributes:
        users: Where its events come from.
        worker: The worker.
    """

    def __init__(self, writer: StreamWriter, users: Users) -> None:
        self.users = users
        pace = WorkerOptions(
            batch=users.per_tick, wait_s=LOOK_S, interval_s=users.tick_s, grace_s=0.5
        )
        self.worker = Worker(writer, users, pace, self._told, now_ms)
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; the first tick is one pause from now."""
        self.users.rest()
        self._thread.start()

    def stop(self) -> None:
        """End, after the tick under way; not for one that a silent store keeps."""
        self.users.close()
        self._thread.join(1.0)

    def _run(self) -> None:
        stop = self.users.stop
        while not stop.is_set():
            try:
                self.worker.run(stop)
            except FeatureKitError as error:  # it refuses as a whole; that may be mended
                self.users.ticks.failed(error.message)
                self.users.end()
                stop.wait(self.users.tick_s)

    def _told(self, report: StreamReport) -> None:
        if report.trouble:
            self.users.ticks.failed(report.trouble)
