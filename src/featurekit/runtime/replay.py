"""Fill the windows of a view again, from the log of its events.

The windows are emptied first. Then the log is applied up to where the consumer group is, and the guards
are set on the way: the worker continues there, and nothing counts twice. Where the group itself is the
guard, or there is none, the hashes of positions find events that are sent again meanwhile. Until the end,
the view's mark has a field with the time 0, so that readers take its windows as stale, also if the
replay fails: it can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, cast

from featurekit.errors import FeatureKitError, RequestError, StoreUnavailableError
from featurekit.plan import ViewPlan, WindowsPlan
from featurekit.ports import OnlineStore, StoreHandle
from featurekit.runtime.marks import REPLAY, RESET, set_mark_field
from featurekit.runtime.window_writer import WindowWriter
from featurekit.runtime.write_arguments import Event, PositionedEvent
from featurekit.runtime.write_report import WriteReport
from featurekit.wire import ErrorReply, command

IsDone = Callable[[str], bool]
"""Returns whether the consumer group has done the event at a position."""


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay.

    Attributes:
        view: The view.
        emptied: Entities whose windows were emptied.
        written: Events that were applied.
        late: Events that were too late for every window.
        repeated: Events that were in the log more than once.
        left: Events that were left to the worker, which reads them again.
        deleted: Events that were left out, since their entity was deleted after them.
        rejected: Events that do not fit the view, or that the store refused.
        reasons: Why the first of them were rejected.
    """

    view: str
    emptied: int = 0
    written: int = 0
    late: int = 0
    repeated: int = 0
    left: int = 0
    deleted: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()


MAX_REASONS = 3


def replay(
    view: ViewPlan,
    windows: WindowsPlan,
    handle: StoreHandle,
    events: Iterable[tuple[object, dict[str, object], int, str | None]],
    is_done: IsDone,
) -> ReplayReport:
    """Empty the windows of a view, and apply the events of its log.

    Args:
        view: The view.
        windows: How its events are aggregated.
        handle: The online store, which is checked.
        events: The entity, inputs, time and position of each event, in order.
        is_done: Whether the consumer group has done an event.

    Raises:
        StoreError: The server refuses it. The windows stay stale until a replay succeeds.
    """
    report, store = ReplayReport(view.name), handle.store
    events = iter(events)
    first = list(islice(events, 1))  # nothing is emptied if the log cannot be read
    guard = f"@{view.name}"
    set_mark_field(store, view, REPLAY, 0)
    for keys in store.scan(view.key.scan_pattern()):
        report.emptied += _delete_fields(store, keys, [f.name for f in view.fields] + [guard])
    by_position = windows.once in ("group", "none")
    if by_position:
        windows = replace(windows, once="event_id", event_id=None)
        view = replace(view, windows=windows)
    writer = WindowWriter(view, windows, handle, None)
    written = WriteReport()
    writer.write(
        _undone(chain(first, events), is_done, report),
        written,
        lambda index, error: written.rejected.append((index, _reason(error))),
    )
    if written.refusal:
        raise StoreUnavailableError(
            f"the store does not accept writes now: {written.refusal}",
            hint="repeat the replay: until then, the windows are stale",
        )
    if by_position:
        for keys in store.scan(view.key.scan_pattern()):
            _delete_fields(store, keys, [guard])
    set_mark_field(store, view, RESET, None)
    set_mark_field(store, view, REPLAY, None)
    report.written, report.late = written.written, written.dropped_expired
    report.repeated += written.repeated
    report.rejected = len(written.rejected)
    report.reasons = tuple(reason for _, reason in written.rejected[:MAX_REASONS])
    return report


def _undone(
    events: Iterable[tuple[object, dict[str, object], int, str | None]],
    is_done: IsDone,
    report: ReplayReport,
) -> Iterator[Event]:
    """Yield the events that the worker does not read again, each once if its position comes again at once."""
    previous = None
    for entity, values, time_ms, position in events:
        if position is not None:
            if position == previous:
                report.repeated += 1
                continue
            previous = position
            if not is_done(position):
                report.left += 1
                continue
        event = PositionedEvent((entity, values, time_ms))
        event.position = cast("Any", position)
        yield cast("Event", event)


def _delete_fields(store: OnlineStore, keys: list[bytes], names: list[str]) -> int:
    """Delete fields of hashes; return how many hashes had any. Keys of other types stay."""
    data = [name.encode() for name in names]
    replies = store.run_admin(keys, [command(b"HDEL", key, *data) for key in keys]) if keys else []
    for reply in replies:
        if isinstance(reply, ErrorReply) and reply.code != "WRONGTYPE":
            raise RequestError(f"the windows cannot be emptied: {reply}")
    return sum(isinstance(reply, int) and reply > 0 for reply in replies)


def _reason(error: FeatureKitError) -> str:
    return f"{error.where}: {error.message}" if error.where else error.message
