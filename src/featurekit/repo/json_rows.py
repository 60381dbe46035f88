"""Rows and events given as JSON: as objects by HTTP requests, as lines by commands.

Writes of this kind are small and frequent. Unlike loads, they take no lock and are not recorded in
the history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from featurekit.errors import (
    BadEventError,
    FeatureKitError,
    RequestError,
    ValueRefusedError,
    join_where,
    name_hint,
)
from featurekit.lower.rows import json_object_decoder, object_row_decoder
from featurekit.lower.write_group import load_guard
from featurekit.plan import EVENT_TIMESTAMP, ViewPlan
from featurekit.ports import StoreHandle, StreamEvent
from featurekit.runtime.counters import Counters
from featurekit.runtime.event_decoder import event_decoder
from featurekit.runtime.load import LoadTarget, MaterializeReport, send_batches
from featurekit.runtime.load_rows import InputRow, WrittenRows, encode_rows
from featurekit.runtime.metrics import EventMetrics
from featurekit.runtime.row_log import EventLog
from featurekit.runtime.write_arguments import Event, Ttl, event_time_to_ms, ttl_to_ms
from featurekit.runtime.write_report import WriteReport
from featurekit.runtime.writer import StreamWriter
from featurekit.types import short_repr

_DecodeObject = Callable[[dict[str, object]], Event]


@dataclass(frozen=True, slots=True)
class RowsReport:
    """The outcome of a write of JSON objects.

    Attributes:
        view: The view's name.
        written: Rows written.
        dropped_older: Rows older than the stored one; only with `ordering: event_time`.
        dropped_expired: Rows whose TTL had passed before they were written, or that were too late for
            every window.
        repeated: Events that had been applied before; only of views with windows.
    """

    view: str
    written: int
    dropped_older: int = 0
    dropped_expired: int = 0
    repeated: int = 0


class RowWriter:
    """Writes JSON objects into a batch or stream view. Thread-safe.

    Attributes:
        view: The compiled view.
    """

    def __init__(
        self,
        view: ViewPlan,
        handle: StoreHandle,
        counters: Counters,
        log: EventLog | None = None,
    ) -> None:
        self.view = view
        self._handle = handle
        self._counters = counters
        self._stream: tuple[StreamWriter, _DecodeObject] | None = None
        if view.kind == "stream":
            writer = StreamWriter(view, handle, counters.events(view.name), log)
            self._stream = writer, _object_event_decoder(view)
        self._decode_row = object_row_decoder(view, strict=True)

    def write(self, rows: Sequence[object], *, ttl: Ttl = None) -> RowsReport:
        """Write rows in order. Nothing is sent unless all of them fit.

        Args:
            rows: JSON objects of join keys and fields, with fractions as `Decimal`. In a batch view
                a field that is missing from a row is deleted, as null is; in a stream view it keeps
                its value. Both require `event_timestamp` with `ordering: event_time`.
            ttl: For stream views, a TTL to use instead of the declared ones.

        Raises:
            BadRowError: A row does not fit a batch view; names its index.
            BadEventError: A row does not fit a stream view; names its index.
            RequestError: A row is not an object, or a TTL was given for a batch view.
            StoreError: The store refused a row. Safe to retry.
        """
        objects = [_check_object(row, self.view, index) for index, row in enumerate(rows)]
        if self._stream is not None:
            return self._write_events(*self._stream, objects, ttl)
        if ttl is not None:
            raise RequestError(
                f"feature view '{self.view.name}' is a batch view: its TTL is declared in YAML",
                where="ttl",
            )
        return self._write_rows(objects)

    def _write_rows(self, objects: list[dict[str, object]]) -> RowsReport:
        store, report = self._handle.store, MaterializeReport(self.view.name)
        self._handle.check_store()
        store.check_writable(self.view.key.prefix)
        rows = (self._input_row(index, row) for index, row in enumerate(objects))
        target = LoadTarget(self.view, store.capabilities, load_guard(self.view))
        batches = list(encode_rows(target, rows, None, WrittenRows(), self._handle.now_ms))
        send_batches(store, iter(batches), report, skip=False)
        metrics = self._counters.loads(self.view.name)
        metrics.rows_written += report.rows_written
        metrics.rows_kept += report.rows_kept
        return RowsReport(self.view.name, report.rows_written, report.rows_kept)

    def _input_row(self, index: int, row: dict[str, object]) -> InputRow:
        try:
            return InputRow(f"row {index}", self._decode_row(row), row)
        except ValueRefusedError as error:
            return InputRow(f"row {index}", error, row)

    def _write_events(
        self,
        writer: StreamWriter,
        decode: _DecodeObject,
        objects: list[dict[str, object]],
        ttl: Ttl,
    ) -> RowsReport:
        events = []
        for index, row in enumerate(objects):
            try:
                events.append(decode(row))
            except ValueRefusedError as error:
                raise BadEventError(
                    error.message,
                    where=join_where(self.view.name, f"event {index}", error.where),
                    hint=error.hint,
                    index=index,
                ) from error
        report = writer.write_many(events, ttl=ttl, encode_first=True)
        return RowsReport(
            self.view.name,
            report.written,
            report.dropped_older,
            report.dropped_expired,
            report.repeated,
        )


def _check_object(row: object, view: ViewPlan, index: int) -> dict[str, object]:
    if not isinstance(row, Mapping):
        raise RequestError(
            f"expected an object of join keys and fields, not {short_repr(row)}",
            where=f"{view.name}, row {index}",
        )
    return dict(row)


class JsonlEventWriter:
    """Writes batches of JSON Lines into a stream view.

    Attributes:
        report: The counts of all batches, with the rejected events by line number.
    """

    def __init__(
        self,
        writer: StreamWriter,
        metrics: EventMetrics,
        now_ms: Callable[[], int],
        *,
        skip: bool,
    ) -> None:
        self.report = WriteReport()
        self._now_ms = now_ms
        self._writer = writer
        self._metrics = metrics
        self._skip = skip
        self._decode_json = json_object_decoder(writer.plan)
        self._decode_object = _object_event_decoder(writer.plan)

    def write(self, lines: Sequence[str], first_number: int, ttl: Ttl) -> None:
        """Write one batch; blank lines are ignored.

        Raises:
            BadEventError: An event does not fit the view, and bad events are not skipped.
            StoreError: The store refused an event.
        """
        events: list[Event] = []
        numbers: list[int] = []
        for number, line in enumerate(lines, first_number):
            if not line.strip():
                continue
            try:
                events.append(self._decode(line))
                numbers.append(number)
            except ValueRefusedError as error:
                self._metrics.rejected += 1
                bad_line = _bad_line(number, error)
                if not self._skip:
                    raise bad_line from error
                self.report.rejected.append((number, str(bad_line)))
        if events:
            self._write(events, numbers, ttl)
            self._note_ttl_left(events, ttl)

    def _note_ttl_left(self, events: Sequence[Event], ttl: Ttl) -> None:
        """Remember how long the longest-lived value has to live."""
        view, now = self._writer.plan, self._now_ms()
        ttl_ms = ttl_to_ms(ttl) or view.longest_ttl_ms
        for event in events:
            try:
                left_ms = _event_time_ms(event, view, now) + ttl_ms - now
            except ValueRefusedError:  # this event was rejected
                continue
            if self.report.ttl_left_ms is None or left_ms > self.report.ttl_left_ms:
                self.report.ttl_left_ms = left_ms

    def _decode(self, line: str) -> Event:
        return self._decode_object(self._decode_json(line.encode(errors="surrogateescape")))

    def _write(self, events: list[Event], numbers: list[int], ttl: Ttl) -> None:
        on_bad_event = "skip" if self._skip else "fail"
        try:
            report = self._writer.write_many(events, ttl=ttl, on_bad_event=on_bad_event)
        except BadEventError as error:
            raise _bad_line(numbers[error.index], error.__cause__ or error) from error
        self.report.add(report)
        rejected = [(numbers[index], reason) for index, reason in report.rejected]
        self.report.rejected += [(n, f"line {n}: {reason}") for n, reason in rejected]


def _event_time_ms(event: Event, view: ViewPlan, now: int) -> int:
    """Return the time from which the TTL of an event counts."""
    _, _, *time = event
    if not time or time[0] is None:
        return now
    return event_time_to_ms(time[0], now, view.max_ahead_ms)


def _bad_line(number: int, error: BaseException) -> BadEventError:
    if isinstance(error, FeatureKitError):
        where = join_where(f"line {number}", error.where)
        return BadEventError(error.message, where=where, hint=error.hint)
    return BadEventError(str(error), where=f"line {number}")


def _object_event_decoder(view: ViewPlan) -> _DecodeObject:
    """Return the function from a JSON object to an event; it refuses unknown members."""
    known = {*(k.name for k in view.key.join_keys), *(f.name for f in view.event_fields)}
    if view.windows and view.windows.event_id:
        known.add(view.windows.event_id)
    has_time = view.ordering == "event_time" or EVENT_TIMESTAMP not in known
    time_column = EVENT_TIMESTAMP if has_time else None
    decode_event = event_decoder(replace(view, stream=None), time_column)
    known |= {EVENT_TIMESTAMP}

    def decode(columns: dict[str, object]) -> Event:
        if unknown := columns.keys() - known:
            name = min(unknown).encode(errors="backslashreplace").decode()
            raise ValueRefusedError(
                f"no such field in {view.name}", where=name, hint=name_hint(name, known)
            )
        event = decode_event(StreamEvent("", columns, "json", 0, ()))
        if event is None:
            raise ValueRefusedError("`where:` excludes this event")
        return event

    return decode
