"""Stream workers, events written as JSON, and dead letters."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from typing_extensions import override

from featurekit.errors import LockedError, MissingExtraError, RequestError, StoreError
from featurekit.lower.keys import entity_key
from featurekit.plan import RedisStreamPlan, RepoPlan, StreamPlan, ViewPlan
from featurekit.ports import Consumer, DeadLetter, EventSource
from featurekit.repo.deletion import deletion_times
from featurekit.repo.heartbeats import Heartbeats, HeartbeatSource, WorkerStatus, read_workers
from featurekit.repo.json_rows import JsonlEventWriter
from featurekit.repo.logs import Logs
from featurekit.repo.source_access import SourceAccess
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.repo.time_arguments import Time, to_ms
from featurekit.runtime.counters import Counters
from featurekit.runtime.event_decoder import key_of_dead_letter
from featurekit.runtime.lock import ViewLock, is_locked
from featurekit.runtime.replay import ReplayReport, replay
from featurekit.runtime.worker import OnReport, StreamReport, Worker, WorkerOptions
from featurekit.runtime.write_arguments import Ttl
from featurekit.runtime.write_report import WriteReport
from featurekit.runtime.writer import StreamWriter
from featurekit.streams import open_stream
from featurekit.wire import ErrorReply

OnBadEvent = Literal["fail", "skip"]
"""What `push` does with an event that does not fit its view."""

KAFKA_VARIABLES = "FEATUREKIT_KAFKA_"
"""`FEATUREKIT_KAFKA_SECURITY_PROTOCOL` sets the Kafka client's `security.protocol`, and so on."""

POLL_S = 0.2
"""How often the main thread checks its workers and handles signals."""

SHUTDOWN_S = 3.0
"""How long workers may take to stop. A worker that is left behind has acknowledged nothing that it
did not write."""

MAX_SEARCHED_LETTERS = 10_000
"""Dead letters that are searched for those about one entity, newest first."""

MAX_DELETED_LETTERS = 1_000_000
"""Dead letters that are searched for those of an entity that is deleted, newest first."""

REPLY_MARGIN_S = 2.0
"""Time for the server to reply, in addition to the wait for events."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How stream workers run.

    Attributes:
        consumer: The consumer's name; by default made of the host and the process id. A worker that
            restarts under its name continues at once with the events that it had read.
        claim_after_ms: How long events of a dead consumer wait before another consumer takes them.
        once: Stop when all events are read.
        worker: Batch size, waits and report interval of each worker.
    """

    consumer: str = ""
    claim_after_ms: int = 60_000
    once: bool = False
    worker: WorkerOptions = field(default_factory=WorkerOptions)

    @property
    def consumer_name(self) -> str:
        """`consumer`, or the default name."""
        return self.consumer or f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Streaming:
    """The stream views of one project.

    Attributes:
        plan: The applied registry, compiled.
        handle: The online store.
        counters: Counts the events of this process.
        sources: The sources that may be opened.
        logs: The logs of accepted events.
    """

    plan: RepoPlan
    handle: LazyStoreHandle
    counters: Counters
    sources: SourceAccess
    logs: Logs

    def run(
        self,
        views: Sequence[str] = (),
        options: StreamOptions | None = None,
        *,
        stop: threading.Event | None = None,
        on_report: OnReport | None = None,
    ) -> list[StreamReport]:
        """Run one worker per stream view until `stop` is set.

        Delivery is at least once, and writes are idempotent: an event that is delivered twice leaves
        the same state. Events that do not fit their view become dead letters. While the store or the
        source is away, the workers wait.

        Args:
            views: Names of stream views; all views with a source by default.
            options: How the workers run.
            stop: Set it to stop: the workers write and acknowledge what they have read. Never set
                here, also if a worker fails.
            on_report: Called with each worker's report once per interval, in the worker's thread.

        Returns:
            The total of each worker.

        Raises:
            RequestError: A source may not be opened on this machine.
            StreamError: A source refused the worker.
            StoreError: The store does not fit, or refuses this user.
            LockedError: The windows of a view are being replayed.
        """
        plans = [self.plan.view(name) for name in views] or self._views_with_source()
        sources = [_stream_plan(view) for view in plans]
        self.sources.check(plans)
        self._check_replays(plans)
        options, stop_all = options or StreamOptions(), threading.Event()
        threads = [
            self._worker_thread(view, source, options, stop_all, on_report)
            for view, source in zip(plans, sources, strict=True)
        ]
        for thread in threads:
            thread.start()
        with self.send_heartbeats([thread.worker for thread in threads], options.consumer_name):
            _wait_for(threads, stop or stop_all, stop_all)
        for thread in threads:
            if thread.error is not None:
                raise thread.error
        return [thread.report for thread in threads if thread.report is not None]

    def push(
        self,
        view: str,
        batches: Iterable[Sequence[str]],
        *,
        ttl: Ttl = None,
        on_bad_event: OnBadEvent = "fail",
        on_rejected: Callable[[str], None] | None = None,
    ) -> WriteReport:
        """Write events from JSON Lines: one object of join keys and fields per line.

        Args:
            view: The stream view.
            batches: Batches of lines. Each batch is written before the next one is requested.
            ttl: A TTL to use instead of the declared ones: a timedelta, or whole seconds.
            on_bad_event: With `fail`, stop at the first event that does not fit the view; events
                before it may be written. With `skip`, write the others.
            on_rejected: Called with the line and the reason of each rejected event after its batch is
                written. The report then does not collect them: the lines may never end.

        Returns:
            The counts, and the rejected events by line number.

        Raises:
            BadEventError: An event does not fit the view; names its line, field and value.
            StoreError: The store refused an event.
            StoreUnavailableError: No reply. Safe to push the same lines again.
        """
        if on_bad_event not in ("fail", "skip"):
            raise RequestError(f"on_bad_event must be 'fail' or 'skip', not {on_bad_event!r}")
        plan, metrics = self.plan.view(view), self.counters.events(view)
        stream_writer = StreamWriter(plan, self.handle, metrics, self.logs.of_events(plan))
        skip = on_bad_event == "skip"
        writer = JsonlEventWriter(stream_writer, metrics, self.handle.now_ms, skip=skip)
        report, first_number = writer.report, 1
        for lines in batches:
            writer.write(lines, first_number, ttl)
            first_number += len(lines)
            if on_rejected is not None:
                for _, reason in sorted(report.rejected):
                    on_rejected(reason)
                report.rejected.clear()
        return report

    def replay(self, view: str, start: Time) -> ReplayReport:
        """Fill the windows of a view again from the log of its events (`stream.log`).

        Empties the windows of all entities, applies the events of the log up to where the consumer
        group is, and leaves the rest to the workers, which continue there: nothing counts twice. Events of
        an entity up to its deletion (`delete`) are left out. Stop the workers first. Until it is done, the
        windows are stale.

        Args:
            view: A stream view with windows and a log.
            start: The time of the first event to apply, such as an aware datetime or RFC 3339 text.

        Raises:
            RequestError: The view has no windows or no log, its workers run, or its log has events
                without a position in the view's stream.
            LockedError: Another replay of the view is running.
            SourceError: The log cannot be read.
            StoreError: The server refuses it.
        """
        plan, start_ms = self.plan.view(view), to_ms(start, where="start")
        windows, located = plan.windows, self.sources.locate_log(plan)
        if windows is None:
            raise RequestError(
                f"feature view '{view}' has no windows", hint="a replay fills windows from a log"
            )
        if located is None:
            raise RequestError(
                f"feature view '{view}' has no log of its events",
                hint="declare `log: {path: FOLDER}` under `stream`, and apply",
            )
        if running := [each for each in self.workers() if each.view == view]:
            raise RequestError(
                f"a worker of '{view}' is running: {running[0].name}",
                hint="stop the workers of the view, and start them again after the replay",
            )
        self.handle.check_store()
        self.handle.store.check_writable(plan.key.prefix)
        with ViewLock(self.handle.store, plan.key.prefix, view, self.handle.now_ms):
            folder = self.logs.complete(located.plan)
            is_done = self._done_events(plan)
            logged = _import_logged_events()(plan, folder, start_ms or 0)
            events = _NotDeleted(plan, logged, deletion_times(self.handle.store, plan.key.prefix))
            report = replay(plan, windows, self.handle, events, is_done)
            report.deleted = events.left_out
            return report

    def _check_replays(self, views: Sequence[ViewPlan]) -> None:
        """Raise `LockedError` if the windows of a view are being replayed."""
        for view in views:
            store = self.handle.store
            if view.windows is not None and is_locked(store, view.key.prefix, view.name):
                raise LockedError(
                    f"the windows of '{view.name}' are being replayed",
                    hint="start its workers after the replay",
                )

    def _done_events(self, view: ViewPlan) -> Callable[[str], bool]:
        if view.stream is None:
            return lambda _position: True
        source = self.open_source(view, view.stream, StreamOptions())
        try:
            return source.done_events()
        finally:
            source.close()

    def send_heartbeats(self, workers: Sequence[HeartbeatSource], name: str) -> Heartbeats:
        """Show a program that writes stream views itself in `workers` and `featurekit status`.

        Args:
            workers: The writers, one for each view.
            name: The consumer name to show.

        Returns:
            A context manager that sends heartbeats while its block runs.
        """
        return Heartbeats(self.handle.store, self.plan.project, name, workers)

    def workers(self) -> list[WorkerStatus]:
        """Return the running workers of this project's stream views, on any machine.

        A worker that stops disappears at once; one that dies disappears within 10 seconds.

        Raises:
            StoreError: The store is away, or this user may not read the heartbeats.
        """
        return read_workers(self.handle.store, self.plan.project)

    def dead_letters(
        self, view: str, count: int = 20, *, entity: object = None
    ) -> list[DeadLetter]:
        """Return the newest dead letters of a stream view, newest first, with their reasons.

        Views that read the same stream share its dead letters unless they declare `dead_letter:`.

        Args:
            view: A stream view with a source.
            count: Maximum number of dead letters.
            entity: Only those about this entity: its id as in a key, a join key value, or a tuple or dict
                of several. Searches the newest 10,000 dead letters.

        Raises:
            RequestError: The view has no source.
            StreamError: The dead letters cannot be read.
        """
        plan = self.plan.view(view)
        if entity is None:
            return self._read_dead_letters(plan, count)
        key = entity_key(plan.key, entity)
        return self.dead_letters_of_key(plan, key, max(count, MAX_SEARCHED_LETTERS))[:count]

    def dead_letters_of_key(self, view: ViewPlan, key: bytes, search: int) -> list[DeadLetter]:
        """Return those of the newest `search` dead letters of a view that are about one key."""
        letters = self._read_dead_letters(view, search)
        return [letter for letter in letters if key_of_dead_letter(view, letter) == key]

    def delete_dead_letters(self, entity: str, keys: Sequence[bytes]) -> int:
        """Delete the dead letters about some entities from Redis streams; return how many there were."""
        store, wanted, deleted = self.handle.store, set(keys), 0
        for view in self.plan.views:
            if view.key.entity != entity or not isinstance(view.stream, RedisStreamPlan):
                continue
            letters = self._read_dead_letters(view, MAX_DELETED_LETTERS)
            ids = [each.id for each in letters if key_of_dead_letter(view, each) in wanted]
            if ids:
                name = view.stream.dead_letter_name
                reply = store.call("XDEL", name, *ids, key=name)
                if isinstance(reply, ErrorReply):
                    raise StoreError(f"the dead letters cannot be deleted: {reply}", where=name)
                deleted += reply if isinstance(reply, int) else 0
        return deleted

    def _read_dead_letters(self, view: ViewPlan, count: int) -> list[DeadLetter]:
        source = self.open_source(view, _stream_plan(view), StreamOptions())
        try:
            return list(source.dead_letters(count)) if count > 0 else []
        finally:
            source.close()

    def _views_with_source(self) -> list[ViewPlan]:
        views = [view for view in self.plan.views if view.stream is not None]
        if not views:
            raise RequestError(
                "no stream view declares a source",
                hint="add a `source:` to one, or push events with `featurekit stream push`",
            )
        return views

    def open_source(self, view: ViewPlan, plan: StreamPlan, options: StreamOptions) -> EventSource:
        """Open the source of a view's events, with a connection of its own.

        Raises:
            RequestError: The source may not be opened on this machine.
        """
        if not isinstance(plan, RedisStreamPlan):  # it would get this machine's credentials
            self.sources.check([view])
        timeout_s = options.worker.wait_s + REPLY_MARGIN_S
        return open_stream(
            view,
            self.sources.locate(view, plan).plan,
            Consumer(options.consumer_name, options.claim_after_ms),
            lambda: self.handle.open_another(timeout_s, once=True),
            _kafka_settings(),
        )

    def _worker_thread(
        self,
        view: ViewPlan,
        plan: StreamPlan,
        options: StreamOptions,
        stop: threading.Event,
        on_report: OnReport | None,
    ) -> _WorkerThread:
        # A blocking read of a stream must end before the store stops waiting for its reply.
        max_wait_s = self.handle.load_timeout_s / 2
        pace = options.worker
        if isinstance(plan, RedisStreamPlan) and pace.wait_s > max_wait_s:
            pace = replace(pace, wait_s=max_wait_s)
        counter = self.counters.events(view.name)

        def count(report: StreamReport) -> None:
            counter.add_events(report.written, report.dropped_older, report.dropped_expired)
            counter.repeated += report.repeated
            counter.rejected += report.rejected
            counter.dead_letters += report.rejected
            counter.lost += report.lost
            if on_report is not None:
                on_report(report)

        source = self.open_source(view, plan, options)
        writer = StreamWriter(view, self.handle, log=self.logs.of_events(view))
        worker = Worker(writer, source, pace, count, self.handle.now_ms)
        return _WorkerThread(worker, source, stop, once=options.once)


class _NotDeleted:
    """The events of a log, without those of an entity up to its last deletion.

    Attributes:
        left_out: How many events were left out so far.
    """

    def __init__(
        self,
        view: ViewPlan,
        logged: Iterable[Any],
        deleted_ms: Callable[[bytes], int | None],
    ) -> None:
        self._view, self._logged, self._deleted_ms = view, logged, deleted_ms
        self.left_out = 0

    def __iter__(self) -> Iterator[tuple[object, dict[str, object], int, str | None]]:
        for each in self._logged:
            entity = each.join_keys if len(each.join_keys) != 1 else each.join_keys[0]
            deleted_ms = self._deleted_ms(entity_key(self._view.key, entity))
            if deleted_ms is not None and min(each.time_ms, each.arrived_ms) <= deleted_ms:
                self.left_out += 1
            else:
                yield entity, each.values, each.time_ms, each.position


class _WorkerThread(threading.Thread):
    """Runs one worker. If it fails, all workers stop."""

    def __init__(
        self, worker: Worker, source: EventSource, stop: threading.Event, *, once: bool
    ) -> None:
        super().__init__(daemon=True)
        self.report: StreamReport | None = None
        self.error: BaseException | None = None
        self.worker = worker
        self._source, self._stop_all, self._once = source, stop, once

    @override
    def run(self) -> None:
        try:
            self.report = self.worker.run(self._stop_all, once=self._once)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that joins
            self.error = error
            self._stop_all.set()
        finally:
            self._source.close()


def _wait_for(
    threads: Sequence[_WorkerThread], stop: threading.Event, stop_all: threading.Event
) -> None:
    """Wait for all threads; once asked to stop, at most `SHUTDOWN_S` for all of them.

    Args:
        threads: The running workers.
        stop: Set by the caller of `run`.
        stop_all: Stops the workers. Set here when `stop` is, and by a worker that fails.
    """
    deadline = math.inf
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(POLL_S)  # Python handles signals between two calls
            if stop.is_set():
                stop_all.set()
            if stop_all.is_set():
                deadline = min(deadline, time.monotonic() + SHUTDOWN_S)


def _stream_plan(view: ViewPlan) -> StreamPlan:
    if view.stream is None:
        raise RequestError(
            f"feature view '{view.name}' has no stream source",
            hint="add a `source:` to it, or push events with `featurekit stream push`"
            if view.kind == "stream"
            else "a batch view is loaded by `featurekit materialize`",
        )
    return view.stream


def _import_logged_events() -> Any:
    try:
        from featurekit.sources.logged_events import logged_events
    except ImportError as error:
        raise MissingExtraError.of("batch", "a replay") from error
    return logged_events


def _kafka_settings() -> dict[str, str]:
    """Return the Kafka client's settings from the environment, so that no YAML holds secrets."""
    return {
        name.removeprefix(KAFKA_VARIABLES).lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(KAFKA_VARIABLES)
    }
