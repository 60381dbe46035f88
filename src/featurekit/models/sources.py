"""The YAML models of batch sources and stream sources."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from featurekit.errors import ValueRefusedError
from featurekit.models.model import Model, requires_key
from featurekit.models.scalars import (
    Flag,
    Name,
    NonEmptyText,
    ScalarText,
    Text,
    TextList,
    format_raw,
    list_of_one,
)


def _one_character(text: str) -> str:
    if len(text) != 1:
        raise ValueRefusedError(f"found {format_raw(text)}, expected one character")
    return text


def _callable_path(text: str) -> str:
    module, _, function = text.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), function]):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected module:function, for example "
            "my_features.users:rows"
        )
    return text


FunctionPath = Annotated[Text, AfterValidator(_callable_path)]
"""A Python function, as `module:function`."""


class _Source(Model):
    """A place that data comes from.

    Attributes:
        locations: The keys in which `${VAR}` is expanded when the source is opened.
    """

    locations: ClassVar[tuple[str, ...]] = ()


class _HistorySource(_Source):
    """Keys that all sources of rows, and histories of events, share."""

    timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="Column with a row's event time; the newest row of an entity is loaded, or "
        "the last row if there is no such column; "
        "for example `timestamp_field: event_timestamp`.",
    )
    created_timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="Column that orders rows with equal timestamps, "
        "for example `created_timestamp_field: created`.",
    )
    columns: dict[NonEmptyText, NonEmptyText] = Field(
        default={},
        description="Source columns of fields and join keys whose names differ, "
        "for example `columns: {user_id: uid}`.",
    )


class _RowSource(_HistorySource):
    """Keys that all batch sources share."""

    static: Flag = Field(
        default=False,
        description="Whether the rows hold for all times, so that a training set may contain them "
        "although they have no `timestamp_field`; for example `static: true`.",
    )

    @field_validator("created_timestamp_field")
    @classmethod
    def _created_requires_timestamp(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("timestamp_field", "") is None:
            raise requires_key(
                "timestamp_field",
                "it orders rows with equal timestamps, and there is no 'timestamp_field'",
            )
        return name

    @field_validator("static")
    @classmethod
    def _static_excludes_timestamp(cls, static: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic passes it
        if static and info.data.get("timestamp_field") is not None:
            raise ValueRefusedError(
                "rows with a 'timestamp_field' do not hold for all times",
                hint="remove 'static', or the 'timestamp_field' if it is not the time of a row",
            )
        return static


class _Files(_HistorySource):
    locations: ClassVar[tuple[str, ...]] = ("path",)

    path: TextList = Field(
        description="Files, folders or globs relative to the repository's folder, or URLs; `${VAR}` "
        "is expanded when they are read; for example `path: data/users.parquet`."
    )
    hive_partitioning: Flag = Field(
        default=False,
        description="Read folders named `column=value` as columns, "
        "for example `hive_partitioning: true`.",
    )
    date_partition_column: NonEmptyText | None = Field(
        default=None,
        description="Column of the folders with the date of `timestamp_field` in UTC, so that training "
        "sets and loads of some days open only the folders they need; with `hive_partitioning`; "
        "for example `date_partition_column: day`.",
    )

    @field_validator("date_partition_column")
    @classmethod
    def _partition_requires_folders(cls, name: str, info: ValidationInfo) -> str:
        if not info.data.get("hive_partitioning", True):
            raise requires_key(
                "hive_partitioning", "it is a column of folders: add 'hive_partitioning: true'"
            )
        if info.data.get("timestamp_field", "") is None:
            raise requires_key(
                "timestamp_field", "it has the date of a row's time: add 'timestamp_field'"
            )
        return name


class _FileSource(_Files, _RowSource):
    """Keys that all batch sources of files share."""


class ParquetSource(_FileSource):
    """Parquet files."""

    type: Literal["parquet"] = Field(description="Parquet files; `type: parquet`.")


NullTexts = Annotated[
    tuple[Text, ...],
    BeforeValidator(list_of_one),
    Field(min_length=1),
    PlainSerializer(lambda texts: texts[0] if len(texts) == 1 else list(texts)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
"""One text, or a list of them; may be empty."""


class CsvSource(_FileSource):
    """CSV files with a header line."""

    type: Literal["csv"] = Field(description="CSV files with a header line; `type: csv`.")
    delimiter: Annotated[Text, AfterValidator(_one_character)] = Field(
        default=",", description='Column separator, for example `delimiter: ";"`.'
    )
    null: NullTexts = Field(
        default=("",),
        description="Text that is read as null, or a list of them, empty by default, "
        'for example `null: [NA, ""]`.',
    )
    encoding: Literal["utf-8", "utf-16", "latin-1", "windows-1252"] = Field(
        default="utf-8",
        description="Encoding of the files; other files than those in UTF-8 are converted to "
        "temporary ones, for example `encoding: utf-16`.",
    )


class JsonlSource(_FileSource):
    """Files with one JSON object per line."""

    type: Literal["jsonl"] = Field(
        description="Files with one JSON object per line; `type: jsonl`."
    )
    absent: Annotated[
        Literal["refuse", "null"], WithJsonSchema({"enum": ["refuse", "null", None]})
    ] = Field(
        default="refuse",
        description="What a load does if no line has a field: `refuse` the files, or read it as "
        "`null`, which deletes the stored values; for example `absent: null`.",
    )


class _Query(_HistorySource):
    exactly_one: ClassVar[tuple[str, ...]] = ("query", "query_file")
    locations: ClassVar[tuple[str, ...]] = ("parameters",)

    type: Literal["sql"] = Field(description="A query that DuckDB runs; `type: sql`.")
    query: NonEmptyText | None = Field(
        default=None,
        description="The query, for example `query: select * from 'data/users/*.parquet'`.",
    )
    query_file: NonEmptyText | None = Field(
        default=None,
        description="File with the query, relative to the repository's folder, "
        "for example `query_file: sql/users.sql`.",
    )
    parameters: dict[Name, ScalarText] = Field(
        default={},
        description="Texts for `$name` in the query, in which `${VAR}` is expanded when it runs, "
        "for example `parameters: {users: data/users.parquet}`.",
    )


class SqlSource(_Query, _RowSource):
    """The result of a SQL query, run by DuckDB or by Spark."""

    dialect: Literal["duckdb", "spark"] = Field(
        default="duckdb",
        description="Whose SQL the query is in: `duckdb`, or `spark` for loads with `--engine spark`, where "
        "parameters are written `:name`; for example `dialect: spark`.",
    )


class TableSource(_RowSource):
    """A table of Spark's catalog: Hive, Iceberg, Delta or any other. Only for the engine `spark`."""

    locations: ClassVar[tuple[str, ...]] = ("table",)

    type: Literal["table"] = Field(description="A table of Spark's catalog; `type: table`.")
    table: NonEmptyText = Field(
        description="The name of the table; `${VAR}` is expanded when it is read; for example "
        "`table: lake.users`."
    )


class PythonSource(_RowSource):
    """The rows returned by a Python function."""

    type: Literal["python"] = Field(description="A Python function; `type: python`.")
    callable: FunctionPath = Field(
        description="The function, importable from the repository's folder, "
        "for example `callable: my_features.users:rows`."
    )


BatchSource = Annotated[
    ParquetSource | CsvSource | JsonlSource | SqlSource | TableSource | PythonSource,
    Field(discriminator="type"),
]


class _EventHistory(_HistorySource):
    """Keys that all histories of events share.

    `timestamp_field` is the time of an event, and `created_timestamp_field` that of its arrival.
    """

    timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="Column with the time of an event, from which TTLs count; where it is null, the "
        "arrival counts; for example `timestamp_field: event_timestamp`.",
    )
    created_timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="Column with the time at which an event arrived, from which it is served; "
        "without it, events arrive at their own time; "
        "for example `created_timestamp_field: arrived`.",
    )


class _EventColumns(_EventHistory):
    """Keys of formats that cannot distinguish null from an absent field."""

    nulls: Literal["absent", "delete"] = Field(
        default="absent",
        description="What a null says of an event: that it did not have the field, or that it "
        "deleted it; for example `nulls: delete`.",
    )
    sent_fields_column: NonEmptyText | None = Field(
        default=None,
        description="Column with the list of the fields that an event had, of which those that are null "
        "were deleted; instead of `nulls`; for example `sent_fields_column: sent_fields`.",
    )

    @field_validator("sent_fields_column")
    @classmethod
    def _excludes_nulls(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("nulls") == "delete":
            raise ValueRefusedError(
                "the column says which nulls delete, and so does 'nulls: delete'",
                hint="remove one of the two",
            )
        return name


class JsonlEvents(_EventHistory, _Files):
    """A history of events: files with one JSON object per line. A null deletes; an absent field stays."""

    type: Literal["jsonl"] = Field(
        description="Files with one JSON object per line; `type: jsonl`."
    )


class ParquetEvents(_EventColumns, _Files):
    """A history of events: Parquet files with a row per event."""

    type: Literal["parquet"] = Field(description="Parquet files; `type: parquet`.")


class SqlEvents(_EventColumns, _Query):
    """A history of events: the result of a SQL query, run by DuckDB, with a row per event."""

    type: Literal["sql"] = Field(description="A query that DuckDB runs; `type: sql`.")


EventHistory = Annotated[JsonlEvents | ParquetEvents | SqlEvents, Field(discriminator="type")]


class _EventSource(_Source):
    """Keys that all stream sources share."""

    group: NonEmptyText | None = Field(
        default=None,
        description="Consumer group, by default `<project>-<view>`, "
        "for example `group: features`.",
    )
    columns: dict[NonEmptyText, NonEmptyText] = Field(
        default={},
        description="Event keys of fields and join keys whose names differ, "
        "for example `columns: {user_id: uid}`.",
    )
    where: dict[NonEmptyText, ScalarText] = Field(
        default={},
        description="Texts that these event keys must have; other events are skipped; "
        "for example `where: {kind: login}`.",
    )
    event_timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="Event key with the event time, from which the TTL counts; by default "
        "`event_timestamp` with `ordering: event_time`, otherwise the time of the entry or "
        "message counts; for example `event_timestamp_field: at`.",
    )
    dead_letter: NonEmptyText | None = Field(
        default=None,
        description="Stream or topic for rejected events, "
        "for example `dead_letter: user-activity-refused`.",
    )


class RedisStreamSource(_EventSource):
    """A Redis stream, read by a consumer group."""

    locations: ClassVar[tuple[str, ...]] = ("stream", "group", "dead_letter")

    type: Literal["redis_stream"] = Field(description="A Redis stream; `type: redis_stream`.")
    stream: NonEmptyText = Field(
        description="Key of the stream; `${VAR}` is expanded here, in `group` and in `dead_letter`, when "
        "the stream is opened; for example `stream: user-activity`."
    )
    format: Literal["fields", "json"] = Field(
        default="fields",
        description="`fields`: the fields of an entry are the event. `json`: one field holds the "
        "event as a JSON object; for example `format: json`.",
    )
    field: NonEmptyText | None = Field(
        default=None,
        description="Field with the JSON object, by default `data`; only with `format: json`; "
        "for example `field: payload`.",
    )

    @field_validator("field")
    @classmethod
    def _field_requires_json(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("format") == "fields":
            raise requires_key("format", "it names the field with the JSON: add 'format: json'")
        return name


class KafkaSource(_EventSource):
    """A Kafka topic of JSON objects."""

    locations: ClassVar[tuple[str, ...]] = (
        "topic",
        "bootstrap_servers",
        "group",
        "dead_letter",
    )

    type: Literal["kafka"] = Field(description="A Kafka topic of JSON objects; `type: kafka`.")
    topic: NonEmptyText = Field(
        description="The topic; `${VAR}` is expanded here, in `bootstrap_servers`, in `group` and in "
        "`dead_letter`, when the topic is opened; for example `topic: user-activity`."
    )
    bootstrap_servers: NonEmptyText = Field(
        description="Brokers to connect to first, for example `bootstrap_servers: localhost:9092`."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="Where a new consumer group begins, for example `start: latest`.",
    )


StreamSource = Annotated[RedisStreamSource | KafkaSource, Field(discriminator="type")]
