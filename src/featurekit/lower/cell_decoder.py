"""Decode the cells of a row one by one: the reference of the generated decoders, which never raises.

The cells of a row are the stored values of all groups and, as far as the plan needs them, the values of
the request, the time of the read, and a cell for each feature that a function computes. So a row can
be decoded from its cells alone, later or in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from typing_extensions import override

from featurekit.expressions import NOW
from featurekit.lower.expressions import compile_row_function
from featurekit.lower.read import (
    INVALID,
    PRESENT,
    ROW_ERRORS,
    STALE,
    UNAVAILABLE,
    Cell,
    Cells,
    absent_status,
    bad_status,
    column_codec,
    decode_cell,
    default_value,
    group_offsets,
)
from featurekit.lower.windows import fold_function
from featurekit.plan import DerivedColumn, FieldPlan, FunctionPlan, ReadColumn, ReadPlan
from featurekit.types import Codec, codec_of

Pair = tuple[object, str]
"""A value and its status."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_WORST_FIRST = (UNAVAILABLE, INVALID, STALE)


@dataclass(frozen=True, slots=True)
class CellLayout:
    """Where the parts of a row's cells are.

    Attributes:
        stored: The number of stored values, which come first.
        requests: The index of the first value of the request.
        now: The index of the time of the read, if an expression uses it.
        now_ms: The index of the same time in milliseconds, if windows are read.
        size: The number of cells before those of functions.
        functions: For each feature that a function computes, by its index among the derived ones,
            the index of its cell.
    """

    stored: int
    requests: int
    now: int | None
    now_ms: int | None
    size: int
    functions: dict[int, int]

    @classmethod
    def of(cls, plan: ReadPlan) -> CellLayout:
        """Return the layout of a plan's rows."""
        stored = sum(len(group.fields) for group in plan.groups)
        uses_now = any(NOW in c.feature.compute.names for c in plan.derived)
        uses_ms = any(c.field.aggregate is not None for c in plan.stored)
        end = stored + len(plan.requests)
        size = end + uses_now + uses_ms
        functions = [
            i for i, c in enumerate(plan.derived) if isinstance(c.feature.compute, FunctionPlan)
        ]
        return cls(
            stored=stored,
            requests=stored,
            now=end if uses_now else None,
            now_ms=size - 1 if uses_ms else None,
            size=size,
            functions={index: size + i for i, index in enumerate(functions)},
        )

    @property
    def has_context(self) -> bool:
        """Whether rows have cells that are not stored."""
        return self.size + len(self.functions) > self.stored

    def times(self, now_ms: int) -> list[Any]:
        """Return the cells with the time of the read, which follow the values of the request."""
        cells: list[Any] = []
        if self.now is not None:
            cells.append(_EPOCH + now_ms * _MILLISECOND)
        if self.now_ms is not None:
            cells.append(now_ms)
        return cells


def decode_at(field: FieldPlan, cell: Cell, now_ms: int) -> Pair:
    """Return one stored value and its status at a time, which decides what is in a window."""
    if field.aggregate is None:
        return decode_cell(field, cell)
    status = bad_status(cell)
    if status is None:
        try:
            value = fold_function(field)(cell, now_ms)  # type: ignore[arg-type]
        except ROW_ERRORS:
            status = INVALID
        else:
            if value is not None:
                return value, PRESENT
            status = absent_status(field)
    return default_value(field, codec_of(field.dtype)), status


class CellDecoder:
    """Decodes rows of one plan cell by cell.

    Args:
        plan: The read.

    Attributes:
        layout: Where the parts of a row's cells are.
        places: For each feature of the response, its index among the stored and the derived ones.
    """

    def __init__(self, plan: ReadPlan) -> None:
        stored, derived = plan.stored, plan.derived
        self._plan = plan
        self.layout = CellLayout.of(plan)
        self._stored = [self._stored_decoder(plan, column) for column in stored]
        places = {id(column): i for i, column in enumerate((*stored, *derived))}
        self.places = [places[id(column)] for column in plan.columns]
        self.is_plain = not derived

    @cached_property
    def _derived(self) -> list[Callable[[Any, list[Pair]], Pair]]:
        return [
            self._derived_decoder(column, i, column_codec(self._plan, column.field))
            for i, column in enumerate(self._plan.derived)
        ]

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._plan,)

    def stored_pairs(self, cells: Cells) -> list[Pair]:
        """Return the values and statuses of the stored features, inputs included."""
        return [decode(cells) for decode in self._stored]

    def pairs(self, cells: Cells) -> list[Pair]:
        """Return the values and statuses of the stored features, inputs included, then of the derived."""
        pairs = self.stored_pairs(cells)
        return pairs + [decode(cells, pairs) for decode in self._derived]

    def decode(self, cells: Cells) -> tuple[tuple[object, ...], tuple[str, ...]]:
        """Return the features of the response and their statuses."""
        pairs = self.pairs(cells)
        shown = pairs if self.is_plain else [pairs[i] for i in self.places]
        return tuple([value for value, _ in shown]), tuple([status for _, status in shown])

    def _stored_decoder(self, plan: ReadPlan, column: ReadColumn) -> Callable[[Any], Pair]:
        field, codec = column.field, column_codec(plan, column.field)
        index = group_offsets(plan)[column.group] + column.slot
        if field.aggregate is None:
            return lambda cells: decode_cell(field, cells[index], codec)
        now_ms = self.layout.now_ms
        return lambda cells: decode_at(field, cells[index], cells[now_ms])

    def _derived_decoder(
        self, column: DerivedColumn, index: int, codec: Codec
    ) -> Callable[[Any, list[Pair]], Pair]:
        field, feature = column.field, column.feature
        if isinstance(feature.compute, FunctionPlan):
            cell = self.layout.functions[index]
            return lambda cells, _pairs: decode_cell(field, cells[cell], codec)
        arguments_of = argument_reader(column, self.layout)
        function = compile_row_function(feature.compute)

        def decode(cells: Any, pairs: list[Pair]) -> Pair:
            arguments, status = arguments_of(cells, pairs)
            if status is None:
                value = function(*arguments)
                if value is not None:
                    return (list(value) if isinstance(value, list) else value), PRESENT
                status = absent_status(field)
            return default_value(field, codec), status

        return decode


ArgumentReader = Callable[[Any, list[Pair]], tuple[list[object], str | None]]
"""Takes a row's cells, and its stored values with their statuses; returns the arguments of a feature's
expression or function, and the worst status among them that makes the feature's value so."""


def argument_reader(column: DerivedColumn, layout: CellLayout) -> ArgumentReader:
    """Return the function from a row to the arguments of a derived feature."""
    feature, places = column.feature, dict[str, tuple[bool, int | None]]()
    for index, each in zip(column.arguments, feature.inputs, strict=True):
        is_stored = not each.is_request
        places[each.name] = (is_stored, index if is_stored else layout.requests + index)
    places[NOW] = (False, layout.now)
    arguments: list[Any] = [places[name] for name in feature.compute.names]

    def read(cells: Any, pairs: list[Pair]) -> tuple[list[object], str | None]:
        found = [pairs[i] if is_stored else (cells[i], PRESENT) for is_stored, i in arguments]
        statuses = {status for _, status in found}
        worst = next((status for status in _WORST_FIRST if status in statuses), None)
        return [value for value, _ in found], worst

    return read


def own_arguments(arguments: Iterable[object]) -> list[object]:
    """Return the arguments of a function, with lists and dicts of its own.

    A function that changes one would change other features and rows otherwise.
    """
    return [deepcopy(each) if isinstance(each, list | dict) else each for each in arguments]


def evaluated(plan: ReadPlan) -> tuple[ReadColumn | DerivedColumn, ...]:
    """Return the features of a row as the counters of absent values are listed."""
    return (*plan.stored, *plan.derived)


def counted_order(plan: ReadPlan) -> list[int]:
    """Return the indexes of `evaluated` features in the order in which a generated decoder counts them."""
    stored = plan.stored
    windows = [i for i, column in enumerate(stored) if column.field.aggregate is not None]
    others = [i for i, column in enumerate(stored) if column.field.aggregate is None]
    return [*others, *windows, *range(len(stored), len(stored) + len(plan.derived))]
