"""The columns of features in a training set: values and statuses, decoded as a reader does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import ValueRefusedError
from featurekit.history_ports import event_age_column, remaining_column
from featurekit.plan import Column, DerivedColumn, FieldPlan, FunctionPlan, ReadColumn
from featurekit.types import codec_of
from featurekit.types.arrow import arrow_type, decode_array

STATUSES = ("present", "default", "missing", "stale", "invalid")
PRESENT, DEFAULT, MISSING, STALE, INVALID = (pa.scalar(i, pa.int8()) for i in range(len(STATUSES)))
_NAN = pa.scalar(b"nan", pa.binary())
STATUS_TYPE = pa.dictionary(pa.int8(), pa.string())


def status_name(feature: str) -> str:
    """Return the name of the column with the statuses of a feature."""
    return f"{feature}__status"


def possible_statuses(column: Column, stored: Sequence[ReadColumn]) -> tuple[str, ...]:
    """Return the statuses that values of a feature can have; `stored` are those of the read."""
    inputs, can_fail = [column], False
    if isinstance(column, DerivedColumn):
        of = zip(column.arguments, column.feature.inputs, strict=True)
        inputs = [stored[index] for index, each in of if not each.is_request]
        can_fail = isinstance(column.feature.compute, FunctionPlan)
    can_fail = can_fail or any(is_float_window(each.field) for each in inputs)
    has_limit = any(
        each.min_remaining_ttl_ms is not None or each.max_event_age_ms is not None
        for each in inputs
        if isinstance(each, ReadColumn)
    )
    stale, invalid = STATUSES[3:4] if has_limit else (), STATUSES[4:] if can_fail else ()
    return (*STATUSES[:3], *stale, *invalid)


def is_float_window(field: FieldPlan) -> bool:
    """Return whether a field is a window whose floats may be beyond float64, which reads call invalid."""
    return field.aggregate is not None and not codec_of(field.dtype).is_integer


def column_schema(columns: Sequence[Column]) -> Any:
    """Return the schema of batches: features, then the codes of their statuses."""
    values = [pa.field(c.name, arrow_type(c.field.dtype)) for c in columns]
    codes = [pa.field(status_name(c.name), pa.int8()) for c in columns]
    return pa.schema([*values, *codes])


def count_codes(counts: dict[str, Counter[str]], name: str, codes: Any) -> None:
    """Add the statuses of some labels to the counts of a feature."""
    of_feature = counts.setdefault(name, Counter())
    for item in codes.value_counts().to_pylist():
        of_feature[STATUSES[item["values"]]] += item["counts"]


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
        return column_schema(self.columns)

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
        absent = MISSING if plan.default is None else DEFAULT
        codes = pc.if_else(data.is_valid(), PRESENT, absent)
        if (is_stale := _is_stale(column, stored)) is not None:
            is_stale = pc.and_(data.is_valid(), is_stale)
            codes = pc.if_else(is_stale, STALE, codes)
            data = pc.if_else(is_stale, pa.scalar(None, pa.binary()), data)
        invalid = None
        if is_float_window(plan):
            invalid = pc.fill_null(pc.equal(data, _NAN), fill_value=False)
            codes = pc.if_else(invalid, INVALID, codes)
        if plan.default is not None:
            data = data.fill_null(pa.scalar(plan.default, pa.binary()))
        if invalid is not None:
            data = pc.if_else(invalid, pa.scalar(None, pa.binary()), data)
        count_codes(self.counts, column.name, codes)
        return decode_column(column.name, plan, data), codes


def _is_stale(column: ReadColumn, stored: Any) -> Any:
    """Return a mask of the values that are older than the request allows; `None` for any age."""
    is_stale = None
    if column.min_remaining_ttl_ms is not None:
        remaining = stored.column(remaining_column(column.field.name))
        # A value without a TTL has no known age.
        is_stale = pc.fill_null(pc.less(remaining, column.min_remaining_ttl_ms), fill_value=True)
    if column.max_event_age_ms is not None:
        age = stored.column(event_age_column(column.field.name))
        is_old = pc.fill_null(pc.greater(age, column.max_event_age_ms), fill_value=False)
        is_stale = is_old if is_stale is None else pc.or_(is_stale, is_old)
    return is_stale


def statuses_of(codes: Any) -> Any:
    """Return the texts of statuses."""
    return pa.DictionaryArray.from_arrays(codes, pa.array(STATUSES))


def decode_column(name: str, plan: FieldPlan, data: Any) -> Any:
    """Return stored bytes as values of the field's column.

    Raises:
        ValueRefusedError: A decimal has too many digits for the column.
    """
    values = decode_array(plan.dtype, data)
    expected = arrow_type(plan.dtype)
    if values.type != expected:
        raise ValueRefusedError(f"a value has more digits than {expected} holds", where=name)
    return values
