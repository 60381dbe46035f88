"""Build the SQL expressions for what a view reads from rows.

Column names are compared with case, which DuckDB itself does not do.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from featurekit.errors import SourceError, name_hint
from featurekit.plan import CsvSourcePlan, JsonlSourcePlan, SourceColumns, ViewPlan
from featurekit.ports import ALL_TIMES, LINE, PROBLEM, TimeRange
from featurekit.sources.session import Rows, quote_identifier, quote_list, quote_text
from featurekit.sources.text_copies import LINE_COLUMN, PROBLEM_COLUMN
from featurekit.sources.times import (
    CreatedOrder,
    created_order,
    event_time,
    is_number,
    time_comparison,
)
from featurekit.types import DType, codec_of

_INT128_TYPES = ("HUGEINT", "UHUGEINT")

_TYPES_WITHOUT_VALUES = re.compile(r'(?<!")\b(INTERVAL\b|UNION\()')
"""DuckDB types, or parts of one, that only JSON can hold."""

_JSON = DType("json")

_FIRST_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Selection:
    """What a view reads from rows, as SQL expressions.

    Attributes:
        names: The columns of the result, in order.
        values: The expressions of those columns.
        keys: The expressions that identify an entity; a constant for a view without one.
        order: The expressions that order rows by age, most important first; arrival comes last.
        time: The event time of a row; empty if the source has no timestamp field.
        in_time_range: The condition of the rows to read.
        is_future: The condition of the rows that are too new to load.
        created_text: See `CreatedOrder.text`.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    keys: tuple[str, ...]
    order: tuple[str, ...]
    time: str
    in_time_range: str
    is_future: str = "false"
    created_text: str = ""

    @property
    def complete(self) -> str:
        """The condition of a row that has an entity and a time."""
        parts = [*self.keys, *([self.time] if self.time else [])]
        return " AND ".join(f"{part} IS NOT NULL" for part in parts)


def select(
    view: ViewPlan,
    source: SourceColumns,
    rows: Rows,
    time_range: TimeRange = ALL_TIMES,
) -> Selection:
    """Return what a view reads from rows.

    Raises:
        SourceError: A column is missing, the timestamp column is not a time, or a time range was
            given for a source without a timestamp field.
    """
    if rows.form != "json":
        check_columns(view, source, rows.columns, rows.where)
    column, created_column = source.timestamp_field, source.created_timestamp_field
    if view.event_time_field and not column:
        raise SourceError(
            "the rows have no time, which `ordering: event_time` needs",
            where=rows.where,
            hint=f"add the column '{view.timestamp_field}'",
        )
    kind = _duckdb_type(rows, column) if column else ""
    time = event_time(rows, column, _column(rows, column), kind) if column else ""
    created = CreatedOrder()
    if created_column:
        value, created_kind = _column(rows, created_column), _duckdb_type(rows, created_column)
        created = created_order(rows, created_column, value, created_kind)
    outputs = _outputs(view, source, rows)
    if time:
        outputs["event_timestamp"] = f"CAST({time} AS TIMESTAMPTZ)"
    if rows.has_problems:
        outputs[PROBLEM] = f"nullif({quote_identifier(PROBLEM_COLUMN)}, '')"
        outputs[LINE] = quote_identifier(LINE_COLUMN)
    return Selection(
        names=tuple(outputs),
        values=tuple(outputs.values()),
        keys=tuple(_key(rows, source.column(k.name), k.dtype) for k in view.key.join_keys)
        or ("true",),
        order=(*([time] if time else []), *created.order),
        time=time,
        in_time_range=_in_time_range(rows, time, kind, time_range),
        is_future=_is_future(time, kind, time_range.latest_ms),
        created_text=created.text,
    )


def created_time(rows: Rows, source: SourceColumns) -> str:
    """Return the expression of the time when a row was created; empty if that is not a time."""
    column = source.created_timestamp_field
    kind = _duckdb_type(rows, column) if column else ""
    if not column or is_number(kind):
        return ""
    return event_time(rows, column, _column(rows, column), kind)


def source_columns(view: ViewPlan, source: SourceColumns) -> list[tuple[str, str]]:
    """Return pairs of (use, source column), such as `("field age", "AGE")`."""
    uses: list[tuple[str, str | None]] = [
        *((f"join key {k.name}", source.column(k.name)) for k in view.key.join_keys),
        *((f"field {f.name}", source.column(f.name)) for f in view.event_fields),
        ("timestamp_field", source.timestamp_field),
        ("created_timestamp_field", source.created_timestamp_field),
        ("sent_fields_column", source.sent_fields_column),
    ]
    if view.windows and view.windows.event_id and view.history:
        uses.append(("event_id", source.column(view.windows.event_id)))
    return [(use, column) for use, column in uses if column]


def check_columns(
    view: ViewPlan, source: SourceColumns, columns: Iterable[str], where: str
) -> None:
    """Raise `SourceError` with all columns that a view needs and a source lacks."""
    present = [name for name in columns if name not in (PROBLEM_COLUMN, LINE_COLUMN)]
    missing = [(use, name) for use, name in source_columns(view, source) if name not in present]
    if missing:
        raise SourceError(
            "no column " + ", ".join(f"'{column}' ({use})" for use, column in missing),
            where=where,
            hint=f"{name_hint(missing[0][1], present)}; "
            "map a field to another column with `columns: {field: column}`",
        )


def check_members(view: ViewPlan, source: SourceColumns, rows: Rows) -> None:
    """Raise `SourceError` with all members that a view needs and no row of JSON has.

    A field may be missing if the source says `absent: null`. The first rows usually have all
    members; only those that they lack are searched for in all rows.
    """
    accepts_absent = isinstance(source, JsonlSourcePlan) and source.absent == "null"
    uses = [
        (use, member)
        for use, member in source_columns(view, source)
        if not (accepts_absent and use.startswith("field "))
    ]
    first = f"(FROM {rows.source} LIMIT {_FIRST_ROWS})"
    for part in (first, rows.source):
        uses = _without_member(rows, part, uses)
        if not uses:
            return
    ((keys,),) = rows.session.fetch_all(
        f"SELECT list(DISTINCT name) FROM (SELECT unnest(json_keys(json)) AS name FROM {first})"
    )
    raise SourceError(
        "no row has the member " + ", ".join(f"'{member}' ({use})" for use, member in uses),
        where=rows.where,
        hint=f"{name_hint(uses[0][1], keys or [])}; map a field to another member with "
        "`columns: {field: member}`, or accept a file without it with `absent: null`",
    )


def _without_member(rows: Rows, source: str, uses: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those uses whose member no row has; none if there are no rows."""
    pointers = quote_list([json_pointer(member) for _, member in uses])
    any_has = ", ".join(f"bool_or(has[{i}])" for i in range(1, len(uses) + 1))
    (found,) = rows.session.fetch_all(
        f"SELECT {any_has} FROM (SELECT json_exists(json, {pointers}) AS has FROM {source})"
    )
    return [use for use, has in zip(uses, found, strict=True) if has is False]


def copy_rows(rows: Rows, view: ViewPlan, source: SourceColumns) -> Rows:
    """Copy the columns that a view needs into a table, for rows that can be read only once.

    The table belongs to the session; DuckDB moves it to disk as it grows.

    Raises:
        SourceError: A column is missing; nothing was read yet.
    """
    needed = dict(rows.columns)
    if rows.form != "json":
        check_columns(view, source, rows.columns, rows.where)
        needed = {column: rows.columns[column] for _, column in source_columns(view, source)}
    columns = ", ".join(map(quote_identifier, needed))
    sql = f"CREATE TEMP TABLE copied_rows AS SELECT {columns} FROM {rows.source}"
    rows.session.run(lambda: rows.session.execute(sql))
    return replace(rows, source="copied_rows", columns=needed)


def _outputs(view: ViewPlan, source: SourceColumns, rows: Rows) -> dict[str, str]:
    if rows.form == "json":
        return {"json": "json"}
    dtypes = {k.name: k.dtype for k in view.key.join_keys}
    dtypes |= {f.name: f.dtype for f in view.event_fields}
    columns = {name: source.column(name) for name in dtypes}
    for name, column in columns.items():
        if dtypes[name] != _JSON and _TYPES_WITHOUT_VALUES.search(rows.columns[column]):
            raise SourceError(
                f"column '{column}' is {rows.columns[column]}, which is not a {dtypes[name]}",
                where=rows.where,
                hint="cast the column in a `type: sql` source",
            )
    narrowed = _int128_columns_within_int64(
        rows, {columns[name] for name, dtype in dtypes.items() if not codec_of(dtype).is_wide}
    )
    empty_is_null = isinstance(source, CsvSourcePlan) and "" in source.null
    values = {}
    for name, column in columns.items():
        values[name] = quote_identifier(column)
        if column in narrowed:
            values[name] = f"CAST({values[name]} AS BIGINT)"
        elif empty_is_null and not codec_of(dtypes[name]).has_empty_text:
            values[name] = f"nullif({values[name]}, '')"  # DuckDB does not take a quoted null
    return values


def _int128_columns_within_int64(rows: Rows, columns: set[str]) -> set[str]:
    """Return the 128-bit columns, such as results of `sum`, whose values all fit into 64 bits."""
    wide = sorted(c for c in columns if rows.columns[c] in _INT128_TYPES)
    if not wide:
        return set()
    tests = [
        f"count({name}) = count(TRY_CAST({name} AS BIGINT))"
        for name in map(quote_identifier, wide)
    ]
    (fits,) = rows.session.fetch_all(f"SELECT {', '.join(tests)} FROM {rows.source}")
    return {column for column, fit in zip(wide, fits, strict=True) if fit}


def _column(rows: Rows, column: str) -> str:
    """Return the expression of a column; for JSON, the text of a member."""
    if rows.form != "json":
        return quote_identifier(column)
    return f"json_extract_string(json, {quote_text(json_pointer(column))})"


def json_pointer(member: str) -> str:
    """Return the JSON pointer of a member of an object."""
    return "/" + member.replace("~", "~0").replace("/", "~1")


def _key(rows: Rows, column: str, dtype: DType) -> str:
    """Return the expression of a join key; the texts `007` and `7` are the same integer."""
    value = _column(rows, column)
    if rows.form == "native" or not codec_of(dtype).is_integer:
        return value
    number = f"CAST(TRY_CAST({value} AS HUGEINT) AS VARCHAR)"
    return f"CASE WHEN regexp_full_match({value}, '-?0[0-9]+|-0') THEN {number} ELSE {value} END"


def _duckdb_type(rows: Rows, column: str) -> str:
    return "VARCHAR" if rows.form == "json" else rows.columns[column]


def _in_time_range(rows: Rows, time: str, kind: str, time_range: TimeRange) -> str:
    ends = ((">=", time_range.start_ms), ("<", time_range.end_ms))
    bounds = [(sign, ms) for sign, ms in ends if ms is not None]
    if not bounds:
        return "true"
    if not time:
        raise SourceError(
            "a start or end needs a timestamp_field",
            where=rows.where,
            hint="add `timestamp_field:` to the source, or load all rows",
        )
    conditions = " AND ".join(time_comparison(time, kind, sign, ms) for sign, ms in bounds)
    return f"({conditions}) OR {time} IS NULL"


def _is_future(time: str, kind: str, latest_ms: int | None) -> str:
    if not time or latest_ms is None:
        return "false"
    return f"coalesce({time_comparison(time, kind, '>=', latest_ms + 1)}, false)"
