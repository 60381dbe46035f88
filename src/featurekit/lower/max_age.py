"""Mark the values of a row that are older than the read allows.

A value's age is the TTL it was written with minus its remaining TTL, so a limit on the age is a
limit on the remaining TTL, and the compiler computes that. A request asks for TTLs before values:
if a value is written between the two, it looks older than it is, never younger.

The TTL of a batch view counts from the write. If such a view keeps event times, its values must also
not be older than that by their event time, which is read beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.lower.read import Cell, GroupReader, Stale, group_offsets
from featurekit.plan import ReadColumn, ReadPlan
from featurekit.wire import ErrorReply, Reply

MarkStale = Callable[[list[Cell], Sequence[Sequence[Reply]], int], bool]
"""Takes the cells of a row, the replies for each group, and the current time in ms; marks stale cells
in place and returns whether there were any."""

_Limit = tuple[int, int, int, int, list[int]]
"""A limit on one remaining TTL: its group, the index of its reply, its index in that reply, the least
TTL in ms, and the cells that it applies to. Or a limit on one event time, with the greatest age."""

_MAX_DIGITS = 15
"""The most digits of an event time."""


def stale_marker(plan: ReadPlan, groups: Sequence[GroupReader]) -> MarkStale | None:
    """Return the function that marks the stale values of a row; `None` if no age is limited.

    A value without a TTL has no known age and counts as stale. If the server refuses a key, its
    error replaces the value.
    """
    if not (limits := _ttl_limits(plan, groups)):
        return None
    age_limits = _age_limits(plan, groups)

    def mark_stale(cells: list[Cell], replies: Sequence[Sequence[Reply]], now_ms: int) -> bool:
        marked = bool(age_limits) and _mark_old(cells, replies, now_ms, age_limits)
        for group, reply, position, least_ms, indices in limits:
            ttl_ms = replies[group][reply]
            if isinstance(ttl_ms, list):
                ttl_ms = ttl_ms[position] if position < len(ttl_ms) else None
            if not isinstance(ttl_ms, int) or ttl_ms < least_ms:
                for index in indices:
                    marked |= _mark_cell(cells, index, ttl_ms)
        return marked

    return mark_stale


def _ttl_limits(plan: ReadPlan, groups: Sequence[GroupReader]) -> list[_Limit]:
    """Return one limit for each TTL: that of a field, or that of a key for all its fields."""
    offsets = group_offsets(plan)
    limits: dict[tuple[int, int, int, int], list[int]] = {}
    for column in plan.stored:
        if column.min_remaining_ttl_ms is not None:
            fields, name = groups[column.group].ttl_fields, column.field.name
            reply, position = (0, fields.index(name)) if column.field.ttl_ms else (-2, 0)
            limit = (column.group, reply, position, column.min_remaining_ttl_ms)
            limits.setdefault(limit, []).append(offsets[column.group] + column.slot)
    return [(*limit, indices) for limit, indices in limits.items()]


def _age_limits(plan: ReadPlan, groups: Sequence[GroupReader]) -> list[_Limit]:
    """Return one limit for each event time, which is a value of the last reply."""
    offsets = group_offsets(plan)
    limits: dict[tuple[int, int, int, int], list[int]] = {}
    for column in plan.stored:
        position = event_time_position(groups[column.group], column)
        if column.max_event_age_ms is not None and position is not None:
            limit = (column.group, -1, position, column.max_event_age_ms)
            limits.setdefault(limit, []).append(offsets[column.group] + column.slot)
    return [(*limit, indices) for limit, indices in limits.items()]


def event_time_position(group: GroupReader, column: ReadColumn) -> int | None:
    """Return where the values of a group have the event time of a column's view; `None` if nowhere."""
    name = column.event_time_field
    if name is None or name not in group.event_time_fields:
        return None
    return group.field_count + group.event_time_fields.index(name)


def event_time_ms(values: Reply, position: int) -> int | None:
    """Return the event time among the values of a hash; `None` if there is none, or it is damaged."""
    if not isinstance(values, list) or position >= len(values):
        return None
    time = values[position]
    if not isinstance(time, bytes) or not time.isdigit() or len(time) > _MAX_DIGITS:
        return None
    return int(time)


def _mark_old(
    cells: list[Cell], replies: Sequence[Sequence[Reply]], now_ms: int, limits: list[_Limit]
) -> bool:
    """Mark the values whose event time is stored and too long ago; return whether there were any."""
    marked = False
    for group, reply, position, most_ms, indices in limits:
        event_ms = event_time_ms(replies[group][reply], position)
        if event_ms is not None and now_ms - event_ms > most_ms:
            for index in indices:
                marked |= _mark_cell(cells, index, None)
    return marked


def _mark_cell(cells: list[Cell], index: int, ttl_ms: Reply) -> bool:
    """Mark a cell that holds a value, whose TTL is too short or unknown."""
    cell = cells[index]
    if not isinstance(cell, bytes):
        return False
    cells[index] = ttl_ms if isinstance(ttl_ms, ErrorReply) else Stale(cell)
    return True
