"""Events of a micro-batch of Structured Streaming, written to a stream view by tasks.

    driver  moves the events of an entity into one task, in the order of their times
    task    `StreamWriter.write_many` over the rows of its partition; returns one row with its result

The view has `ordering: event_time`, so that an event that is delivered again, by a query that restarts or
a task that is tried again, changes nothing. Events with equal times are ordered by their values: the
same one wins each time.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit.engines.spark_rows import orderable, quoted
from featurekit.engines.spark_session import is_connect, spark_errors, without_pandas_warning
from featurekit.errors import BadEventError, FeatureKitError, RequestError, join_where, name_hint
from featurekit.plan import EVENT_TIMESTAMP, ViewPlan
from featurekit.ports import StoreHandle
from featurekit.runtime.writer import StreamWriter
from featurekit.types import short_repr

MAX_REASONS = 20
"""Reasons of rejected events that a task returns."""


@dataclass(frozen=True, slots=True)
class EventTicket:
    """What a task needs to write events. Pickles without connections.

    Attributes:
        view: The compiled view.
        store: Opens the online store.
        time_column: The column with the time of an event.
        skip_bad_events: Reject events that do not fit; otherwise the first one is an error.
    """

    view: ViewPlan
    store: StoreHandle
    time_column: str
    skip_bad_events: bool


@dataclass(slots=True)
class EventCounts:
    """What became of some events.

    Attributes:
        written: Events that the store accepted.
        dropped_older: Events older than the stored ones.
        dropped_expired: Events whose TTL had passed before they were written.
        rejected: Events that did not fit the view, or that the store refused.
        reasons: Why the first of these were rejected.
    """

    written: int = 0
    dropped_older: int = 0
    dropped_expired: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, other: EventCounts) -> None:
        """Add the counts of a partition."""
        for name in ("written", "dropped_older", "dropped_expired", "rejected"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons = [*self.reasons, *other.reasons][:MAX_REASONS]


def event_time_column(view: ViewPlan, columns: Sequence[str]) -> str:
    """Return the column with the time of an event, after a check of all columns.

    Raises:
        RequestError: A join key or the time has no column, or a column is neither of them nor a field.
    """
    where = f"feature view {view.name}"
    names = (view.event_timestamp_field, EVENT_TIMESTAMP)
    time = next((name for name in names if name in columns), None)
    if time is None:
        raise RequestError(
            f"the DataFrame has no column '{names[0]}' with the time of an event",
            where=where,
            hint=f"it has {', '.join(columns)}",
        )
    keys = [key.name for key in view.key.join_keys]
    if missing := [name for name in keys if name not in columns]:
        raise RequestError(
            f"the DataFrame has no column for the join key '{missing[0]}'",
            where=where,
            hint=f"it has {', '.join(columns)}",
        )
    known = [*keys, *(each.name for each in view.fields), time]
    unknown = [name for name in columns if name not in known]
    if unknown or len(set(columns)) < len(columns):
        name = next(iter(unknown), "") or next(c for c in columns if columns.count(c) > 1)
        problem = "is not a field of the view" if unknown else "occurs twice"
        raise RequestError(
            f"the column '{name}' {problem}",
            where=where,
            hint=f"{name_hint(name, known)}; choose columns with df.select(...)",
        )
    return time


def write_micro_batch(frame: Any, ticket: EventTicket, tasks: int | None) -> EventCounts:
    """Write the events of a DataFrame in tasks.

    Args:
        frame: The events; the columns are those of `event_time_column`.
        ticket: What the tasks write.
        tasks: How many tasks write; by default one for each core.

    Raises:
        BadEventError: An event does not fit the view; others may be written.
        SourceError: Spark failed.
        StoreError: The server refused an event.
        StoreUnavailableError: The server stopped answering and did not return in time.
    """
    view = ticket.view
    with spark_errors(f"feature view {view.name}"), without_pandas_warning():
        ordered = _ordered(frame, ticket, tasks)
        rows = ordered.mapInArrow(event_task(ticket), "result binary").collect()
    counts = EventCounts()
    errors = []
    for row in rows:
        part, error = pickle.loads(row[0])  # noqa: S301
        counts.add(part)
        errors += [error] if error is not None else []
    if errors:
        raise errors[0]
    return counts


def _ordered(frame: Any, ticket: EventTicket, tasks: int | None) -> Any:
    """Return the events with those of an entity in one partition, oldest first."""
    from pyspark.sql import functions as F  # noqa: N812

    session = frame.sparkSession
    if tasks is None:
        tasks = int(session.conf.get("spark.sql.shuffle.partitions"))
        if not is_connect(session):
            tasks = min(tasks, session.sparkContext.defaultParallelism)
    keys = [F.col(quoted(key.name)) for key in ticket.view.key.join_keys]
    frame = frame.repartition(tasks, *keys) if keys else frame.coalesce(1)
    rest = [orderable(frame, name) for name in sorted(frame.columns)]
    return frame.sortWithinPartitions(orderable(frame, ticket.time_column), *rest)


def event_task(ticket: EventTicket) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """Return the function for `mapInArrow`, which writes a partition and returns its result."""

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        counts = EventCounts()
        error: FeatureKitError | None = None
        writer = StreamWriter(ticket.view, ticket.store)
        try:
            for batch in batches:
                _write_batch(writer, ticket, batch, counts)
        except FeatureKitError as failure:
            error = failure
        finally:
            ticket.store.close()
        data = pickle.dumps((counts, error))
        yield pa.record_batch({"result": pa.array([data], pa.binary())})

    return run


def _write_batch(
    writer: StreamWriter, ticket: EventTicket, batch: Any, counts: EventCounts
) -> None:
    """Write the rows of a record batch, and add to the counts."""
    view = ticket.view
    events = list(_events(ticket, batch))
    on_bad_event = "skip" if ticket.skip_bad_events else "fail"
    try:
        report = writer.write_many(events, on_bad_event=on_bad_event)
    except BadEventError as error:
        cause = error.__cause__
        within = cause.where if isinstance(cause, FeatureKitError) else ""
        where = join_where(view.name, _entity_text(view, events[error.index][0]), within)
        raise BadEventError(error.message, where=where, hint=error.hint) from None
    counts.written += report.written
    counts.dropped_older += report.dropped_older
    counts.dropped_expired += report.dropped_expired
    counts.rejected += len(report.rejected)
    for index, reason in report.rejected[: MAX_REASONS - len(counts.reasons)]:
        counts.reasons.append(f"{_entity_text(view, events[index][0])}: {reason}")


def _events(ticket: EventTicket, batch: Any) -> Iterator[tuple[Any, dict[str, Any], Any]]:
    """Yield the rows of a record batch as `(entity, values, event_timestamp)`."""
    columns = {
        name: batch.column(name).to_pylist(maps_as_pydicts="strict") for name in batch.schema.names
    }
    times = columns.pop(ticket.time_column)
    keys = [columns.pop(key.name) for key in ticket.view.key.join_keys]
    entities = keys[0] if len(keys) == 1 else _rows(keys, len(times))
    names = list(columns)
    rows = _rows(list(columns.values()), len(times))
    for entity, row, time in zip(entities, rows, times, strict=True):
        yield entity, dict(zip(names, row, strict=True)), time


def _rows(columns: Sequence[list[Any]], count: int) -> Iterable[tuple[Any, ...]]:
    return zip(*columns, strict=True) if columns else ((),) * count


def _entity_text(view: ViewPlan, entity: Any) -> str:
    keys = view.key.join_keys
    pairs = zip(keys, (entity,) if len(keys) == 1 else entity, strict=True)
    return ", ".join(f"{key.name} {short_repr(value)}" for key, value in pairs)
