"""A corrected file of rejected rows as a batch source."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from featurekit.errors import SourceError
from featurekit.plan import (
    ParquetSourcePlan,
    PythonSourcePlan,
    SourceColumns,
    SqlSourcePlan,
    TableSourcePlan,
    ViewPlan,
)
from featurekit.ports import ALL_TIMES, LINE, LOAD, Correction, Scan, TimeRange
from featurekit.sources.newest import newest_rows
from featurekit.sources.selection import copy_rows, select, source_columns
from featurekit.sources.session import Rows, Session, SessionSource, quote_files, quote_identifier
from featurekit.types import codec_of

_NATIVE_SOURCES = (ParquetSourcePlan, SqlSourcePlan, TableSourcePlan, PythonSourcePlan)


class CorrectedRowsSource(SessionSource):
    """A Parquet file with the columns of a view's source; other columns with `_` are ignored.

    Rows of CSV, JSON Lines and programs are texts in such a file, and are parsed as CSV is.

    Args:
        path: The file.
        root: The folder that the path is relative to.
    """

    def __init__(self, path: Path, root: Path) -> None:
        super().__init__()
        self.path = path
        self.root = root.absolute()

    @override
    def scan(self, view: ViewPlan, times: TimeRange = ALL_TIMES) -> Scan:
        where = f"feature view {view.name}, {self.path.name}"
        session = self.add_session(Session(self.root))
        path = Path.cwd() / self.path
        if not path.is_file():
            raise SourceError(f"no file {self.path}", where=f"feature view {view.name}")
        with session.errors(where):
            file = f"read_parquet({quote_files([str(path)])})"
            columns = session.columns(file)
            source = _columns_in_file(view, columns)
            used = [
                c
                for c in dict.fromkeys(c for _, c in source_columns(view, source))
                if c in columns
            ]
            _check_lines(session, file, used, columns, where)
            if is_text := _is_text(view, source, columns):
                texts = [f"{_as_text(c, columns[c])} AS {quote_identifier(c)}" for c in used]
                texts += [LOAD] if LOAD in columns else []
                session.execute(
                    f"CREATE TEMP VIEW corrected AS SELECT {', '.join(texts)} FROM {file}"
                )
                file = "corrected"
                columns = {c: "VARCHAR" if c in used else kind for c, kind in columns.items()}
            file_rows = Rows(session, file, "native", where, columns)
            rows = copy_rows(file_rows, view, source)
            correction = _correction(file_rows, select(view, source, rows).time)
        if is_text:
            rows = replace(rows, form="text")
        scan = newest_rows(rows, view, source, times, self.batch_rows)
        return replace(scan, correction=correction)


def _columns_in_file(view: ViewPlan, columns: dict[str, str]) -> SourceColumns:
    """Return the columns of the view; those of times may be missing, as the rows are few."""
    declared = view.source or SourceColumns()
    created = declared.created_timestamp_field
    return SourceColumns(
        columns=declared.columns,
        timestamp_field=view.timestamp_field_in(columns),
        created_timestamp_field=created if created in columns else None,
    )


def _correction(rows: Rows, time: str) -> Correction:
    """Return what the rows of a file say about the load that rejected them.

    Args:
        rows: The rows, with the column `LOAD` if the file still has it.
        time: The expression of their time; empty if they have none.
    """
    load = f"epoch_ms(TRY_CAST({LOAD} AS TIMESTAMPTZ))" if LOAD in rows.columns else "NULL::BIGINT"
    time_ms = f"epoch_ms(CAST({time} AS TIMESTAMPTZ))" if time else "NULL::BIGINT"
    ((first_load, last_load, oldest, oldest_unsure),) = rows.session.fetch_all(
        "SELECT min(load), max(load), min(ms), min(ms) FILTER (load IS NULL) "
        f"FROM (SELECT {load} AS load, {time_ms} AS ms FROM {rows.source})"
    )
    load_ms = first_load if first_load == last_load else None
    return Correction(load_ms, oldest, oldest_unsure)


def _check_lines(
    session: Session, file: str, used: list[str], columns: dict[str, str], where: str
) -> None:
    """Raise `SourceError` if a row has nothing but the text of its line."""
    if LINE not in columns or not used:
        return
    empty = " AND ".join(f"{quote_identifier(column)} IS NULL" for column in used)
    ((count,),) = session.fetch_all(
        f"SELECT count(*) FROM {file} WHERE _line IS NOT NULL AND {empty}"
    )
    if count:
        raise SourceError(
            f"{count} rows have only `{LINE}`, a line that could not be read",
            where=where,
            hint="fill their columns from the line, or remove these rows",
        )


def _is_text(view: ViewPlan, source: SourceColumns, columns: dict[str, str]) -> bool:
    """Return whether the rows are texts: a text stands where the type is another one."""
    if isinstance(view.source, _NATIVE_SOURCES):
        return False
    dtypes = {k.name: k.dtype for k in view.key.join_keys} | {f.name: f.dtype for f in view.fields}
    return any(
        columns.get(source.column(name)) == "VARCHAR" and not codec_of(dtype).is_text_in_arrow
        for name, dtype in dtypes.items()
    )


def _as_text(column: str, kind: str) -> str:
    """Return the expression of a column as CSV would have it."""
    name = quote_identifier(column)
    if kind.startswith("TIMESTAMP"):
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if kind == "BLOB":
        return f"to_base64({name})"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        return f"CAST(to_json({name}) AS VARCHAR)"
    return f"CAST({name} AS VARCHAR)"
