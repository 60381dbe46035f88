"""The rejected rows of a load: a Parquet file that can be loaded again, and counted reasons."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit.errors import BadRowError
from featurekit.lower.columns import EVENT_TIMESTAMP
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import SOURCE_ROW
from featurekit.runtime.load import MaterializeReport

REASONS = "_reasons"
LINE = "_line"

_MAX_REASONS = 20
_MAX_COUNTS = 10
_MAX_KINDS = 1000
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?\d[\w.:+-]*")


class Rejects:
    """Collects the rejected rows of one load, from any thread.

    The file has the columns that the view reads, named as in its source, then `_reasons` (a list),
    `_source_row` (the number of the row, from 1) and `_line` (the text of a line that could not be
    split into columns, else null). It is created when the first row is added.
    """

    def __init__(self, view: ViewPlan, path: Path, report: MaterializeReport) -> None:
        self._view = view
        self._path = path
        self._report = report
        self._writer: pq.ParquetWriter | None = None
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add_batch(self, rows: Any, form: str, reasons: Sequence[Sequence[str]]) -> None:
        """Add rows of a `pyarrow.RecordBatch` of a scan, with the reasons of each."""
        numbers = rows.column(SOURCE_ROW)
        if form == "json":
            lines = rows.column("json").to_pylist()
            self._add_objects(list(map(object_of, lines)), lines, numbers, reasons, is_source=True)
            return
        columns = {
            source_name(self._view, name): rows.column(name)
            for name in rows.schema.names
            if name != SOURCE_ROW
        }
        self._add(columns, reasons, numbers, [None] * len(reasons))

    def add_rows(
        self, rows: Sequence[Mapping[str, object] | str], numbers: Any, reasons: Sequence[str]
    ) -> None:
        """Add rows of a program: objects whose members are named as fields, or lines of JSON."""
        objects = [object_of(row) if isinstance(row, str) else row for row in rows]
        lines = [row if isinstance(row, str) else "" for row in rows]
        self._add_objects(objects, lines, numbers, [[r] for r in reasons], is_source=False)

    def _add_objects(
        self,
        objects: Sequence[Mapping[str, object] | None],
        lines: Sequence[str],
        numbers: Any,
        reasons: Sequence[Sequence[str]],
        *,
        is_source: bool,
    ) -> None:
        """Add objects as columns of texts; a line that is not an object, as its text."""
        names = [k.name for k in self._view.key.join_keys] + [f.name for f in self._view.fields]
        if is_source and self._view.source and self._view.source.timestamp_field:
            names.append(EVENT_TIMESTAMP)
        columns = {}
        for name in names:
            column = source_name(self._view, name)
            member = column if is_source else name
            texts = [None if o is None else _text(o.get(member)) for o in objects]
            columns[column] = pa.array(texts, pa.string())
        unread = [line if o is None else None for o, line in zip(objects, lines, strict=True)]
        self._add(columns, reasons, numbers, unread)

    def close(self) -> None:
        """Finish the file, and fill the report."""
        if self._writer is not None:
            with self._file_errors():
                self._writer.close()
            self._report.rejects_path = str(self._path)
        most = sorted(self._counts, key=self._counts.__getitem__, reverse=True)[:_MAX_COUNTS]
        self._report.reason_counts = {self._examples[kind]: self._counts[kind] for kind in most}

    def _add(
        self,
        columns: Mapping[str, Any],
        reasons: Sequence[Sequence[str]],
        numbers: Any,
        lines: Sequence[str | None],
    ) -> None:
        added = {
            REASONS: pa.array(reasons, pa.list_(pa.string())),
            SOURCE_ROW: numbers,
            LINE: pa.array([None if line is None else _utf8(line) for line in lines], pa.string()),
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
            kind = _VALUE.sub("", reason)
            if kind in self._counts or len(self._counts) < _MAX_KINDS:
                self._examples.setdefault(kind, reason)
                self._counts[kind] = self._counts.get(kind, 0) + 1
        if len(self._report.reasons) < _MAX_REASONS:
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
