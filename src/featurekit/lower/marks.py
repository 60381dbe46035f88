"""Read the marks of views with windows: up to when all their events are applied.

Without a mark, the windows of a view whose worker has stopped would empty and look true. So the mark is
read in the same round trip, and windows under a mark that is too old, or missing, are stale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.lower.read import Cell, Stale, StaleAbsence, group_offsets
from featurekit.plan import ReadPlan
from featurekit.wire import ErrorReply, Reply, command

MarkSilent = Callable[[list[Cell], Sequence[Sequence[Reply]], int], bool]
"""Takes the cells of a row, the replies for each mark, and the current time in ms; marks the stale windows
in place and returns whether there were any."""

MAX_AHEAD_MS = 60_000
"""How far ahead of the reader's clock a mark may be. A later one, of a clock that is wrong, would hide a
worker that stopped."""

_MAX_DIGITS = 15
"""The most digits of a time."""


def mark_requests(plan: ReadPlan, replies_per_request: int) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of a plan's marks, and the request for each.

    A request has as many replies as that of an entity; the last one has the times of the mark.
    """
    keys = [mark.key for mark in plan.marks]
    others = replies_per_request - 1
    return keys, [command(b"PTTL", key) * others + command(b"HVALS", key) for key in keys]


def mark_time_ms(reply: Reply) -> int | None:
    """Return the time of a mark from the values of its hash; `None` if there is none."""
    if not isinstance(reply, list):
        return None
    times = [
        int(value)
        for value in reply
        if isinstance(value, bytes) and value.isdigit() and len(value) <= _MAX_DIGITS
    ]
    return min(times) if times and len(times) == len(reply) else None


def silent_marker(plan: ReadPlan) -> MarkSilent | None:
    """Return the function that marks the windows under old marks; `None` without marks.

    If the server cannot return a mark, its error replaces the values under it.
    """
    offsets = group_offsets(plan)
    views = [mark.view for mark in plan.marks]
    limits = [
        (views.index(column.view), offsets[column.group] + column.slot, column.max_mark_age_ms)
        for column in plan.stored
        if column.max_mark_age_ms is not None and column.view in views
    ]
    if not limits:
        return None

    known: tuple[list[Reply], int, list[tuple[int, Reply]]] = ([], 0, [])

    def mark_silent(cells: list[Cell], replies: Sequence[Sequence[Reply]], now_ms: int) -> bool:
        nonlocal known  # rows of one call share their marks
        last, last_ms, stale = known
        if last_ms != now_ms or not all(a is b[-1] for a, b in zip(last, replies, strict=True)):
            last = [each[-1] for each in replies]
            times = [mark_time_ms(reply) for reply in last]
            stale = [
                (index, last[mark])
                for mark, index, most_ms in limits
                if (time_ms := times[mark]) is None
                or not -MAX_AHEAD_MS <= now_ms - time_ms <= most_ms
            ]
            known = last, now_ms, stale
        marked = False
        for index, reply in stale:
            marked |= _mark_cell(cells, index, reply)
        return marked

    return mark_silent


def _mark_cell(cells: list[Cell], index: int, reply: Reply) -> bool:
    cell = cells[index]
    if isinstance(cell, ErrorReply):
        return False
    if isinstance(reply, ErrorReply):
        cells[index] = reply
    else:
        cells[index] = StaleAbsence() if cell is None else Stale(cell)
    return True
