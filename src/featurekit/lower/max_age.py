"""Mark the values of a row that are older than the read allows.

A value's age is the TTL it was written with minus its remaining TTL, so a limit on the age is a
limit on the remaining TTL, and the compiler computes that. A request asks for TTLs before values:
if a value is written between the two, it looks older than it is, never younger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.lower.read import Cell, GroupReader, Stale, group_offsets
from featurekit.plan import ReadPlan
from featurekit.wire import ErrorReply, Reply

MarkStale = Callable[[list[Cell], Sequence[Sequence[Reply]]], bool]
"""Takes the cells of a row and, for each group, the replies before them; marks stale cells in place
and returns whether there were any."""

_Limit = tuple[int, int, int, int, list[int]]
"""A limit on one remaining TTL: its group, the index of its reply, its index in that reply, the least
TTL in ms, and the cells that it applies to."""


def stale_marker(plan: ReadPlan, groups: Sequence[GroupReader]) -> MarkStale | None:
    """Return the function that marks the stale values of a row; `None` if no age is limited.

    A value without a TTL has no known age and counts as stale. If the server refuses a key, its
    error replaces the value.
    """
    if not (limits := _ttl_limits(plan, groups)):
        return None

    def mark_stale(cells: list[Cell], ttl_replies: Sequence[Sequence[Reply]]) -> bool:
        marked = False
        for group, reply, position, least_ms, indices in limits:
            ttl_ms = ttl_replies[group][reply]
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
    for column in plan.columns:
        if column.min_remaining_ttl_ms is not None:
            fields, name = groups[column.group].ttl_fields, column.field.name
            reply, position = (0, fields.index(name)) if column.field.ttl_ms else (-1, 0)
            limit = (column.group, reply, position, column.min_remaining_ttl_ms)
            limits.setdefault(limit, []).append(offsets[column.group] + column.slot)
    return [(*limit, indices) for limit, indices in limits.items()]


def _mark_cell(cells: list[Cell], index: int, ttl_ms: Reply) -> bool:
    """Mark a cell that holds a value, whose TTL is too short or unknown."""
    cell = cells[index]
    if not isinstance(cell, bytes):
        return False
    cells[index] = ttl_ms if isinstance(ttl_ms, ErrorReply) else Stale(cell)
    return True
