"""Ages: which values of a row are older than their read allows.

The age of a value is the TTL that it was written with less the TTL that it has left. So a bound on
the age is a bound on what is left, and that was compiled. TTLs are asked for before the values: if
a value is written in between, it is taken for older than it is and never for younger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.lower.read import Cell, GroupReader, Stale, group_offsets
from featurekit.plan import ReadPlan
from featurekit.wire import ErrorReply, Reply

Mark = Callable[[list[Cell], Sequence[Sequence[Reply]]], bool]
"""Takes a row's cells, and for each group what came before them; marks them in place, and tells
whether there was anything to mark."""


def stale_marker(plan: ReadPlan, groups: Sequence[GroupReader]) -> Mark | None:
    """The function that marks the values of a row that are too old; `None` if no age is bound.

    A value without any expiry cannot tell its age, so it is too old. Where the server does not
    tell TTLs, its error takes the place of the value.
    """
    if not (bounds := _bounds(plan, groups)):
        return None

    def mark(cells: list[Cell], told: Sequence[Sequence[Reply]]) -> bool:
        marked = False
        for group, reply, place, least_ms, ats in bounds:
            left = told[group][reply]
            if isinstance(left, list):
                left = left[place] if place < len(left) else None
            if not isinstance(left, int) or left < least_ms:
                for at in ats:
                    marked |= _spoil(cells, at, left)
        return marked

    return mark


def _bounds(
    plan: ReadPlan, groups: Sequence[GroupReader]
) -> list[tuple[int, int, int, int, list[int]]]:
    """What is to be looked at for each row.

    For each TTL: whose group, which of its replies, the place in that, what must be left, and the
    cells that this bounds: those of a field, or all that live as long as their key.
    """
    starts = group_offsets(plan)
    found: dict[tuple[int, int, int, int], list[int]] = {}
    for column in plan.columns:
        if column.min_remaining_ttl_ms is not None:
            ttls, name = groups[column.group].ttls, column.field.name
            reply, place = (0, ttls.index(name)) if column.field.ttl_ms else (-1, 0)
            bound = (column.group, reply, place, column.min_remaining_ttl_ms)
            found.setdefault(bound, []).append(starts[column.group] + column.slot)
    return [(*bound, ats) for bound, ats in found.items()]


def _spoil(cells: list[Cell], at: int, left: Reply) -> bool:
    """Mark a cell that has too little left, or whose TTL was not told; if there is a value in it."""
    cell = cells[at]
    if not isinstance(cell, bytes):
        return False
    cells[at] = left if isinstance(left, ErrorReply) else Stale(cell)
    return True
