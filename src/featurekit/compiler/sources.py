"""Compile the batch source or the stream of a feature view."""

from __future__ import annotations

from dataclasses import replace

from featurekit.feature_lists import NamePairs
from featurekit.models.definitions import FeatureView
from featurekit.models.sources import (
    BatchSource,
    CsvSource,
    EventHistory,
    JsonlEvents,
    JsonlSource,
    KafkaSource,
    ParquetEvents,
    ParquetSource,
    PythonSource,
    SqlEvents,
    SqlSource,
    TableSource,
)
from featurekit.plan import (
    CsvSourcePlan,
    FileSourcePlan,
    JsonlSourcePlan,
    KafkaTopicPlan,
    ParquetSourcePlan,
    PythonSourcePlan,
    RedisStreamPlan,
    SourcePlan,
    SqlSourcePlan,
    StreamPlan,
    TableSourcePlan,
)

_Files = ParquetSource | CsvSource | JsonlSource | JsonlEvents | ParquetEvents


def compile_source(source: BatchSource | EventHistory) -> SourcePlan:
    """Return the plan of a batch source or a history; paths stay relative to the repository's folder."""
    if isinstance(source, SqlSource | SqlEvents):
        plan: SourcePlan = SqlSourcePlan(
            query=source.query or "",
            parameters=tuple(sorted(source.parameters.items())),
            dialect=source.dialect if isinstance(source, SqlSource) else "duckdb",
        )
    elif isinstance(source, TableSource):
        plan = TableSourcePlan(table=source.table)
    elif isinstance(source, PythonSource):
        plan = PythonSourcePlan(callable=source.callable)
    else:
        plan = _compile_files(source)
    plan = replace(
        plan,
        timestamp_field=source.timestamp_field,
        created_timestamp_field=source.created_timestamp_field,
        columns=_renamed_columns(source.columns),
    )
    if isinstance(source, _Files):
        plan = replace(plan, date_partition_column=source.date_partition_column)
    if isinstance(source, ParquetEvents | SqlEvents):
        return replace(plan, nulls=source.nulls, sent_fields_column=source.sent_fields_column)
    return plan if isinstance(source, JsonlEvents) else replace(plan, static=source.static)


def _compile_files(source: _Files) -> FileSourcePlan:
    paths, hive = source.path, source.hive_partitioning
    if isinstance(source, CsvSource):
        return CsvSourcePlan(
            paths=paths,
            hive_partitioning=hive,
            delimiter=source.delimiter,
            null=source.null,
            encoding=source.encoding,
        )
    if isinstance(source, JsonlSource | JsonlEvents):
        absent = source.absent if isinstance(source, JsonlSource) else "null"
        return JsonlSourcePlan(paths=paths, hive_partitioning=hive, absent=absent)
    return ParquetSourcePlan(paths=paths, hive_partitioning=hive)


def compile_stream(project: str, view: FeatureView) -> StreamPlan | None:
    """Return the plan of a view's stream; each view has its own consumer group by default."""
    source = view.stream.source if view.stream else None
    if source is None:
        return None
    group = source.group or f"{project}-{view.name}"
    if isinstance(source, KafkaSource):
        plan: StreamPlan = KafkaTopicPlan(
            group=group,
            topic=source.topic,
            bootstrap_servers=source.bootstrap_servers,
            start=source.start,
        )
    else:
        json_field = (source.field or "data") if source.format == "json" else None
        plan = RedisStreamPlan(group=group, stream=source.stream, json_field=json_field)
    return replace(
        plan,
        columns=_renamed_columns(source.columns),
        where=tuple(sorted(source.where.items())),
        event_timestamp_field=source.event_timestamp_field,
        dead_letter=source.dead_letter,
    )


def _renamed_columns(columns: dict[str, str]) -> NamePairs:
    return tuple(sorted((name, column) for name, column in columns.items() if name != column))
