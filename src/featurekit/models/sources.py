"""Sources: where the rows of batch views and the events of stream views come from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from featurekit.errors import ValueRefusedError
from featurekit.models.model import Model, requires_key
from featurekit.models.scalars import (
    Flag,
    NonEmptyText,
    ScalarText,
    Text,
    TextList,
    format_raw,
)


def _one_character(text: str) -> str:
    if len(text) != 1:
        raise ValueRefusedError(f"found {format_raw(text)}, expected one character")
    return text


def _callable(text: str) -> str:
    module, _, function = text.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), function]):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected module:function, as my_features.users:rows"
        )
    return text


class _Rows(Model):
    """What all batch sources can say about their rows."""

    timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="The column that tells when a row became true; the newest row of an entity "
        "wins; without it the last one does, for example `timestamp_field: event_timestamp`.",
    )
    created_timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="The column that decides between rows of an equal timestamp, "
        "for example `created_timestamp_field: created`.",
    )
    columns: dict[NonEmptyText, NonEmptyText] = Field(
        default={},
        description="The source's column for each field or join key of another name, "
        "for example `columns: {user_id: uid}`.",
    )

    @field_validator("created_timestamp_field")
    @classmethod
    def _created_needs_timestamp(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("timestamp_field", "") is None:
            raise requires_key(
                "timestamp_field",
                "it decides between equal timestamps, and there is no 'timestamp_field'",
            )
        return name


class _Files(_Rows):
    path: TextList = Field(
        description="Files, folders or globs, relative to the repository's folder, or URLs, "
        "for example `path: data/users.parquet`."
    )
    hive_partitioning: Flag = Field(
        default=False,
        description="Whether folders named `column=value` are columns, "
        "for example `hive_partitioning: true`.",
    )


class ParquetSource(_Files):
    """Parquet files."""

    type: Literal["parquet"] = Field(description="Parquet files; `type: parquet`.")


class CsvSource(_Files):
    """CSV files with a header line."""

    type: Literal["csv"] = Field(description="CSV files with a header line; `type: csv`.")
    delimiter: Annotated[Text, AfterValidator(_one_character)] = Field(
        default=",", description='What stands between columns, for example `delimiter: ";"`.'
    )
    null: Text = Field(
        default="",
        description="The text that means null, for example `null: NA`; empty by default.",
    )


class JsonlSource(_Files):
    """Files with one JSON object a line."""

    type: Literal["jsonl"] = Field(description="One JSON object a line; `type: jsonl`.")


class SqlSource(_Rows):
    """The result of a SQL query, run by DuckDB."""

    exactly_one: ClassVar[tuple[str, ...]] = ("query", "query_file")

    type: Literal["sql"] = Field(description="A query that DuckDB runs; `type: sql`.")
    query: NonEmptyText | None = Field(
        default=None,
        description="The query, for example `query: select * from 'data/users/*.parquet'`.",
    )
    query_file: NonEmptyText | None = Field(
        default=None,
        description="A file with the query, relative to the repository's folder, "
        "for example `query_file: sql/users.sql`.",
    )


class PythonSource(_Rows):
    """The rows that a Python function returns."""

    type: Literal["python"] = Field(description="A Python function; `type: python`.")
    callable: Annotated[Text, AfterValidator(_callable)] = Field(
        description="The function, importable from the repository's folder, "
        "for example `callable: my_features.users:rows`."
    )


BatchSource = Annotated[
    ParquetSource | CsvSource | JsonlSource | SqlSource | PythonSource,
    Field(discriminator="type"),
]


class _Events(Model):
    """What all stream sources can say about their events."""

    group: NonEmptyText | None = Field(
        default=None,
        description="The consumer group; the project's and the view's name by default, as "
        "`fraud-user_activity`, for example `group: features`.",
    )
    columns: dict[NonEmptyText, NonEmptyText] = Field(
        default={},
        description="The event's key for each field or join key of another name, "
        "for example `columns: {user_id: uid}`.",
    )
    where: dict[NonEmptyText, ScalarText] = Field(
        default={},
        description="Only events with these texts under these keys are taken, "
        "for example `where: {kind: login}`.",
    )
    event_timestamp_field: NonEmptyText | None = Field(
        default=None,
        description="The event's key with the time it became true, which `ordering: event_time` "
        "needs; `event_timestamp` by default, for example `event_timestamp_field: at`.",
    )
    dead_letter: NonEmptyText | None = Field(
        default=None,
        description="The stream or topic that refused events go to, "
        "for example `dead_letter: user-activity-refused`.",
    )


class RedisStreamSource(_Events):
    """A Redis stream, read by a consumer group."""

    type: Literal["redis_stream"] = Field(description="A Redis stream; `type: redis_stream`.")
    stream: NonEmptyText = Field(description="Its key, for example `stream: user-activity`.")
    format: Literal["fields", "json"] = Field(
        default="fields",
        description="Whether an entry's fields are the event's keys, or one of them holds the "
        "event as JSON, for example `format: json`.",
    )
    field: NonEmptyText | None = Field(
        default=None,
        description="The field with the JSON, `data` by default; only with `format: json`, "
        "for example `field: payload`.",
    )

    @field_validator("field")
    @classmethod
    def _field_of_json(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("format") == "fields":
            raise requires_key("format", "it names the field with the JSON: add 'format: json'")
        return name


class KafkaSource(_Events):
    """A Kafka topic of JSON objects."""

    type: Literal["kafka"] = Field(description="A Kafka topic of JSON; `type: kafka`.")
    topic: NonEmptyText = Field(description="The topic, for example `topic: user-activity`.")
    bootstrap_servers: NonEmptyText = Field(
        description="Where to find brokers, for example `bootstrap_servers: localhost:9092`."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="Where a new consumer group begins to read, for example `start: latest`.",
    )


StreamSource = Annotated[RedisStreamSource | KafkaSource, Field(discriminator="type")]
