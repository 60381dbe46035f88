"""What serving would have returned: entities replayed load by load.

A load runs at each tick, and writes the newest row of an entity by (time, created, n) among those
that are known by then. Null deletes. A load renews the TTL of what it writes; a value is served up to
and including its deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of a source; `n` is its place there."""

    time: int
    created: int | None
    n: int
    values: Mapping[str, object]

    def known(self, *, by_created: bool) -> int:
        return max(self.time, self.created or 0) if by_created else self.time

    @property
    def age(self) -> tuple[int, int, int]:
        return self.time, -1 if self.created is None else self.created, self.n


def served(
    rows: Iterable[Row], ttl: int, ticks: int, *, by_created: bool
) -> list[dict[str, object]]:
    """Return what a read at each tick gets, after the load of that tick."""
    rows = list(rows)
    stored: dict[str, object] = {}
    deadline = -1
    answers = []
    for now in range(ticks):
        if now > deadline:
            stored = {}
        seen = [row for row in rows if row.known(by_created=by_created) <= now]
        if seen:
            newest = max(seen, key=lambda row: row.age)
            stored = {name: v for name, v in newest.values.items() if v is not None}
            deadline = now + ttl
        answers.append(stored)
    return answers
