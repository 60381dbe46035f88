"""Run row writes and materialization jobs in threads, away from the event loop.

A materialization job runs in a daemon thread, and shutdown does not wait for it. An interrupted
job has written whole rows and its lock expires, so it can run again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from featurekit.errors import FeatureKitError, LockedError, RequestError
from featurekit.plan import RepoPlan
from featurekit.repo import FeatureStore
from featurekit.repo.batch_loads import check_options
from featurekit.repo.json_rows import RowsReport, RowWriter
from featurekit.repo.time_arguments import Time, to_window
from featurekit.runtime.load import MaterializeReport
from featurekit.server.context import ServerContext
from featurekit.server.request_body import optional

T = TypeVar("T")

LOAD_OPTIONS = ("allow_older", "missing_only")
"""The members of a request to load that are options of `FeatureStore.materialize`."""

JOB_THREAD = "featurekit job"
"""The name of a job's thread."""

_log = logging.getLogger("featurekit.server")


class RowWriterCache:
    """The row writers of the views written so far."""

    def __init__(self, context: ServerContext) -> None:
        self._store = context.store
        self._writers: dict[str, tuple[RepoPlan, RowWriter]] = {}

    async def write(
        self, view: str, rows: Callable[[], Sequence[object]], *, ttl: timedelta | None = None
    ) -> RowsReport:
        """Write all rows to a view, or none. `rows` is called in the thread that writes.

        Raises:
            UnknownNameError: The view does not exist.
        """
        return await asyncio.to_thread(self._write, view, rows, ttl)

    def _write(
        self, view: str, rows: Callable[[], Sequence[object]], ttl: timedelta | None
    ) -> RowsReport:
        plan = self._store.compiled
        cached = self._writers.get(view)
        if cached is None or cached[0] is not plan:
            cached = self._writers[view] = (plan, self._store.row_writer(view))
        return cached[1].write(rows(), ttl=ttl)


@dataclass(frozen=True, slots=True)
class MaterializeRequest:
    """The views to load and how; no views means all with a source. See `FeatureStore.materialize`."""

    views: tuple[str, ...] = ()
    start: Time = None
    end: Time = None
    allow_older: bool = False
    missing_only: bool = False


def load_options(body: dict[str, Any]) -> dict[str, bool]:
    """Return the options of a load in the body of a request; they are false by default."""
    return {name: optional(body, name, bool, default=False) for name in LOAD_OPTIONS}


class MaterializeJobs:
    """The materialization jobs of this process."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._running: set[str] = set()

    async def run(self, request: MaterializeRequest) -> list[MaterializeReport]:
        """Load views and wait until they are loaded. Raises as `FeatureStore.materialize`."""
        return await run_in_daemon_thread(lambda: self._load(self._reserve(request), request))

    async def start(self, request: MaterializeRequest) -> list[str]:
        """Start a job and return the names of its views.

        Raises:
            UnknownNameError: A view does not exist.
            RequestError: A view has no source, it may not be opened on this machine, or the request
                has no such window or options.
            LockedError: A view is already being loaded.
        """
        views = await asyncio.to_thread(self._reserve, request)
        job = run_in_daemon_thread(lambda: self._load(views, request))
        job.add_done_callback(_log_failure)
        return views

    def _reserve(self, request: MaterializeRequest) -> list[str]:
        """Return the view names and mark them as being loaded."""
        to_window(request.start, request.end)
        check_options(allow_older=request.allow_older, missing_only=request.missing_only)
        plan = self._store.compiled
        names = list(request.views) or [v.name for v in plan.views if v.source is not None]
        if not names:
            raise RequestError("no feature view has a batch source to materialize from")
        for name in names:
            if plan.view(name).source is None:
                raise RequestError(
                    f"feature view '{name}' has no batch source to materialize from"
                )
        self._store.check_sources(names)
        with self._lock:
            for name in names:
                if name in self._running or self._store.diagnostics.is_loading(name):
                    raise LockedError(
                        f"feature view '{name}' is already being loaded",
                        hint="wait until the load has finished",
                    )
            self._running.update(names)
        return names

    def _load(self, views: Sequence[str], request: MaterializeRequest) -> list[MaterializeReport]:
        try:
            return self._store.materialize(
                views,
                start=request.start,
                end=request.end,
                allow_older=request.allow_older,
                missing_only=request.missing_only,
            )
        finally:
            with self._lock:
                self._running.difference_update(views)


def run_in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Return a future with the result of a function that runs in a daemon thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def resolve(result: T | None, error: BaseException | None) -> None:
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
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            failure = error
        with suppress(RuntimeError):  # the event loop may be closed
            loop.call_soon_threadsafe(resolve, result, failure)

    threading.Thread(target=run, name=JOB_THREAD, daemon=True).start()
    return future


def _log_failure(job: asyncio.Future[list[MaterializeReport]]) -> None:
    error = None if job.cancelled() else job.exception()
    if isinstance(error, FeatureKitError):
        _log.error("a materialization failed: %s", error)
    elif error is not None:
        _log.error("a materialization failed", exc_info=error)
