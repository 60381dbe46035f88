"""Writing rows: some rows of one view, given as JSON objects, all of them or none.

Such writes are small and many, as those of a server: they take no lock and leave no history, which
is for loads of whole views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from featurekit.errors import BadEventError, RequestError, ValueRefusedError
from featurekit.lower.rows import object_row_decoder
from featurekit.plan import ViewPlan
from featurekit.ports import StoreHandle
from featurekit.repo.jsonl import event_reader
from featurekit.runtime.counters import Counters
from featurekit.runtime.load import MaterializeReport, send_batches
from featurekit.runtime.load_rows import InputRow, encode_rows
from featurekit.runtime.write_arguments import Event
from featurekit.runtime.writer import StreamWriter
from featurekit.types import short_repr


@dataclass(frozen=True, slots=True)
class RowsReport:
    """What became of some rows.

    Attributes:
        view: The view.
        written: Rows that the store took.
        dropped_older: Rows older than what the store holds; only with `ordering: event_time`.
        dropped_expired: Rows that were past their expiry on arrival; likewise.
    """

    view: str
    written: int
    dropped_older: int = 0
    dropped_expired: int = 0


class RowWriter:
    """Writes rows of one view. Thread-safe.

    Attributes:
        view: The view.
    """

    def __init__(self, view: ViewPlan, handle: StoreHandle, counters: Counters) -> None:
        self.view = view
        self._handle = handle
        self._counters = counters
        self._events: tuple[StreamWriter, Callable[[dict[str, Any]], Event]] | None = None
        if view.kind == "stream":
            self._events = (
                StreamWriter(view, handle, counters.events(view.name)),
                event_reader(view),
            )
        self._row_of = object_row_decoder(view, strict=True)

    def write(self, rows: Sequence[object], *, ttl: timedelta | int | None = None) -> RowsReport:
        """Write rows in their order; nothing is sent unless all of them fit.

        Args:
            rows: JSON objects of join keys and fields, their fractions as `Decimal`s. In a batch
                view a field that a row lacks is deleted, as null is; in a stream view it is left
                alone.
            ttl: How long the values of a stream view live, in the place of the declared TTLs.

        Raises:
            BadRowError: A row of a batch view does not fit; names it by its index.
            BadEventError: The same of a stream view.
            RequestError: A TTL was given for a batch view.
            StoreError: The store refused a row. Rows may be written again.
        """
        objects = [_object(row, self.view, index) for index, row in enumerate(rows)]
        if self._events is not None:
            return self._write_events(*self._events, objects, ttl)
        if ttl is not None:
            raise RequestError(
                f"feature view '{self.view.name}' is a batch view, whose TTL is declared",
                where="ttl",
            )
        return self._write_rows(objects)

    def _write_rows(self, objects: list[dict[str, object]]) -> RowsReport:
        store, report = self._handle.store, MaterializeReport(self.view.name)
        store.check_writable(self.view.key.prefix)
        given = [self._given(index, found) for index, found in enumerate(objects)]
        prepared = list(encode_rows(self.view, given, None, set(), store.capabilities))
        send_batches(store, iter(prepared), report, skip=False, on_batch=_ignore_progress)
        self._counters.loads(self.view.name).rows_written += report.rows_written
        return RowsReport(self.view.name, report.rows_written)

    def _given(self, index: int, found: dict[str, object]) -> InputRow:
        try:
            row = self._row_of(found)
        except ValueRefusedError as error:
            return InputRow(f"row {index}", error, found)
        return InputRow(f"row {index}", row, found)

    def _write_events(
        self,
        writer: StreamWriter,
        event_of: Callable[[dict[str, Any]], Event],
        objects: list[dict[str, object]],
        ttl: timedelta | int | None,
    ) -> RowsReport:
        events = []
        for index, found in enumerate(objects):
            try:
                events.append(event_of(found))
            except ValueRefusedError as error:
                where = ", ".join(p for p in (f"event {index}", error.where) if p)
                raise BadEventError(
                    error.message,
                    where=f"{self.view.name}, {where}",
                    hint=error.hint,
                    index=index,
                ) from error
        report = writer.write_many(events, ttl=ttl, encode_first=True)
        return RowsReport(
            self.view.name, report.written, report.dropped_older, report.dropped_expired
        )


def _object(row: object, view: ViewPlan, index: int) -> dict[str, object]:
    if not isinstance(row, Mapping):
        raise RequestError(
            f"an object of join keys and fields is expected, not {short_repr(row)}",
            where=f"{view.name}, row {index}",
        )
    return dict(row)


def _ignore_progress(_done: int) -> None:
    """Nobody waits for progress."""
