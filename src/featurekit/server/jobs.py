"""Jobs: loads of views, in threads of their own, which the end of the server does not wait for.

A load that is cut off has written whole rows, and its lock ends by itself: it may be run again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from featurekit.errors import FeatureKitError, LockedError, RequestError
from featurekit.repo import FeatureStore
from featurekit.repo.time_arguments import Time
from featurekit.runtime.load import MaterializeReport

T = TypeVar("T")

JOB = "featurekit job"
"""The name of a job's thread."""

_log = logging.getLogger("featurekit.server")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be loaded: views, and from when to when of their sources."""

    views: tuple[str, ...] = ()
    start: Time = None
    end: Time = None


class Jobs:
    """The loads that this process was asked for."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._running: set[str] = set()

    async def run(self, wanted: Wanted) -> list[MaterializeReport]:
        """Load, and wait for the end. Raises as `FeatureStore.materialize`."""
        return await in_thread(lambda: self._load(self._reserve(wanted), wanted))

    async def start(self, wanted: Wanted) -> list[str]:
        """Load, without waiting for the end; gives the views that are being loaded.

        Raises:
            UnknownNameError: There is no such view.
            RequestError: It has no source.
            LockedError: It is being loaded already.
        """
        views = await asyncio.to_thread(self._reserve, wanted)
        task = in_thread(lambda: self._load(views, wanted))
        task.add_done_callback(_tell)
        return views

    def _reserve(self, wanted: Wanted) -> list[str]:
        """The views' names, from now on taken as being loaded."""
        plan = self._store.compiled
        names = list(wanted.views) or [v.name for v in plan.views if v.source is not None]
        if not names:
            raise RequestError("no feature view has a batch source to materialize from")
        for name in names:
            if plan.view(name).source is None:
                raise RequestError(
                    f"feature view '{name}' has no batch source to materialize from"
                )
        with self._lock:
            for name in names:
                if name in self._running or self._store.diagnostics.is_loading(name):
                    raise LockedError(
                        f"feature view '{name}' is being loaded already",
                        hint="wait for it to end",
                    )
            self._running.update(names)
        return names

    def _load(self, views: Sequence[str], wanted: Wanted) -> list[MaterializeReport]:
        try:
            return self._store.materialize(views, start=wanted.start, end=wanted.end)
        finally:
            with self._lock:
                self._running.difference_update(views)


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """The outcome of some work, done in a daemon thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again where the outcome is awaited
            failure = error
        with suppress(RuntimeError):  # the loop may have ended meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=JOB, daemon=True).start()
    return future


def _tell(task: asyncio.Future[list[MaterializeReport]]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, FeatureKitError):
        _log.error("a load failed: %s", error)
    elif error is not None:
        _log.error("a load failed", exc_info=error)
