"""The columns of one feature view in a training set.

A value is encoded as a load encodes it, and decoded as a reader decodes it. So it is what the store
would have held and a read would have returned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import BadRowError, ValueRefusedError, join_where
from featurekit.lower.columns import EncodedBatch, encode_batch
from featurekit.plan import FieldPlan, ReadColumn, ViewPlan
from featurekit.ports import SOURCE_ROW, HistoricalRows
from featurekit.types.arrow import arrow_type, decode_array

STATUSES = ("present", "default", "missing")
_PRESENT, _DEFAULT, _MISSING = range(len(STATUSES))


@dataclass(frozen=True, slots=True)
class ViewFeatures:
    """The stored bytes of a view's fields at each label.

    Attributes:
        view: The view.
        data: For each field, a binary array of `n` values; null if the store would have none.
    """

    view: ViewPlan
    data: dict[str, Any]

    @classmethod
    def of(cls, view: ViewPlan, rows: HistoricalRows) -> ViewFeatures:
        """Encode the rows, and give each label those of its row.

        Raises:
            BadRowError: A row that a label needs does not fit the view.
        """
        view = replace(view, ordering="arrival")
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
        indices = {id(n): pc.index_in(n, value_set=rn) for n in rows.numbers.values()}
        data = {
            name: pa.chunked_array(arrays, pa.binary())
            .combine_chunks()
            .take(indices[id(rows.numbers[name])])
            for name, arrays in parts.items()
        }
        return cls(view, data)

    def column(self, column: ReadColumn) -> tuple[Any, Any]:
        """Return the values and the statuses of a feature.

        Raises:
            ValueRefusedError: A decimal has too many digits for the column.
        """
        field = column.field
        data = self.data[field.name]
        absent = _MISSING if field.default is None else _DEFAULT
        codes = pc.if_else(
            data.is_valid(), pa.scalar(_PRESENT, pa.int8()), pa.scalar(absent, pa.int8())
        )
        if field.default is not None:
            data = data.fill_null(pa.scalar(field.default, pa.binary()))
        statuses = pa.DictionaryArray.from_arrays(codes, pa.array(STATUSES))
        return _decode(column.name, field, data), statuses


def _decode(name: str, field: FieldPlan, data: Any) -> Any:
    values = decode_array(field.dtype, data)
    expected = arrow_type(field.dtype)
    if values.type != expected:
        raise ValueRefusedError(f"a value has more digits than {expected} holds", where=name)
    return values


def _bad_row(view: ViewPlan, batch: Any, encoded: EncodedBatch) -> BadRowError:
    index = encoded.rejected[0]
    error = encoded.errors(index)[0]
    row = batch.column(SOURCE_ROW)[index].as_py()
    return BadRowError(
        error.reason,
        where=join_where(f"feature view {view.name}", f"row {row} of its source", error.field),
        hint=error.hint or "no load would have written this row; fix it in the source",
    )
