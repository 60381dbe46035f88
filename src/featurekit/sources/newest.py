"""The newest row of each entity, in memory that does not grow with the rows.

Rows are read twice. The first reading, of keys and times alone, counts rows and entities; where
every entity has one row, nothing more is needed, and the second streams. Else the numbers of the
rows that are kept, or of those that are not (the fewer), are found and joined to the stream.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from featurekit.errors import SourceError
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import Scan
from featurekit.sources.selection import Selection, select
from featurekit.sources.session import Rows

WIDE_BATCH_BYTES = 16_000_000
"""The most that the vectors of a record batch take."""

Window = tuple[int | None, int | None]
"""`start_ms` and `end_ms`, either of which may be open."""


def newest(
    rows: Rows, view: ViewPlan, source: SourcePlan, window: Window, batch_rows: int
) -> Scan:
    """The newest row of each entity; of equally new rows the last to arrive.

    Rows without an entity or without a time are all kept, for the loader to refuse.

    Raises:
        SourceError: They cannot be read, or lack what the view takes from them.
    """
    selection = select(view, source, rows, *window)
    with rows.session.errors(rows.where):
        index = _index(rows, selection)
        found = _survey(rows, index, selection)
        kept = "" if found.unique else _superseded(rows, index, selection, found)
    columns = {f"v{i}": part for i, part in enumerate(selection.values)}
    sql = f"SELECT {', '.join(columns)} FROM {_numbered(rows, selection, columns)} {kept}"
    names = list(selection.names)
    stream = _stream(rows, sql, names, _fitting(view, batch_rows), found.kept)
    return Scan(rows.form, stream, found.rows)


def _fitting(view: ViewPlan, batch_rows: int) -> int:
    """So many rows that their vectors do not make a batch too large."""
    row_bytes = sum(4 * field.dtype.size for field in view.fields)
    return max(1, min(batch_rows, WIDE_BATCH_BYTES // max(row_bytes, 1)))


@dataclass(frozen=True, slots=True)
class _Found:
    """What the first reading found: rows, those with entity and time, and entities of these."""

    rows: int
    complete: int
    entities: int

    @property
    def unique(self) -> bool:
        return self.complete == self.entities

    @property
    def kept(self) -> int:
        return self.rows - self.complete + self.entities


def _index(rows: Rows, selection: Selection) -> str:
    """What tells the rows apart: entity, time, and number of each.

    It is read up to three times. Text is costly to take apart, so what came of it is kept.
    """
    columns = {
        **{f"k{i}": part for i, part in enumerate(selection.keys)},
        **{f"o{i}": part for i, part in enumerate(selection.order)},
        "whole": f"coalesce({selection.complete}, false)",
    }
    index = _numbered(rows, selection, columns)
    if rows.form == "native":
        return index
    rows.session.connection.execute(f"CREATE TEMP TABLE keyed AS FROM {index}")
    return "keyed"


def _numbered(rows: Rows, selection: Selection, columns: dict[str, str]) -> str:
    """The rows in their window, numbered as they arrive; the same number in each reading."""
    named = ", ".join(f"{part} AS {column}" for column, part in columns.items())
    return (
        f"(SELECT {named}, row_number() OVER () AS rn FROM {rows.source} WHERE {selection.window})"
    )


def _survey(rows: Rows, index: str, selection: Selection) -> _Found:
    keys = ", ".join(_parts("k", selection.keys))
    groups = f"SELECT whole, count(*) AS n FROM {index} GROUP BY {keys}, whole"
    ((total, complete, entities),) = rows.session.rows(
        "SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (whole), 0), "
        f"count(*) FILTER (whole) FROM ({groups})"
    )
    return _Found(int(total), int(complete), int(entities))


def _superseded(rows: Rows, index: str, selection: Selection, found: _Found) -> str:
    """Find which rows are kept; the join that keeps them."""
    newer = [f"{part} DESC NULLS LAST" for part in (*_parts("o", selection.order), "rn")]
    keys = ", ".join(_parts("k", selection.keys))
    place = f"row_number() OVER (PARTITION BY {keys} ORDER BY {', '.join(newer)})"
    ranked = f"SELECT rn, {place} AS place FROM {index} WHERE whole"
    fewer_go = found.complete - found.entities <= found.kept
    if fewer_go:
        numbers = f"SELECT rn FROM ({ranked}) WHERE place > 1"
    else:
        broken = f"SELECT rn FROM {index} WHERE NOT whole"
        numbers = f"SELECT rn FROM ({ranked}) WHERE place = 1 UNION ALL {broken}"
    rows.session.connection.execute(f"CREATE TEMP TABLE chosen AS {numbers}")
    return f"{'ANTI' if fewer_go else 'SEMI'} JOIN chosen USING (rn)"


def _parts(letter: str, parts: tuple[str, ...]) -> list[str]:
    return [f"{letter}{i}" for i in range(len(parts))]


def _stream(
    rows: Rows, sql: str, names: list[str], batch_rows: int, expected: int
) -> Iterator[Any]:
    session = rows.session
    count = 0
    try:
        with session.errors(rows.where):
            session.limit(rows.wide_bytes)
            for batch in session.connection.sql(sql).to_arrow_reader(batch_rows):
                count += batch.num_rows
                yield batch.rename_columns(names)
        if count != expected:
            raise SourceError(
                f"the source changed while it was read: {count} rows, not {expected}",
                where=rows.where,
                hint="load it again when nobody writes to it",
            )
    finally:
        session.close()
