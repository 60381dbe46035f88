"""Select the newest row of each entity in memory that does not grow with the number of rows.

Each row gets a number in arrival order, the same in every pass (DuckDB keeps insertion order).

1. Count (`count_rows`): read only keys and times; count the rows, the rows of the future, the rows
   with an entity and a time (*complete*), and the distinct entities among those.
2. Choose (`choose_rows`): if each entity has one row, and none is of the future, all are kept. Otherwise rank the rows
   of each entity by time, then by arrival, and store row numbers in a temporary table: those to
   keep or those to drop, whichever are fewer.
3. Stream (`_stream`): read whole rows and join them to that table (SEMI or ANTI join).

Invariant: one row per entity, plus all incomplete rows, which the loader rejects one by one; no
row of the future, which is neither complete nor incomplete. The
stream counts its rows against step 1, so a source that changes between passes is an error.

Rejected: `QUALIFY row_number() = 1` over whole rows sorts every column and spills all data to
disk; `arg_max` per entity holds a row per entity in memory; a set of keys in Python does as well.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from featurekit.errors import SourceError
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import SOURCE_ROW, Scan, TimeRange
from featurekit.sources.selection import Selection, check_members, select
from featurekit.sources.session import Rows
from featurekit.sources.times import check_created_texts

INCOMPLETE, COMPLETE, FUTURE = 0, 1, 2
"""The kinds of rows in the index."""

MAX_BATCH_BYTES = 16_000_000
"""The most memory for the vectors of a record batch."""


def newest_rows(
    rows: Rows, view: ViewPlan, source: SourceColumns, time_range: TimeRange, batch_rows: int
) -> Scan:
    """Return the newest row of each entity; among equally new rows, the last to arrive.

    All rows without an entity or a time are kept, for the loader to reject.

    Raises:
        SourceError: The rows cannot be read, or a column is missing.
    """
    selection = select(view, source, rows, time_range)
    with rows.session.errors(rows.where):
        if rows.form == "json":
            check_members(view, source, rows)
        index = index_rows(rows, selection)
        if selection.created_text:
            column = source.created_timestamp_field or ""
            check_created_texts(rows, column, index.unnumbered, "created_text")
        counts = count_rows(rows, index, selection)
        join = "" if counts.is_unique else choose_rows(rows, index, selection, counts)
    return rows_scan(rows, selection, counts, join, rows_per_batch(view, batch_rows))


def rows_per_batch(view: ViewPlan, batch_rows: int) -> int:
    """Return how many rows fit into a batch, given the sizes of the view's vectors."""
    row_bytes = sum(4 * field.dtype.size for field in view.fields)
    return max(1, min(batch_rows, MAX_BATCH_BYTES // max(row_bytes, 1)))


def rows_scan(
    rows: Rows, selection: Selection, counts: NewestCounts, join: str, batch_rows: int
) -> Scan:
    """Return the scan of the rows that a join chooses; without one, of all rows of the time range."""
    columns = {f"v{i}": part for i, part in enumerate(selection.values)}
    sql = f"SELECT {', '.join(columns)}, rn FROM {_numbered_rows(rows, selection, columns)} {join}"
    names = [*selection.names, SOURCE_ROW]
    expected = counts.kept if join else counts.rows
    return Scan(
        rows.form,
        _stream(rows, sql, names, batch_rows, expected),
        counts.rows,
        counts.future,
        counts.newest_event_ms,
        source_identity=rows.identity,
    )


@dataclass(frozen=True, slots=True)
class NewestCounts:
    """The number of rows, of those of the future, of complete ones, and of their entities.

    Also the newest time of the complete rows, if rows have times.
    """

    rows: int
    future: int
    complete: int
    entities: int
    newest_event_ms: int | None

    @property
    def is_unique(self) -> bool:
        """Whether a load takes all rows."""
        return self.complete == self.entities and not self.future

    @property
    def kept(self) -> int:
        """The number of rows that a load takes."""
        return self.rows - self.future - self.complete + self.entities


class RowIndex(NamedTuple):
    """FROM clauses with the key, the time and the number of each row.

    DuckDB computes the numbers even if they are not used, hence the form without them.
    """

    numbered: str
    unnumbered: str


def index_rows(rows: Rows, selection: Selection) -> RowIndex:
    """Return the index, which is read several times.

    Text forms are expensive to parse, so their index is stored.
    """
    columns = {
        **{f"k{i}": part for i, part in enumerate(selection.keys)},
        **{f"o{i}": part for i, part in enumerate(selection.order)},
        "kind": f"CASE WHEN {selection.is_future} THEN {FUTURE} "
        f"WHEN {selection.complete} THEN {COMPLETE} ELSE {INCOMPLETE} END",
    }
    if selection.created_text:
        columns["created_text"] = selection.created_text
    if rows.form == "native":
        unnumbered = (
            f"(SELECT {expressions(columns)} FROM {rows.source} WHERE {selection.in_time_range})"
        )
        return RowIndex(_numbered_rows(rows, selection, columns), unnumbered)
    columns["is_in_range"] = selection.in_time_range
    table = f"SELECT {expressions(columns)}, row_number() OVER () AS rn FROM {rows.source}"
    rows.session.execute(f"CREATE TEMP TABLE row_index AS {table}")
    ((count,),) = rows.session.fetch_all("SELECT count(*) FROM row_index")
    rows.check_count(count)
    stored = "(FROM row_index WHERE is_in_range)"
    return RowIndex(stored, stored)


def _numbered_rows(rows: Rows, selection: Selection, columns: dict[str, str]) -> str:
    """Return a FROM clause with the rows of the time range.

    Texts are numbered before the range is applied, so that the index counts every row of a file;
    native rows after it, so that DuckDB skips parts of a file that are out of range.
    """
    if rows.form == "native":
        return (
            f"(SELECT {expressions(columns)}, row_number() OVER () AS rn "
            f"FROM {rows.source} WHERE {selection.in_time_range})"
        )
    columns = columns | {"is_in_range": selection.in_time_range}
    return (
        f"(FROM (SELECT {expressions(columns)}, row_number() OVER () AS rn FROM {rows.source}) "
        "WHERE is_in_range)"
    )


def expressions(columns: dict[str, str]) -> str:
    """Return expressions with their names, for SELECT."""
    return ", ".join(f"{part} AS {column}" for column, part in columns.items())


def count_rows(rows: Rows, index: RowIndex, selection: Selection) -> NewestCounts:
    """Return the numbers of rows and entities."""
    keys = ", ".join(numbered_names("k", selection.keys))
    groups = f"SELECT kind, count(*) AS n FROM {index.unnumbered} GROUP BY {keys}, kind"
    ((total, future, complete, entities),) = rows.session.fetch_all(
        f"SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (kind = {FUTURE}), 0), "
        f"coalesce(sum(n) FILTER (kind = {COMPLETE}), 0), "
        f"count(*) FILTER (kind = {COMPLETE}) FROM ({groups})"
    )
    newest_ms = None
    if selection.time:  # a maximum in each group costs four times as much
        ((newest_ms,),) = rows.session.fetch_all(
            "SELECT epoch_ms(CAST(max(o0) AS TIMESTAMPTZ)) "
            f"FROM {index.unnumbered} WHERE kind = {COMPLETE}"
        )
    return NewestCounts(int(total), int(future), int(complete), int(entities), newest_ms)


def choose_rows(rows: Rows, index: RowIndex, selection: Selection, counts: NewestCounts) -> str:
    """Store the numbers of the rows to keep or to drop; return the join that applies them."""
    numbered = index.numbered
    newest_first = [
        f"{part} DESC NULLS LAST" for part in (*numbered_names("o", selection.order), "rn")
    ]
    keys = ", ".join(numbered_names("k", selection.keys))
    rank = f"row_number() OVER (PARTITION BY {keys} ORDER BY {', '.join(newest_first)})"
    ranked = f"SELECT rn, {rank} AS rank FROM {numbered} WHERE kind = {COMPLETE}"
    drop = counts.rows - counts.kept <= counts.kept
    if drop:
        future = f"SELECT rn FROM {numbered} WHERE kind = {FUTURE}"
        numbers = f"SELECT rn FROM ({ranked}) WHERE rank > 1 UNION ALL {future}"
    else:
        incomplete = f"SELECT rn FROM {numbered} WHERE kind = {INCOMPLETE}"
        numbers = f"SELECT rn FROM ({ranked}) WHERE rank = 1 UNION ALL {incomplete}"
    rows.session.execute(f"CREATE TEMP TABLE chosen AS {numbers}")
    return f"{'ANTI' if drop else 'SEMI'} JOIN chosen USING (rn)"


def numbered_names(prefix: str, parts: tuple[str, ...]) -> list[str]:
    """Return the names of the columns of an index for some expressions."""
    return [f"{prefix}{i}" for i in range(len(parts))]


def _stream(
    rows: Rows, sql: str, names: list[str], batch_rows: int, expected_rows: int
) -> Iterator[Any]:
    session = rows.session
    count = 0
    try:
        with rows.errors():
            session.limit_memory(rows.extra_memory_bytes)
            for batch in session.connection.sql(sql).to_arrow_reader(batch_rows):
                rows.check_unchanged()  # the batch was read before this, so from the same contents
                count += batch.num_rows
                yield batch.rename_columns(names)
        if count != expected_rows:
            raise SourceError(
                f"the source changed during the read: {count} rows, expected {expected_rows}",
                where=rows.where,
                hint="load it again when no other process writes to it",
            )
    finally:
        session.close()
