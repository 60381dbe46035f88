"""Compiling what feeds a view: its batch source or its stream."""

from __future__ import annotations

from collections.abc import Iterator

from featurekit.models.definitions import FeatureView
from featurekit.models.sources import (
    BatchSource,
    CsvSource,
    JsonlSource,
    KafkaSource,
    ParquetSource,
    PythonSource,
    RedisStreamSource,
    SqlSource,
)
from featurekit.plan import SourcePlan, StreamPlan

_Pairs = tuple[tuple[str, str], ...]


def compile_source(source: BatchSource) -> SourcePlan:
    """The plan of a batch source; paths stay relative to the repository's folder."""
    return SourcePlan(
        type=source.type,
        paths=() if isinstance(source, SqlSource | PythonSource) else source.path,
        query=(source.query or "") if isinstance(source, SqlSource) else "",
        callable=source.callable if isinstance(source, PythonSource) else "",
        timestamp_field=source.timestamp_field or "",
        created_timestamp_field=source.created_timestamp_field or "",
        columns=_renamed(source.columns),
        options=_file_options(source),
    )


def _renamed(columns: dict[str, str]) -> _Pairs:
    return tuple(sorted((name, column) for name, column in columns.items() if name != column))


def _file_options(source: BatchSource) -> _Pairs:
    options = []
    if isinstance(source, CsvSource):
        options += [("delimiter", source.delimiter), ("null", source.null)]
    if isinstance(source, ParquetSource | CsvSource | JsonlSource) and source.hive_partitioning:
        options.append(("hive_partitioning", "true"))
    return tuple(sorted(options))


def compile_stream(project: str, view: FeatureView) -> StreamPlan | None:
    """The plan of a view's stream; without a group of its own, two views share no events."""
    source = view.stream.source if view.stream else None
    if source is None:
        return None
    options = {
        "group": source.group or f"{project}-{view.name}",
        "event_timestamp_field": source.event_timestamp_field,
        "dead_letter": source.dead_letter,
        **dict(_own_options(source)),
    }
    options |= {f"columns.{name}": column for name, column in _renamed(source.columns)}
    options |= {f"where.{key}": text for key, text in source.where.items()}
    pairs = sorted((name, text) for name, text in options.items() if text is not None)
    return StreamPlan(source.type, tuple(pairs))


def _own_options(source: RedisStreamSource | KafkaSource) -> Iterator[tuple[str, str]]:
    if isinstance(source, KafkaSource):
        yield "topic", source.topic
        yield "bootstrap_servers", source.bootstrap_servers
        yield "start", source.start
        return
    yield "stream", source.stream
    yield "format", source.format
    if source.format == "json":
        yield "field", source.field or "data"
