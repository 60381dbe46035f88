"""The progress of a training set that is being built, and how to interrupt it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from featurekit.errors import RequestError


class Interruptible(Protocol):
    """Something that runs queries in another thread."""

    def interrupt(self) -> None:
        """Make queries raise."""

    def progress(self) -> float | None:
        """Return the share of the running query that is done, from 0 to 1; `None` if not known."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The progress of a training set.

    Attributes:
        view: The view that is read, or `labels`.
        views_done: Views that are done.
        views_total: The views of the training set.
        labels_done: Labels that have their values of this view.
        labels_total: The labels; 0 while they are read.
        query: The share of the running query that is done, from 0 to 1; `None` if not known.
        seconds: Seconds since the start.
    """

    view: str
    views_done: int
    views_total: int
    labels_done: int
    labels_total: int
    query: float | None
    seconds: float


OnTrainingProgress = Callable[[TrainingProgress], None]


@dataclass(slots=True)
class Run:
    """One run of a job. The thread that builds changes it, others report it or interrupt it.

    Attributes:
        views_total: The views of the training set.
        view: The view that is read, or `labels`.
        views_done: Views that are done.
        labels_done: Labels that have their values of this view.
        labels_total: The labels; 0 while they are read.
        source: What runs queries now.
    """

    views_total: int
    view: str = "labels"
    views_done: int = 0
    labels_done: int = 0
    labels_total: int = 0
    source: Interruptible | None = None
    _started: float = field(default_factory=time.monotonic)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def use(self, source: Interruptible | None) -> None:
        """Take what runs queries from now on."""
        self.source = source
        self.check()

    def check(self) -> None:
        """Raise `RequestError` if the run was interrupted."""
        if self._stopped.is_set():
            raise RequestError("the job was interrupted", hint="call a method of the job again")

    def interrupt(self) -> None:
        """Make the run raise soon. Call it again until it has: a query may be about to begin."""
        self._stopped.set()
        if (source := self.source) is not None:
            source.interrupt()

    @property
    def progress(self) -> TrainingProgress:
        """The progress now."""
        source = self.source
        return TrainingProgress(
            self.view,
            self.views_done,
            self.views_total,
            self.labels_done,
            self.labels_total,
            source.progress() if source is not None else None,
            time.monotonic() - self._started,
        )
