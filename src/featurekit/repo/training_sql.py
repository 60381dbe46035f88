"""The SQL of a training set, for DuckDB."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit.errors import RequestError
from featurekit.plan import Column, ViewPlan
from featurekit.sources.history_sql import default_sql, key_sql
from featurekit.sources.labels import SqlLabels
from featurekit.sources.session import Session, quote_files, quote_identifier, quote_text
from featurekit.training.build import TrainingRequest, ViewPart, check_names
from featurekit.training.columns import status_name
from featurekit.training.label_files import csv_schema, label_path
from featurekit.training.labels import check_columns

ViewSql = Callable[[ViewPlan], str]
"""Returns the SQL of a view. See `history_sql`."""

_RID = '"featurekit row"'
_TIME = "TIMESTAMP WITH TIME ZONE"
_TIME_TEXT = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.]\d{1,6})?)?([Zz]|[+-](0\d|1[0-5]):[0-5]\d)"
_CSV_TYPES = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.timestamp("s"): "TIMESTAMP_S",
    pa.null(): "VARCHAR",
}


def training_sql(request: TrainingRequest, view_sql: ViewSql, root: Path) -> str:
    """Return statements whose last one gives the rows of a training set. See `RetrievalJob.to_sql`."""
    for column in request.plan.stored:
        if column.min_remaining_ttl_ms is not None or column.max_event_age_ms is not None:
            raise RequestError(
                "to_sql() does not know `max_age`", hint="leave it out, or use to_arrow()"
            )
    if request.plan.derived:
        raise RequestError(
            "to_sql() does not compute derived features",
            where=f"feature {request.plan.derived[0].name}",
            hint="use to_arrow(), or leave them out",
        )
    session = Session(root)
    try:
        with session.errors("labels"):
            source = _label_source(request, session)
            kinds = session.columns(source)
    finally:
        session.close()
    keyed = [part.keyed for part in request.parts]
    join_keys = list(dict.fromkeys(k.name for view in keyed for k in view.key.join_keys))
    check_columns(list(kinds), join_keys, request.timestamp_field)
    check_names(pa.schema([(name, pa.null()) for name in kinds]), request.features_schema)
    if (kind := kinds[request.timestamp_field]) != _TIME:
        raise RequestError(
            f"to_sql() needs labels with a {_TIME}, not {kind}",
            where=f"labels, {request.timestamp_field}",
            hint="cast the column in a query, or use to_arrow()",
        )
    ctes = [f"labels AS MATERIALIZED (SELECT *, row_number() OVER () AS {_RID} FROM {source})"]
    joins = []
    for number, part in enumerate(request.parts):
        moments = _moments(part, kinds, request.timestamp_field)
        fields = dict.fromkeys(column.field for column in part.columns)
        view = part.of(tuple(fields))
        ctes.append(f"view{number} AS (WITH moments AS ({moments}) FROM ({view_sql(view)}))")
        joins.append(f"JOIN view{number} ON view{number}.rid = l.{_RID}")
    ctes_text = ",\n".join(ctes)
    outputs = ", ".join([f"l.* EXCLUDE ({_RID})", *_outputs(request)])
    return (
        f"SET TimeZone = 'UTC';\nSET file_search_path = {quote_text(str(root))};\n"
        f"WITH {ctes_text}\nSELECT {outputs}\nFROM labels l {' '.join(joins)}\nORDER BY l.{_RID}"
    )


def _outputs(request: TrainingRequest) -> list[str]:
    numbers = {(p.view.name, p.group.alias): i for i, p in enumerate(request.parts)}

    def value(column: Column) -> str:
        number = numbers[column.view, column.alias]
        return f"view{number}.{quote_identifier(column.field.name)}"

    def status(column: Column) -> str:
        absent = "missing" if column.field.default is None else "default"
        return f"CASE WHEN {value(column)} IS NULL THEN '{absent}' ELSE 'present' END"

    columns = request.plan.columns
    outputs = {
        c.name: value(c)
        if c.field.default is None
        else f"coalesce({value(c)}, {default_sql(c.field)})"
        for c in columns
    }
    if request.statuses:
        outputs |= {status_name(c.name): status(c) for c in columns}
    return [f"{sql} AS {quote_identifier(name)}" for name, sql in outputs.items()]


def _moments(part: ViewPart, kinds: dict[str, str], timestamp_field: str) -> str:
    """Return the SQL of the moments of a view. A label without a key or a time is an error."""
    names = [k.name for k in part.keyed.key.join_keys]
    columns = [quote_identifier(name) for name in names]
    key = key_sql(part.keyed, columns, [kinds[n] for n in names], "labels", checked=True)
    time = quote_identifier(timestamp_field)
    at = f"CASE WHEN {time} IS NULL THEN error('labels: a row has no time') ELSE epoch_us({time}) END"
    return f'SELECT {_RID} AS rid, {key} AS k, {at} AS "at" FROM labels'


def _label_source(request: TrainingRequest, session: Session) -> str:
    """Return the FROM clause of the labels."""
    labels: Any = request.labels
    if isinstance(labels, SqlLabels):
        statement = labels.statement(session).query.strip()
        return f"(\n{statement.removesuffix(';')}\n)"
    if not isinstance(labels, str | Path):
        raise RequestError(
            "to_sql() needs labels that SQL can read",
            hint="pass the path of a Parquet or CSV file, or a SQL query",
        )
    path = label_path(labels).absolute()
    if path.is_dir():
        raise RequestError(
            "to_sql() does not read a folder of labels",
            where=f"labels, {path}",
            hint=f"pass the query \"FROM '{path}/*.parquet'\"",
        )
    file = quote_files([str(path)])
    dtypes = {k.name: k.dtype for part in request.parts for k in part.keyed.key.join_keys}
    schema = csv_schema(path, dtypes, request.timestamp_field)
    if schema is None:
        return f"read_parquet({file}, hive_partitioning = false)"
    return _csv_source(file, schema, request.timestamp_field)


def _csv_source(file: str, schema: Any, timestamp_field: str) -> str:
    columns = []
    for field in schema:
        if (kind := _CSV_TYPES.get(field.type)) is None:
            raise RequestError(
                f"to_sql() does not read a column of {field.type} as to_arrow() does",
                where=f"labels, {field.name}",
                hint="leave out the column, or write the labels as Parquet",
            )
        columns.append(f"{quote_text(field.name)}: '{kind}'")
    rows = (
        f"read_csv({file}, auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
        f"nullstr = '', allow_quoted_nulls = true, columns = {{{', '.join(columns)}}})"
    )
    if timestamp_field not in schema.names:
        return rows
    name = quote_identifier(timestamp_field)
    time = (
        f"CASE WHEN {name} IS NULL OR regexp_full_match({name}, '{_TIME_TEXT}') THEN CAST({name} AS {_TIME}) "
        f"ELSE error('labels: ' || {name} || ' is not a time with a time zone, to microseconds') END"
    )
    return f"(SELECT * REPLACE ({time} AS {name}) FROM {rows})"
