"""Plans of sources: where rows and events come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featurekit.feature_lists import NamePairs
from featurekit.keys import default_dead_letter


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
