"""The logs of a feature store: accepted events by view, served features by service."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.compiler import compile_read
from featurekit.errors import MissingExtraError, RequestError
from featurekit.forks import renew_after_fork
from featurekit.plan import LogPlan, ReadPlan, RepoPlan, ServicePlan, ViewPlan
from featurekit.repo.locations import Located
from featurekit.repo.source_access import SourceAccess
from featurekit.runtime.metrics import LogMetrics
from featurekit.runtime.row_log import RowLog

if TYPE_CHECKING:
    from featurekit.logs import EventLog, ServedLog

_log = logging.getLogger("featurekit.logs")


@dataclass(slots=True, eq=False, weakref_slot=True)
class Logs:
    """Opens each log at its first use. Thread-safe.

    Attributes:
        sources: Returns which folders may be written.
        root: The folder that paths are relative to.
        now_ms: Returns the current time.
    """

    sources: Callable[[], SourceAccess]
    root: Path
    now_ms: Callable[[], int]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _events: dict[ViewPlan, EventLog] = field(default_factory=dict)
    _served: dict[tuple[ReadPlan, LogPlan], ServedLog] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Replace the lock, which a thread of the parent may hold."""
        self._lock = threading.Lock()

    def of_events(self, view: ViewPlan) -> EventLog | None:
        """Return the log of a stream view; `None` if it has none, or may not be written here.

        Raises:
            MissingExtraError: pyarrow is not installed.
            SourceError: A variable in the path is not set.
        """
        if (located := self._located(view)) is None:
            return None
        with self._lock:
            if (log := self._events.get(view)) is None:
                log = self._events[view] = self._event_log(view, self.root / located.plan.path)
            return log

    def of_service(self, repo: RepoPlan, name: str) -> ServedLog | None:
        """Return the log of a feature service; `None` if it has none, or may not be written here.

        Raises:
            MissingExtraError: pyarrow is not installed.
            SourceError: A variable in the path is not set.
        """
        if (located := self._located(repo.service(name))) is None:
            return None
        read, plan = compile_read(repo, name), located.plan
        with self._lock:
            if (log := self._served.get((read, plan))) is None:
                folder = self.root / plan.path
                log = self._served[read, plan] = self._served_log(read, plan.sample_rate, folder)
            return log

    def read_service(self, repo: RepoPlan, name: str) -> Any:
        """Return all rows in the log of a feature service. See `Monitoring.served_log`.

        Raises:
            UnknownNameError: There is no such service.
            RequestError: The service has no log, or it may not be read on this machine.
            SourceError: The log has no files yet.
            MissingExtraError: pyarrow is not installed.
        """
        folder = self.service_folder(repo, name)
        try:
            from featurekit.logs import open_served_log
        except ImportError as error:
            raise MissingExtraError.of("batch", "served_log()") from error
        return open_served_log(compile_read(repo, name), folder)

    def service_folder(self, repo: RepoPlan, name: str) -> Path:
        """Return the folder with the log of a feature service. See `read_service`."""
        located = self.sources().locate_log(repo.service(name))
        if located is None:
            raise RequestError(
                f"feature service '{name}' does not log what it serves",
                hint="declare `logging: {path: FOLDER}` in the service, and apply",
            )
        return self.root / located.plan.path

    def close(self) -> None:
        """Write all rows, and complete all files. A log can be used again."""
        for log in self._all().values():
            log.close()

    def complete(self, plan: LogPlan) -> Path:
        """Complete the files of a log that this process wrote, or one that died; return its folder.

        Raises:
            RequestError: Another process still writes the log.
            MissingExtraError: pyarrow is not installed.
        """
        self.close()
        folder = self.root / plan.path
        try:
            from featurekit.logs.hourly_files import complete_abandoned, unfinished_files
        except ImportError as error:
            raise MissingExtraError.of("batch", "stream.log") from error
        complete_abandoned(folder, self.now_ms())
        if unfinished := unfinished_files(folder):
            raise RequestError(
                f"a process is writing the log: {unfinished[0]}",
                hint="stop the programs that write the view; files of one that was killed are completed "
                "half a minute after it",
            )
        return folder

    def metrics(self) -> dict[str, LogMetrics]:
        """Return what was logged in this process, by the name of the view or service."""
        return {name: LogMetrics(log.written, log.dropped) for name, log in self._all().items()}

    def _all(self) -> dict[str, RowLog]:
        with self._lock:
            events = {view.name: log.log for view, log in self._events.items()}
            return events | {read.name: log.log for (read, _), log in self._served.items()}

    def _located(self, owner: ViewPlan | ServicePlan) -> Located[LogPlan] | None:
        """Return a log; `None` if there is none, or, with one warning, if it may not be written here."""
        try:
            return self.sources().locate_log(owner)
        except RequestError as error:
            if owner.name not in self._refused:
                self._refused.add(owner.name)
                _log.warning("'%s' is not logged: %s", owner.name, error.message)
            return None

    def _event_log(self, view: ViewPlan, folder: Path) -> EventLog:
        try:
            from featurekit.logs import EventLog
        except ImportError as error:
            raise MissingExtraError.of("batch", "stream.log") from error
        return EventLog(view, folder, self.now_ms)

    def _served_log(self, read: ReadPlan, sample_rate: float, folder: Path) -> ServedLog:
        try:
            from featurekit.logs import ServedLog
        except ImportError as error:
            raise MissingExtraError.of("batch", "logging of a feature service") from error
        return ServedLog(read, sample_rate, folder, self.now_ms)
