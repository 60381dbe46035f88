"""Lines: events pushed as lines of JSON, an object each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from featurekit.errors import BadEventError, FeatureKitError, ValueRefusedError, name_hint
from featurekit.lower.rows import json_object_decoder
from featurekit.plan import ViewPlan
from featurekit.ports import StreamEvent
from featurekit.runtime.event_decoder import EVENT_TIMESTAMP, event_decoder
from featurekit.runtime.metrics import EventMetrics
from featurekit.runtime.write_arguments import Event
from featurekit.runtime.writer import StreamWriter, WriteReport


class Lines:
    """Lines of one batch, as events; those that are none are reported or raised."""

    def __init__(self, *, skip: bool, report: WriteReport, count: EventMetrics) -> None:
        self._skip = skip
        self._count = count
        self._report = report
        self._events: list[Event] = []
        self._numbers: list[int] = []

    def add(self, number: int, line: str, read: Callable[[str], Event]) -> None:
        """Take one line in; a blank one is passed over."""
        if not line.strip():
            return
        try:
            self._events.append(read(line))
        except ValueRefusedError as error:
            self._count.rejected += 1
            if not self._skip:
                raise _bad_line(number, error) from error
            self._report.rejected.append((number, str(_bad_line(number, error))))
        else:
            self._numbers.append(number)

    def write(self, writer: StreamWriter, ttl: timedelta | int | None) -> None:
        """Write them, and count them into the report."""
        if not self._events:
            return
        bad = "skip" if self._skip else "fail"
        try:
            done = writer.write_many(self._events, ttl=ttl, on_bad_event=bad)
        except BadEventError as error:
            raise _bad_line(self._numbers[error.index], error.__cause__ or error) from error
        self._report.add(done)
        rejected = [(self._numbers[i], reason) for i, reason in done.rejected]
        self._report.rejected += [(n, f"line {n}: {reason}") for n, reason in rejected]


def _bad_line(number: int, error: BaseException) -> BadEventError:
    message, field_, hint = str(error), "", ""
    if isinstance(error, FeatureKitError):
        message, field_, hint = error.message, error.where, error.hint
    where = f"line {number}, {field_}" if field_ else f"line {number}"
    return BadEventError(message, where=where, hint=hint)


def line_reader(view: ViewPlan) -> Callable[[str], Event]:
    """The function from a line of JSON to an event; members that are no field are refused."""
    read, event_of = json_object_decoder(view), event_reader(view)
    return lambda line: event_of(read(line.encode(errors="surrogateescape")))


def event_reader(view: ViewPlan) -> Callable[[dict[str, object]], Event]:
    """The function from a JSON object to an event; members that are no field are refused."""
    view = replace(view, stream=None)
    translate = event_decoder(view)
    known = {*(k.name for k in view.key.join_keys), *(f.name for f in view.fields)}
    known |= {EVENT_TIMESTAMP} if view.ordering == "event_time" else set()

    def event(columns: dict[str, object]) -> Event:
        if odd := columns.keys() - known:
            name = min(odd).encode(errors="backslashreplace").decode()
            raise ValueRefusedError(
                f"no such field in {view.name}", where=name, hint=name_hint(name, known)
            )
        translated = translate(StreamEvent("", columns, "json", 0, ()))
        if translated is None:
            raise ValueRefusedError("it is left out")
        return translated

    return event
