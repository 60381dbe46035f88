"""Streaming: workers that feed stream views, and events that are pushed by hand."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from typing_extensions import override

from featurekit.errors import FeatureKitError, RequestError
from featurekit.plan import RedisStreamPlan, RepoPlan, StreamPlan, ViewPlan
from featurekit.ports import Consumer, DeadLetter, EventSource
from featurekit.repo.heartbeats import Heartbeat, HeartbeatReport, WorkerStatus, workers
from featurekit.repo.jsonl import Lines, line_reader
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime.counters import Counters
from featurekit.runtime.worker import OnReport, StreamReport, Worker, WorkerOptions
from featurekit.runtime.writer import StreamWriter, WriteReport
from featurekit.streams import open_stream

KAFKA_VARIABLES = "FEATUREKIT_KAFKA_"
"""`FEATUREKIT_KAFKA_SECURITY_PROTOCOL` is the client's setting `security.protocol`, and so on."""

LOOK_S = 0.2
END_S = 3.0
SPARE_S = 2.0  # what the server may take to answer, beyond the wait for events
"""How long workers have to end. One that is left behind has acknowledged nothing it did not write."""

ON_BAD_EVENT = ("fail", "skip")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How workers run.

    Attributes:
        consumer: The name under which they read; by default that of this machine and process. A
            worker that starts again under its name goes on at once with what it held.
        claim_after_ms: How long the events of a consumer that died are left to it.
        once: Whether to stop when all that is there is read.
        worker: Batch size, waits and report interval of each worker.
    """

    consumer: str = ""
    claim_after_ms: int = 60_000
    once: bool = False
    worker: WorkerOptions = field(default_factory=WorkerOptions)


@dataclass(frozen=True, slots=True)
class Streaming:
    """The stream views of one repository, the store that they are in, and where all is counted."""

    plan: RepoPlan
    door: LazyStoreHandle
    tally: Counters

    def run(
        self,
        views: Sequence[str] = (),
        options: StreamOptions | None = None,
        *,
        stop: threading.Event | None = None,
        tell: OnReport | None = None,
    ) -> list[StreamReport]:
        """Feed stream views from their sources, with a worker for each, until asked to stop.

        At least once, and idempotent: an event that is handed out again leaves the same state. What
        does not fit its view goes to the dead letters; while the store or the source is away, the
        workers wait for it.

        Args:
            views: Names of stream views; all that have a source by default.
            options: How the workers run.
            stop: Set it to have them write and acknowledge what they read, and return.
            tell: Called with a report of each worker once in each interval, in its thread.

        Returns:
            For each view, all that its worker did.

        Raises:
            StreamError: A source refuses.
            StoreError: The store refuses this server or user as a whole.
        """
        plans = [self.plan.view(name) for name in views] or self._fed()
        sources = [_stream_of(view) for view in plans]
        options, stop = options or StreamOptions(), stop or threading.Event()
        crew = [
            self._member(view, plan, options, stop, tell or _untold)
            for view, plan in zip(plans, sources, strict=True)
        ]
        for member in crew:
            member.start()
        with self.telling([member.worker for member in crew], _name(options)):
            _await(crew, stop)
        for member in crew:
            if member.error is not None:
                raise member.error
        return [member.report for member in crew if member.report is not None]

    def push(
        self,
        view: str,
        batches: Iterable[Sequence[str]],
        *,
        ttl: timedelta | int | None = None,
        on_bad_event: str = "fail",
        tell: Callable[[str], None] | None = None,
    ) -> WriteReport:
        """Write events given as lines of JSON: an object of join keys and fields each.

        Args:
            view: The stream view.
            batches: Lines; each batch is written before the next is asked for.
            ttl: How long the values live, in the place of the declared TTLs; a timedelta, or
                milliseconds.
            on_bad_event: `fail` ends it at the first event that does not fit; those before it may
                be written. `skip` writes the others and reports the bad ones.
            tell: Called with the line and reason of each bad event of a batch once that is written,
                in the place of keeping them for the report: lines may come for ever.

        Returns:
            What became of the events; rejected ones by the number of their line.

        Raises:
            BadEventError: An event does not fit; names its line, field and value.
            StoreError: The store refused an event.
            StoreUnavailableError: No reply. It is safe to push the same lines again.
        """
        if on_bad_event not in ON_BAD_EVENT:
            raise RequestError(f"on_bad_event is fail or skip, not '{on_bad_event}'")
        plan, count = self.plan.view(view), self.tally.events(view)
        writer = StreamWriter(plan, self.door, count)
        read = line_reader(writer.plan)
        report = WriteReport()
        first = 1
        for lines in batches:
            parsed = Lines(skip=on_bad_event == "skip", report=report, count=count)
            for number, line in enumerate(lines, first):
                parsed.add(number, line, read)
            parsed.write(writer, ttl)
            first += len(lines)
            if tell is not None:
                for _, reason in sorted(report.rejected):
                    tell(reason)
                report.rejected.clear()
        return report

    def telling(self, crew: Sequence[HeartbeatReport], name: str) -> Heartbeat:
        """Have `workers` and `featurekit status` show a program that writes stream views itself.

        Args:
            crew: What writes, one for each view.
            name: The name that they go by.

        Returns:
            A context manager: they are shown while its block runs.
        """
        return Heartbeat(self.door.store, self.plan.project, name, crew)

    def workers(self) -> list[WorkerStatus]:
        """The workers that feed this project's stream views now, wherever they run.

        One that ends is gone at once, one that dies is gone within 10 seconds.

        Raises:
            StoreError: The store is away, or this user may not read them.
        """
        return workers(self.door.store, self.plan.project)

    def dead_letters(self, view: str, count: int = 20) -> list[DeadLetter]:
        """The newest events that did not fit a stream view, newest first, with the reasons.

        Views that read one stream share its dead letters, unless they say `dead_letter:`.

        Args:
            view: A stream view with a source.
            count: Most of them.

        Raises:
            RequestError: The view has no source.
            StreamError: They cannot be read.
        """
        plan = self.plan.view(view)
        source = self._source(plan, _stream_of(plan), StreamOptions())
        try:
            return list(source.dead_letters(count)) if count > 0 else []
        finally:
            source.close()

    def lag(self, view: ViewPlan) -> int | None:
        """Events that a view's workers have yet to read; `None` where that is not known.

        A Kafka topic is not asked: its brokers may be away, and are not the store's concern.
        """
        if not isinstance(view.stream, RedisStreamPlan):
            return None
        source = self._source(view, view.stream, StreamOptions())
        try:
            return source.lag()
        except FeatureKitError:
            return None
        finally:
            source.close()

    def _fed(self) -> list[ViewPlan]:
        views = [view for view in self.plan.views if view.stream is not None]
        if not views:
            raise RequestError(
                "no stream view says where its events come from",
                hint="give one a `source:`, or push events with `featurekit stream push`",
            )
        return views

    def _source(self, view: ViewPlan, plan: StreamPlan, options: StreamOptions) -> EventSource:
        patience_s = options.worker.wait_s + SPARE_S
        return open_stream(
            view,
            plan,
            Consumer(_name(options), options.claim_after_ms),
            lambda: self.door.another(patience_s),
            _kafka_settings(),
        )

    def _member(
        self,
        view: ViewPlan,
        plan: StreamPlan,
        options: StreamOptions,
        stop: threading.Event,
        tell: OnReport,
    ) -> _Member:
        # A blocking read of a stream must end before the store gives up waiting for its reply.
        patience_s = self.door.load_timeout_s / 2
        pace = options.worker
        if isinstance(plan, RedisStreamPlan) and pace.wait_s > patience_s:
            pace = replace(pace, wait_s=patience_s)
        count = self.tally.events(view.name)

        def told(report: StreamReport) -> None:
            count.add_events(report.written, report.dropped_older, report.dropped_expired)
            count.rejected += report.rejected
            count.dead_letters += report.rejected
            tell(report)

        writer = StreamWriter(view, self.door)
        source = self._source(view, plan, options)
        worker = Worker(writer, source, pace, told, self.door.now_ms)
        return _Member(worker, source, stop, once=options.once)


class _Member(threading.Thread):
    """A worker in a thread; when it fails, all stop."""

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
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error
            self._stop_all.set()
        finally:
            self._source.close()


def _await(crew: Sequence[_Member], stop: threading.Event) -> None:
    """Wait until all are done; not for one that a silent server keeps once asked to stop."""
    late = math.inf
    for member in crew:
        while member.is_alive() and time.monotonic() < late:
            member.join(LOOK_S)  # a signal is taken between two looks
            if stop.is_set():
                late = min(late, time.monotonic() + END_S)


def _name(options: StreamOptions) -> str:
    return options.consumer or f"{socket.gethostname()}-{os.getpid()}"


def _untold(_report: StreamReport) -> None:
    """Tell nobody."""


def _stream_of(view: ViewPlan) -> StreamPlan:
    if view.stream is None:
        raise RequestError(
            f"feature view '{view.name}' has no stream to read",
            hint="give it a `source:`, or push events with `featurekit stream push`"
            if view.kind == "stream"
            else "a batch view is loaded by `featurekit materialize`",
        )
    return view.stream


def _kafka_settings() -> dict[str, str]:
    """Settings of the Kafka client, out of the environment: secrets are in no YAML."""
    return {
        name.removeprefix(KAFKA_VARIABLES).lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(KAFKA_VARIABLES)
    }
