"""Stream views written from Apache Spark's Structured Streaming.

writer = featurekit.spark.stream_writer(store, "user_activity")
events.writeStream.foreachBatch(writer).option("checkpointLocation", ...).start()
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from featurekit.engines.spark_stream import (
    EventCounts,
    EventTicket,
    event_time_column,
    write_micro_batch,
)
from featurekit.errors import RequestError
from featurekit.repo.feature_store import FeatureStore
from featurekit.repo.streaming import OnBadEvent, Streaming
from featurekit.runtime.write_arguments import skip_bad_events

__all__ = ["MicroBatchReport", "MicroBatchWriter", "stream_writer"]

_log = logging.getLogger("featurekit.spark")


@dataclass(slots=True)
class MicroBatchReport(EventCounts):
    """The result of writing one micro-batch.

    Attributes:
        batch_id: The number that Spark gave to the micro-batch.
    """

    batch_id: int = 0


class MicroBatchWriter:
    """Writes micro-batches into a stream view. Made by `stream_writer`.

    Attributes:
        total: The counts of all micro-batches so far.
    """

    def __init__(self, streams: Streaming, view: str, tasks: int | None, *, skip: bool) -> None:
        self.total = EventCounts()
        self._plan = streams.plan.view(view)
        self._handle = streams.handle
        self._metrics = streams.counters.events(view)
        self._tasks = tasks
        self._skip = skip

    @override
    def __reduce__(self) -> str | tuple[Any, ...]:
        raise RequestError(
            "the writer stays in this process, and Spark Connect runs `foreachBatch` on its server",
            hint="start the query in a program with a Spark session of its own",
        )

    @override
    def __repr__(self) -> str:
        return f"<MicroBatchWriter {self._plan.name}: {self.total.written} events written>"

    def __call__(self, frame: Any, batch_id: int) -> MicroBatchReport:
        """Write the events of a DataFrame, those of an entity in the order of their times.

        Args:
            frame: A column for each join key, the time of the event, and the fields that the events
                have. Null deletes a field; a field without a column stays as it is.
            batch_id: The number of the micro-batch.

        Raises:
            BadEventError: An event does not fit the view; others may be written.
            RequestError: The DataFrame lacks a column, or has one that the view does not know.
            SourceError: Spark failed.
            StoreError: The server refused an event.
            StoreUnavailableError: The server stopped answering and did not return in time. It is safe
                to write the micro-batch again.
        """
        self._handle.check_store()
        time = event_time_column(self._plan, frame.columns)
        ticket = EventTicket(self._plan, self._handle.for_tasks(), time, self._skip)
        counts = write_micro_batch(frame, ticket, self._tasks)
        report = MicroBatchReport(batch_id=batch_id)
        for total in (report, self.total):
            total.add(counts)
        metrics = self._metrics
        metrics.add_events(report.written, report.dropped_older, report.dropped_expired)
        metrics.rejected += report.rejected
        if report.rejected:
            view, first = self._plan.name, report.reasons[0]
            _log.warning("%s: rejected %d events; %s", view, report.rejected, first)
        return report


def stream_writer(
    store: FeatureStore,
    view: str,
    *,
    on_bad_event: OnBadEvent = "fail",
    tasks: int | None = None,
) -> MicroBatchWriter:
    """Return a function for `foreachBatch` of Structured Streaming, which writes a stream view.

    A query that restarts delivers its last micro-batch again. That changes nothing, because the view
    must have `ordering: event_time`.

    Args:
        store: The feature store.
        view: The stream view.
        on_bad_event: With `fail`, an event that does not fit the view stops the query; its micro-batch
            is delivered again at the next start. With `skip`, the others are written, and the
            reasons are logged and in the report.
        tasks: How many tasks write a micro-batch; by default one for each core. One or two for each
            server of the store are enough.

    Raises:
        UnknownNameError: There is no such view.
        RequestError: The view is a batch view, is not ordered by event time, or logs its events.
    """
    skip = skip_bad_events(on_bad_event)
    streams = store.streams
    plan = streams.plan.view(view)
    where = f"feature view {view}"
    if plan.kind != "stream":
        raise RequestError(
            f"feature view '{view}' is a batch view",
            hint="load it with store.materialize(engine='spark')",
        )
    if plan.windows is not None:
        raise RequestError(
            "Spark does not add events to windows", where=where, hint="run `featurekit stream run`"
        )
    if plan.ordering != "event_time":
        raise RequestError(
            "Spark delivers events in any order, and again after a failure",
            where=where,
            hint="add `ordering: event_time` to the view",
        )
    if plan.log is not None:
        raise RequestError(
            "the view logs its events, which tasks on Spark do not do",
            where=where,
            hint="remove `log:`, write the events to files with Spark, and declare those as `batch_source:`",
        )
    if tasks is not None and tasks < 1:
        raise RequestError(f"tasks must be 1 or more, not {tasks}")
    streams.handle.for_tasks()
    return MicroBatchWriter(streams, view, tasks, skip=skip)
