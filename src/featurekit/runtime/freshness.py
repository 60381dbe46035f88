"""Freshness: how long each value has to live, and how old the event behind it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.lower.read import GroupReader
from featurekit.plan import ReadColumn, ReadPlan
from featurekit.wire import Reply

_GONE = -2
"""The TTL of what was not there: its value was written between two commands of the read."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """For each row, for each feature: seconds to live, and seconds since its event."""

    lives: list[tuple[float | None, ...]]
    ages: list[tuple[float | None, ...]]


def measure(
    plan: ReadPlan, groups: Sequence[GroupReader], replies: Sequence[list[Reply]], now_ms: int
) -> Freshness:
    """Take freshness from replies to `HPTTL`, `PTTL` and `HMGET`, three for each request."""
    count = len(replies[0]) // 3 if replies else 0
    lives, ages = [], []
    for row in range(count):
        triples = [group[row * 3 : row * 3 + 3] for group in replies]
        lives.append(tuple(_life(triples[c.group], c) for c in plan.columns))
        ages.append(
            tuple(_age(triples[c.group], groups[c.group], c, now_ms) for c in plan.columns)
        )
    return Freshness(lives, ages)


def _life(triple: Sequence[Any], column: ReadColumn) -> float | None:
    """Seconds until the value goes, by its own TTL or the key's, whichever ends first."""
    field_ttls, key_ttl, values = triple
    if not isinstance(values, list) or values[column.slot] is None:
        return None
    ttls = [key_ttl] if isinstance(key_ttl, int) else []
    if isinstance(field_ttls, list) and column.slot < len(field_ttls):
        ttls.append(field_ttls[column.slot])
    if _GONE in ttls:
        return 0.0
    return min((ttl / 1000 for ttl in ttls if ttl >= 0), default=math.inf)


def _age(
    triple: Sequence[Any], group: GroupReader, column: ReadColumn, now_ms: int
) -> float | None:
    """Seconds since the newest event of the value's view, where the view keeps it."""
    values = triple[-1]
    if not column.clock_field or not isinstance(values, list):
        return None
    clock = values[group.fields + group.clocks.index(column.clock_field)]
    if values[column.slot] is None or not isinstance(clock, bytes) or not clock.isdigit():
        return None
    return (now_ms - int(clock)) / 1000
