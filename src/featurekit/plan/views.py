"""Plans of stored views: how they are written."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Literal

from featurekit.constraints import Constraints
from featurekit.keys import KeyPlan
from featurekit.plan.fields import FieldPlan, find_plan
from featurekit.plan.sources import ParquetSourcePlan, SourcePlan, StreamPlan
from featurekit.types import DType

EVENT_TIMESTAMP = "event_timestamp"
"""The event key with an event's time, unless the stream names another one."""


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What a load must meet; `None` for anything.

    Attributes:
        min_rows: The rows that the source must have.
        max_source_age_ms: How old the newest event time may be when the load starts.
        max_rejected: The share of the rows that may be rejected, 0 to 1.
    """

    min_rows: int | None = None
    max_source_age_ms: int | None = None
    max_rejected: float | None = None


NO_LIMITS = LoadLimits()


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """When loads of a batch view start: at `at_ms` + i x `every_ms` since the start of 1970, UTC.

    Attributes:
        every_ms: The time between the starts of two loads.
        at_ms: The first start, less than a day.
        takes_ms: How long a load takes; its rows are served after that.
    """

    every_ms: int
    at_ms: int = 0
    takes_ms: int = 0


class EventLogColumns:
    """The names of the columns of an event log, beside join keys and fields, which have other names."""

    SENT_FIELDS = "_sent_fields"
    EVENT_TIMESTAMP = EVENT_TIMESTAMP
    ARRIVED_AT = "_arrived_at"
    POSITION = "_position"


@dataclass(frozen=True, slots=True)
class LogPlan:
    """A log in Parquet files by hour: of the events of a view, or of what a service served.

    Attributes:
        path: The folder, relative to the repository's folder; may contain `${VAR}`.
        sample_rate: The share of the entities whose features are logged, above 0 and up to 1. Which
            ones, a hash of the key decides. Events are all logged.
    """

    path: str
    sample_rate: float = 1.0

    @property
    def events(self) -> SourcePlan:
        """The log of events as a history."""
        return ParquetSourcePlan(
            paths=(f"{self.path}/*/*.parquet",),
            timestamp_field=EventLogColumns.EVENT_TIMESTAMP,
            created_timestamp_field=EventLogColumns.ARRIVED_AT,
            sent_fields_column=EventLogColumns.SENT_FIELDS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsPlan:
    """How a stream view aggregates events, whose fields are all aggregates then.

    Attributes:
        inputs: The fields of an event that aggregates and their conditions are computed of.
        once: What identifies a repeated event: its `offset` in a partition of a topic, whether it is
            still pending in the consumer `group`, an `event_id`, or `none`: at least once.
        event_id: The event key with the id, if `once` is `event_id`.
        max_mark_age_ms: How old the view's mark may be before its windows are stale. A view without a
            stream, which programs write, has no mark.
    """

    inputs: tuple[FieldPlan, ...]
    once: Literal["offset", "group", "event_id", "none"]
    event_id: str | None = None
    max_mark_age_ms: int

    @property
    def event_fields(self) -> tuple[FieldPlan, ...]:
        """The fields of an event: the inputs, and its id where that is another one."""
        if self.event_id is None or any(field.name == self.event_id for field in self.inputs):
            return self.inputs
        event_id = FieldPlan(self.event_id, DType("string"), Constraints(required=True))
        return (*self.inputs, event_id)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """How one feature view is written.

    Attributes:
        name: The view's name.
        kind: Whether loads or events write it.
        key: How the keys of its rows are built.
        fields: Its features, in declared order.
        expires: `key`: each write renews the key's TTL. `field`: each field has its own TTL.
        ttl_ms: The TTL that a write sets, unless `FieldPlan.ttl_ms` overrides it.
        refresh_ms: The expected interval between writes.
        retired: Fields that the entity no longer declares; a batch write deletes them.
        ordering: Whether the last row or event to arrive wins, or the one with the latest time.
        future_rows: Whether a load leaves out rows later than its start, or loads them.
        max_ahead_ms: How far ahead of the clock an event's time may be.
        source: The source of a batch view; `None` if a program writes it.
        stream: The source of a stream view; `None` if a program writes it.
        limits: What a load of a batch view must meet.
        history: The source of the view's history, where that is not `source`: the events of a stream
            view, or the rows of a batch view that a program writes. Of events, `timestamp_field` is
            their own time and `created_timestamp_field` their arrival; one of the two is declared,
            and is also the other one where that is not declared or null.
        lookback_ms: How old the rows of a source may be that a load takes, by their `timestamp_field`:
            it takes rows from its start minus this up to its start; `None` for any age.
        schedule: When loads run, for training sets; nothing runs by it.
        log: The log of accepted events, which is the history of a stream view without `history`.
        windows: How events are aggregated; `None` if their values are written as they are.
    """

    name: str
    kind: Literal["batch", "stream"]
    key: KeyPlan
    fields: tuple[FieldPlan, ...]
    expires: Literal["key", "field"]
    ttl_ms: int
    refresh_ms: int
    retired: tuple[str, ...] = ()
    ordering: Literal["arrival", "event_time"] = "arrival"
    future_rows: Literal["skip", "load"] = "skip"
    max_ahead_ms: int = 300_000
    source: SourcePlan | None = None
    stream: StreamPlan | None = None
    limits: LoadLimits = NO_LIMITS
    history: SourcePlan | None = None
    lookback_ms: int | None = None
    schedule: SchedulePlan | None = None
    log: LogPlan | None = None
    windows: WindowsPlan | None = None

    @property
    def event_time_field(self) -> str | None:
        """The hash field that holds the newest event time; `None` if the view keeps none."""
        return f"@{self.name}" if self.ordering == "event_time" else None

    @property
    def guard_field(self) -> str | None:
        """The hash field that identifies repeated events of windows; `None` if the view keeps none."""
        has_guard = self.windows is not None and self.windows.once in ("offset", "event_id")
        return f"@{self.name}" if has_guard else None

    @property
    def mark_key(self) -> bytes | None:
        """The key of the hash that says up to when all events are applied; `None` without a worker.

        It has a field for each partition or consumer, with a time in ms; the least of them counts.
        """
        is_marked = self.windows is not None and self.stream is not None
        return f"{self.key.prefix}:@mark:{self.name}".encode() if is_marked else None

    @property
    def event_fields(self) -> tuple[FieldPlan, ...]:
        """The fields of a row or an event: the inputs of windows, or else the features."""
        return self.windows.inputs if self.windows else self.fields

    @property
    def hash_fields(self) -> tuple[str, ...]:
        """The hash fields that a load writes: the event-time field, if there is one, then the features."""
        names = tuple(field.name for field in self.fields)
        return (self.event_time_field, *names) if self.event_time_field else names

    @property
    def timestamp_field(self) -> str | None:
        """The column with the time of a row in tables; `None` if rows have none."""
        declared = self.source.timestamp_field if self.source else None
        return declared or (EVENT_TIMESTAMP if self.event_time_field else None)

    def timestamp_field_in(self, columns: Container[str]) -> str | None:
        """Return the column with the time of a row in a table of the caller, if the table has one.

        In a view that is ordered by time, it may also be named as in rows of a program.
        """
        names = (self.timestamp_field, EVENT_TIMESTAMP if self.event_time_field else None)
        return next((name for name in names if name is not None and name in columns), None)

    @property
    def event_timestamp_field(self) -> str | None:
        """The key with the time of an event, or of a row of a program; `None` if they have none."""
        declared = self.stream.event_timestamp_field if self.stream else None
        return declared or (EVENT_TIMESTAMP if self.ordering == "event_time" else None)

    @property
    def longest_ttl_ms(self) -> int:
        """How long the longest-lived values of one write live."""
        return max((field.ttl_ms or self.ttl_ms for field in self.fields), default=self.ttl_ms)

    def with_ttl(self, ttl_ms: int) -> ViewPlan:
        """Return the plan with one TTL for all that it writes."""
        fields = (
            replace(field, ttl_ms=ttl_ms) if field.ttl_ms else field for field in self.fields
        )
        return replace(self, ttl_ms=ttl_ms, fields=tuple(fields))

    def field(self, name: str) -> FieldPlan:
        """Return a field by name.

        Raises:
            UnknownNameError: The view has no such field.
        """
        return find_plan("field", self.fields, name, where=f"feature view {self.name}")
