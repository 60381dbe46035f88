"""Find the row that was current for an entity at a moment, for many moments at once.

Continuous loads without a lookback write the newest row of what is known at each instant, by time,
creation and arrival, and renew its expiry each time. So the row of a moment is the newest of the
rows known by then.

1. Index: the key, the time from which the row is known, the order and the number of each row. Keys
   are encoded as loads do, so that `007` and `7` are one integer, and none is rounded.
2. Keep the rows that were the newest when they became known, and of those known at one instant the
   newest. Then one ASOF join finds the row of each moment, without ties, which ASOF breaks at random.
3. Read the rows that were found, by number.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc

from featurekit.errors import SourceError
from featurekit.lower.columns import encode_ids
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.ports import SOURCE_ROW, AsOf, HistoricalRows
from featurekit.sources.selection import Selection, check_members, select
from featurekit.sources.session import Rows
from featurekit.sources.times import check_created_texts

_BATCH_ROWS = 16_384

_INDEX_ROWS = 262_144
"""Rows of an index batch. Each batch looks up its keys, which costs the time of a hash table."""


@dataclass(frozen=True, slots=True)
class _Order:
    """How rows of a history are ordered.

    Attributes:
        as_of: When rows count.
        known: The expression of the microsecond from which a row counts.
        at: The expression of its time in microseconds.
        parts: The expressions that order rows by age, most important first.
    """

    as_of: AsOf
    known: str
    at: str
    parts: tuple[str, ...]


def rows_at(
    rows: Rows, view: ViewPlan, source: SourceColumns, moments: Any, as_of: AsOf | None
) -> HistoricalRows:
    """Return the row of each moment. See `ports.HistorySource`."""
    view = replace(
        view, ordering="arrival"
    )  # the newest row by time is current in either ordering
    selection = select(view, source, rows)
    session = rows.session
    try:
        with rows.errors():
            if rows.form == "json":
                check_members(view, source, rows)
            order = _order(rows, selection, source, as_of)
            keys = moments["k"].unique()
            read, complete = _store_index(rows, view, source, order, keys)
            rows.check_count(read)
            ids = pc.index_in(moments["k"], value_set=keys)
            _match(rows, order, moments.set_column(1, "k", ids))
            found = session.call(
                lambda: session.connection.sql(
                    "SELECT rn FROM matched ORDER BY rid"
                ).to_arrow_table()
            )
            batches = _read_matched(rows, selection)
    finally:
        session.close()
    numbers = found["rn"].combine_chunks()
    return HistoricalRows(rows.form, numbers, batches, order.as_of, read, read - complete)


def _order(rows: Rows, selection: Selection, source: SourceColumns, as_of: AsOf | None) -> _Order:
    kind = rows.columns.get(source.timestamp_field or "", "")
    at = _microseconds(selection.time, kind)
    parts = (selection.time, *(_exact(rows, source, part) for part in selection.order[1:]))
    created = _created_time(rows, selection, source)
    if as_of == "created" and not created:
        column = source.created_timestamp_field
        raise SourceError(
            f"created_timestamp_field '{column}' holds no times"
            if column
            else "the source has no created_timestamp_field",
            where=rows.where,
            hint="use as_of='event_time'",
        )
    if as_of == "event_time" or not created:
        return _Order("event_time", at, at, parts)
    return _Order("created", f"greatest({at}, {created})", at, parts)


def _created_time(rows: Rows, selection: Selection, source: SourceColumns) -> str:
    """Return the expression of the microsecond of creation; empty if that is not a time."""
    column = source.created_timestamp_field
    if not column:
        return ""
    if selection.created_text:
        texts = f"(SELECT {selection.created_text} AS created_text FROM {rows.source})"
        check_created_texts(rows, column, texts, "created_text")
        ((numbers,),) = rows.session.fetch_all(
            f"SELECT count(*) FILTER (created_text = 'number') FROM {texts}"
        )
        return "" if numbers else _microseconds(selection.order[-1], "")
    kind = rows.columns[column]
    is_time = kind.startswith("TIMESTAMP") or kind == "DATE"
    return _microseconds(selection.order[-1], kind) if is_time else ""


def _microseconds(time: str, kind: str) -> str:
    """Return a time in microseconds since the epoch, rounded down, which casts do not do."""
    if "_NS" in kind:
        ns = f"epoch_ns({time})"
        return f"({ns} - (({ns} % 1000) + 1000) % 1000) // 1000"
    return f"epoch_us(CAST({time} AS TIMESTAMPTZ))"


def _exact(rows: Rows, source: SourceColumns, part: str) -> str:
    """Return an expression for the order of creation in a type that Arrow holds exactly."""
    kind = rows.columns.get(source.created_timestamp_field or "", "")
    return f"CAST({part} AS DECIMAL(38, 0))" if kind.endswith("HUGEINT") else part


def _store_index(
    rows: Rows, view: ViewPlan, source: SourceColumns, order: _Order, entities: Any
) -> tuple[int, int]:
    """Store the index as the table `row_index`; return the number of rows, and of those with key and time.

    It has the rows of these entities only, whose positions are the keys.
    """
    keys = select(replace(view, fields=()), source, rows)
    values = {
        name: value
        for name, value in zip(keys.names, keys.values, strict=True)
        if name != "event_timestamp"
    }
    columns = {
        **{f"v{i}": value for i, value in enumerate(values.values())},
        "known": order.known,
        '"at"': order.at,
        **{f"o{i}": part for i, part in enumerate(order.parts)},
    }
    sql = f"FROM {_numbered(rows, columns)}"
    # The result is read on one connection and stored on another, so the table cannot be temporary.
    writer = rows.session.connection.cursor()
    read = indexed = 0
    batch_rows = _BATCH_ROWS if rows.form == "json" else _INDEX_ROWS
    reader = rows.session.connection.sql(sql).to_arrow_reader(batch_rows)
    ids = [f"v{i}" for i in range(len(values))]
    kept = [name for name in reader.schema.names if name not in ids]
    arrow = rows.session.arrow
    schema = arrow.schema([("k", arrow.int32()), *(reader.schema.field(n) for n in kept)])
    writer.register("incoming", schema.empty_table())
    writer.execute("CREATE TABLE row_index AS FROM incoming")
    for batch in reader:
        read += batch.num_rows
        encoded = encode_ids(view, rows.form, batch.select(ids).rename_columns(list(values)))
        complete = batch.select(kept)
        if encoded.rejected:
            refused = set(encoded.rejected)
            complete = complete.filter(
                arrow.array([i not in refused for i in range(batch.num_rows)])
            )
        indexed += complete.num_rows - complete["known"].null_count
        found = pc.index_in(encoded.keys, value_set=entities)
        table = arrow.table([found, *complete.columns], schema=schema)
        table = table.filter(pc.and_(table["k"].is_valid(), table["known"].is_valid()))
        writer.register("incoming", table)
        writer.execute("INSERT INTO row_index FROM incoming")
    writer.close()
    return read, indexed


def _numbered(rows: Rows, columns: dict[str, str]) -> str:
    """Return a FROM clause with all rows, numbered in the order of arrival."""
    parts = ", ".join(f"{part} AS {name}" for name, part in columns.items())
    return f"(SELECT {parts}, row_number() OVER () AS rn FROM {rows.source})"


def _match(rows: Rows, order: _Order, moments: Any) -> None:
    """Store, as the table `matched`, the number of the row of each moment."""
    ages = "".join(f', "o{i}" NULLS FIRST' for i in range(len(order.parts)))
    window = f'PARTITION BY "k" ORDER BY "known", "at"{ages}, "rn"'
    current = (
        'SELECT "k", "known", "rn" FROM row_index QUALIFY '
        f'"at" >= max("at") OVER ({window} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) '
        f'AND lead("known") OVER ({window}) IS DISTINCT FROM "known"'
    )
    session = rows.session
    session.connection.register("moments", moments)
    sql = (
        'CREATE OR REPLACE TABLE matched AS SELECT m."rid", r."rn" FROM moments m '
        f'ASOF LEFT JOIN ({current}) r ON m."k" = r."k" AND m."at" >= r."known"'
    )
    session.run(lambda: session.execute(sql))
    session.execute("DROP TABLE row_index")


def _read_matched(rows: Rows, selection: Selection) -> list[Any]:
    """Return the rows of `matched`, each once."""
    session = rows.session
    columns = {f"v{i}": part for i, part in enumerate(selection.values)}
    session.execute("CREATE TABLE chosen AS SELECT DISTINCT rn FROM matched WHERE rn IS NOT NULL")
    ((expected,),) = session.fetch_all("SELECT count(*) FROM chosen")
    session.limit_memory(rows.extra_memory_bytes)
    reader = session.connection.sql(
        f"FROM {_numbered(rows, columns)} SEMI JOIN chosen USING (rn)"
    ).to_arrow_reader(_BATCH_ROWS)
    batches = []
    for batch in reader:
        rows.check_unchanged()
        batches.append(batch.rename_columns([*selection.names, SOURCE_ROW]))
    if sum(batch.num_rows for batch in batches) != expected:
        raise SourceError(
            "the source changed during the read",
            where=rows.where,
            hint="read it again when no other process writes to it",
        )
    return batches
