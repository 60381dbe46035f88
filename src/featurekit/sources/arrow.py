"""Arrow tables, batches, readers and data frames as a batch source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from typing_extensions import override

from featurekit.errors import SourceError, name_hint
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import ALL_TIMES, Scan, TimeRange
from featurekit.sources.arrow_types import cast_batches, cast_table, readable_schema
from featurekit.sources.newest import newest_rows
from featurekit.sources.selection import copy_rows, source_columns
from featurekit.sources.session import Rows, Session, SessionSource

_INPUT = "input"
_MIN_BATCH_ROWS = 8192
"""Smaller batches are combined: DuckDB needs as much memory for one row as for a full batch."""


class ArrowSource(SessionSource):
    """Rows passed by the caller, for a view that may declare another source.

    Args:
        data: A table, record batch, reader, or any object with an Arrow C stream (pandas, polars,
            DuckDB), or an iterable of these. A reader or iterator can be scanned once.
    """

    def __init__(self, data: object) -> None:
        super().__init__()
        self.data = data

    @override
    def scan(self, view: ViewPlan, times: TimeRange = ALL_TIMES) -> Scan:
        where = f"feature view {view.name}"
        session = self.add_session(Session())
        with session.errors(where):
            data = to_arrow(session.arrow, self.data, view, where)
        if data is None:
            return Scan("native", iter(()), 0)
        columns = _columns_in_data(view, data.schema.names, where)
        return scan_arrow(session, data, view, columns, times, self.batch_rows)


def scan_arrow(
    session: Session,
    data: Any,
    view: ViewPlan,
    source: SourceColumns,
    times: TimeRange,
    batch_rows: int,
) -> Scan:
    """Return the newest rows of a table, or of a reader."""
    return newest_rows(open_arrow(session, data, view, source), view, source, times, batch_rows)


def open_arrow(session: Session, data: Any, view: ViewPlan, source: SourceColumns) -> Rows:
    """Return the rows of a table, or of a reader, which is copied into a table first."""
    where = f"feature view {view.name}"
    pa = session.arrow
    if same := [c for c in data.schema.names if data.schema.names.count(c) > 1]:
        raise SourceError(f"two columns are named '{same[0]}'", where=where)
    raised: list[Exception] = []
    schema = readable_schema(data.schema)
    if isinstance(data, pa.Table):
        data = cast_table(data, schema, where)
    else:
        batches = _record_errors(cast_batches(data, schema, where), raised)
        data = pa.RecordBatchReader.from_batches(
            schema, _combine_small_batches(pa, schema, batches)
        )
    try:
        with session.errors(where):
            session.connection.register(_INPUT, data)
            rows = Rows(session, _INPUT, "native", where, session.columns(_INPUT))
            if not isinstance(data, pa.Table):
                rows = copy_rows(rows, view, source)
                session.connection.unregister(_INPUT)
    except SourceError:
        if raised:
            raise raised[0] from None
        raise
    return rows


def to_arrow(pa: Any, data: object, view: ViewPlan, where: str) -> Any:
    """Return in-memory data as a table and other data as a reader; `None` if there is no data.

    Takes pyarrow instead of the session: the data that a session reads must not keep it alive.

    Raises:
        SourceError: The data is not Arrow data and cannot be converted.
    """
    if isinstance(data, pa.Table | pa.RecordBatchReader):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "columns"):
        # Imported here because the extra `batch` does not install pandas.
        from featurekit.sources.pandas_frames import table_of_frame

        return table_of_frame(pa, data, view, where)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        return _reader_over(pa, iter(data), view, where)
    raise SourceError(
        f"found {type(data).__name__}, expected Arrow data",
        where=where,
        hint="pass an Arrow table, a reader, a data frame, or an iterator of these",
    )


def _reader_over(pa: Any, items: Iterator[object], view: ViewPlan, where: str) -> Any:
    """Return one reader over an iterator of Arrow data; the first item defines the columns."""
    first = next(items, None)
    if first is None:
        return None
    head = to_arrow(pa, first, view, where)
    rest = (to_arrow(pa, item, view, where) for item in items)
    parts = (part for part in chain([head], rest) if part is not None)
    batches = (
        _with_schema(head.schema, batch, where)
        for part in parts
        for batch in (part.to_batches() if hasattr(part, "to_batches") else part)
    )
    return pa.RecordBatchReader.from_batches(head.schema, batches)


def _with_schema(schema: Any, batch: Any, where: str) -> Any:
    """Return a batch with its columns in the order of `schema`.

    Raises:
        SourceError: It has other columns, or columns of other types.
    """
    if batch.schema.equals(schema):
        return batch
    first, later = ({c.name: str(c.type) for c in columns} for columns in (schema, batch.schema))
    different = min(dict(first.items() ^ later.items()), default="")
    if different or len(schema) != len(batch.schema):
        raise SourceError(
            f"column '{different}' is {later.get(different, 'missing')}, "
            f"but {first.get(different, 'missing')} in the first batch",
            where=where,
            hint="all batches must have the same columns with the same types",
        )
    return batch.select(schema.names)


def _record_errors(batches: Iterable[Any], raised: list[Exception]) -> Iterator[Any]:
    """Yield the same batches; keep what they raise, because DuckDB reports only its text."""
    try:
        yield from batches
    except Exception as error:
        raised.append(error)
        raise


def _combine_small_batches(pa: Any, schema: Any, batches: Iterable[Any]) -> Iterator[Any]:
    pending: list[Any] = []
    rows = 0
    for batch in batches:
        pending.append(batch)
        rows += len(batch)
        if rows >= _MIN_BATCH_ROWS:
            yield from _combine(pa, schema, pending)
            pending, rows = [], 0
    yield from _combine(pa, schema, pending)


def _combine(pa: Any, schema: Any, batches: list[Any]) -> list[Any]:
    if len(batches) <= 1:
        return batches
    combined: list[Any] = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
    return combined


def _columns_in_data(view: ViewPlan, columns: list[str], where: str) -> SourceColumns:
    """Return the declared columns that the data has; others may be named like their fields.

    Raises:
        SourceError: A column is not a join key, a field or a timestamp of the source.
    """
    declared = view.source or SourceColumns()
    created = declared.created_timestamp_field
    source = SourceColumns(
        columns=tuple((field, column) for field, column in declared.columns if column in columns),
        timestamp_field=view.timestamp_field_in(columns),
        created_timestamp_field=created if created in columns else None,
    )
    known = {column for _, column in source_columns(view, source)}
    unknown = [column for column in columns if column not in known]
    if unknown:
        raise SourceError(
            f"no field or join key '{unknown[0]}' in the view",
            where=where,
            hint=name_hint(unknown[0], known),
        )
    return source
