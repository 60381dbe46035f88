"""Responses: the answer to `get_online_features`, by column or by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from typing_extensions import override

from featurekit.errors import MissingExtraError
from featurekit.lower.read import (
    PRESENT,
    PartialRow,
    Raw,
    absent_status,
    decode_row_by_cell,
    group_offsets,
)
from featurekit.plan import ReadPlan
from featurekit.wire import ErrorReply


@dataclass(frozen=True, slots=True)
class ResponseSchema:
    """What all responses of one reader have in common.

    Attributes:
        plan: What is read.
        names: The names of its columns.
        cells: Where the cell of each column is in a raw row.
        present: The statuses of a row whose values are all there.
        absent: Those of a row none of whose values is.
    """

    plan: ReadPlan
    names: tuple[str, ...]
    cells: tuple[int, ...]
    present: tuple[str, ...]
    absent: tuple[str, ...]

    @classmethod
    def of(cls, plan: ReadPlan) -> Self:
        """The shape of a plan's responses."""
        starts, columns = group_offsets(plan), plan.columns
        return cls(
            plan=plan,
            names=tuple(column.name for column in columns),
            cells=tuple(starts[column.group] + column.slot for column in columns),
            present=(PRESENT,) * len(columns),
            absent=tuple(absent_status(column.field) for column in columns),
        )

    def statuses(self, raw: Raw) -> tuple[str, ...]:
        """The statuses of a row."""
        if isinstance(raw, PartialRow):
            return decode_row_by_cell(self.plan, raw)[1]
        if None not in raw:
            return self.present
        return tuple(
            [
                absent if raw[cell] is None else PRESENT
                for cell, absent in zip(self.cells, self.absent, strict=True)
            ]
        )


class OnlineResponse:
    """Features of `n` entity rows, in the order asked for, repeats kept.

    Args:
        shape: What was read.
        entities: As below.
        rows: For each row the features' values and, after them, its cells as they came.
        lives: For each row the features' seconds to live.
        ages: For each row the seconds since the features' events.

    Attributes:
        entities: The join keys: for each its `n` values.
    """

    def __init__(
        self,
        shape: ResponseSchema,
        entities: dict[str, list[object]],
        rows: Sequence[tuple[Any, ...]],
        lives: Sequence[tuple[float | None, ...]] = (),
        ages: Sequence[tuple[float | None, ...]] = (),
    ) -> None:
        self._shape = shape
        self.entities = entities
        self._rows = rows
        self._lives = lives
        self._ages = ages

    @property
    def feature_names(self) -> list[str]:
        """The features' names in this answer, in the order asked for."""
        return list(self._shape.names)

    def __len__(self) -> int:
        return len(self._rows)

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns: the join keys first, then the features; `n` values each."""
        return {**self.entities, **self._columns(self._rows)}

    def columns(self) -> list[tuple[Any, ...]]:
        """The features in the order asked for, without their names: `n` values each."""
        if not self._rows:
            return [()] * len(self._shape.names)
        return list(zip(*self._rows))[:-1]  # noqa: B905 - as in `_columns`

    def to_rows(self) -> list[dict[str, Any]]:
        """Rows: `n` dicts of join keys and features."""
        names = [*self.entities, *self.feature_names]
        keys = zip(*self.entities.values(), strict=True)
        return [
            dict(zip(names, (*key, *row[:-1]), strict=True))
            for key, row in zip(keys, self._rows, strict=True)
        ]

    @property
    def statuses(self) -> dict[str, list[str]]:
        """For each feature `n` statuses.

        `present`; `default` or `missing` where nothing is stored; `invalid` where what is stored
        cannot be read; `unavailable` where the server is away (`partial=True`); `stale` where it is
        older than `max_age` allows.
        """
        return self._columns(self.statuses_by_row())

    def statuses_by_row(self) -> list[tuple[str, ...]]:
        """The same as `n` rows, without names."""
        return [self._shape.statuses(row[-1]) for row in self._rows]

    @property
    def is_whole(self) -> bool:
        """Whether all values of all rows are `present`."""
        return all(None not in row[-1] and type(row[-1]) is list for row in self._rows)

    @property
    def found(self) -> list[bool]:
        """For each row, whether any of the features asked for is stored, however old."""
        return [_is_found(row[-1]) for row in self._rows]

    @property
    def errors(self) -> dict[int, str]:
        """The rows that could not be read, by index, and why: a key of another type, say."""
        return {
            index: str(cell)
            for index, raw in enumerate(row[-1] for row in self._rows)
            if isinstance(raw, PartialRow)
            for cell in raw
            if isinstance(cell, ErrorReply)
        }

    @property
    def freshness(self) -> dict[str, list[float | None]]:
        """For each feature, the seconds that each value has to live; `None` without a value.

        `inf` stands for a value that nothing expires. Empty unless asked for.
        """
        return self._columns(self._lives) if self._lives else {}

    @property
    def ages(self) -> dict[str, list[float | None]]:
        """For each feature, the seconds since the event it came from.

        `None` where the view keeps no event time. Empty unless freshness was asked for.
        """
        return self._columns(self._ages) if self._ages else {}

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` of join keys and features, each column of its declared type.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        try:
            import pyarrow as pa

            from featurekit.types.arrow import to_arrow
        except ImportError as error:
            raise MissingExtraError.of("batch", "to_arrow()") from error
        dtypes = {k.name: k.dtype for g in self._shape.plan.groups for k in g.key.join_keys}
        arrays = {name: to_arrow(dtypes[name], values) for name, values in self.entities.items()}
        for column, values in zip(
            self._shape.plan.columns, self._columns(self._rows).values(), strict=True
        ):
            arrays[column.name] = to_arrow(column.field.dtype, values)
        return pa.table(arrays)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of join keys and features.

        Raises:
            MissingExtraError: pandas or pyarrow is not installed.
        """
        try:
            import pandas  # noqa: F401 - pyarrow needs it and says less
        except ImportError as error:
            raise MissingExtraError.of("pandas", "to_pandas()") from error
        return self.to_arrow().to_pandas()

    def _columns(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
        if not rows:
            return {name: [] for name in self._shape.names}
        # Rows are of one length, and `strict=` would cost a twentieth of a small read.
        return dict(zip(self._shape.names, map(list, zip(*rows))))  # noqa: B905

    @override
    def __repr__(self) -> str:
        return f"OnlineResponse({len(self)} rows of {', '.join(self.feature_names)})"


def _is_found(raw: Raw) -> bool:
    if type(raw) is list:  # none of its cells is an error
        return raw.count(None) < len(raw)
    return any(cell is not None and not isinstance(cell, ErrorReply) for cell in raw)
