"""What the store would have held of a view, from the rows of its history.

A value is encoded as a load encodes it, so it is what the store would have held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import BadRowError, join_where
from featurekit.lower.columns import EncodedBatch, encode_batch
from featurekit.plan import ViewPlan
from featurekit.ports import SOURCE_ROW, HistoricalRows, StoredValues
from featurekit.training.spool import BATCH_ROWS


def stored_values(view: ViewPlan, rows: HistoricalRows) -> StoredValues:
    """Encode the rows, and give each moment those of its row.

    Raises:
        BadRowError: A row that a label needs does not fit the view.
    """
    history = view.history or view.source
    source = asdict(history) if history else {}
    metadata = {
        "as_of": rows.as_of,
        "source": {
            name: value for name, value in source.items() if value not in (None, (), "", False)
        },
        "rows_read": rows.rows_read,
        "rows_incomplete": rows.rows_incomplete,
    }
    return StoredValues(_batches(view, rows), metadata)


def _batches(view: ViewPlan, rows: HistoricalRows) -> Iterator[Any]:
    view = _encoded_view(view)
    numbers: list[Any] = []
    parts: dict[str, list[Any]] = {field.name: [] for field in view.fields}
    for batch in rows.batches:
        names = [n for n in batch.schema.names if n not in (SOURCE_ROW, "event_timestamp")]
        encoded = encode_batch(view, rows.form, batch.select(names))
        if encoded.rejected:
            raise _bad_row(view, batch, encoded)
        numbers.append(batch.column(SOURCE_ROW))
        for field, values in zip(view.fields, encoded.values, strict=True):
            parts[field.name].append(values)
    rn = pa.chunked_array(numbers, pa.int64()).combine_chunks()
    stored = {
        name: pa.chunked_array(arrays, pa.binary()).combine_chunks()
        for name, arrays in parts.items()
    }
    indices = {id(n): pc.index_in(n, value_set=rn) for n in rows.numbers.values()}
    for start in range(0, len(next(iter(indices.values()))), BATCH_ROWS):
        yield pa.record_batch(
            {
                name: values.take(indices[id(rows.numbers[name])].slice(start, BATCH_ROWS))
                for name, values in stored.items()
            }
        )


def _encoded_view(view: ViewPlan) -> ViewPlan:
    """Return the view with what is checked in rows of its history.

    The order of rows is known already. Events may leave out fields that are required in rows.
    """
    fields = view.fields
    if view.kind == "stream":
        fields = tuple(
            replace(field, constraints=replace(field.constraints, required=False))
            for field in fields
        )
    return replace(view, ordering="arrival", fields=fields)


def _bad_row(view: ViewPlan, batch: Any, encoded: EncodedBatch) -> BadRowError:
    index = encoded.rejected[0]
    error = encoded.errors(index)[0]
    row = batch.column(SOURCE_ROW)[index].as_py()
    return BadRowError(
        error.reason,
        where=join_where(f"feature view {view.name}", f"row {row} of its source", error.field),
        hint=error.hint or "no load would have written this row; fix it in the source",
    )
