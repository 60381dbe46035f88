"""Read the marks of views with windows: up to when all their events are applied.

Without a mark, the windows of a view whose worker has stopped would empty and look true. So the mark is
read in the same round trip, and windows under a mark that is too old, or missing, are stale. So are
those that begin before a reset, which the mark remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.lower.read import Cell, Stale, StaleAbsence, group_offsets
from featurekit.plan import AggregatePlan, ReadPlan
from featurekit.wire import ErrorReply, Reply, command

MarkSilent = Callable[[list[Cell], Sequence[Sequence[Reply]], int], bool]
"""Takes the cells of a row, the replies for each mark, and the current time in ms; marks the stale windows
in place and returns whether there were any."""

MAX_AHEAD_MS = 60_000
"""How far ahead of the reader's clock a mark may be. A later one, of a clock that is wrong, would hide a
worker that stopped."""

EMPTIED = b"after:"
"""What precedes, in a mark, the time at which a reset emptied the windows."""

_MAX_LENGTH = len(EMPTIED) + 13
"""The most bytes of a value."""


def mark_requests(plan: ReadPlan, replies_per_request: int) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of a plan's marks, and the request for each.

    A request has as many replies as that of an entity; the last one has the times of the mark.
    """
    keys = [mark.key for mark in plan.marks]
    others = replies_per_request - 1
    return keys, [command(b"PTTL", key) * others + command(b"HVALS", key) for key in keys]


def mark_times_ms(reply: Reply) -> tuple[list[int], int]:
    """Return the times of a mark from the values of its hash, and when the windows were emptied, else 0.

    There are no times if one of the values is something else.
    """
    times, emptied_ms = [], 0
    for value in reply if isinstance(reply, list) else ():
        if not isinstance(value, bytes) or len(value) > _MAX_LENGTH:
            return [], 0
        if value.isdigit():
            times.append(int(value))
        elif value.startswith(EMPTIED) and value[len(EMPTIED) :].isdigit():
            emptied_ms = int(value[len(EMPTIED) :])
        else:
            return [], 0
    return times, emptied_ms


def silent_marker(plan: ReadPlan) -> MarkSilent | None:
    """Return the function that marks the windows under old marks; `None` without marks.

    If the server cannot return a mark, its error replaces the values under it.
    """
    offsets = group_offsets(plan)
    views = [mark.view for mark in plan.marks]
    limits = [
        (
            *(views.index(column.view), offsets[column.group] + column.slot),
            *(column.max_mark_age_ms, column.field.aggregate),
        )
        for column in plan.stored
        if column.max_mark_age_ms is not None and column.field.aggregate and column.view in views
    ]
    if not limits:
        return None

    known: tuple[list[Reply], int, list[tuple[int, Reply]]] = ([], 0, [])

    def mark_silent(cells: list[Cell], replies: Sequence[Sequence[Reply]], now_ms: int) -> bool:
        nonlocal known  # rows of one call share their marks
        last, last_ms, stale = known
        if last_ms != now_ms or not all(a is b[-1] for a, b in zip(last, replies, strict=True)):
            last = [each[-1] for each in replies]
            parsed = [mark_times_ms(reply) for reply in last]
            marks = [(min(times, default=None), emptied_ms) for times, emptied_ms in parsed]
            stale = [
                (index, last[mark])
                for mark, index, most_ms, aggregate in limits
                for time_ms, emptied_ms in [marks[mark]]
                if time_ms is None
                or not -MAX_AHEAD_MS <= now_ms - time_ms <= most_ms
                or window_start_ms(aggregate, now_ms) < emptied_ms
            ]
            known = last, now_ms, stale
        marked = False
        for index, reply in stale:
            marked |= _mark_cell(cells, index, reply)
        return marked

    return mark_silent


def window_start_ms(aggregate: AggregatePlan, now_ms: int) -> int:
    """Return the time of the first events of a window."""
    return now_ms // aggregate.tile_ms * aggregate.tile_ms - aggregate.window_ms


def _mark_cell(cells: list[Cell], index: int, reply: Reply) -> bool:
    cell = cells[index]
    if isinstance(cell, ErrorReply):
        return False
    if isinstance(reply, ErrorReply):
        cells[index] = reply
    else:
        cells[index] = StaleAbsence() if cell is None else Stale(cell)
    return True
