"""The rejected rows of a load: a Parquet file that can be loaded again, and counted reasons."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit.errors import BadRowError
from featurekit.lower.columns import EVENT_TIMESTAMP, RowError
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import FILE, LINE, LOAD, PROBLEM, SOURCE_ROW
from featurekit.runtime.load import MAX_REASON_COUNTS, MAX_REASONS, MaterializeReport

REASONS = "_reasons"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_KINDS = 1000
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?\d[\w.:+-]*")


class Rejects:
    """Collects the rejected rows of one load, from any thread.

    The file has the columns that the view reads, named as in its source, then `_reasons` (a list),
    `_source_row` (the number of the row, from 1), `_line` (the text of a line that could not be
    read, else null) and `_load` (see `ports.LOAD`). It is created when the first row is added.

    Args:
        view: The compiled view.
        path: The file.
        report: Gets the path and the reasons.
        load_ms: The start of the load, for `_load`; `None` leaves that out.
    """

    def __init__(
        self,
        view: ViewPlan,
        path: Path,
        report: MaterializeReport,
        load_ms: int | None = None,
    ) -> None:
        self._view = view
        self._path = path
        self._report = report
        self._load_ms = load_ms
        self._writer: pq.ParquetWriter | None = None
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add_batch(self, rows: Any, form: str, errors: Sequence[Sequence[RowError]]) -> None:
        """Add rows of a `pyarrow.RecordBatch` of a scan, with the errors of each."""
        numbers = rows.column(SOURCE_ROW)
        reasons = [[reason_text(error) for error in row] for row in errors]
        loads = [self._load_ms if all(map(_is_about_field, row)) else None for row in errors]
        if form == "json":
            lines = rows.column("json").to_pylist()
            columns, unread = self._columns_of_objects(
                list(map(object_of, lines)), lines, is_source=True
            )
        else:
            columns, unread = _source_columns(self._view, rows), [None] * len(reasons)
        self._add(columns, reasons, numbers, unread, loads)

    def add_lines(self, rows: Any, form: str) -> None:
        """Add the rows of a `pyarrow.RecordBatch` of a scan that stand for lines with a problem."""
        lines = rows.column(LINE).to_pylist()
        if form == "json":
            columns, _ = self._columns_of_objects([None] * len(lines), lines, is_source=True)
        else:
            columns = {
                name: pa.nulls(len(lines), column.type)
                for name, column in _source_columns(self._view, rows).items()
            }
        reasons = [[problem] for problem in rows.column(PROBLEM).to_pylist()]
        self._add(columns, reasons, rows.column(SOURCE_ROW), lines, [None] * len(lines))

    def add_rows(
        self, rows: Sequence[Mapping[str, object] | str], numbers: Any, reasons: Sequence[str]
    ) -> None:
        """Add rows of a program: objects whose members are named as fields, or lines of JSON."""
        objects = [object_of(row) if isinstance(row, str) else row for row in rows]
        lines = [row if isinstance(row, str) else "" for row in rows]
        columns, unread = self._columns_of_objects(objects, lines, is_source=False)
        self._add(columns, [[r] for r in reasons], numbers, unread, [None] * len(lines))

    def _columns_of_objects(
        self,
        objects: Sequence[Mapping[str, object] | None],
        lines: Sequence[str],
        *,
        is_source: bool,
    ) -> tuple[dict[str, Any], list[str | None]]:
        """Return objects as columns of texts, and the lines that are not objects."""
        names = [k.name for k in self._view.key.join_keys] + [f.name for f in self._view.fields]
        has_time = self._view.source is not None and self._view.source.timestamp_field
        if has_time if is_source else self._view.event_time_field:
            names.append(EVENT_TIMESTAMP)
        columns = {}
        for name in names:
            column = source_name(self._view, name)
            member = column if is_source else name
            text = _row_time_text if name == EVENT_TIMESTAMP else _text
            texts = [None if o is None else text(o.get(member)) for o in objects]
            columns[column] = pa.array(texts, pa.string())
        return columns, [
            line if o is None else None for o, line in zip(objects, lines, strict=True)
        ]

    def close(self) -> None:
        """Finish the file, and fill the report."""
        if self._writer is not None:
            with self._file_errors():
                self._writer.close()
            self._report.rejects_path = str(self._path)
        most = sorted(self._counts, key=self._counts.__getitem__, reverse=True)[:MAX_REASON_COUNTS]
        self._report.reason_counts = {self._examples[kind]: self._counts[kind] for kind in most}

    def _add(
        self,
        columns: Mapping[str, Any],
        reasons: Sequence[Sequence[str]],
        numbers: Any,
        lines: Sequence[str | None],
        loads_ms: Sequence[int | None],
    ) -> None:
        added = {
            REASONS: pa.array(reasons, pa.list_(pa.string())),
            SOURCE_ROW: numbers,
            LINE: pa.array([None if line is None else _utf8(line) for line in lines], pa.string()),
            LOAD: pa.array(loads_ms, pa.timestamp("ms", "UTC")),
        }
        table = pa.table({**columns, **added})
        with self._lock, self._file_errors():
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._path, table.schema)
            self._writer.write_table(table)
            for number, row in zip(table.column(SOURCE_ROW).to_pylist(), reasons, strict=True):
                self._count(number, row)

    def _count(self, number: int, reasons: Sequence[str]) -> None:
        for reason in reasons:
            kind = reason_kind(reason)
            if kind in self._counts or len(self._counts) < _MAX_KINDS:
                self._examples.setdefault(kind, reason)
                self._counts[kind] = self._counts.get(kind, 0) + 1
        if len(self._report.reasons) < MAX_REASONS:
            self._report.reasons.append(f"{self._view.name}, row {number}, {'; '.join(reasons)}")

    @contextmanager
    def _file_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadRowError(
                f"rows are rejected, and their file cannot be written: {error}",
                where=str(self._path),
                hint="pass another file as `rejects`, or correct the rows",
            ) from error


def reason_kind(reason: str) -> str:
    """Return a reason without its values, the same for all rows that are rejected alike."""
    return _VALUE.sub("", reason)


def reason_text(error: RowError) -> str:
    """Return an error with its field."""
    return f"{error.field}: {error.reason}" if error.field else error.reason


def _is_about_field(error: RowError) -> bool:
    """Return whether the row's key and time are right, so that it was the newest of its entity."""
    return error.field != EVENT_TIMESTAMP and not error.field.startswith("join key ")


def _source_columns(view: ViewPlan, rows: Any) -> dict[str, Any]:
    """Return the columns of a record batch under the names of the source."""
    added = (FILE, PROBLEM, LINE, SOURCE_ROW)
    names = [name for name in rows.schema.names if name not in added]
    return {source_name(view, name): _with_parquet_type(rows.column(name)) for name in names}


def _with_parquet_type(column: Any) -> Any:
    """Return a column as Parquet can store it: as texts if it has no such type."""
    if not _has_part(column.type, lambda t: pa.types.is_interval(t) or pa.types.is_union(t)):
        return column
    return pa.array([_text(cell.as_py()) for cell in column], pa.string())


def _has_part(kind: Any, test: Callable[[Any], bool]) -> bool:
    """Return whether a type, or a type within it, passes a test."""
    return test(kind) or any(_has_part(kind.field(i).type, test) for i in range(kind.num_fields))


def source_name(view: ViewPlan, name: str) -> str:
    """Return the source's name of a field, a join key or `event_timestamp`."""
    source = view.source or SourceColumns()
    if name == EVENT_TIMESTAMP:
        return source.timestamp_field or EVENT_TIMESTAMP
    return source.column(name)


def object_of(line: str) -> dict[str, object] | None:
    """Return a JSON object with fractions as the line has them; `None` if it is not an object."""
    try:
        members = json.loads(line, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    return members if isinstance(members, dict) else None


class _Number(float):
    """A number that is written as its text."""

    def __new__(cls, text: str) -> _Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def _row_time_text(value: object) -> str | None:
    """Return the time of a row as CSV has it, also if it is given in milliseconds."""
    if type(value) is int:
        with suppress(OverflowError):
            return (_EPOCH + timedelta(milliseconds=value)).isoformat()
    return _text(value)


def _text(value: object) -> str | None:
    """Return a value as CSV has it."""
    if value is None:
        return None
    match value:
        case str():
            text = value
        case _Number():
            text = value.text
        case bool():
            text = str(value).lower()
        case bytes():
            text = value.decode(errors="backslashreplace")
        case date():
            text = value.isoformat()
        case dict() | list() | tuple():
            text = json.dumps(value, default=str, ensure_ascii=False)
        case _:
            text = str(value)
    return _utf8(text)


def _utf8(text: str) -> str:
    """Return a text that Parquet can store: half of a surrogate pair is escaped."""
    return text.encode(errors="backslashreplace").decode()
