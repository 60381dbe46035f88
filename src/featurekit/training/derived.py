"""The derived features of a training set, computed by the functions that a read calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurekit.errors import RequestError
from featurekit.expressions import NOW, Expression
from featurekit.lower.cell_decoder import own_arguments
from featurekit.lower.columns import encode_values
from featurekit.lower.encoders import field_encoder
from featurekit.lower.expression_columns import column_values
from featurekit.lower.expressions import compile_row_function
from featurekit.plan import DerivedColumn, FunctionPlan, ReadPlan
from featurekit.runtime.functions import Functions
from featurekit.training.columns import (
    DEFAULT,
    INVALID,
    MISSING,
    PRESENT,
    STALE,
    column_schema,
    count_codes,
    decode_column,
)
from featurekit.training.label_files import without_views
from featurekit.types import DType, codec_of
from featurekit.types.arrow import arrow_type, decode_array, encode_array, has_read_values


def check_request_data(names: Iterable[str], plan: ReadPlan) -> None:
    """Raise `RequestError` if labels lack a value of the request that has no default."""
    for column in plan.requests:
        if column.field.default is None and column.name not in names:
            raise RequestError(
                f"the labels have no column '{column.name}' (request data)",
                hint=f"add the values that requests had, {codec_of(column.field.dtype).noun} each",
            )


@dataclass(slots=True)
class DerivedColumns:
    """Computes the derived features of labels from their stored ones.

    Attributes:
        plan: The features.
        timestamp_field: The column of the labels with their times, which are `now`.
        functions: What features are computed with that are not expressions.
        counts: For each feature, how many labels had each status so far.
        rows: The number of labels so far.
    """

    plan: ReadPlan
    timestamp_field: str
    functions: Functions
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    rows: int = 0
    _computed: list[_Feature] = field(init=False)

    def __post_init__(self) -> None:
        self._computed = [_feature(column, self.functions) for column in self.plan.derived]

    @property
    def schema(self) -> Any:
        """The columns of the batches: the features, then the codes of their statuses."""
        return column_schema(self.plan.derived)

    def batch(self, labels: Any, stored: list[tuple[Any, Any]]) -> Any:
        """Return a batch of features.

        Args:
            labels: A batch of labels with their columns.
            stored: For each of `ReadPlan.stored` the values of these labels, with their defaults, and
                the codes of their statuses.

        Raises:
            RequestError: A value of the request does not fit; names the row of the labels.
        """
        inputs = _Inputs(self.plan, labels, stored, self._requests(labels), self._times(labels))
        pairs = [feature.column(inputs) for feature in self._computed]
        for column, (_, codes) in zip(self.plan.derived, pairs, strict=True):
            count_codes(self.counts, column.name, codes)
        self.rows += labels.num_rows
        arrays = [*(values for values, _ in pairs), *(codes for _, codes in pairs)]
        return pa.record_batch(arrays, self.schema)

    def _requests(self, labels: Any) -> list[Any]:
        """Return the values of the request of each label."""
        if not self.plan.requests:
            return []
        labels = without_views(labels)
        found = []
        for column in self.plan.requests:
            if column.name in labels.schema.names:
                values = labels.column(column.name)
                data = encode_values(column.field, values, "labels", self.rows)
            else:
                data = pa.nulls(labels.num_rows, pa.binary())
            if column.field.default is not None:
                data = data.fill_null(pa.scalar(column.field.default, pa.binary()))
            found.append(decode_array(column.field.dtype, data))
        return found

    def _times(self, labels: Any) -> Any:
        times = labels.column(self.timestamp_field)
        if times.type.unit == "ns":
            times = pc.floor_temporal(times, unit="microsecond")
        return times.cast(pa.timestamp("us", "UTC"))


class _Inputs:
    """The inputs of the derived features of some labels."""

    def __init__(
        self,
        plan: ReadPlan,
        labels: Any,
        stored: list[tuple[Any, Any]],
        requests: list[Any],
        times: Any,
    ) -> None:
        self.rows, self._plan = labels.num_rows, plan
        self._stored, self._requests, self._times = stored, requests, times
        self._lists: dict[tuple[str, int], list[Any]] = {}

    def values(self, kind: str, index: int) -> list[Any]:
        """Return the values of an input, which features share."""
        if (found := self._lists.get((kind, index))) is None:
            if kind == NOW:
                found = column_values(self._times)
            elif kind == "request":
                dtype = self._plan.requests[index].field.dtype
                found = _decoded(dtype, self._requests[index])
            else:
                found = _decoded(self._plan.stored[index].field.dtype, self._stored[index][0])
            self._lists[kind, index] = found
        return found

    def has_code(self, indexes: Iterable[int], code: Any) -> Any:
        """Return a mask of the labels of which a stored input has a status; `None` if none has."""
        mask = None
        for index in indexes:
            found = pc.equal(self._stored[index][1], code)
            if pc.any(found).as_py():
                mask = found if mask is None else pc.or_(mask, found)
        return mask


def _decoded(dtype: DType, column: Any) -> list[Any]:
    """Return the values of a column as a read decodes them, not as Arrow has them.

    Arrow has JSON as text, decimals with all their digits, and times in lists with another zone.
    """
    if has_read_values(dtype):
        return column_values(column)
    encoded = encode_array(dtype, column)[0].dictionary_encode()
    decode = codec_of(dtype).decode
    known = [decode(data) for data in encoded.dictionary.to_pylist()]
    return [None if i is None else known[i] for i in encoded.indices.to_pylist()]


@dataclass(frozen=True, slots=True)
class _Feature:
    """A derived feature.

    Attributes:
        of: Its column.
        compute: Returns the values of rows of arguments as an array, and a mask of those of which
            the function failed, or `None`.
        arguments: The kind and the index of each argument.
    """

    of: DerivedColumn
    compute: Callable[[Iterable[tuple[Any, ...]]], tuple[Any, Any]]
    arguments: tuple[tuple[str, int], ...]

    def column(self, inputs: _Inputs) -> tuple[Any, Any]:
        """Return the values of the labels, and the codes of their statuses."""
        plan = self.of.field
        lists = [inputs.values(*argument) for argument in self.arguments]
        rows = zip(*lists, strict=True) if lists else [()] * inputs.rows
        values, failed = self.compute(rows)
        absent = MISSING if plan.default is None else DEFAULT
        codes = pc.if_else(values.is_valid(), PRESENT, absent)
        if failed is not None:
            codes = pc.if_else(failed, INVALID, codes)
        stored = [index for kind, index in self.arguments if kind == "stored"]
        for code in (STALE, INVALID):  # the worst one last
            if (is_bad := inputs.has_code(stored, code)) is not None:
                codes = pc.if_else(is_bad, code, codes)
                values = pc.if_else(is_bad, pa.scalar(None, values.type), values)
        if plan.default is not None:
            default = decode_array(plan.dtype, pa.array([plan.default], pa.binary()))
            values = pc.fill_null(values, default[0])
        return values, codes


def _feature(column: DerivedColumn, functions: Functions) -> _Feature:
    feature = column.feature
    places = {NOW: (NOW, 0)}
    for index, each in zip(column.arguments, feature.inputs, strict=True):
        places[each.name] = ("request" if each.is_request else "stored", index)
    arguments = tuple(places[name] for name in feature.compute.names)
    compute = (
        _expression(column, feature.compute) if isinstance(feature.compute, Expression) else None
    )
    return _Feature(column, compute or _function(column, functions), arguments)


def _expression(
    column: DerivedColumn, expression: Expression
) -> Callable[[Iterable[tuple[Any, ...]]], tuple[Any, Any]]:
    function, kind = compile_row_function(expression), arrow_type(column.field.dtype)

    def compute(rows: Iterable[tuple[Any, ...]]) -> tuple[Any, Any]:
        return pa.array([function(*row) for row in rows], kind), None

    return compute


_FAILED = object()


def _function(
    column: DerivedColumn, functions: Functions
) -> Callable[[Iterable[tuple[Any, ...]]], tuple[Any, Any]]:
    plan = column.feature.compute
    assert isinstance(plan, FunctionPlan)  # noqa: S101 - see `_feature`
    call, encode = functions[plan], field_encoder(column.field)
    if call is None:
        raise RequestError(f"{plan.callable} is not called", where=f"feature {column.name}")

    def value(row: tuple[Any, ...]) -> object:
        try:
            return encode(call(*own_arguments(row)))
        except Exception:  # noqa: BLE001 - the function is the repository's own code
            return _FAILED

    def compute(rows: Iterable[tuple[Any, ...]]) -> tuple[Any, Any]:
        found = [value(row) for row in rows]
        data = pa.array([None if each is _FAILED else each for each in found], pa.binary())
        failed = pa.array([each is _FAILED for each in found], pa.bool_())
        return decode_column(column.name, column.field, data), failed

    return compute
