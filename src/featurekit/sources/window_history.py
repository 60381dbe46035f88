"""Compute what the windows of a stream view held at many moments at once.

An event counts for a moment `t` if its time is in the window of `t`, from `floor(t / tile) * tile -
window` up to but not including `t`, and if it had arrived by `t`. So do the tiles of the store, except
that an event ahead of the reader's clock counts there from the start of its tile. Tiles that the store
no longer keeps when a late event arrives are in no window of a later moment. Events do what the
script of the view makes of them:

- One whose time is more than `max_ahead` later than its arrival is refused, as is one with a value
  that does not fit its input.
- Of the events of an entity with one id (`once: {event_id: ...}`), the first to arrive counts. One
  without an id is refused.
- When the key ends, so do its windows, and which events it has seen is forgotten.

The server adds the floats of a tile in the order of their arrival, and a read adds the tiles. Where
values cancel so far that another order could show, the sums of a moment are added in Python as there.

An input has the value that the worker would have written as text. Moments and events are joined by the
entity and by a part of time that is as long as the longest distance between them, once for each
window and tile that the features of the view have.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import groupby, islice
from operator import add, itemgetter
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.expressions import Expression
from featurekit.history_ports import HistoricalRows, HistoryQuery
from featurekit.lower.columns import bad_row_error, encode_batch
from featurekit.lower.expression_columns import expression_values
from featurekit.lower.window_scripts import HASH_SIZE, MAX_DISTINCT
from featurekit.plan import (
    EVENT_TIMESTAMP,
    AggregateFunction,
    AggregatePlan,
    FieldPlan,
    SourceColumns,
    ViewPlan,
    WindowsPlan,
)
from featurekit.ports import SOURCE_ROW
from featurekit.sources.event_history import event_times
from featurekit.sources.history_index import MAX_ROWS, History
from featurekit.sources.history_range import history_range
from featurekit.sources.load_times import FOREVER, floor_to, to_ms
from featurekit.sources.selection import json_pointer
from featurekit.sources.session import Rows, quote_identifier, quote_text
from featurekit.types import DType, codec_of
from featurekit.types.arrow import decode_array

_BATCH_ROWS = 16_384

_DEADLINE = "deadline"
"""The column of `HistoricalRows.deadlines`: each moment has a value, or null in one row of its own."""

_INDEX = ("k", "rn", "arrived", "event", "end_ms")
"""The columns of `events` beside those of aggregates: times in microseconds, and the end of the key."""

_MAX_ERROR = 2e6
"""How many times its result a float sum may be, by the count and the absolute sum of what is added. Then
any order of adding has the same 9 digits, since each step is off by 1.1e-16 of the absolute sum."""

_AT = '"at"'


def window_rows_at(
    rows: Rows, view: ViewPlan, source: SourceColumns, query: HistoryQuery
) -> HistoricalRows:
    """Return the values of each moment. See `ports.HistorySource`."""
    assert view.windows is not None  # noqa: S101 - see `history.rows_at`
    events = replace(view, fields=view.windows.inputs, ordering="arrival")
    try:
        with rows.errors():
            times = history_range(view, source, query)
            history = History.of(rows, events, source, query.moments, times)
            as_of, arrival, nanos, time = event_times(history, query.as_of)
            columns = {"arrival": arrival, "nanos": nanos, "event": time}
            if event_id := _event_id(history, view.windows):
                columns["event_id"] = event_id
            counts = history.store_index(columns, "arrival")
            _store_accepted(history, query, has_id=bool(event_id))
            of_field = _event_columns(view)
            of_events = list({column.name: column for column in of_field.values()}.values())
            rejected = _store_events(history, view, of_events, skip_bad_rows=query.skip_bad_rows)
            values = _store_windows(history, view, of_field)
    except BaseException:
        rows.session.close()
        raise
    return HistoricalRows(
        "native",
        None,
        {field.name: _DEADLINE for field in view.fields},
        _batches(history, values),
        as_of,
        *counts,
        source_identity=rows.identity,
        rows_rejected=rejected,
        close=rows.session.close,
    )


def _event_id(history: History, windows: WindowsPlan) -> str:
    """Return the SQL of what a repeated event is recognized by; empty if nothing is."""
    rows = history.rows
    if windows.event_id is None:
        return ""
    column = history.source.column(windows.event_id)
    if rows.form == "json":
        return f"json_extract_string(json, {quote_text(json_pointer(column))})"
    # The log of the view may lack it, since it has only events that were accepted.
    return f"CAST({quote_identifier(column)} AS VARCHAR)" if column in rows.columns else ""


def _store_accepted(history: History, query: HistoryQuery, *, has_id: bool) -> None:
    """Store the table `accepted` with the events that the store accepts, without their inputs."""
    view, session = history.view, history.rows.session
    ends = history.key_ends(query.key_ends)
    joined, end = "row_index r", "NULL::BIGINT"
    if ends:
        arrived_ms = to_ms("r.arrival")
        joined += f" ASOF LEFT JOIN {ends} d ON r.k = d.k AND {arrived_ms} <= d.end_ms"
        end = "d.end_ms"
    position = f"r.arrival::HUGEINT * {1000 * MAX_ROWS} + r.nanos * {MAX_ROWS} + r.rn"
    once = ""
    if has_id:
        of_id = f"PARTITION BY r.k, {end}, r.event_id ORDER BY {position}"
        once = f" AND r.event_id <> '' QUALIFY row_number() OVER ({of_id}) = 1"
    sql = (
        f"CREATE TABLE accepted AS SELECT r.k, r.rn, r.arrival AS arrived, r.event, {end} AS end_ms "
        f"FROM {joined} WHERE r.event >= 0 "
        f"AND {to_ms('r.event')} <= {to_ms('r.arrival')} + {view.max_ahead_ms}{once}"
    )
    session.run(lambda: session.execute(sql))
    session.execute("DROP TABLE row_index")


def _store_events(
    history: History, view: ViewPlan, columns: Sequence[_EventColumn], *, skip_bad_rows: bool
) -> int:
    """Store the table `events` with some columns; return how many events were rejected.

    Raises:
        BadRowError: A value does not fit its input, and such events are not to be skipped.
    """
    session = history.rows.session
    # Events may leave out what is required in rows, and their keys are known already.
    inputs = tuple(
        replace(field, constraints=replace(field.constraints, required=False))
        for field in history.view.fields
    )
    key = replace(view.key, join_keys=(), hash_tag_index=None)
    keyless = replace(history.view, fields=inputs, key=key)
    # The result is read on one connection and stored on another, so the table is not temporary.
    writer = session.connection.cursor()
    statement, rejected = "CREATE TABLE events AS", 0
    names = ", ".join([*_INDEX, *(column.name for column in columns)])
    read = [name for name in history.selection.names if name != EVENT_TIMESTAMP]
    for batch in history.rows_with_index("accepted"):
        encoded = encode_batch(keyless, history.rows.form, batch.select(read))
        index = batch.select([f"@{name}" for name in _INDEX])
        if encoded.rejected:
            if not skip_bad_rows:
                raise bad_row_error(keyless, batch.column("@rn"), encoded)
            rejected += len(encoded.rejected)
            refused = set(encoded.rejected)
            index = index.filter(pa.array([i not in refused for i in range(batch.num_rows)]))
        data = {f.name: _written(f, d) for f, d in zip(inputs, encoded.values, strict=True)}
        values = _Inputs({field.name: field.dtype for field in inputs}, data, index.num_rows)
        arrays = dict(zip(_INDEX, index.columns, strict=True))
        arrays |= {column.name: column.array(values) for column in columns}
        writer.register("incoming", pa.table(arrays))
        parts = ", ".join([*_INDEX, *(column.stored for column in columns)])
        writer.execute(f"{statement} SELECT {parts} FROM incoming")
        statement = f"INSERT INTO events ({names})"
    if statement.startswith("CREATE"):
        empty = (f"NULL::INTEGER AS {column.name}" for column in columns)
        writer.execute(f"{statement} SELECT {', '.join([*_INDEX, *empty])} FROM accepted")
    writer.close()
    session.execute("DROP TABLE accepted")
    return rejected


def _written(field: FieldPlan, data: Any) -> Any:
    """Return the bytes of an input as the worker writes them: zero has no sign."""
    if not codec_of(field.dtype).has_nan:
        return data
    return pc.if_else(pc.equal(data, b"-0"), pa.scalar(b"0", pa.binary()), data)


class _Inputs:
    """The inputs of a batch of events, in the forms that aggregates need.

    Attributes:
        data: The bytes of each input, as the codecs write them.
        rows: The number of events.
    """

    def __init__(self, dtypes: Mapping[str, DType], data: Mapping[str, Any], rows: int) -> None:
        self._dtypes = dtypes
        self.data = data
        self.rows = rows
        self._decoded: dict[str, Any] = {}

    def decoded(self, name: str) -> Any:
        """Return an input as values of its type."""
        if name not in self._decoded:
            self._decoded[name] = decode_array(self._dtypes[name], self.data[name])
        return self._decoded[name]

    def numbers(self, name: str) -> Any:
        """Return an input as integers, or as the floats that its text means."""
        if codec_of(self._dtypes[name]).is_integer:
            return self.decoded(name).cast(pa.int64())
        return self.data[name].cast(pa.string()).cast(pa.float64())

    def meet(self, expression: Expression) -> Any:
        """Return a mask of the events that meet a condition."""
        columns = {name: self.decoded(name) for name in expression.names}
        met = pa.array(expression_values(expression, columns, self.rows), pa.bool_())
        return pc.fill_null(met, fill_value=False)


_Form = Literal["one", "bytes", "values", "numbers"]
"""What an aggregate needs of an input: whether there is one, its bytes, or its values."""

_FORMS: dict[AggregateFunction, _Form] = {
    "count": "one",
    "count_distinct": "bytes",
    "min": "values",
    "max": "values",
    "sum": "numbers",
    "mean": "numbers",
    "stddev": "numbers",
}


@dataclass(frozen=True, slots=True)
class _EventColumn:
    """A column of the table `events`, which aggregates of one input and condition share.

    Attributes:
        name: Its name.
        form: What it has of the input.
        of: The input; `None` for any event.
        where: The condition of the events that count; the column is null for others.
    """

    name: str
    form: _Form
    of: str | None
    where: Expression | None

    def array(self, inputs: _Inputs) -> Any:
        """Return the column of a batch of events."""
        one = pa.scalar(1, pa.int8())
        if self.of is None:
            value = pa.repeat(one, inputs.rows)
        elif self.form == "one":
            value = pc.if_else(inputs.data[self.of].is_valid(), one, pa.scalar(None, pa.int8()))
        elif self.form == "bytes":
            value = inputs.data[self.of]
        else:
            values = inputs.decoded if self.form == "values" else inputs.numbers
            value = values(self.of)
        if self.where is None:
            return value
        return pc.if_else(inputs.meet(self.where), value, pa.scalar(None, value.type))

    @property
    def stored(self) -> str:
        """The SQL of what is stored of it: of bytes, their hash."""
        if self.form != "bytes":
            return self.name
        return f"CAST('0x' || substr(sha1({self.name}), 1, {HASH_SIZE}) AS UBIGINT) AS {self.name}"


def _event_columns(view: ViewPlan) -> dict[str, _EventColumn]:
    """Return the column of `events` that each field is computed of."""
    columns: list[_EventColumn] = []
    found = {}
    for field in view.fields:
        aggregate = _aggregate(field)
        column = _EventColumn(
            f"v{len(columns)}", _FORMS[aggregate.function], aggregate.of, aggregate.where
        )
        same = (each for each in columns if replace(column, name=each.name) == each)
        if (shared := next(same, None)) is None:
            columns.append(shared := column)
        found[field.name] = shared
    return found


def _aggregate(field: FieldPlan) -> AggregatePlan:
    assert field.aggregate is not None  # noqa: S101 - all fields of such a view are aggregates
    return field.aggregate


def _store_windows(history: History, view: ViewPlan, columns: Mapping[str, _EventColumn]) -> str:
    """Store a table for each window, and return the query of the values of all moments, in order."""
    session = history.rows.session
    groups: dict[tuple[int, int, str], list[FieldPlan]] = {}
    for field in view.fields:
        aggregate = _aggregate(field)
        alone = field.name if aggregate.function == "count_distinct" else ""
        groups.setdefault((aggregate.window_ms, aggregate.tile_ms, alone), []).append(field)
    joins: list[str] = []
    values: dict[str, str] = {}
    for number, fields in enumerate(groups.values()):
        of = [columns[field.name].name for field in fields]
        for sql in _window_sql(f"window{number}", history, fields, of):
            session.run(partial(session.execute, sql))
        _add_as_server(f"window{number}", history, fields, of)
        joins.append(f"LEFT JOIN window{number} w{number} USING (rid)")
        values |= {field.name: f"w{number}.a{i}" for i, field in enumerate(fields)}
    session.execute("DROP TABLE events")
    parts = [f"{_result(f, values[f.name])} AS {quote_identifier(f.name)}" for f in view.fields]
    return (
        f'SELECT {", ".join(parts)}, m.rid AS "{SOURCE_ROW}", {FOREVER} AS {_DEADLINE} '
        f"FROM moments m {' '.join(joins)} ORDER BY m.rid"
    )


def _joined(aggregate: AggregatePlan) -> str:
    """Return the SQL of the moments `m`, each joined with the events `e` in its window."""
    window, tile = aggregate.window_ms * 1000, aggregate.tile_ms * 1000
    span = window + tile  # longer than the distance of an event from its moment
    moments = (
        f"(SELECT rid, k, {_AT}, {to_ms(_AT)} AS at_ms, {floor_to(_AT, tile)} - {window} AS low, "
        f"unnest([{_AT} // {span}, {_AT} // {span} - 1]) AS part FROM moments WHERE {_AT} >= 0)"
    )
    return (
        f"{moments} m JOIN (SELECT *, event // {span} AS part FROM events) e "
        f"ON m.k = e.k AND m.part = e.part AND e.event >= m.low AND e.event < m.{_AT} "
        f"AND e.arrived <= m.{_AT} AND (e.end_ms IS NULL OR m.at_ms <= e.end_ms)"
    )


def _double_sums(fields: Sequence[FieldPlan]) -> list[int]:
    """Return the indices of the fields for which the server adds doubles."""
    return [
        i
        for i, field in enumerate(fields)
        if (function := _aggregate(field).function) == "mean"
        or (function == "sum" and not codec_of(field.dtype).is_integer)
    ]


def _add_as_server(
    table: str, history: History, fields: Sequence[FieldPlan], columns: Sequence[str]
) -> None:
    """Replace the float sums of a window by those of the server, where they could differ."""
    session, summed = history.rows.session, _double_sums(fields)
    totals = [
        f"a{i} * n{i}" if _aggregate(fields[i]).function == "mean" else f"a{i}" for i in summed
    ]
    inexact = " OR ".join(
        f"b{i} * n{i} > {_MAX_ERROR} * abs({total}) AND b{i} > 0 OR NOT isfinite(b{i})"
        for i, total in zip(summed, totals, strict=True)
    )
    if not summed or not session.fetch_all(f"SELECT 1 FROM {table} WHERE {inexact} LIMIT 1"):
        return
    tile = _aggregate(fields[0]).tile_ms * 1000
    values = ", ".join(f"e.{columns[i]}::DOUBLE" for i in summed)
    found = session.connection.sql(
        f"SELECT m.rid, e.event // {tile} AS tile, {values} FROM {_joined(_aggregate(fields[0]))} "
        f"SEMI JOIN (SELECT rid FROM {table} WHERE {inexact}) i ON i.rid = m.rid "
        "ORDER BY m.rid, tile, e.arrived, e.rn"
    )
    writer = session.connection.cursor()
    names = [f"s{i}" for i in summed]
    writer.execute(f"CREATE TABLE sums (rid BIGINT, {', '.join(f'{n} DOUBLE' for n in names)})")
    rows = _server_sums(found.to_arrow_reader(_BATCH_ROWS), len(summed))
    while part := list(islice(rows, _BATCH_ROWS)):
        arrays = [pa.array(each) for each in zip(*part, strict=True)]
        writer.register("incoming", pa.table(arrays, ["rid", *names]))
        writer.execute("INSERT INTO sums FROM incoming")
    writer.close()
    updates = ", ".join(
        f"a{i} = s{i} / nullif(n{i}, 0)"
        if _aggregate(fields[i]).function == "mean"
        else f"a{i} = s{i}"
        for i in summed
    )
    session.execute(f"UPDATE {table} SET {updates} FROM sums WHERE sums.rid = {table}.rid")
    session.execute("DROP TABLE sums")


def _server_sums(batches: Iterable[Any], columns: int) -> Iterator[tuple[int | float | None, ...]]:
    """Yield each moment with the sums of some columns, from rows in the order of moments and tiles."""
    rows = (
        row
        for batch in batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    for rid, of_moment in groupby(rows, itemgetter(0)):
        tiles: list[list[float]] = [[] for _ in range(columns)]
        for _, of_tile in groupby(of_moment, itemgetter(1)):
            for states, added in zip(tiles, [*zip(*of_tile, strict=True)][2:], strict=True):
                known = [value for value in added if value is not None]
                if known:
                    states.append(reduce(add, known))
        yield rid, *(_sum_of_tiles(states) if states else None for states in tiles)


def _sum_of_tiles(states: Sequence[float]) -> float:
    """Return what a read makes of the sums of tiles, the newest first; `nan` if it is outside float64."""
    try:
        return math.fsum(reversed(states)) if all(map(math.isfinite, states)) else math.nan
    except OverflowError:
        return math.nan


def _window_sql(
    table: str, history: History, fields: Sequence[FieldPlan], columns: Sequence[str]
) -> list[str]:
    """Return statements that store the aggregates of one window, by `rid`.

    There is no row if no event is in the window.
    """
    aggregate = _aggregate(fields[0])
    joined = _joined(aggregate)
    if aggregate.function == "count_distinct":
        [v] = columns
        # Aggregates of lists would not spill; few moments have as many values as are estimated.
        place = "row_number() OVER (PARTITION BY rid ORDER BY hash)"
        return [
            f"CREATE OR REPLACE TABLE hashes AS SELECT DISTINCT m.rid, e.{v} AS hash FROM {joined} "
            f"WHERE e.{v} IS NOT NULL",
            "CREATE OR REPLACE TABLE counts AS SELECT rid, count(*) AS n FROM hashes GROUP BY rid",
            f"CREATE TABLE {table} AS SELECT rid, {{'count': n, 'last': hash}} AS a0 FROM counts "
            f"LEFT JOIN (SELECT rid, hash FROM hashes SEMI JOIN (FROM counts WHERE n >= {MAX_DISTINCT}) "
            f"USING (rid) QUALIFY {place} = {MAX_DISTINCT}) USING (rid)",
            "DROP TABLE hashes",
        ]
    inputs = {field.name: field for field in history.view.fields}
    parts = [
        f"{_aggregate_sql(field, f'e.{v}', inputs)} AS a{i}"
        for i, (field, v) in enumerate(zip(fields, columns, strict=True))
    ]
    for i in _double_sums(fields):
        v = f"e.{columns[i]}"
        parts.append(f"count({v}) AS n{i}, fsum(abs({v}::DOUBLE)) AS b{i}")
    return [
        f"CREATE TABLE {table} AS SELECT m.rid, {', '.join(parts)} FROM {joined} GROUP BY m.rid"
    ]


def _aggregate_sql(field: FieldPlan, value: str, inputs: Mapping[str, FieldPlan]) -> str:
    """Return the SQL of an aggregate; null for nothing in the window, except of counts."""
    aggregate = _aggregate(field)
    of = inputs[aggregate.of] if aggregate.of else None
    is_integer = of is not None and codec_of(of.dtype).is_integer
    total = f"sum({value})" if is_integer else f"fsum({value})"
    kind = "BIGINT" if codec_of(field.dtype).is_integer else "DOUBLE"
    return {
        "count": f"count({value})",
        "sum": f"TRY_CAST({total} AS {kind})",
        "min": f"min({value})",
        "max": f"max({value})",
        "mean": f"{total} / nullif(count({value}), 0)",
        "stddev": f"stddev_samp({value})",
    }[aggregate.function]


def _result(field: FieldPlan, value: str) -> str:
    """Return the SQL of a value for a moment, null if there is none.

    A float that is not finite is `nan`, which a read calls invalid.
    """
    aggregate = _aggregate(field)
    empty = "0" if aggregate.is_zero_if_empty else "NULL"
    if aggregate.function == "count":
        return f"CASE WHEN {value} > 0 THEN {value} ELSE {empty} END"
    if aggregate.function == "count_distinct":
        scale = (MAX_DISTINCT - 1) * 16**HASH_SIZE
        estimate = f"round_even({scale} / ({value}.last + 1.0), 0)"
        return (
            f"CASE WHEN {value}.count < {MAX_DISTINCT} THEN {value}.count "
            f"WHEN {value}.count > 0 THEN CAST({estimate} AS BIGINT) ELSE {empty} END"
        )
    if codec_of(field.dtype).is_integer:
        return value
    return (
        f"CASE WHEN isfinite({value}) THEN {value} WHEN {value} IS NOT NULL THEN 'nan'::DOUBLE END"
    )


def _batches(history: History, sql: str) -> Iterator[Any]:
    rows, session = history.rows, history.rows.session
    try:
        with rows.errors():
            yield from session.connection.sql(sql).to_arrow_reader(_BATCH_ROWS)
    finally:
        session.close()
