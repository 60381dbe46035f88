"""The SQL of a training set, for DuckDB."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit.errors import RequestError
from featurekit.expressions import NOW, select_sql
from featurekit.plan import DerivedColumn, FieldPlan, FunctionPlan, ViewPlan
from featurekit.sources.history_sql import cast_sql, default_sql, key_sql, label_value_sql
from featurekit.sources.labels import SqlLabels
from featurekit.sources.session import Session, quote_files, quote_identifier, quote_text
from featurekit.training.build import TrainingRequest, ViewPart, check_names
from featurekit.training.columns import status_name
from featurekit.training.derived import check_request_data
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
    check_request_data(kinds, request.plan)
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
    ctes += _feature_ctes(request, kinds, " ".join(joins))
    ctes_text = ",\n".join(ctes)
    outputs = ", ".join([f"l.* EXCLUDE ({_RID})", *_outputs(request)])
    return (
        f"SET TimeZone = 'UTC';\nSET file_search_path = {quote_text(str(root))};\n"
        f"WITH {ctes_text}\nSELECT {outputs}\nFROM labels l JOIN features f ON f.rid = l.{_RID}\n"
        f"ORDER BY l.{_RID}"
    )


def _feature_ctes(request: TrainingRequest, kinds: dict[str, str], joins: str) -> list[str]:
    """Return the tables `stored` and `features`: of each label the stored features, and the derived too.

    Of each stored feature of the plan, `s0`, ... is null for none, and `v0`, ... has the default. The
    derived ones are `d0`, ...
    """
    plan = request.plan
    numbers = {(p.view.name, p.group.alias): i for i, p in enumerate(request.parts)}
    parts = [f"l.{_RID} AS rid"]
    for i, column in enumerate(plan.stored):
        value = f"view{numbers[column.view, column.alias]}.{quote_identifier(column.field.name)}"
        parts += [f"{value} AS s{i}", f"{_with_default(column.field, value)} AS v{i}"]
    for i, each in enumerate(plan.requests):
        kind = kinds.get(each.name)
        value = label_value_sql(each.field, kind, "labels") if kind else default_sql(each.field)
        parts.append(f"{value} AS q{i}")
    parts.append(f"l.{quote_identifier(request.timestamp_field)} AS now")
    source = "stored"
    for i, derived in enumerate(plan.derived):
        compute = derived.feature.compute
        if isinstance(compute, FunctionPlan):
            raise RequestError(
                f"to_sql() does not call {compute.callable}",
                where=f"feature {derived.name}",
                hint="use to_arrow(), or leave out the feature",
            )
        names = zip(derived.arguments, derived.feature.inputs, strict=True)
        columns = {each.name: f"q{n}" if each.is_request else f"v{n}" for n, each in names}
        sql = select_sql(
            {f"d{i}": compute}, source, columns | {NOW: NOW}, keep="*", prefix=f"e{i}_"
        )
        source = f"({sql})"
    stored = f"stored AS (SELECT {', '.join(parts)} FROM labels l {joins})"
    return [stored, f"features AS (FROM {source})"]


def _with_default(field: FieldPlan, value: str) -> str:
    return value if field.default is None else f"coalesce({value}, {default_sql(field)})"


def _outputs(request: TrainingRequest) -> list[str]:
    plan = request.plan
    names = {id(column): f"f.s{i}" for i, column in enumerate(plan.stored)}
    names |= {id(column): f"f.d{i}" for i, column in enumerate(plan.derived)}
    outputs = {}
    for column in plan.columns:
        value = names[id(column)]
        if isinstance(column, DerivedColumn):
            value = cast_sql(column.field, value, f"feature {column.name}")
        outputs[column.name] = _with_default(column.field, value)
        if request.statuses:
            absent = "missing" if column.field.default is None else "default"
            status = f"CASE WHEN {value} IS NULL THEN '{absent}' ELSE 'present' END"
            outputs[status_name(column.name)] = status
    features = [c.name for c in plan.columns]
    order = [*features, *(map(status_name, features) if request.statuses else ())]
    return [f"{outputs[name]} AS {quote_identifier(name)}" for name in order]


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
    dtypes = {column.name: column.field.dtype for column in request.plan.requests}
    dtypes |= {k.name: k.dtype for part in request.parts for k in part.keyed.key.join_keys}
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
