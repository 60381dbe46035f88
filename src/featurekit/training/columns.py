"""The columns of features in a training set: values and statuses, decoded as a reader does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import ValueRefusedError
from featurekit.plan import FieldPlan, ReadColumn
from featurekit.types.arrow import arrow_type, decode_array

STATUSES = ("present", "default", "missing")
_PRESENT, _DEFAULT, _MISSING = range(len(STATUSES))
STATUS_TYPE = pa.dictionary(pa.int8(), pa.string())


def status_name(feature: str) -> str:
    """Return the name of the column with the statuses of a feature."""
    return f"{feature}__status"


@dataclass(slots=True)
class FeatureColumns:
    """Turns the stored values of a view into the columns of its features.

    Attributes:
        columns: The features of the view.
        counts: For each feature, how many labels had each status so far.
    """

    columns: Sequence[ReadColumn]
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def schema(self) -> Any:
        """The columns of the batches: the features, then the codes of their statuses."""
        values = [pa.field(c.name, arrow_type(c.field.dtype)) for c in self.columns]
        codes = [pa.field(status_name(c.name), pa.int8()) for c in self.columns]
        return pa.schema([*values, *codes])

    def batch(self, stored: Any) -> Any:
        """Return a batch of features for a batch of stored values.

        Raises:
            ValueRefusedError: A decimal has too many digits for the column.
        """
        pairs = [self._column(column, stored) for column in self.columns]
        return pa.record_batch(
            [*(values for values, _ in pairs), *(codes for _, codes in pairs)], self.schema
        )

    def _column(self, column: ReadColumn, stored: Any) -> tuple[Any, Any]:
        plan = column.field
        data = stored.column(plan.name)
        absent = _MISSING if plan.default is None else _DEFAULT
        codes = pc.if_else(
            data.is_valid(), pa.scalar(_PRESENT, pa.int8()), pa.scalar(absent, pa.int8())
        )
        if plan.default is not None:
            data = data.fill_null(pa.scalar(plan.default, pa.binary()))
        counts = self.counts.setdefault(column.name, Counter())
        for item in codes.value_counts().to_pylist():
            counts[STATUSES[item["values"]]] += item["counts"]
        return _decode(column.name, plan, data), codes


def statuses_of(codes: Any) -> Any:
    """Return the texts of statuses."""
    return pa.DictionaryArray.from_arrays(codes, pa.array(STATUSES))


def _decode(name: str, plan: FieldPlan, data: Any) -> Any:
    values = decode_array(plan.dtype, data)
    expected = arrow_type(plan.dtype)
    if values.type != expected:
        raise ValueRefusedError(f"a value has more digits than {expected} holds", where=name)
    return values
