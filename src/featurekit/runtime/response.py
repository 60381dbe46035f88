"""The response to a read of online features, by column or by row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Self

from typing_extensions import TypeVar, override

from featurekit.errors import MissingExtraError, ValueRefusedError
from featurekit.lower.matrix import Matrix
from featurekit.lower.read import (
    PRESENT,
    Cell,
    Cells,
    PartialRow,
    absent_status,
    any_stored,
    group_offsets,
    group_spans,
)
from featurekit.lower.row_decoder import StatusDecoder, is_computed
from featurekit.plan import ReadPlan
from featurekit.printable import HtmlCell, html_table
from featurekit.types import DType, codec_of
from featurekit.wire import ErrorReply

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

ColumnsT = TypeVar("ColumnsT", default=dict[str, list[Any]])
RowDictT = TypeVar("RowDictT", default=dict[str, Any])

_SHOWN_NAMES = 8
"""Feature names in a response's repr."""

_SHOWN_ROWS = 20
"""Rows of a response in a notebook."""


@dataclass(frozen=True, slots=True)
class ResponseSchema:
    """What all responses of one reader have in common.

    Attributes:
        plan: The compiled list of features.
        names: The name of each column.
        cells: The index of each column's cell in a row's cells; empty if features are computed.
        present: The statuses of a row with all values present.
        absent: The statuses of a row without any value.
        spans: Maps each entity to the range of its fields in a row's cells.
        decoder: Finds the statuses of other rows.
    """

    plan: ReadPlan
    names: tuple[str, ...]
    cells: tuple[int, ...]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    spans: dict[str, tuple[int, int]]
    decoder: StatusDecoder

    @classmethod
    def of(cls, plan: ReadPlan) -> Self:
        """Return the schema of a plan's responses."""
        offsets, columns = group_offsets(plan), plan.columns
        stored = () if is_computed(plan) else plan.stored
        return cls(
            plan=plan,
            names=tuple(column.name for column in columns),
            cells=tuple(offsets[column.group] + column.slot for column in stored),
            present=(PRESENT,) * len(columns),
            absent=tuple(absent_status(column.field) for column in columns),
            spans=group_spans(plan),
            decoder=StatusDecoder(plan),
        )

    def statuses(self, cells: Cells) -> tuple[str, ...]:
        """Return the statuses of a row."""
        if isinstance(cells, PartialRow) or not self.cells:
            return self.decoder.statuses(cells)
        if None not in cells:
            return self.present
        return tuple(
            [
                absent if cells[index] is None else PRESENT
                for index, absent in zip(self.cells, self.absent, strict=True)
            ]
        )


class OnlineResponse(Generic[ColumnsT, RowDictT]):
    """The features of `n` entity rows, in the order of the request. Duplicates are kept.

    Its parameters are the types of `to_dict()` and of a row of `to_rows()`, which generated code knows.

    Args:
        schema: The columns.
        entities: The join keys, see below.
        rows: For each row the values of its features, followed by its cells.
        ttls_s: For each row the seconds until each value expires.
        ages_s: For each row the seconds since the event behind each value.

    Attributes:
        entities: Maps each join key to its `n` values.
    """

    def __init__(
        self,
        schema: ResponseSchema,
        entities: dict[str, list[object]],
        rows: Sequence[tuple[Any, ...]],
        ttls_s: Sequence[tuple[float | None, ...]] = (),
        ages_s: Sequence[tuple[float | None, ...]] = (),
    ) -> None:
        self._schema = schema
        self.entities = entities
        self._rows = rows
        self._ttls_s = ttls_s
        self._ages_s = ages_s

    @property
    def feature_names(self) -> list[str]:
        """The names of the features in this response, in the order requested."""
        return list(self._schema.names)

    def __len__(self) -> int:
        return len(self._rows)

    def to_dict(self) -> ColumnsT:
        """Return columns of `n` values: the join keys first, then the features."""
        columns: Any = {**self.entities, **self._columns(self._rows)}
        return columns  # type: ignore[no-any-return]

    def columns(self) -> list[tuple[Any, ...]]:
        """Return the columns of the features without their names, in the order requested."""
        if not self._rows:
            return [()] * len(self._schema.names)
        return list(zip(*self._rows))[:-1]  # noqa: B905 - as in `_columns`

    def to_rows(self) -> list[RowDictT]:
        """Return `n` dicts of join keys and features."""
        names = [*self.entities, *self.feature_names]
        rows: list[Any] = [
            dict(zip(names, (*key, *row[:-1]), strict=True))
            for key, row in zip(self._key_rows(), self._rows, strict=True)
        ]
        return rows

    def _key_rows(self) -> Iterable[tuple[object, ...]]:
        """Return the join keys of each row."""
        columns = self.entities.values()
        return zip(*columns, strict=True) if columns else [()] * len(self)

    def to_json(self) -> list[dict[str, Any]]:
        """Return `to_rows()` as JSON values, for `json.dumps` or as the result of a FastAPI route.

        As over HTTP: decimals, dates, timestamps, `nan`, `inf` and `-inf` are text, bytes are base64.
        """
        codecs = [codec_of(column.field.dtype) for column in self._schema.plan.columns]
        columns: dict[str, list[Any]] = {}
        for name, values in self.entities.items():
            key = codec_of(self._key_dtypes[name])  # through bytes: a value may be one of numpy
            columns[name] = [key.to_json(key.decode(key.encode(value))) for value in values]
        for (name, values), codec in zip(self._columns(self._rows).items(), codecs, strict=True):
            columns[name] = [None if value is None else codec.to_json(value) for value in values]
        return [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]

    @property
    def _key_dtypes(self) -> dict[str, DType]:
        return {k.name: k.dtype for g in self._schema.plan.groups for k in g.key.join_keys}

    @property
    def statuses(self) -> dict[str, list[str]]:
        """Maps each feature to `n` statuses.

        `present`; `default` or `missing` if no value is stored; `invalid` if the stored bytes
        cannot be decoded; `unavailable` if the server did not answer (`partial=True`); `stale` if
        the value is older than `max_age`.
        """
        return self._columns(self.statuses_by_row())

    def statuses_by_row(self) -> list[tuple[str, ...]]:
        """Return the statuses of each row, without names."""
        return [self._schema.statuses(row[-1]) for row in self._rows]

    @property
    def is_complete(self) -> bool:
        """Whether every value of every row is `present`."""
        if self._schema.cells:
            return all(None not in row[-1] and type(row[-1]) is list for row in self._rows)
        return all(each == self._schema.present for each in self.statuses_by_row())

    @property
    def found(self) -> list[bool]:
        """For each row, whether each of its entities has a requested feature stored, even if stale."""
        if not self._schema.spans:
            return [True] * len(self)
        first, *others = map(self._found_in, self._schema.spans.values())
        return [all(each) for each in zip(first, *others, strict=True)] if others else first

    @property
    def found_by(self) -> dict[str, list[bool]]:
        """Maps each entity to `n` booleans: whether any of its requested features is stored."""
        return {name: self._found_in(span) for name, span in self._schema.spans.items()}

    def _found_in(self, span: tuple[int, int]) -> list[bool]:
        """Return for each row whether a range of its cells has a stored value."""
        start, end = span
        # One comparison of lists is faster than a look at each cell. One entity has all the cells.
        absent: list[Cell] = [None] * (end - start)
        if len(self._schema.plan.groups) == 1 and self._schema.cells:
            return [
                cells != absent if type(cells := row[-1]) is list else any_stored(cells, span)
                for row in self._rows
            ]
        return [
            cells[start:end] != absent
            if type(cells := row[-1]) is list
            else any_stored(cells, span)
            for row in self._rows
        ]

    @property
    def errors(self) -> dict[int, str]:
        """Maps the index of each row that could not be read to the server's error."""
        return {
            index: str(cell)
            for index, cells in enumerate(row[-1] for row in self._rows)
            if isinstance(cells, PartialRow)
            for cell in cells
            if isinstance(cell, ErrorReply)
        }

    @property
    def freshness(self) -> dict[str, list[float | None]]:
        """Maps each feature to the seconds until each value expires; `None` without a value.

        `inf` means that the value does not expire. Empty unless the read asked for freshness.
        """
        return self._columns(self._ttls_s) if self._ttls_s else {}

    @property
    def ages(self) -> dict[str, list[float | None]]:
        """Maps each feature to the seconds since the event behind each value.

        `None` if the view does not keep event times. Empty unless the read asked for freshness.
        """
        return self._columns(self._ages_s) if self._ages_s else {}

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table` of join keys and features, each column in its declared type.

        Raises:
            MissingExtraError: pyarrow is not installed.
            ValueRefusedError: A decimal does not fit `decimal128(38, 18)`.
        """
        try:
            import pyarrow as pa

            from featurekit.types.arrow import arrow_type, to_arrow
        except ImportError as error:
            raise MissingExtraError.of("batch", "to_arrow()") from error
        dtypes = self._key_dtypes
        arrays = {name: to_arrow(dtypes[name], values) for name, values in self.entities.items()}
        for column, values in zip(
            self._schema.plan.columns, self._columns(self._rows).values(), strict=True
        ):
            array = arrays[column.name] = to_arrow(column.field.dtype, values)
            if array.type != arrow_type(column.field.dtype):
                raise ValueRefusedError(
                    f"a value has more digits than {arrow_type(column.field.dtype)} holds",
                    where=column.name,
                    hint="read it with to_dict() or to_rows()",
                )
        return pa.table(arrays)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of join keys and features.

        Its dtypes depend on the declared types only: `pandas.ArrowDtype`, which has nulls, so that an
        int64 stays exact; for arrays and vectors objects, which are numpy arrays.

        Raises:
            MissingExtraError: pandas or pyarrow is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError.of("pandas", "to_pandas()") from error

        def dtype_of(kind: Any) -> Any:
            return None if kind.num_fields else pandas.ArrowDtype(kind)

        return self.to_arrow().to_pandas(types_mapper=dtype_of)

    def to_numpy(self, dtype: DTypeLike = "float32", *, fill: float = math.nan) -> NDArray[Any]:
        """Return the features as an `n x f` array of numbers, as `reader.read_matrix` does.

        Args:
            dtype: `float32` or `float64`.
            fill: What stands for a value that is not there and has no default.

        Raises:
            RequestError: A feature is not a number, or the type is another one.
            ValueRefusedError: A number would change: an integer beyond 2**24 in float32, or beyond
                2**53 in float64.
            MissingExtraError: numpy is not installed.
        """
        matrix = Matrix(self._schema.plan, dtype, fill)
        matrix.add_rows(self._rows)
        return matrix.values

    def to_df(self) -> Any:
        """Return `to_pandas()`, by the name that Feast has for it."""
        return self.to_pandas()

    def _columns(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
        if not rows:
            return {name: [] for name in self._schema.names}
        # All rows have the same length; `strict=` would take a twentieth of a small read.
        return dict(zip(self._schema.names, map(list, zip(*rows))))  # noqa: B905

    @override
    def __repr__(self) -> str:
        names = self._schema.names
        listed = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
        return f"<OnlineResponse: {len(self)} rows of {listed}>"

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks; a value's tooltip is its status."""
        columns = self._schema.plan.columns
        codecs = [codec_of(dtype) for dtype in self._key_dtypes.values()]
        codecs += [codec_of(column.field.dtype) for column in columns]
        rows = [
            [
                HtmlCell(status if value is None else codec.display_text(value), status)
                for codec, value, status in zip(codecs, (*keys, *row[:-1]), statuses, strict=True)
            ]
            for keys, row, statuses in self._shown_rows()
        ]
        caption = f"{len(self)} rows" + (
            f", the first {len(rows)}" if len(rows) < len(self) else ""
        )
        return html_table([*self.entities, *self._schema.names], rows, caption)

    def _shown_rows(self) -> Iterator[tuple[Any, tuple[Any, ...], list[str]]]:
        """Yield the join keys, features and statuses of the first rows; join keys have no status."""
        for own, row in islice(zip(self._key_rows(), self._rows, strict=True), _SHOWN_ROWS):
            yield own, row, [""] * len(own) + [*self._schema.statuses(row[-1])]
