"""Build the SQL expressions for what a view reads from rows.

Column names are compared with case, which DuckDB itself does not do.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from featurekit.errors import SourceError, name_hint
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.sources.session import Rows, quote_identifier, quote_text
from featurekit.types import DType, codec_of

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME_OF_DAY = "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_RFC3339 = f"{_DATE}([T ]{_TIME_OF_DAY}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?"
_INT128_TYPES = ("HUGEINT", "UHUGEINT")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a view reads from rows, as SQL expressions.

    Attributes:
        names: The columns of the result, in order.
        values: The expressions of those columns.
        keys: The expressions that identify an entity.
        order: The expressions that order rows by age, most important first; arrival comes last.
        time: The event time of a row; empty if the source has no timestamp field.
        in_time_range: The condition of the rows to read.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    keys: tuple[str, ...]
    order: tuple[str, ...]
    time: str
    in_time_range: str

    @property
    def complete(self) -> str:
        """The condition of a row that has an entity and a time."""
        parts = [*self.keys, *([self.time] if self.time else [])]
        return " AND ".join(f"{part} IS NOT NULL" for part in parts)


def select(
    view: ViewPlan,
    source: SourceColumns,
    rows: Rows,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> Selection:
    """Return what a view reads from rows.

    Raises:
        SourceError: A column is missing, the timestamp column is not a time, or a time range was
            given for a source without a timestamp field.
    """
    if rows.form != "json":
        check_columns(view, source, rows.columns, rows.where)
    time = _time(rows, source.timestamp_field) if source.timestamp_field else ""
    order = [time] if time else []
    if source.created_timestamp_field:
        order.append(_created_time(rows, source.created_timestamp_field))
    outputs = _outputs(view, source, rows)
    if time:
        outputs["event_timestamp"] = f"CAST({time} AS TIMESTAMPTZ)"
    return Selection(
        names=tuple(outputs),
        values=tuple(outputs.values()),
        keys=tuple(_key(rows, source.column(k.name), k.dtype) for k in view.key.join_keys),
        order=tuple(order),
        time=time,
        in_time_range=_time_range(rows, source.timestamp_field, time, start_ms, end_ms),
    )


def source_columns(view: ViewPlan, source: SourceColumns) -> list[tuple[str, str]]:
    """Return pairs of (use, source column), such as `("field age", "AGE")`."""
    uses: list[tuple[str, str | None]] = [
        *((f"join key {k.name}", source.column(k.name)) for k in view.key.join_keys),
        *((f"field {f.name}", source.column(f.name)) for f in view.fields),
        ("timestamp_field", source.timestamp_field),
        ("created_timestamp_field", source.created_timestamp_field),
    ]
    return [(use, column) for use, column in uses if column]


def check_columns(
    view: ViewPlan, source: SourceColumns, columns: Iterable[str], where: str
) -> None:
    """Raise `SourceError` with all columns that a view needs and a source lacks."""
    present = list(columns)
    missing = [(use, name) for use, name in source_columns(view, source) if name not in present]
    if missing:
        raise SourceError(
            "no column " + ", ".join(f"'{column}' ({use})" for use, column in missing),
            where=where,
            hint=f"{name_hint(missing[0][1], present)}; "
            "map a field to another column with `columns: {field: column}`",
        )


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
    rows.session.run(lambda: rows.session.connection.execute(sql))
    return replace(rows, source="copied_rows", columns=needed)


def _outputs(view: ViewPlan, source: SourceColumns, rows: Rows) -> dict[str, str]:
    if rows.form == "json":
        return {"json": "json"}
    dtypes = {k.name: k.dtype for k in view.key.join_keys}
    dtypes |= {f.name: f.dtype for f in view.fields}
    columns = {name: source.column(name) for name in dtypes}
    narrowed = _int128_columns_within_int64(
        rows, {columns[name] for name, dtype in dtypes.items() if not codec_of(dtype).is_wide}
    )
    return {
        name: f"CAST({quote_identifier(column)} AS BIGINT)"
        if column in narrowed
        else quote_identifier(column)
        for name, column in columns.items()
    }


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
    pointer = "/" + column.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string(json, {quote_text(pointer)})"


def _key(rows: Rows, column: str, dtype: DType) -> str:
    """Return the expression of a join key; the texts `007` and `7` are the same integer."""
    value = _column(rows, column)
    if rows.form == "native" or not codec_of(dtype).is_integer:
        return value
    number = f"CAST(TRY_CAST({value} AS HUGEINT) AS VARCHAR)"
    return f"CASE WHEN regexp_full_match({value}, '-?0[0-9]+|-0') THEN {number} ELSE {value} END"


def _time(rows: Rows, column: str) -> str:
    """Return the expression of a time; text that is not a time is null, and rejected later."""
    value, kind = _column(rows, column), _duckdb_type(rows, column)
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return value
    if kind == "VARCHAR" or kind.startswith("ENUM") or "NULL" in kind:
        text = f"upper(CAST({value} AS VARCHAR))"
        parsed = f"TRY_CAST({text} AS TIMESTAMPTZ)"
        return f"CASE WHEN regexp_full_match({text}, '{_RFC3339}') THEN {parsed} END"
    raise SourceError(
        f"timestamp_field '{column}' is {kind}, not a time",
        where=rows.where,
        hint="make it a timestamp, a date, or RFC 3339 text; in a sql source: "
        f"make_timestamp({column} * 1000) for milliseconds",
    )


def _created_time(rows: Rows, column: str) -> str:
    """Return the expression that orders rows of equal times: a time, or any type with an order."""
    if _duckdb_type(rows, column) == "VARCHAR":
        return _time(rows, column)
    return _column(rows, column)


def _duckdb_type(rows: Rows, column: str) -> str:
    return "VARCHAR" if rows.form == "json" else rows.columns[column]


def _time_range(
    rows: Rows, column: str | None, time: str, start_ms: int | None, end_ms: int | None
) -> str:
    bounds = [(sign, ms) for sign, ms in ((">=", start_ms), ("<", end_ms)) if ms is not None]
    if not bounds:
        return "true"
    if column is None:
        raise SourceError(
            "a start or end needs a timestamp_field",
            where=rows.where,
            hint="add `timestamp_field:` to the source, or load all rows",
        )
    kind = _duckdb_type(rows, column)
    is_naive = kind == "DATE" or (
        kind.startswith("TIMESTAMP") and "TIME ZONE" not in kind and "TIMESTAMPTZ" not in kind
    )
    literal = "TIMESTAMP" if is_naive else "TIMESTAMPTZ"
    value = f"CAST({time} AS TIMESTAMPTZ)" if kind == "TIMESTAMPTZ_NS" else time
    conditions = " AND ".join(f"{value} {sign} {literal} '{_iso(ms)}'" for sign, ms in bounds)
    return f"({conditions}) OR {time} IS NULL"


def _iso(ms: int) -> str:
    """Return a time for a SQL literal; a literal lets DuckDB skip row groups of a file."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return moment.replace(tzinfo=None).isoformat(sep=" ")
