"""Plans: what to do for each entity, view, service and read, decided once by the compiler.

A plan is plain data. It can be printed, compared, and pickled to a worker. It knows nothing of
YAML, does no I/O, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from featurekit.constraints import UNCONSTRAINED, Constraints
from featurekit.errors import UnknownNameError
from featurekit.feature_lists import GLOBAL, NamePairs, SelectedFeature, global_entity
from featurekit.keys import KeyPlan, default_dead_letter
from featurekit.types import DType

EVENT_TIMESTAMP = "event_timestamp"
"""The event key with an event's time, unless the stream names another one."""


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One feature, stored as one field of a hash.

    Attributes:
        name: The name of the hash field.
        dtype: The type of its values.
        constraints: Rules that written values must meet.
        default: The stored bytes of the value that a reader returns for a missing field.
        ttl_ms: The field's own TTL; 0 if the key's TTL covers it.
    """

    name: str
    dtype: DType
    constraints: Constraints = UNCONSTRAINED
    default: bytes | None = None
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceColumns:
    """The columns that a view reads from a batch source.

    Attributes:
        timestamp_field: The column with a row's event time; without it, later rows are newer.
        created_timestamp_field: The column that orders rows with equal timestamps.
        columns: Pairs of (field or join key, source column), where the two names differ.
        date_partition_column: The column of folders with the UTC date of `timestamp_field`, as a date
            or as text such as `2026-11-22`. A condition on it spares opening other folders.
        static: Whether rows without times hold for all times, in a training set.
        nulls: In a history of events: whether a null says that the event did not have the field, or
            that it deleted it. In JSON, a field that is null was deleted.
        sent_fields_column: In a history of events: the column with the list of the fields that an
            event had; any other field was left alone, and one of them that is null was deleted.
    """

    timestamp_field: str | None = None
    created_timestamp_field: str | None = None
    columns: NamePairs = ()
    date_partition_column: str | None = None
    static: bool = False
    nulls: Literal["absent", "delete"] = "absent"
    sent_fields_column: str | None = None

    def column(self, name: str) -> str:
        """Return the source's column for a field or join key."""
        return dict(self.columns).get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles(SourceColumns):
    """Files of one format.

    Attributes:
        paths: Files, folders, globs or URLs; paths are relative to the repository's folder.
        hive_partitioning: Whether folders named `column=value` are columns.
    """

    paths: tuple[str, ...]
    hive_partitioning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSourcePlan(SourceFiles):
    """Parquet files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvSourcePlan(SourceFiles):
    """CSV files with a header line; the texts in `null` are read as null."""

    delimiter: str = ","
    null: tuple[str, ...] = ("",)
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlSourcePlan(SourceFiles):
    """Files with one JSON object per line.

    Attributes:
        absent: Whether a field that no line has is an error, or null in all rows.
    """

    absent: Literal["refuse", "null"] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlSourcePlan(SourceColumns):
    """The result of a query.

    Attributes:
        query: The query.
        parameters: Pairs of (name, text) for `$name` in the query; for `:name` in Spark's SQL.
        dialect: What runs the query.
    """

    query: str
    parameters: NamePairs = ()
    dialect: Literal["duckdb", "spark"] = "duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSourcePlan(SourceColumns):
    """A table of Spark's catalog."""

    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonSourcePlan(SourceColumns):
    """The rows returned by a function, given as `module:function`."""

    callable: str


FileSourcePlan = ParquetSourcePlan | CsvSourcePlan | JsonlSourcePlan
SourcePlan = FileSourcePlan | SqlSourcePlan | TableSourcePlan | PythonSourcePlan
"""The source of a batch view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """Settings that all streams share.

    Attributes:
        group: The consumer group.
        columns: Pairs of (field or join key, event key), where the two names differ.
        where: Pairs of (event key, text); other events are skipped.
        event_timestamp_field: The event key with the event time; `event_timestamp` by default.
        dead_letter: The stream or topic for dead letters; `dead_letter_name` has the default.
    """

    group: str
    columns: NamePairs = ()
    where: NamePairs = ()
    event_timestamp_field: str | None = None
    dead_letter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisStreamPlan(StreamSettings):
    """A Redis stream.

    Attributes:
        stream: The key of the stream.
        json_field: The entry's field that holds the event as a JSON object; `None` if the fields
            of an entry are the event.
    """

    stream: str
    json_field: str | None = None

    @property
    def dead_letter_name(self) -> str:
        """The key of the stream for dead letters."""
        return self.dead_letter or default_dead_letter("redis_stream", self.stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTopicPlan(StreamSettings):
    """A Kafka topic of JSON objects.

    Attributes:
        topic: The topic.
        bootstrap_servers: Brokers to connect to first, as `host:port,host:port`.
        start: Where a new consumer group begins: `earliest` or `latest`.
    """

    topic: str
    bootstrap_servers: str
    start: Literal["earliest", "latest"] = "earliest"

    @property
    def dead_letter_name(self) -> str:
        """The topic for dead letters."""
        return self.dead_letter or default_dead_letter("kafka", self.topic)


StreamPlan = RedisStreamPlan | KafkaTopicPlan
"""The source of a stream view."""


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

    @property
    def event_time_field(self) -> str | None:
        """The hash field that holds the newest event time; `None` if the view keeps none."""
        return f"@{self.name}" if self.ordering == "event_time" else None

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
        return _by_name("field", self.fields, name, where=f"feature view {self.name}")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A named list of features, in order, each once.

    Attributes:
        logging: The log of what is served; `None` if there is none.
    """

    name: str
    features: tuple[SelectedFeature, ...]
    logging: LogPlan | None = None


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """One entity: how its keys are built, and the fields that it no longer declares."""

    name: str
    key: KeyPlan
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemovedEntityPlan:
    """An entity that is no longer declared, but of which values may still be stored.

    Attributes:
        key: How its keys were built.
        types: Pairs of (hash field, type); the type is `None` if it is not known.
    """

    key: KeyPlan
    types: tuple[tuple[str, DType | None], ...]


@dataclass(frozen=True, slots=True)
class RepoPlan:
    """A compiled repository.

    Attributes:
        project: The project's name.
        prefix: The prefix of all keys.
        fingerprint: The fingerprint of the compiled registry.
        removed: The entities that are no longer declared.
    """

    project: str
    prefix: str
    fingerprint: str
    entities: tuple[EntityPlan, ...] = ()
    views: tuple[ViewPlan, ...] = ()
    services: tuple[ServicePlan, ...] = ()
    removed: tuple[RemovedEntityPlan, ...] = ()

    def view(self, name: str) -> ViewPlan:
        """Return a view by name; raise `UnknownNameError` if it does not exist."""
        return _by_name("feature view", self.views, name)

    def service(self, name: str) -> ServicePlan:
        """Return a service by name; raise `UnknownNameError` if it does not exist."""
        return _by_name("feature service", self.services, name)

    def entity(self, name: str) -> EntityPlan:
        """Return an entity by name; raise `UnknownNameError` if it does not exist."""
        return _by_name("entity", self.entities, name)

    def entities_named(self, name: str) -> list[EntityPlan]:
        """Return the entity of a name, or for `_global` those of all views without an entity."""
        if name != GLOBAL:
            return [self.entity(name)]
        return [entity for entity in self.entities if not entity.key.join_keys]

    def locate(self, entity: str, entity_id: object) -> tuple[EntityPlan, object]:
        """Return an entity and an id in it; `_global` has the ids of views without an entity.

        Raises:
            UnknownNameError: There is no such entity.
        """
        if entity != GLOBAL:
            return self.entity(entity), entity_id
        names = [each.name.partition(":")[2] for each in self.entities_named(GLOBAL)]
        if entity_id not in names:
            raise UnknownNameError.among("feature view without an entity", str(entity_id), names)
        return self.entity(global_entity(str(entity_id))), ()


T = TypeVar("T", EntityPlan, ViewPlan, FieldPlan, ServicePlan)


def _by_name(kind: str, plans: Iterable[T], name: str, where: str = "") -> T:
    for plan in plans:
        if plan.name == name:
            return plan
    raise UnknownNameError.among(kind, name, [plan.name for plan in plans], where=where)


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One feature of a read.

    Attributes:
        name: The column's name in the response.
        view: The view that the feature belongs to.
        field: The feature.
        group: The index into `ReadPlan.groups` of the hash that holds it.
        slot: The index into that group's fields.
        event_time_field: The hash field that holds the view's newest event time, if there is one.
        min_remaining_ttl_ms: The TTL that a value must have left; with less, it is older than
            this read allows. The field's own TTL counts, or else the key's. `None` for any age.
        max_event_age_ms: How old the view's newest event time may be, if it is stored; `None` for
            any age, and where TTLs count from event times.
        alias: The name that stands for the view in this read, if it has one.
    """

    name: str
    view: str
    field: FieldPlan
    group: int
    slot: int
    event_time_field: str | None = None
    min_remaining_ttl_ms: int | None = None
    max_event_age_ms: int | None = None
    alias: str | None = None

    @property
    def is_event_time(self) -> bool:
        """Whether this column holds a view's event time, which is read beside the features."""
        return self.field.name.startswith("@")


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """The fields that a read takes from the hash of one entity, in order, each once.

    Attributes:
        key: How its key is built, from the join keys as a request names them.
        fields: The hash fields.
        alias: The alias of its views, if they have one.
    """

    key: KeyPlan
    fields: tuple[str, ...]
    alias: str | None = None

    @property
    def is_global(self) -> bool:
        """Whether the hash is that of a view without an entity, which joins every row."""
        return not self.key.join_keys

    @property
    def name(self) -> str:
        """The name of the group in a response: the alias, or else the entity."""
        return self.alias or self.key.entity


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How a list of features is read.

    Attributes:
        name: The service's name, or `features` for a list.
        groups: One group for each entity and each alias that the features belong to.
        columns: The features, in the order of the response.
        fingerprint: The fingerprint of the compiled registry.
        arrays: Whether vectors are decoded to numpy arrays, if numpy is installed, instead of lists.
    """

    name: str
    groups: tuple[ReadGroup, ...]
    columns: tuple[ReadColumn, ...]
    fingerprint: str = ""
    arrays: bool = False

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The join keys that a request must contain: those of all groups, each once."""
        return tuple(dict.fromkeys(k.name for g in self.groups for k in g.key.join_keys))

    def identifying_groups(self) -> list[ReadGroup]:
        """Return the groups whose keys identify a row; they contain the join keys of all others."""
        needed: list[ReadGroup] = []
        for group in sorted(self.groups, key=lambda g: -len(g.key.join_keys)):
            known = {part.name for other in needed for part in other.key.join_keys}
            if not {part.name for part in group.key.join_keys} <= known:
                needed.append(group)
        return needed
