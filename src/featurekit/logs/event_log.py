"""The log of the events that a stream view has accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from typing_extensions import override

from featurekit.logs.columns import (
    TIMESTAMP,
    key_columns,
    key_fields,
    time_column,
    value_column,
)
from featurekit.logs.hourly_files import HourlyFiles
from featurekit.plan import EventLogColumns as Columns
from featurekit.plan import FieldPlan, ViewPlan
from featurekit.runtime.row_log import RowLog
from featurekit.types import codec_of, parse_dtype
from featurekit.types.arrow import arrow_type

_TEXT = parse_dtype("string")

_Row = tuple[int, bytes, dict[str, bytes | None], int | None, str | None]
"""When an event was accepted, the key of its hash, its encoded fields, its time and its position."""


class EventLog:
    """A log of accepted events. See `runtime.row_log.EventLog`. Pickles without its rows.

    Its columns are the join keys, the fields, and those of `EventLogColumns`.

    Args:
        view: The stream view.
        folder: The folder of the files.
        now_ms: The clock.

    Attributes:
        log: The buffer of rows.
    """

    def __init__(self, view: ViewPlan, folder: Path, now_ms: Callable[[], int]) -> None:
        self._view, self._folder, self._now_ms = view, folder, now_ms
        self._fields = logged_fields(view)
        self._encoders = {field.name: codec_of(field.dtype).encode for field in self._fields}
        files = HourlyFiles(folder, schema_of(view), self._encode, now_ms)
        self.log = RowLog(f"log of {view.name}", files)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._view, self._folder, self._now_ms)

    def add(
        self, key: bytes, values: Mapping[str, object], event_ms: int | None, position: str | None
    ) -> None:
        """Add an event."""
        # Encoded here, since the caller may change lists after the write.
        encoders = self._encoders
        data = {
            name: None if value is None else encoders[name](value)
            for name, value in values.items()
        }
        self.log.append((self._now_ms(), key, data, event_ms, position))

    def close(self) -> None:
        """Write all rows, and complete the files."""
        self.log.close()

    def _encode(self, rows: Sequence[_Row]) -> Any:
        view = self._view
        arrived_ms, keys, values, event_ms, positions = zip(*rows, strict=True)
        columns = [
            *key_columns(view.key, keys),
            *(
                value_column(field.dtype, [data.get(field.name) for data in values])
                for field in self._fields
            ),
            pa.array([list(data) for data in values], pa.list_(pa.string())),
            time_column(event_ms),
            time_column(arrived_ms),
            pa.array(positions, pa.string()),
        ]
        return pa.record_batch(columns, schema=schema_of(view))


def logged_fields(view: ViewPlan) -> tuple[FieldPlan, ...]:
    """Return the columns of an event: its fields, or its inputs and its id in a view with windows."""
    fields, event_id = view.event_fields, view.windows.event_id if view.windows else None
    if event_id is None or any(field.name == event_id for field in fields):
        return fields
    return (*fields, FieldPlan(event_id, _TEXT))


def schema_of(view: ViewPlan) -> Any:
    """Return the `pyarrow.Schema` of the log of a view."""
    return pa.schema(
        [
            *key_fields(view.key),
            *(pa.field(field.name, arrow_type(field.dtype)) for field in logged_fields(view)),
            pa.field(Columns.SENT_FIELDS, pa.list_(pa.string())),
            pa.field(Columns.EVENT_TIMESTAMP, TIMESTAMP),
            pa.field(Columns.ARRIVED_AT, TIMESTAMP),
            pa.field(Columns.POSITION, pa.string()),
        ]
    )
