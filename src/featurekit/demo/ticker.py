"""The ticker: each second some users do something, which is written to the stream view.

Ticks never overlap: the pause begins when a tick ends. Users come in the order of the store's own
scan, page by page, so everyone has a turn before anyone has a second one, however many there are;
and a user who expired is not brought back.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from featurekit.demo.people import SEED, activity
from featurekit.errors import FeatureKitError
from featurekit.repo.door import now_ms
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.worker import StreamReport
from featurekit.runtime.writer import StreamWriter

Pages = Callable[[], Iterable[list[str]]]


@dataclass(slots=True)
class Ticks:
    """What the ticker did since the start or the last reset.

    Attributes:
        tick_count: Ticks that wrote.
        writes_count: Fields written.
        events: Events written.
        failed_count: Ticks that failed.
        error: Why the last tick failed; empty if it did not.
        error_ms: When one last failed; 0 for never.
        last_ms: When a tick last wrote; 0 for never.
    """

    tick_count: int = 0
    writes_count: int = 0
    events: int = 0
    failed_count: int = 0
    error: str = ""
    error_ms: int = 0
    last_ms: int = 0


class Ticker:
    """Writes the activity of users, in a thread of its own.

    Args:
        writer: The stream view's writer.
        reader: A reader of the users' features: who has none is there no more.
        pages: The ids of stored users.
        users_per_tick: How many act in each tick.
        tick_s: The pause between two ticks.

    Attributes:
        view: The view that it writes.
        ticks: What it did.
        paused: Whether it rests.
        last_error: The last thing that went wrong, over or not.
    """

    def __init__(
        self,
        writer: StreamWriter,
        reader: OnlineReader,
        pages: Pages,
        users_per_tick: int,
        tick_s: float,
    ) -> None:
        self.view = writer.plan.name
        self.ticks = Ticks()
        self.paused = False
        self.last_error = ""
        self._writer = writer
        self._reader = reader
        self._pages = pages
        self._users_per_tick = users_per_tick
        self._tick_s = tick_s
        self._rng = random.Random(SEED)  # noqa: S311 - the same each time is what is wanted
        self._turns: Iterator[str] = iter(())
        self._working = threading.Lock()
        self._stop = threading.Event()
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; the first tick is one pause from now."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the tick under way; not for one that a silent store keeps."""
        self._stop.set()
        self._thread.join(1.0)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """No tick while the block runs; at its end all counts are 0, and everyone's turn is new."""
        with self._working:
            yield
            self.ticks = Ticks()
            self._turns = iter(())
            self._since = time.monotonic()

    def standing(self) -> StreamReport:
        """All that it did, for those who look at workers."""
        ticks = self.ticks
        return StreamReport(
            self.view,
            seconds=time.monotonic() - self._since,
            read=ticks.events,
            written=ticks.events,
            trouble=ticks.error,
        )

    def _run(self) -> None:
        while not self._stop.wait(self._tick_s):
            if not self.paused:
                with self._working:
                    self._tick()

    def _tick(self) -> None:
        try:
            users = self._next()
            if users:
                self._write(users)
        except FeatureKitError as error:
            self._turns = iter(())
            self.last_error = self.ticks.error = error.message
            self.ticks.error_ms = now_ms()
            self.ticks.failed_count += 1

    def _write(self, users: list[str]) -> None:
        at_ms = now_ms()
        events = [(user, activity(at_ms, self._rng)) for user in users]
        report = self._writer.write_many(events, on_bad_event="skip")
        ticks = self.ticks
        ticks.tick_count += 1
        ticks.events += report.written
        ticks.writes_count += report.written * len(self._writer.plan.fields)
        ticks.last_ms = at_ms
        ticks.error = ""
        if report.rejected:
            ticks.failed_count += 1
            ticks.error_ms = at_ms
            self.last_error = ticks.error = report.rejected[0][1]

    def _next(self) -> list[str]:
        """Whose turn it is; nobody's in an empty store."""
        users: list[str] = []
        began = False
        while (lacking := self._users_per_tick - len(users)) > 0:
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
