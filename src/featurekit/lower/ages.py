"""Ages: which values of a row are older than their read allows.

The age of a value is the TTL that it was written with less the TTL that it has left. So a bound on
the age is a bound on what is left, and that was compiled. TTLs are asked for before the values: if
a value is written in between, it is taken for older than it is and never for younger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.lower.read import Cell, Stale, starts_of
from featurekit.plan import ReadPlan
from featurekit.wire import ErrorReply, Reply

Mark = Callable[[list[Cell], Sequence[Sequence[Reply]]], None]
"""Takes a row's cells, and for each group the replies to `HPTTL` and `PTTL`; marks in place."""

_GONE = -2
"""What `HPTTL` says of a field that is not there; one that never expires is told by -1."""


def mark_function(plan: ReadPlan) -> Mark:
    """The function that marks the values of a row that are too old.

    A value without any expiry cannot tell its age, so it is too old. Where the server does not
    tell TTLs, its error takes the place of the value.
    """
    starts = starts_of(plan)
    bounds = [
        (starts[c.group] + c.slot, c.group, c.slot if c.field.ttl_ms else None, c.least_ttl_ms)
        for c in plan.columns
        if c.least_ttl_ms is not None
    ]

    def mark(cells: list[Cell], told: Sequence[Sequence[Reply]]) -> None:
        for at, group, slot, least_ms in bounds:
            cell = cells[at]
            if isinstance(cell, bytes):
                left = _left(told[group], slot)
                if isinstance(left, ErrorReply):
                    cells[at] = left
                elif left < least_ms:
                    cells[at] = Stale(cell)

    return mark


def _left(told: Sequence[Reply], slot: int | None) -> int | ErrorReply:
    """What is left of a TTL: that of the field in a slot, or that of the key."""
    of_fields, of_key = told
    reply = of_key if slot is None else of_fields
    if isinstance(reply, list) and slot is not None:
        reply = reply[slot] if slot < len(reply) else _GONE
    return reply if isinstance(reply, int | ErrorReply) else _GONE
