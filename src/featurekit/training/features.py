"""What the store would have held of a view, from the rows of its history.

A value is encoded as a load encodes it, so it is what the store would have held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.history_ports import (
    HistoricalRows,
    PastLoad,
    StoredValues,
    event_age_column,
    remaining_column,
)
from featurekit.lower.columns import bad_row_error, encode_batch
from featurekit.plan import EVENT_TIMESTAMP, SourcePlan, ViewPlan
from featurekit.ports import SOURCE_ROW
from featurekit.training.spool import BATCH_ROWS

_NO_MARKS = "none: whether a worker was late is not known, so no value is stale"
"""What the metadata says of the marks of a view with windows."""


def stored_values(
    view: ViewPlan, rows: HistoricalRows, *, skip_bad_rows: bool = False, at_us: Any = None
) -> StoredValues:
    """Encode the rows, and give each moment those of its row.

    Args:
        view: The view.
        rows: The rows of its history.
        skip_bad_rows: Give nothing to the moments of rows that do not fit the view, and count these
            rows as `rows_rejected`; otherwise they are an error when the batches are read.
        at_us: The moments in microseconds, if ages are asked for.

    Raises:
        BadRowError: A row that a label needs does not fit the view.
    """
    metadata = history_metadata(
        view, rows.as_of, rows.loads, rows.rows_read, rows.rows_incomplete, rows.source_identity
    )
    counts = {"rows_rejected": rows.rows_rejected} if skip_bad_rows else {}
    return StoredValues(_batches(view, rows, counts, at_us), metadata, counts, rows.close)


def history_metadata(
    view: ViewPlan,
    as_of: str,
    loads: Sequence[PastLoad],
    rows_read: int,
    rows_incomplete: int,
    identity: str = "",
) -> dict[str, Any]:
    """Return how the history of a view was read. The arguments are those of `HistoricalRows`."""
    return {
        "as_of": as_of,
        "source": _declared(view.history or view.source),
        **_loads(view, as_of, loads),
        **({"marks": _NO_MARKS} if view.windows else {}),
        **({"identity": identity} if identity else {}),
        "rows_read": rows_read,
        "rows_incomplete": rows_incomplete,
    }


def _declared(source: SourcePlan | None) -> dict[str, Any]:
    """Return the attributes of a source that are not the defaults."""
    if source is None:
        return {}
    defaults = {field.name: field.default for field in fields(source)}
    return {n: value for n, value in asdict(source).items() if value not in (defaults[n], ())}


def _loads(view: ViewPlan, as_of: str, loads: Sequence[PastLoad]) -> dict[str, Any]:
    """Return what the loads of a batch view were assumed or known to be."""
    found: dict[str, Any] = {}
    if as_of == "schedule" and view.schedule is not None:
        found["schedule"] = asdict(view.schedule)
    if as_of == "loads" and loads:
        first, last = loads[0], loads[-1]
        found["loads"] = {
            "count": len(loads),
            "first_ms": first.written_ms,
            "last_ms": last.written_ms,
        }
    elif view.lookback_ms is not None:
        found["lookback_ms"] = view.lookback_ms
    return found


def _batches(
    view: ViewPlan, rows: HistoricalRows, counts: dict[str, int], at_us: Any
) -> Iterator[Any]:
    encoded = encoded_view(view)
    at_ms = None if at_us is None else floor_ms(at_us)
    if rows.numbers is None:
        yield from _ordered_batches(encoded, rows, counts, at_ms)
        return
    found = _encoded_rows(encoded, rows, counts)
    arrays = {id(numbers): numbers for numbers in rows.numbers.values()}
    indices = {name: pc.index_in(n, value_set=found[SOURCE_ROW]) for name, n in arrays.items()}
    for start in range(0, len(next(iter(indices.values()))), BATCH_ROWS):
        batch = {}
        for field in view.fields:
            name = field.name
            index = indices[id(rows.numbers[name])].slice(start, BATCH_ROWS)
            batch[name] = found[name].take(index)
            if at_ms is not None:
                deadline = rows.deadlines[name].slice(start, BATCH_ROWS)
                event_ms = found[EVENT_TIMESTAMP].take(index)
                batch |= _ages(name, deadline, event_ms, at_ms.slice(start, BATCH_ROWS))
        yield pa.record_batch(batch)


def _ordered_batches(
    view: ViewPlan, rows: HistoricalRows, counts: dict[str, int], at_ms: Any
) -> Iterator[Any]:
    """Yield the values of batches that have the row of each moment."""
    keyless = replace(view, key=replace(view.key, join_keys=(), hash_tag_index=None))
    fields = [field.name for field in view.fields]
    rejected: set[int] = set()
    start = 0
    for batch in rows.batches:
        numbers = batch.column(SOURCE_ROW)
        has_value = numbers.is_valid()
        matched = batch.filter(has_value) if numbers.null_count else batch
        encoded = encode_batch(keyless, rows.form, matched.select(fields))
        if encoded.rejected:
            if "rows_rejected" not in counts:
                raise bad_row_error(keyless, matched.column(SOURCE_ROW), encoded)
            bad = matched.column(SOURCE_ROW).take(pa.array(encoded.rejected))
            rejected.update(bad.to_pylist())
            counts["rows_rejected"] = len(rejected)
            has_value = pc.and_(has_value, pc.invert(pc.is_in(numbers, value_set=bad)))
        position = pc.subtract(pc.cumulative_sum(has_value.cast(pa.int64())), 1)
        index = pc.if_else(has_value, position, pa.scalar(None, pa.int64()))
        values = {}
        for name, column in zip(fields, encoded.values, strict=True):
            deadline = batch.column(rows.deadlines[name])
            is_whole = not (index.null_count or deadline.null_count)
            live = pc.if_else(deadline.is_valid(), index, pa.scalar(None, pa.int64()))
            values[name] = column if is_whole else column.take(live)
            if at_ms is not None:
                now = at_ms.slice(start, batch.num_rows)
                values |= _ages(name, deadline, _event_ms(batch), now)
        start += batch.num_rows
        yield pa.record_batch(values)


def _ages(field: str, deadline_ms: Any, event_ms: Any, now_ms: Any) -> dict[str, Any]:
    return {
        remaining_column(field): pc.subtract(deadline_ms, now_ms),
        event_age_column(field): pc.subtract(now_ms, event_ms),
    }


def _event_ms(batch: Any) -> Any:
    """Return the times of rows in milliseconds; null if they have none."""
    if EVENT_TIMESTAMP in batch.schema.names:
        return floor_ms(batch.column(EVENT_TIMESTAMP))
    return pa.nulls(batch.num_rows, pa.int64())


def _encoded_rows(view: ViewPlan, rows: HistoricalRows, counts: dict[str, int]) -> dict[str, Any]:
    """Return the columns of the rows: bytes of fields, their numbers, and event times in ms."""
    fields = [field.name for field in view.fields]
    parts: dict[str, list[Any]] = {name: [] for name in (*fields, SOURCE_ROW, EVENT_TIMESTAMP)}
    for batch in rows.batches:
        kept = [n for n in batch.schema.names if n not in (SOURCE_ROW, EVENT_TIMESTAMP)]
        encoded = encode_batch(view, rows.form, batch.select(kept))
        columns = [batch.column(SOURCE_ROW), _event_ms(batch)]
        if encoded.rejected:
            if "rows_rejected" not in counts:
                raise bad_row_error(view, batch.column(SOURCE_ROW), encoded)
            counts["rows_rejected"] += len(encoded.rejected)
            is_rejected = pc.is_in(
                pa.array(range(batch.num_rows)), value_set=pa.array(encoded.rejected)
            )
            columns = [column.filter(pc.invert(is_rejected)) for column in columns]
        for name, column in zip(parts, [*encoded.values, *columns], strict=True):
            parts[name].append(column)
    types = [*(pa.binary() for _ in fields), pa.int64(), pa.int64()]
    return {  # `pop` frees the parts of a column before the next one is joined
        name: pa.chunked_array(parts.pop(name), kind).combine_chunks()
        for name, kind in zip(list(parts), types, strict=True)
    }


def floor_ms(times: Any) -> Any:
    """Return times, or microseconds since the epoch, in milliseconds, rounded down."""
    if pa.types.is_integer(times.type):
        times = times.cast(pa.timestamp("us"))
    floor = pc.floor_temporal(times, unit="millisecond")
    return floor.cast(pa.timestamp("ms", floor.type.tz)).cast(pa.int64())


def encoded_view(view: ViewPlan) -> ViewPlan:
    """Return the view with what is checked in rows of its history.

    The order of rows is known already. Events may leave out fields that are required in rows. A window
    that is `nan` is invalid.
    """
    fields = view.fields
    if view.kind == "stream":
        fields = tuple(
            replace(
                field,
                constraints=replace(
                    field.constraints,
                    required=False,
                    allow_nan=field.constraints.allow_nan or field.aggregate is not None,
                ),
            )
            for field in fields
        )
    return replace(view, ordering="arrival", fields=fields)
