"""The log of what a feature service has served: rows as they were read, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from typing_extensions import override

from featurekit.damaged_files import damaged_file_error
from featurekit.errors import SourceError, ValueRefusedError
from featurekit.logs.columns import TIMESTAMP, key_columns, time_column, value_column
from featurekit.logs.hourly_files import HourlyFiles
from featurekit.lower.cell_decoder import CellDecoder, CellLayout
from featurekit.lower.read import (
    PRESENT,
    ROW_ERRORS,
    Cell,
    absent_status,
    decode_cell,
    group_offsets,
)
from featurekit.lower.row_decoder import is_computed
from featurekit.plan import ReadPlan
from featurekit.runtime.read_calls import CellRows
from featurekit.runtime.request_id import current_request_id
from featurekit.runtime.response import OnlineResponse
from featurekit.runtime.row_log import AddServed, RowLog
from featurekit.types.arrow import arrow_type, to_arrow

SERVED_AT = "served_at"
REQUEST_ID = "request_id"
STATUS = "{}__status"

_HASH_BITS = 32

_Row = tuple[int, Sequence[bytes], Any, str | None, tuple[int, ...]]
"""When a row was served, the keys of its entities, its cells, the request's id, and the indexes in the
cells of those that the log's columns are made of. Decoded values are not kept, so that they are freed as soon as without a log; tuples of
bytes, unlike lists, are not visited again by the garbage collector."""


_Cells = Sequence[Sequence[Cell]]
"""The cells of rows: one for each feature or, if features are computed, those of the log's own plan."""


@dataclass(frozen=True, slots=True)
class ServedColumns:
    """The columns of a log: join keys, request data, features, their statuses, `served_at`, `request_id`.

    Attributes:
        plan: The compiled service, with its own names of columns.
    """

    plan: ReadPlan

    @property
    def schema(self) -> Any:
        """The `pyarrow.Schema` of the files."""
        columns = self.plan.columns
        return pa.schema(
            [
                *(pa.field(name, arrow_type(dtype)) for name, dtype in self._join_keys.items()),
                *(pa.field(c.name, arrow_type(c.field.dtype)) for c in self.plan.requests),
                *(pa.field(c.name, arrow_type(c.field.dtype)) for c in columns),
                *(pa.field(STATUS.format(c.name), pa.string()) for c in columns),
                pa.field(SERVED_AT, TIMESTAMP),
                pa.field(REQUEST_ID, pa.string()),
            ]
        )

    @property
    def _join_keys(self) -> dict[str, Any]:
        return {k.name: k.dtype for group in self.plan.groups for k in group.key.join_keys}

    def encode(self, rows: Sequence[_Row]) -> Any:
        """Return a `pyarrow.RecordBatch` of rows."""
        served_ms, keys, cells, request_ids, layouts = zip(*rows, strict=True)
        pairs = zip(cells, layouts, strict=True)
        own = [[row[index] for index in layout] for row, layout in pairs]
        if is_computed(self.plan):
            features, statuses = self._computed_features(own)
        else:
            are_plain = all(type(row) is tuple for row in cells)
            features, statuses = self._features(own, are_plain=are_plain)
        columns = [
            *self._key_columns(keys),
            *self._request_columns(own),
            *features,
            *statuses,
            time_column(served_ms),
            pa.array(request_ids, pa.string()),
        ]
        return pa.record_batch(columns, schema=self.schema)

    def _key_columns(self, keys: Sequence[Sequence[bytes]]) -> list[Any]:
        columns: dict[str, Any] = {}
        for group, group_keys in zip(self.plan.groups, zip(*keys, strict=True), strict=True):
            if group.is_global:
                continue
            names = [part.name for part in group.key.join_keys]
            columns |= dict(zip(names, key_columns(group.key, group_keys), strict=True))
        return [columns[name] for name in self._join_keys]

    def layout(self, read: ReadPlan) -> tuple[int, ...]:
        """Return the indexes in the cells of a read of those that the columns are made of.

        Args:
            read: A plan with the same features first, maybe under other names.
        """
        offsets = group_offsets(read)
        if not is_computed(self.plan):
            columns = read.stored[: len(self.plan.columns)]
            return tuple(offsets[column.group] + column.slot for column in columns)
        places = [
            offset + other.fields.index(name)
            for group, other, offset in zip(self.plan.groups, read.groups, offsets, strict=True)
            for name in group.fields
        ]
        own, layout = CellLayout.of(self.plan), CellLayout.of(read)
        places += range(layout.stored, layout.stored + own.size - own.stored)
        functions = list(layout.functions.values())[: len(own.functions)]
        return (*places, *functions)

    def _request_columns(self, cells: Sequence[Sequence[Any]]) -> list[Any]:
        start = CellLayout.of(self.plan).requests
        return [
            to_arrow(column.field.dtype, [row[start + i] for row in cells])
            for i, column in enumerate(self.plan.requests)
        ]

    def _computed_features(self, cells: _Cells) -> tuple[list[Any], list[Any]]:
        decoder = CellDecoder(self.plan)
        rows = [decoder.decode(row) for row in cells]
        values, statuses = zip(*rows, strict=True)
        dtypes = [column.field.dtype for column in self.plan.columns]
        features = [
            to_arrow(dtype, list(column))
            for dtype, column in zip(dtypes, zip(*values, strict=True), strict=True)
        ]
        return features, [pa.array(column, pa.string()) for column in zip(*statuses, strict=True)]

    def _features(self, cells: _Cells, *, are_plain: bool) -> tuple[list[Any], list[Any]]:
        if are_plain:  # no stale or unavailable values
            try:
                return self._features_by_column(cells)
            except (*ROW_ERRORS, ValueRefusedError):  # a value that does not decode
                pass
        return self._features_by_cell(cells)

    def _features_by_column(self, cells: _Cells) -> tuple[list[Any], list[Any]]:
        features, statuses = [], []
        for column, data in zip(self.plan.columns, zip(*cells, strict=True), strict=True):
            field = column.field
            values = value_column(field.dtype, data)
            is_present = pa.array([value is not None for value in data])
            if values.null_count != data.count(None):
                raise ValueRefusedError("a value does not decode")
            if field.default is not None and values.null_count:
                values = _fill(values, is_present, value_column(field.dtype, [field.default]))
            features.append(values)
            statuses.append(pc.if_else(is_present, PRESENT, absent_status(field)))
        return features, statuses

    def _features_by_cell(self, cells: _Cells) -> tuple[list[Any], list[Any]]:
        features, statuses = [], []
        for column, data in zip(self.plan.columns, zip(*cells, strict=True), strict=True):
            decoded = [decode_cell(column.field, cell) for cell in data]
            features.append(to_arrow(column.field.dtype, [value for value, _ in decoded]))
            statuses.append(pa.array([status for _, status in decoded], pa.string()))
        return features, statuses


def _rows_of(result: Any) -> Sequence[Any]:
    """Return the rows of a read: records, or tuples that end with the cells."""
    if isinstance(result, OnlineResponse):
        return result._rows  # noqa: SLF001
    return [(cells,) for cells in result] if isinstance(result, CellRows) else result


def _cells(row: Any) -> Any:
    """Return the cells of a row as a tuple; as a `PartialRow` if one is stale or cannot be decoded."""
    cells = row[-1] if row.__class__ is tuple else row._cells  # noqa: SLF001
    return tuple(cells) if cells.__class__ is list else cells


def _fill(values: Any, is_present: Any, default: Any) -> Any:
    """Return the values, with the default where there is none; of any type."""
    rows = pa.array(range(len(values)), pa.int64())
    taken = pc.if_else(is_present, rows, len(values))
    return pa.concat_arrays([values, default]).take(taken)


class ServedLog:
    """A log of served rows. See `runtime.row_log.ServedLog`. Pickles without its rows.

    Args:
        plan: The compiled service, with its own names of columns.
        sample_rate: The share of the entities whose rows are logged. Which ones, a hash of the first
            entity's key decides, so that all rows of an entity are logged, or none.
        folder: The folder of the files.
        now_ms: The clock.

    Attributes:
        log: The buffer of rows.
    """

    def __init__(
        self, plan: ReadPlan, sample_rate: float, folder: Path, now_ms: Callable[[], int]
    ) -> None:
        self._arguments = (plan, sample_rate, folder, now_ms)
        self._has_entity = [not group.is_global for group in plan.groups]
        self._first = self._has_entity.index(True) if any(self._has_entity) else 0
        self._limit = round(sample_rate * 2**_HASH_BITS)
        self._takes_all = sample_rate == 1
        self._now_ms = now_ms
        self._columns = ServedColumns(plan)
        files = HourlyFiles(folder, self._columns.schema, self._columns.encode, now_ms)
        self.log = RowLog(f"log of {plan.name}", files)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._arguments

    def add_function(self, plan: ReadPlan) -> AddServed:
        """Return the function that adds the rows of a read. It runs in each read, so it avoids lookups."""
        layout = self._columns.layout(plan)
        log, buffer, now_ms = self.log, self.log.rows, self._now_ms
        limit, takes_all = self._limit, self._takes_all
        add_rows = partial(self._add_rows, layout)

        def add(keys: Sequence[bytes], result: Any) -> None:
            rows = result if result.__class__ is list else _rows_of(result)
            if len(rows) != 1 or len(keys) != 1:
                add_rows(keys, rows)
            elif takes_all or crc32(keys[0]) < limit:
                row = rows[0]
                cells = row[-1] if row.__class__ is tuple else row._cells  # noqa: SLF001
                if cells.__class__ is list:
                    cells = tuple(cells)
                entry = (now_ms(), (keys[0],), cells, current_request_id(), layout)
                if len(buffer) < log.free_rows:
                    buffer.append(entry)
                else:
                    log.append(entry)

        return add

    def _add_rows(
        self, layout: tuple[int, ...], keys: Sequence[bytes], rows: Sequence[Any]
    ) -> None:
        by_row = zip(*self._keys_by_group(keys, len(rows)), strict=True)
        at_ms, request_id = self._now_ms(), current_request_id()
        first, limit = self._first, self._limit
        self.log.extend(
            [
                (at_ms, own, _cells(row), request_id, layout)
                for own, row in zip(by_row, rows, strict=True)
                if crc32(own[first]) < limit
            ]
        )

    def _keys_by_group(self, keys: Sequence[bytes], count: int) -> Iterator[Sequence[bytes]]:
        """Yield the keys of each group; a view without an entity has one for all rows."""
        start = 0
        for has_entity in self._has_entity if count else ():
            end = start + (count if has_entity else 1)
            yield keys[start:end] if has_entity else [keys[start]] * count
            start = end


def open_served_log(plan: ReadPlan, folder: Path) -> Any:
    """Return a `pyarrow.RecordBatchReader` of all rows that a service has served, hour by hour.

    Its columns are those that the service has now: columns that older files lack are null.

    Raises:
        SourceError: There are no files, or they cannot be read.
    """
    schema = ServedColumns(plan).schema
    files = sorted(map(str, folder.glob("*/*.parquet")))
    if not files:
        raise SourceError(
            "the log of served features has no files",
            where=str(folder),
            hint="rows are in a file once their hour is over, or once the process has ended",
        )
    return pa.RecordBatchReader.from_batches(schema, _read_files(files, schema))


def _read_files(files: Sequence[str], schema: Any) -> Iterator[Any]:
    """Yield the rows of files as record batches; an error names the file that is damaged."""
    try:
        yield from ds.dataset(files, schema=schema, format="parquet").scanner().to_reader()
    except (pa.ArrowException, OSError) as error:
        damaged = damaged_file_error(files, error, "log of served features")
        raise damaged or SourceError(str(error), where="log of served features") from error
