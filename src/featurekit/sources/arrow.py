"""Arrow data: tables, batches, readers and data frames, as a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from typing_extensions import override

from featurekit.errors import SourceError, nearest
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import BatchSource, Scan
from featurekit.sources.materialized_rows import spool
from featurekit.sources.newest import Window, newest
from featurekit.sources.selection import columns_of
from featurekit.sources.session import Rows, Session

_INCOMING = "incoming"
_LEAST_ROWS = 8192
"""Fewer rows than this are gathered: DuckDB holds as much memory for a batch of one row."""


class ArrowSource(BatchSource):
    """Rows handed over by the caller, for a view that may declare another source.

    Args:
        data: A table, record batch, reader, or anything with an Arrow C stream (pandas, polars,
            DuckDB), or an iterable of these. A reader or iterator can be scanned once.
        batch_rows: Most rows of a record batch.
    """

    def __init__(self, data: object, *, batch_rows: int = 16384) -> None:
        self.data = data
        self.batch_rows = batch_rows

    @override
    def scan(self, view: ViewPlan, start_ms: int | None, end_ms: int | None) -> Scan:
        where = f"feature view {view.name}"
        session = Session()
        with session.errors(where):
            found = arrow(session.arrow, self.data, where)
        if found is None:
            return Scan("native", iter(()), 0)
        plan = _as_handed_over(view, found.schema.names, where)
        return scan_arrow(session, found, view, plan, (start_ms, end_ms), self.batch_rows)

    @override
    def locate(self, view: ViewPlan, row: dict[str, object]) -> str:
        return ""


def scan_arrow(
    session: Session,
    data: Any,
    view: ViewPlan,
    plan: SourcePlan,
    window: Window,
    batch_rows: int,
) -> Scan:
    """The newest rows of a table, or of a reader, which is spooled first."""
    where = f"feature view {view.name}"
    pa = session.arrow
    if twice := [c for c in data.schema.names if data.schema.names.count(c) > 1]:
        raise SourceError(f"two columns are named '{twice[0]}'", where=where)
    raised: list[Exception] = []
    if not isinstance(data, pa.Table):
        batches = _gathered(pa, data.schema, _remembering(data, raised))
        data = pa.RecordBatchReader.from_batches(data.schema, batches)
    try:
        with session.errors(where):
            session.connection.register(_INCOMING, data)
            rows = Rows(session, _INCOMING, "native", where, session.columns(_INCOMING))
            if not isinstance(data, pa.Table):
                rows = spool(rows, session.connection.sql(f"FROM {_INCOMING}"), view, plan)
                session.connection.unregister(_INCOMING)
    except SourceError:
        if raised:
            raise raised[0] from None
        raise
    return newest(rows, view, plan, window, batch_rows)


def _remembering(batches: Iterable[Any], raised: list[Exception]) -> Iterator[Any]:
    """The same batches; what they raise is kept, since DuckDB makes a text of it."""
    try:
        yield from batches
    except Exception as error:
        raised.append(error)
        raise


def arrow(pa: Any, data: object, where: str) -> Any:
    """Data as an Arrow table if it is in memory, else as a reader; None for no data at all.

    It takes pyarrow, not the session: what a session is given to read must not keep it alive.

    Raises:
        SourceError: It is nothing that Arrow knows.
    """
    if isinstance(data, pa.Table | pa.RecordBatchReader):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "columns"):
        return pa.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        return _chained(pa, iter(data), where)
    raise SourceError(
        f"found {type(data).__name__}, expected Arrow data",
        where=where,
        hint="give an Arrow table, a reader, a data frame, or an iterator of these",
    )


def _chained(pa: Any, items: Iterator[object], where: str) -> Any:
    """One reader over an iterator of Arrow data, whose first item tells the columns."""
    first = next(items, None)
    if first is None:
        return None
    head = arrow(pa, first, where)
    rest = (arrow(pa, item, where) for item in items)
    parts = (part for part in chain([head], rest) if part is not None)
    batches = (_alike(head.schema, batch, where) for part in parts for batch in _batches(part))
    return pa.RecordBatchReader.from_batches(head.schema, batches)


def _alike(schema: Any, batch: Any, where: str) -> Any:
    """A batch with its columns in the order of the first one's.

    Raises:
        SourceError: It has other columns, or of other types.
    """
    if batch.schema.equals(schema):
        return batch
    ours, theirs = ({c.name: str(c.type) for c in columns} for columns in (schema, batch.schema))
    odd = min(dict(ours.items() ^ theirs.items()), default="")
    if odd or len(schema) != len(batch.schema):
        raise SourceError(
            f"column '{odd}' is {theirs.get(odd, 'lacking')}, "
            f"and {ours.get(odd, 'lacking')} in the first batch",
            where=where,
            hint="all batches have the same columns, of the same types",
        )
    return batch.select(schema.names)


def _gathered(pa: Any, schema: Any, batches: Iterable[Any]) -> Iterator[Any]:
    """The same rows in batches that are not small."""
    held: list[Any] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        if rows >= _LEAST_ROWS:
            yield from _joined(pa, schema, held)
            held, rows = [], 0
    yield from _joined(pa, schema, held)


def _joined(pa: Any, schema: Any, batches: list[Any]) -> list[Any]:
    if len(batches) < 2:  # noqa: PLR2004 - one is as it is
        return batches
    joined: list[Any] = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
    return joined


def _batches(data: Any) -> Iterable[Any]:
    batches: Iterable[Any] = data.to_batches() if hasattr(data, "to_batches") else data
    return batches


def _as_handed_over(view: ViewPlan, columns: list[str], where: str) -> SourcePlan:
    """The view's source, as far as the data has its columns; they may have the fields' names.

    Raises:
        SourceError: A column is neither a join key nor a field, nor a time of the source.
    """
    declared = view.source or SourcePlan("arrow")
    renames = tuple((field, column) for field, column in declared.columns if column in columns)
    times = (declared.timestamp_field, declared.created_timestamp_field)
    time, created = (column if column in columns else "" for column in times)
    plan = SourcePlan(
        "arrow", columns=renames, timestamp_field=time, created_timestamp_field=created
    )
    known = {column for _, column in columns_of(view, plan)}
    odd = [column for column in columns if column not in known]
    if odd:
        raise SourceError(
            f"no field or join key '{odd[0]}' in the view",
            where=where,
            hint=nearest(odd[0], known),
        )
    return plan
