"""Decode many rows to a matrix of numbers, column by column, for models that take arrays.

Stored values in their usual form are parsed a column at once. A column with any other value is decoded
cell by cell, as in rows, so both forms agree on what each cell is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from featurekit.errors import MissingExtraError, RequestError, ValueRefusedError
from featurekit.lower.cell_decoder import CellDecoder
from featurekit.lower.read import (
    PRESENT,
    ROW_ERRORS,
    STATUSES,
    Cell,
    Cells,
    PartialRow,
    absent_status,
    decode_cell,
    group_offsets,
)
from featurekit.lower.row_decoder import is_computed
from featurekit.plan import Column, ReadColumn, ReadPlan
from featurekit.types import codec_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Statuses(NamedTuple):
    """The statuses of a feature in some rows.

    Attributes:
        rows: How many rows there are.
        absent_status: The status of the rows in `absent`; that of all others is `present`.
        absent: Positions of rows.
        each: The status of each row, if there are others.
    """

    rows: int
    absent_status: str
    absent: list[int]
    each: list[str]

    def counts(self) -> Counter[str]:
        """Return how many values have which status but `present`."""
        if self.each:
            return Counter(status for status in self.each if status != PRESENT)
        return Counter({self.absent_status: len(self.absent)})

    def all(self) -> list[str]:
        """Return the status of each row."""
        if self.each:
            return self.each
        statuses = [PRESENT] * self.rows
        for i in self.absent:
            statuses[i] = self.absent_status
        return statuses


class Matrix:
    """Numbers of rows, one row of the array for each, added part by part.

    Args:
        plan: The compiled list of features.
        dtype: `float32` or `float64`, as numpy takes it.
        fill: What stands for a value that is not there and has no default.

    Raises:
        RequestError: A feature or `fill` is not a number, or the type is another one.
        MissingExtraError: numpy is not installed.

    """

    def __init__(self, plan: ReadPlan, dtype: object, fill: float) -> None:
        try:
            import numpy as np
            import orjson as orjson
        except ImportError as error:
            raise MissingExtraError.of("numpy", "a matrix of features") from error
        self._columns = _layout(plan)
        self._width = sum(width for _, width in self._columns)
        self._cells = [_cell_index(plan, column) for column, _ in self._columns]
        self._decoder = CellDecoder(plan) if is_computed(plan) else None
        self._rows: list[Cells] = []
        try:
            kind = np.dtype(dtype)  # type: ignore[call-overload]
        except TypeError:
            kind = None
        if kind not in {np.dtype(np.float32), np.dtype(np.float64)}:
            raise RequestError(f"a matrix is float32 or float64, not {dtype!r}")
        self._dtype = kind
        self._fill = self._checked_fill(fill)
        self._largest = 1 << (np.finfo(kind).nmant + 1)
        self._parts: list[NDArray[Any]] = []
        self._statuses: list[list[_Statuses]] = [[] for _ in self._columns]

    @property
    def values(self) -> NDArray[Any]:
        """The numbers, `n x f`; a vector of N numbers has N columns."""
        import numpy as np

        if len(self._parts) == 1:
            return self._parts[0]
        return np.concatenate([np.empty((0, self._width), self._dtype), *self._parts])

    @property
    def statuses(self) -> NDArray[Any]:
        """The statuses as text, `n` rows with a column for each feature."""
        import numpy as np

        text = f"U{max(map(len, STATUSES))}"
        if self._decoder is not None:
            rows = [self._decoder.decode(cells)[1] for cells in self._rows]
            return np.array(rows, text).reshape(len(rows), len(self._columns))
        columns = [[s for part in parts for s in part.all()] for parts in self._statuses]
        return np.array(columns, text).T

    def absent(self) -> list[tuple[Column, Counter[str]]]:
        """Return each feature, and how many of its values have which status but `present`."""
        counts = [sum((part.counts() for part in parts), Counter()) for parts in self._statuses]
        return [(column, count) for (column, _), count in zip(self._columns, counts, strict=True)]

    def add_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add decoded rows: for each its values, followed by its cells.

        Raises:
            ValueRefusedError: A number would change in the matrix's type.
        """
        import numpy as np

        cells = [row[-1] for row in rows]
        if self._decoder is None:
            self.add(cells)
            return
        if not rows:
            return
        part = np.empty((len(rows), self._width), self._dtype)
        usual = PartialRow not in set(map(type, cells))
        values, start = list(zip(*rows, strict=True)), 0
        for i, (column, width) in enumerate(self._columns):
            target, index = part[:, start : start + width], self._cells[i]
            if index is None:
                self._add_values(column, target, values[i])
            else:
                self._add_column(column, target, [row[index] for row in cells], usual=usual)
            start += width
        self._parts.append(part)
        self._rows += cells

    def _add_values(self, column: Column, target: Any, values: Sequence[Any]) -> None:
        """Add the computed values of one feature."""
        import numpy as np

        if codec_of(column.field.dtype).is_integer:
            for value in values:
                if value is not None and abs(value) > self._largest:
                    raise self._refusal(column, value)
        numbers = np.array([self._fill if v is None else v for v in values], np.float64)
        with np.errstate(over="ignore"):
            target[:, 0] = numbers
        if (changed := np.isfinite(numbers) & ~np.isfinite(target[:, 0])).any():
            raise self._refusal(column, numbers[changed][0])

    def add(self, rows: Sequence[Cells]) -> None:
        """Decode the cells of more rows, of a list of features without computed ones.

        Raises:
            ValueRefusedError: A number would change in the matrix's type.
        """
        import numpy as np

        if not rows:
            return
        part = np.empty((len(rows), self._width), self._dtype)
        usual = PartialRow not in set(map(type, rows))
        cells = list(zip(*rows, strict=True))
        start = 0
        for i, (column, width) in enumerate(self._columns):
            target = part[:, start : start + width]
            added = self._add_column(column, target, cells[self._cells[i] or 0], usual=usual)
            self._statuses[i].append(added)
            start += width
        self._parts.append(part)

    def _add_column(
        self, column: Column, target: Any, cells: Sequence[Cell], *, usual: bool
    ) -> _Statuses:
        """Decode the cells of one feature, and return their statuses."""
        absent: list[int] = []
        numbers = self._numbers(column, cells) if usual else None
        if numbers is None and usual:
            absent = [i for i, cell in enumerate(cells) if cell is None]
            if len(absent) < len(cells):
                stored, some = list(cells), next(cell for cell in cells if cell is not None)
                for i in absent:
                    stored[i] = some
                numbers = self._numbers(column, stored)
        if numbers is not None:
            self._store(column, target, numbers)
        elif len(absent) < len(cells):
            return self._add_cells(column, target, cells)
        if absent:
            target[absent] = self._default(column)
        return _Statuses(len(cells), absent_status(column.field), absent, [])

    def _numbers(self, column: Column, cells: Sequence[Any]) -> NDArray[Any] | None:
        """Return the cells of a feature as numbers; `None` if one is not in its usual form."""
        codec = codec_of(column.field.dtype)
        try:
            numbers = codec.to_numbers(cells)
        except ROW_ERRORS:
            return None
        if codec.is_integer and max(numbers.max(), -numbers.min()) >= self._largest:
            return None  # its text says whether it was rounded
        return numbers.reshape(len(cells), codec.number_columns)

    def _store(self, column: Column, target: Any, numbers: NDArray[Any]) -> None:
        import numpy as np

        with np.errstate(over="ignore"):
            target[:] = numbers
        if not np.isfinite(target).all():
            raise self._refusal(column, numbers[~np.isfinite(target)][0])

    def _add_cells(self, column: Column, target: Any, cells: Sequence[Cell]) -> _Statuses:
        statuses = []
        for i, cell in enumerate(cells):
            value, status = decode_cell(column.field, cell)
            target[i] = self._fill if value is None else self._number(column, value)
            statuses.append(status)
        return _Statuses(len(cells), "", [], statuses)

    def _default(self, column: Column) -> Any:
        default = column.field.default
        if default is None:
            return self._fill
        return self._number(column, codec_of(column.field.dtype).decode(default))

    def _number(self, column: Column, value: Any) -> Any:
        """Return a decoded value as a number, or the numbers of a vector."""
        if codec_of(column.field.dtype).is_integer and abs(value) > self._largest:
            raise self._refusal(column, value)
        if isinstance(value, float) and not self._fits(value):
            raise self._refusal(column, value)
        return value

    def _fits(self, value: float) -> bool:
        """Return whether the matrix's type has the number, or is infinite or NaN like it."""
        import numpy as np

        with np.errstate(over="ignore"):
            return not math.isfinite(value) or math.isfinite(self._dtype.type(value))

    def _checked_fill(self, fill: Any) -> float:
        """Return the fill, which no read may need before its type is known."""
        try:
            number = float(fill)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or isinstance(fill, str) or not self._fits(number):
            raise RequestError(f"expected a number of {self._dtype}, not {fill!r}", where="fill")
        return number

    def _refusal(self, column: Column, value: object) -> ValueRefusedError:
        kind = self._dtype
        hint = "use dtype='float64'" if kind.itemsize == 4 else "leave the feature out"  # noqa: PLR2004
        return ValueRefusedError(f"{value} does not fit {kind}", where=column.name, hint=hint)


def matrix_columns(plan: ReadPlan) -> list[str]:
    """Return the names of a matrix's columns: `name`, and `name[i]` for a vector.

    Raises:
        RequestError: A feature is not a number.
    """
    return [
        name
        for column, width in _layout(plan)
        for name in (
            [column.name]
            if codec_of(column.field.dtype).is_scalar
            else [f"{column.name}[{i}]" for i in range(width)]
        )
    ]


def _cell_index(plan: ReadPlan, column: Column) -> int | None:
    """Return the index of the cell with a feature's value; `None` if it is computed."""
    if not isinstance(column, ReadColumn) or column.field.aggregate is not None:
        return None
    return group_offsets(plan)[column.group] + column.slot


def _layout(plan: ReadPlan) -> list[tuple[Column, int]]:
    """Return each feature and the number of its columns, without event times read beside them."""
    layout = []
    for column in plan.columns:
        codec = codec_of(column.field.dtype)
        if column.is_event_time:
            continue
        if not codec.number_columns:
            raise RequestError(
                f"'{column.name}' is {codec.noun}: a matrix takes numbers only",
                hint="features of a matrix are int32, int64, float32, float64, bool or vector",
            )
        layout.append((column, codec.number_columns))
    return layout
