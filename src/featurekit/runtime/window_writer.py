"""Write events into a view with windows: the events of one entity in one call of the view's script.

All events of one entity in a slice are one call, which applies all of them or none.

- Guard `offset`: an event that was refused, and is sent again after a later one of its partition, would
  count as repeated. So a slice is sent when all calls of the slice before were answered, and none once the
  server has refused one for a reason of its own, such as a lack of memory.
- Guard `event_id`: what is not known to be applied must fit into the ids that the guard holds, so a slice
  has no more events than that, and is sent when the slice before was answered.
- Otherwise, each slice is encoded while the server works on the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice

from featurekit.errors import FeatureKitError, RequestError
from featurekit.lower.events import is_script_missing, server_refusal
from featurekit.lower.keys import key_function
from featurekit.lower.window_events import arguments_function, call_function, event_id_bytes
from featurekit.lower.window_scripts import APPLIED, LATE, MAX_IDS, REPEATED, window_script
from featurekit.plan import ViewPlan, WindowsPlan
from featurekit.ports import Chunk, RowSpans, StoreHandle
from featurekit.runtime.row_log import EventLog
from featurekit.runtime.write_arguments import (
    Event,
    PositionedEvent,
    Values,
    event_time_to_ms,
    split_event,
)
from featurekit.runtime.write_report import WriteReport
from featurekit.wire import Reply, first_error

SLICES = {"offset": 1024, "event_id": MAX_IDS, "group": 128, "none": 128}
"""Events in one slice, by guard."""

CHUNK_CALLS = 64
"""Calls in one chunk: while the server works on one chunk, the next is built."""

Reject = Callable[[int, FeatureKitError], None]
"""Reports an event that does not fit, by its index, or raises."""


_Pending = tuple[int, Values, int, str | None]
"""An encoded event: its index among the events of the write, its values, its time, and what identifies it
in the log, if anything does. A tuple, since one is made for each event."""


@dataclass(slots=True)
class _Call:
    """The events of one entity.

    Attributes:
        key: The key of its hash.
        arguments: The ids, times and arguments of the events, as the script takes them.
        events: The events, in order.
        data: The framed call.
    """

    key: bytes
    arguments: list[bytes] = field(default_factory=list)
    events: list[_Pending] = field(default_factory=list)
    data: bytes = b""


@dataclass(slots=True)
class WriteAttempt:
    """What is known of earlier attempts to write some events.

    Attributes:
        is_repeated: Whether there were any. Events that they applied then count as written.
        logged: The positions of the events that are in the log.
    """

    is_repeated: bool = False
    logged: set[str] = field(default_factory=set)


class WindowWriter:
    """Encodes and sends the events of one view with windows.

    Args:
        view: The compiled view.
        windows: How its events are aggregated.
        handle: The online store, which is checked.
        log: The log of accepted events.
    """

    def __init__(
        self, view: ViewPlan, windows: WindowsPlan, handle: StoreHandle, log: EventLog | None
    ) -> None:
        dialect = handle.store.capabilities
        if windows.once == "group" and not dialect.transactions:
            raise RequestError(
                f"feature view '{view.name}' asks the consumer group which events are repeated, which "
                "a cluster cannot: the stream and the entities are on different servers",
                hint="declare `once: {event_id: KEY}` under `stream`, or `once: none`",
            )
        self._view, self._windows, self._handle, self._log = view, windows, handle, log
        self._script = window_script(view, windows, hsetex=dialect.hsetex)
        self._call = call_function(view, windows, self._script)
        self._arguments = arguments_function(view, windows)
        self._key = key_function(view.key)
        self._input_names = {each.name for each in windows.inputs}

    def write(
        self,
        events: Iterable[Event],
        report: WriteReport,
        reject: Reject,
        *,
        encode_first: bool = False,
        attempt: WriteAttempt | None = None,
    ) -> None:
        """Write events in order, slice by slice.

        Args:
            events: The events.
            report: Is added to.
            reject: Called with each event that does not fit.
            encode_first: Encode all events before the first is sent.
            attempt: What is known of earlier attempts to write the same events.
        """
        slices, attempt = self._slices(events, reject), attempt or WriteAttempt()
        if encode_first:
            slices = iter(list(slices))
        if self._windows.once in ("group", "none"):
            self._send(slices, report, attempt)
            return
        for calls in slices:
            if not self._must_stop(calls, report):
                self._send(_chunks_of(calls), report, attempt)

    async def write_async(
        self, events: Iterable[Event], report: WriteReport, reject: Reject
    ) -> None:
        """Do the same as `write` without blocking the event loop."""
        store = self._handle.async_store()
        for calls in self._slices(events, reject):
            if self._must_stop(calls, report):
                continue
            keys, now_ms = [each.key for each in calls], self._handle.now_ms()
            requests = [self._call(each.key, now_ms, each.arguments) for each in calls]
            replies = await store.run(keys, requests)
            if is_script_missing(replies):
                load = await store.run(keys[:1], [self._script.load])
                missing = [i for i, reply in enumerate(replies) if is_script_missing([reply])]
                again = await store.run([keys[i] for i in missing], [requests[i] for i in missing])
                for i, reply in zip(missing, again, strict=True):
                    replies[i] = first_error(load) or reply
            for each, reply in zip(calls, replies, strict=True):
                self._count(each, reply, report, WriteAttempt())

    def _must_stop(self, calls: Sequence[_Call], report: WriteReport) -> bool:
        """Return whether events must not be sent, since earlier ones were refused; reject them then."""
        if self._windows.once != "offset" or not report.refusal:
            return False
        reason = f"not sent, since the store refused earlier events: {report.refusal}"
        report.rejected += [(each[0], reason) for call in calls for each in call.events]
        return True

    def _slices(self, events: Iterable[Event], reject: Reject) -> Iterator[list[_Call]]:
        remaining, size = enumerate(events), SLICES[self._windows.once]
        while part := list(islice(remaining, size)):
            calls: dict[bytes, _Call] = {}
            now_ms = self._handle.now_ms()
            for index, event in part:
                try:
                    self._add(calls, index, event, now_ms)
                except FeatureKitError as error:
                    reject(index, error)
            if calls:
                yield list(calls.values())

    def _add(self, calls: dict[bytes, _Call], index: int, event: Event, now_ms: int) -> None:
        """Encode an event, and add it to the call of its entity."""
        entity, values, time = split_event(event)
        windows = self._windows
        event_ms = now_ms
        if time is not None:
            event_ms = event_time_to_ms(time, now_ms, self._view.max_ahead_ms)
        key = self._key(entity)
        arguments = self._arguments(values)
        position = event.position if isinstance(event, PositionedEvent) else None
        event_id = event_id_bytes(windows, values, position)
        if (call := calls.get(key)) is None:
            call = calls[key] = _Call(key)
        call.arguments += event_id, b"%d" % event_ms, *arguments
        call.events.append((index, values, event_ms, position))

    def _send(
        self, parts: Iterator[list[_Call]], report: WriteReport, attempt: WriteAttempt
    ) -> None:
        unanswered: deque[list[_Call]] = deque()

        def chunks() -> Iterator[Chunk]:
            for part in parts:
                unanswered.append(part)
                now_ms = self._handle.now_ms()
                for each in part:
                    each.data = self._call(each.key, now_ms, each.arguments)
                yield Chunk(
                    data=b"".join([each.data for each in part]),
                    replies=len(part),
                    reply_lines=None,
                    rows=len(part),
                    row_spans=partial(_row_spans, part),
                )

        for _, replies in self._handle.store.load(chunks()):
            for call, reply in zip(unanswered.popleft(), replies or (), strict=True):
                if is_script_missing([reply]):
                    reply = self._send_again(call)  # noqa: PLW2901
                self._count(call, reply, report, attempt)

    def _send_again(self, call: _Call) -> Reply:
        """Load the script, which the server does not have, and send a call."""
        store = self._handle.store
        loaded = store.run((call.key,), (self._script.load,))
        return first_error(loaded) or store.run((call.key,), (call.data,))[0]

    def _count(
        self, call: _Call, reply: Reply, report: WriteReport, attempt: WriteAttempt
    ) -> None:
        if not isinstance(reply, bytes):
            error = first_error([reply]) or f"the script answered {reply!r}"
            reason = f"{call.key.decode(errors='replace')}: {error}"
            report.rejected += [(each[0], reason) for each in call.events]
            report.refusal = report.refusal or server_refusal([reply])
            return
        repeated = reply.count(REPEATED)
        report.dropped_expired += reply.count(LATE)
        report.repeated += 0 if attempt.is_repeated else repeated
        report.written += reply.count(APPLIED) + (repeated if attempt.is_repeated else 0)
        if self._log is not None:
            accepted = APPLIED + REPEATED if attempt.is_repeated else APPLIED
            for letter, each in zip(reply, call.events, strict=True):
                _, values, event_ms, position = each
                if letter in accepted and position not in attempt.logged:
                    self._log.add(call.key, self._logged(values), event_ms, position)
                    if position is not None:
                        attempt.logged.add(position)

    def _logged(self, values: Values) -> Values:
        event_id = self._windows.event_id
        if event_id is not None and event_id not in self._input_names:
            return {**values, event_id: str(values[event_id])}
        return values


def _chunks_of(calls: list[_Call]) -> Iterator[list[_Call]]:
    for start in range(0, len(calls), CHUNK_CALLS):
        yield calls[start : start + CHUNK_CALLS]


def _row_spans(part: Sequence[_Call]) -> RowSpans:
    return [each.key for each in part], list(accumulate(len(each.data) for each in part))
