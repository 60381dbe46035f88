"""Data sources of Feast as sources here. What has no equal becomes a query to be written."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

Document = Mapping[str, Any]

_WAREHOUSES = {
    "BATCH_BIGQUERY": ("BigQuery", "bigqueryOptions"),
    "BATCH_SNOWFLAKE": ("Snowflake", "snowflakeOptions"),
    "BATCH_REDSHIFT": ("Redshift", "redshiftOptions"),
    "BATCH_TRINO": ("Trino", "trinoOptions"),
    "BATCH_ATHENA": ("Athena", "athenaOptions"),
    "BATCH_SPARK": ("Spark", "sparkOptions"),
}


@dataclass(slots=True)
class Source:
    """A source as YAML has it, and what differs.

    Attributes:
        keys: The keys under `source`; `None` if there is none.
        notes: What differs, why, and what to do.
    """

    keys: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)


def batch_source(source: Document, columns: Mapping[str, str], folder: PurePosixPath) -> Source:
    """Return the source of rows.

    Args:
        source: Feast's data source.
        columns: The columns of fields and join keys whose names differ here.
        folder: The way from the new repository to the folder of the Feast repository.
    """
    kind = source.get("type", "")
    if kind == "BATCH_FILE":
        found = _file(source["fileOptions"], folder)
    elif kind == "BATCH_SPARK":
        found = _spark(source.get("sparkOptions", {}), folder)
    else:
        found = _query_to_write(source)
    if found.keys is not None:
        found.keys |= _times(source, columns)
        _add_partitions(source, found)
    return found


def column_names(source: Document, renamed: Mapping[str, str]) -> dict[str, str]:
    """Return the source's columns of fields and join keys whose names differ.

    Args:
        source: Feast's data source; its `fieldMapping` leads from columns to Feast's names.
        renamed: The names in Feast, by their names here.
    """
    original = {name: column for column, name in source.get("fieldMapping", {}).items()}
    pairs = ((here, original.get(feast, feast)) for here, feast in renamed.items())
    return {here: column for here, column in pairs if here != column}


def _times(source: Document, columns: Mapping[str, str]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if source.get("timestampField"):
        keys["timestamp_field"] = source["timestampField"]
        if source.get("createdTimestampColumn"):
            keys["created_timestamp_field"] = source["createdTimestampColumn"]
    return keys | ({"columns": dict(columns)} if columns else {})


def _add_partitions(source: Document, found: Source) -> None:
    column = source.get("datePartitionColumn")
    if not column or found.keys is None:
        return
    if found.keys["type"] == "parquet" and "timestamp_field" in found.keys:
        found.keys |= {"hive_partitioning": True, "date_partition_column": column}
        found.notes.append(
            f"date_partition_column: the folders must be named `{column}=2026-01-31`, with dates in UTC"
        )
    else:
        found.notes.append(
            f"date_partition_column {column}: only Parquet files in folders have it here; filter in "
            "the query instead"
        )


def _file(options: Document, folder: PurePosixPath) -> Source:
    path = _location(options.get("uri", ""), folder)
    notes = []
    if options.get("s3EndpointOverride"):
        notes.append(
            f"s3_endpoint_override {options['s3EndpointOverride']}: DuckDB reads the files; create a "
            "secret with this ENDPOINT in DuckDB, or use a local copy"
        )
    if "deltaFormat" in options.get("fileFormat", {}):
        notes.append("a Delta table: DuckDB reads it with its extension `delta`")
        query = "select * from delta_scan($path)"
        return Source({"type": "sql", "query": query, "parameters": {"path": path}}, notes)
    kind = "csv" if path.lower().endswith((".csv", ".csv.gz")) else "parquet"
    return Source({"type": kind, "path": path}, notes)


def _location(uri: str, folder: PurePosixPath) -> str:
    """Return where files are, from the new repository."""
    path = uri.removeprefix("file://")
    if "://" in path or path.startswith("/"):
        return path
    parts: list[str] = []
    for part in (folder / path).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return str(PurePosixPath(*parts))


def _spark(options: Document, folder: PurePosixPath) -> Source:
    engine = "load it with `--engine spark`, or replace the source by one of files"
    if options.get("table"):
        return Source(
            {"type": "table", "table": options["table"]}, [f"a table of Spark: {engine}"]
        )
    if options.get("query"):
        keys = {"type": "sql", "dialect": "spark", "query": options["query"]}
        return Source(keys, [f"a query in Spark's SQL: {engine}"])
    form = str(options.get("fileFormat", "parquet")).lower()
    if options.get("path") and form in ("parquet", "csv"):
        return Source({"type": form, "path": _location(options["path"], folder)})
    return _query_to_write({"type": "BATCH_SPARK", "sparkOptions": options})


def _query_to_write(source: Document) -> Source:
    """Return a query of comments, which `validate` names until it is written."""
    name, options_key = _WAREHOUSES.get(source.get("type", ""), ("", ""))
    options = source.get(options_key, {})
    if not name:
        name = str(source.get("dataSourceClassType") or "a custom source").rpartition(".")[2]
        name = name.removesuffix("Source")
        options = _custom_options(source)
    table = ".".join(
        str(options[key]) for key in ("catalog", "database", "schema", "table") if options.get(key)
    )
    what = f"the table {table}" if table else "its table"
    lines = [f"-- Feast reads {what} from {name}, which DuckDB does not read by itself."]
    if options.get("query"):
        lines += ["-- Feast's query:", *(f"--   {line}" for line in options["query"].splitlines())]
    lines += [
        "-- Export the rows to Parquet and read them here, or use an extension of DuckDB:",
        "-- select * from 'exported/*.parquet'",
    ]
    note = (
        f"{name}: write the query of the source, or replace it by `type: parquet`; until then the view "
        "cannot be loaded from it"
    )
    return Source({"type": "sql", "query": "\n".join(lines) + "\n"}, [note])


def _custom_options(source: Document) -> dict[str, Any]:
    """Return the options of a source that is not Feast's own: JSON in base64, as contributed ones have it."""
    text = str(source.get("customOptions", {}).get("configuration", ""))
    try:
        options = json.loads(base64.b64decode(text))
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}


def stream_source(source: Document, columns: Mapping[str, str]) -> Source:
    """Return the source of events; without one, programs write them."""
    kind = source.get("type", "")
    if kind == "STREAM_KAFKA":
        options = source.get("kafkaOptions", {})
        keys: dict[str, Any] = {
            "type": "kafka",
            "topic": options.get("topic", ""),
            "bootstrap_servers": options.get("kafkaBootstrapServers", ""),
        }
        if source.get("timestampField"):
            keys["event_timestamp_field"] = source["timestampField"]
        keys |= {"columns": dict(columns)} if columns else {}
        form = next(iter(options.get("messageFormat", {"jsonFormat": {}})))
        if form == "jsonFormat":
            return Source(keys)
        name = form.removesuffix("Format")
        note = (
            f"messages of topic {keys['topic']} are {name}; workers here read JSON objects: convert the "
            "topic, or write the events with `stream_writer`"
        )
        return Source(None, [note])
    if kind == "PUSH_SOURCE":
        return Source(
            None,
            [
                f"push source {source.get('name', '')}: `store.push` is `store.stream_writer(view).write`, "
                "or `POST /push` with the name of the view"
            ],
        )
    name = "Kinesis" if kind == "STREAM_KINESIS" else kind.lower() or "the stream"
    return Source(None, [f"{name} is not read here: write the events with `stream_writer`"])
