"""A buffer of rows that a thread writes to files, so that no caller ever waits for a disk.

Rows that do not fit into the buffer are dropped and counted. The thread starts with the first row, and
writes all rows at intervals, at `close` and when Python exits. A process that is killed loses the rows of one
interval. A forked child starts with an empty buffer: the rows in it belong to its parent.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakSet

from featurekit.errors import FeatureKitError
from featurekit.forks import renew_after_fork
from featurekit.plan import ReadPlan
from featurekit.printable import printable

MAX_ROWS = 20_000
"""Rows in the buffer."""

INTERVAL_S = 5.0
"""How often rows are written."""

MAX_HALVINGS = 32
"""How often rows that cannot be written at once are halved, so that only those that do not fit are dropped."""

_log = logging.getLogger("featurekit.logs")


class LogFiles(Protocol):
    """The files that one process writes a log to."""

    def write(self, rows: Sequence[Any]) -> None:
        """Append rows, of which there may be none.

        Raises:
            OSError: They cannot be written.
            ValueError: A row does not fit the columns of the log.
        """

    def complete_past_hours(self) -> None:
        """Complete the files of past hours.

        Raises:
            OSError: A file cannot be completed.
        """

    def close(self) -> None:
        """Complete all files.

        Raises:
            OSError: A file cannot be completed.
        """

    def abandon(self) -> None:
        """Forget the open files, which belong to the parent of this process."""


class EventLog(Protocol):
    """A log of the events that a stream view has accepted. Never waits for a disk."""

    def add(
        self, key: bytes, values: Mapping[str, object], event_ms: int | None, position: str | None
    ) -> None:
        """Add an event after the store has accepted it.

        Args:
            key: The key of its entity's hash.
            values: The fields that it has; `None` for a field that it deleted.
            event_ms: Its time; `None` if its TTLs count from the write.
            position: Where it is in its source; `None` if it has none.
        """

    def close(self) -> None:
        """Write all rows, and complete the files. It can be used again."""


AddServed = Callable[[Sequence[bytes], Any], None]
"""Adds the rows of a read. Its arguments are the keys of the rows' entities, group by group, and the
result of the read: a list of records or an `OnlineResponse`."""


class ServedLog(Protocol):
    """A log of the rows that a feature service has served. Never waits for a disk."""

    def add_function(self, plan: ReadPlan) -> AddServed:
        """Return the function that adds the rows of a read, as far as they are in the sample.

        Args:
            plan: The read. Its first columns are those of the service, maybe with other names.
        """


class RowLog:
    """A log of rows. Thread-safe; survives `fork`; usable again after `close`.

    Args:
        name: What is logged, for messages.
        files: Writes the rows.
        limit: The most rows in the buffer.

    Attributes:
        rows: The buffer.
        free_rows: While the buffer has fewer rows, a caller may append to it directly: 0 if no thread
            would write them.
        dropped: Rows that were dropped since the start of the process: the buffer was full, or they
            could not be written.
        written: Rows that were written.
    """

    def __init__(self, name: str, files: LogFiles, limit: int = MAX_ROWS) -> None:
        self._name = name
        self._files = files
        self._limit, self._many = limit, limit // 2
        self.rows: deque[Any] = deque()
        self._renew()
        _instances.add(self)
        renew_after_fork(self)

    def _renew(self) -> None:
        self.dropped = self.written = 0
        self.rows.clear()  # the same deque, which callers hold
        self.free_rows = 0
        self._lock = threading.Lock()
        self._file_lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._last_error = ""

    def renew_in_child(self) -> None:
        """Drop what belongs to the parent process."""
        self._renew()
        self._files.abandon()

    def extend(self, rows: Sequence[Any]) -> None:
        """Add rows, or drop them. Never waits."""
        for row in rows:
            self.append(row)

    def append(self, row: Any) -> None:
        """Add a row, or drop it. Never waits."""
        rows = self.rows
        if len(rows) < self.free_rows:
            rows.append(row)
            return
        if not self.free_rows:
            self._start()
        if len(rows) >= self._many:
            self._wake.set()
        if len(rows) < self._limit:
            rows.append(row)
        else:
            self.dropped += 1

    def _start(self) -> None:
        """Start the thread."""
        with self._lock:
            if self._thread is None:
                self._is_closing = False
                self._wake.clear()
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                _close_with_child(os.getpid())
            self.free_rows = self._many

    def close(self) -> None:
        """Write all rows, and complete the files."""
        with self._lock:
            thread, self._thread = self._thread, None
            self.free_rows = 0
            self._is_closing = True
            self._wake.set()
        if thread is not None:
            thread.join()
            self._write()
            with self._file_lock:
                try:
                    self._files.close()
                except (OSError, ValueError) as error:
                    self._warn(error)

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait(INTERVAL_S)
            if not self._is_closing:
                self._wake.clear()
            self._write()

    def _write(self) -> None:
        rows = [self.rows.popleft() for _ in range(len(self.rows))]
        with self._file_lock:
            self._write_rows(rows, MAX_HALVINGS)
            try:
                self._files.complete_past_hours()
            except (OSError, ValueError) as error:
                self._warn(error)

    def _write_rows(self, rows: list[Any], halvings: int) -> int:
        """Write rows; return how many halvings are left to find those that do not fit."""
        try:
            self._files.write(rows)
            self.written += len(rows)
        except OSError as error:  # such as a full disk
            self.dropped += len(rows)
            self._warn(error)
        except (FeatureKitError, TypeError, ValueError) as error:  # a row does not fit the columns
            if len(rows) > 1 and halvings:
                half = len(rows) // 2
                halvings = self._write_rows(rows[:half], halvings - 1)
                return self._write_rows(rows[half:], halvings)
            self.dropped += len(rows)
            self._warn(error)
        return halvings

    def _warn(self, error: Exception) -> None:
        """Report a problem, once until it changes."""
        if str(error) != self._last_error:
            self._last_error = str(error)
            _log.warning("%s: rows are not logged: %s", self._name, printable(str(error)))


_instances: WeakSet[RowLog] = WeakSet()


def close_logs() -> None:
    """Close all logs of this process."""
    for instance in list(_instances):
        instance.close()


@lru_cache(maxsize=1)
def _close_with_child(process_id: int) -> None:
    """Close all logs at the end of a child of `multiprocessing`, where `atexit` may not run."""
    del process_id
    if "multiprocessing.util" in sys.modules:  # as in every such child
        from multiprocessing.util import Finalize

        Finalize(None, close_logs, exitpriority=0)


atexit.register(close_logs)
