"""The SQL of what a store would have held of a batch view, for programs that run it themselves.

It joins rows as `batch_history` does, and refuses what it cannot say. Its values are those of a
codec only for columns of the type that the field has.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from featurekit.constraints import UNCONSTRAINED
from featurekit.errors import RequestError
from featurekit.history_ports import HistoryQuery
from featurekit.plan import FieldPlan, ParquetSourcePlan, SourceColumns, SqlSourcePlan, ViewPlan
from featurekit.sources.batch_history import join_by_first, row_times
from featurekit.sources.files import FileSource
from featurekit.sources.history_index import INTEGERS, History
from featurekit.sources.load_times import to_ms
from featurekit.sources.selection import select
from featurekit.sources.session import Rows, quote_identifier, quote_text
from featurekit.sources.sql import SqlSource
from featurekit.types import DType, codec_of

_USE_ARROW = "use to_arrow() or persist(), or leave out the features of the view"
_CAST = "cast the column in a `type: sql` source, or use to_arrow()"
_TIME = "TIMESTAMP WITH TIME ZONE"
_FLOATS = ("FLOAT", "DOUBLE")
_TYPES = {
    "string": ("VARCHAR", ("VARCHAR",)),
    "int64": ("BIGINT", INTEGERS),
    "int32": ("INTEGER", INTEGERS),
    "float64": ("DOUBLE", _FLOATS),
    "float32": ("FLOAT", ("FLOAT",)),
    "bool": ("BOOLEAN", ("BOOLEAN",)),
    "timestamp": (_TIME, (_TIME,)),
    "date": ("DATE", ("DATE",)),
}
"""Maps types to the DuckDB type of their values, and to those of columns with the same values."""


def history_sql(history: Any, view: ViewPlan, query: HistoryQuery) -> str:
    """Return SQL with `rid` and the columns `{field}`, null where the store would have had no value.

    It reads a table `moments` as in `HistoryQuery`, whose `k` is made by `key_sql`.

    Raises:
        RequestError: SQL does not give the values that a job gives.
    """
    where = f"feature view {view.name}"
    plan = history.plan
    if not isinstance(plan, ParquetSourcePlan | SqlSourcePlan):
        kind = type(plan).__name__.removesuffix("SourcePlan")
        raise RequestError(
            f"to_sql() cannot read a {kind} source as a load reads it",
            where=where,
            hint="use to_arrow(), or read the data in a `type: sql` source",
        )
    if plan.static:
        raise RequestError("to_sql() does not read static sources", where=where, hint=_USE_ARROW)
    assert isinstance(history, FileSource | SqlSource)  # noqa: S101 - see `open_source`
    return history.with_rows(view, lambda rows: _view_sql(rows, view, plan, query))


def _view_sql(rows: Rows, view: ViewPlan, source: SourceColumns, query: HistoryQuery) -> str:
    """Return the SQL for some rows."""
    selection = select(replace(view, ordering="arrival"), source, rows)
    history = History(rows, view, source, selection, None)
    times = row_times(history, query)
    kinds = [rows.columns[source.column(k.name)] for k in view.key.join_keys]
    texts = [quote_identifier(source.column(k.name)) for k in view.key.join_keys]
    if selection.created_text:
        raise RequestError(
            "to_sql() does not read a created_timestamp_field of texts",
            where=rows.where,
            hint=_CAST,
        )
    order = {f"o{i}": part for i, part in enumerate(times.order)}
    index = {"k": key_sql(view, texts, kinds, rows.where), "known": times.known, "at": times.at}
    names = {field.name: f"v{i}" for i, field in enumerate(view.fields)}
    columns = index | order | {names[f.name]: _column(rows, source, f) for f in view.fields}
    parts = ", ".join(f'{part} AS "{name}"' for name, part in columns.items())
    used = ", ".join(f'"{name}"' for name in (index | order))
    values = ", ".join(
        f"CASE WHEN {to_ms('m.t')} <= m.wrote + {field.ttl_ms or view.ttl_ms} "
        f"THEN {_value(rows, field, names[field.name])} END AS {quote_identifier(field.name)}"
        for field in view.fields
    )
    return (
        f"WITH numbered AS MATERIALIZED (SELECT {parts}, row_number() OVER () AS rn FROM {rows.source}), "
        f"row_index AS (SELECT {used}, rn FROM numbered WHERE k IS NOT NULL AND known IS NOT NULL) "
        f"SELECT m.rid, {values} FROM {times.loads.wrote(join_by_first(times))} m "
        "LEFT JOIN numbered n ON m.rn = n.rn"
    )


def key_sql(
    view: ViewPlan,
    columns: Sequence[str],
    kinds: Sequence[str],
    where: str,
    *,
    checked: bool = False,
) -> str:
    """Return the SQL of a key, null if a part is missing.

    Args:
        view: The view with the join keys.
        columns: The SQL of their columns.
        kinds: The DuckDB types of these.
        where: The name of the rows in errors.
        checked: Whether a key without a part is an error when the SQL runs.
    """
    parts = []
    for join_key, column, kind in zip(view.key.join_keys, columns, kinds, strict=True):
        wanted, accepted = _types_of(join_key.dtype, f"join key {join_key.name}", where)
        if kind not in accepted or wanted == "DATE":
            raise RequestError(
                f"to_sql() does not compare {kind} with a {join_key.dtype}",
                where=f"{where}, join key {join_key.name}",
                hint="cast the column in a query",
            )
        # A number of either width is the same key.
        parts.append(f"nullif({column}, '')" if kind == "VARCHAR" else f"CAST({column} AS BIGINT)")
    if not parts:
        return "0"
    is_missing = " OR ".join(f"{part} IS NULL" for part in parts)
    key = parts[0] if len(parts) == 1 else f"row({', '.join(parts)})"
    missing = f"error({quote_text(f'{where}: a row has no key')})" if checked else "NULL"
    return f"CASE WHEN {is_missing} THEN {missing} ELSE {key} END"


def default_sql(field: FieldPlan) -> str:
    """Return the SQL of a field's default; `NULL` if it has none."""
    if field.default is None:
        return "NULL"
    value = codec_of(field.dtype).decode(field.default)
    return f"CAST({quote_text(str(value))} AS {_TYPES[str(field.dtype)][0]})"


def cast_sql(field: FieldPlan, value: str, where: str) -> str:
    """Return the SQL of a value as the type of a field."""
    kind, _ = _types_of(field.dtype, f"field {field.name}", where)
    return f"CAST({value} AS {kind})"


def label_value_sql(field: FieldPlan, kind: str, where: str) -> str:
    """Return the SQL of a value of the request in labels, with its default.

    Args:
        field: The value.
        kind: The DuckDB type of its column.
        where: The name of the labels in errors.
    """
    _, accepted = _types_of(field.dtype, field.name, where)
    if kind not in accepted:
        raise RequestError(
            f"to_sql() does not make a {field.dtype} of a {kind}",
            where=f"{where}, {field.name}",
            hint="cast the column in a query",
        )
    _check_constraints(field, where)
    value = quote_identifier(field.name)
    fits = " AND ".join(_conditions(field, value))
    if fits:
        message = quote_text(f"{where}: a value does not fit, {field.name}: ")
        value = (
            f"CASE WHEN NOT ({fits}) THEN error({message} || {value}::VARCHAR) ELSE {value} END"
        )
    return value if field.default is None else f"coalesce({value}, {default_sql(field)})"


def _check_constraints(field: FieldPlan, where: str) -> None:
    others = replace(field.constraints, allow_nan=False, required=False, min=None, max=None)
    if others != UNCONSTRAINED:
        raise RequestError(
            "to_sql() does not check one_of, pattern or max_length",
            where=f"{where}, field {field.name}",
            hint="use to_arrow(), or leave out the feature",
        )


def _types_of(dtype: DType, what: str, where: str) -> tuple[str, tuple[str, ...]]:
    if (found := _TYPES.get(str(dtype))) is None:
        raise RequestError(
            f"to_sql() does not give the values of {dtype}",
            where=f"{where}, {what}",
            hint="use to_arrow(), or leave out the feature",
        )
    return found


def _column(rows: Rows, source: SourceColumns, field: FieldPlan) -> str:
    """Return the SQL of a field's column, whose values need no conversion."""
    where = f"field {field.name}"
    _, accepted = _types_of(field.dtype, where, rows.where)
    _check_constraints(field, rows.where)
    column = source.column(field.name)
    if rows.columns[column] not in accepted:
        raise RequestError(
            f"to_sql() does not make a {field.dtype} of the {rows.columns[column]} in '{column}'",
            where=f"{rows.where}, {where}",
            hint=_CAST,
        )
    return quote_identifier(column)


def _value(rows: Rows, field: FieldPlan, name: str) -> str:
    """Return the SQL of a value; one that a load would refuse is an error when the SQL runs."""
    value, dtype = f"n.{name}", str(field.dtype)
    fits = _conditions(field, value)
    refused = f"NOT ({' AND '.join(fits)})" if fits else ""
    if field.constraints.required:
        is_missing = f"n.rn IS NOT NULL AND {value} IS NULL"
        refused = f"({is_missing}) OR {refused}" if refused else is_missing
    cast = f"CAST({value} AS {_TYPES[dtype][0]})"
    if not refused:
        return cast
    message = quote_text(f"{rows.where}: a row does not fit, {field.name}: ")
    shown = f"coalesce({value}::VARCHAR, 'null')"
    return f"CASE WHEN {refused} THEN error({message} || {shown}) ELSE {cast} END"


def _conditions(field: FieldPlan, value: str) -> list[str]:
    """Return the SQL of what must hold for a value; each is null for a null."""
    dtype, constraints = str(field.dtype), field.constraints
    found = []
    if dtype.startswith("float") and not constraints.allow_nan:
        found.append(f"isfinite({value})")
    elif dtype in ("date", "timestamp"):
        found.append(f"isfinite({value}) AND year({value}) BETWEEN 1 AND 9999")
    is_float = dtype.startswith("float")
    for sign, bound in ((">=", constraints.min), ("<=", constraints.max)):
        if bound is not None and is_float:  # NaN is out of no bounds, if it is allowed
            limit = f"CAST({quote_text(str(bound))} AS DOUBLE)"
            found.append(f"(isnan({value}) OR {value}::DOUBLE {sign} {limit})")
        elif bound is not None:
            found.append(f"{value} {sign} {bound}")
    return found


NO_MOMENTS = pa.table({"at": pa.array([], pa.int64())})
"""The moments of a query whose SQL is wanted."""
