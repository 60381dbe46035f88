"""Freshness: how long each value has to live, and how old the event behind it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.lower.read import GroupReader
from featurekit.plan import ReadColumn, ReadPlan
from featurekit.wire import Reply


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
    places = [(column.group, column.slot) for column in plan.columns]
    clocked = any(column.event_time_field for column in plan.columns)
    lives: list[tuple[float | None, ...]] = []
    ages: list[tuple[float | None, ...]] = [(None,) * len(places)] * count
    for row in range(count):
        triples = [group[row * 3 : row * 3 + 3] for group in replies]
        told = [
            _lives(triple, reader.fields) for triple, reader in zip(triples, groups, strict=True)
        ]
        lives.append(tuple([told[group][slot] for group, slot in places]))
        if clocked:
            ages[row] = tuple(
                _age(triples[c.group][-1], groups[c.group], c, now_ms) for c in plan.columns
            )
    return Freshness(lives, ages)


def _lives(triple: Sequence[Any], fields: int) -> list[float | None]:
    """Seconds until each value goes, by its own TTL or the key's, whichever ends first."""
    field_ttls, key_ttl, values = triple
    if not isinstance(values, list):
        return [None] * fields
    key_s = _seconds(key_ttl) if isinstance(key_ttl, int) else math.inf
    if not isinstance(field_ttls, list) or len(field_ttls) != len(values):
        return [None if value is None else key_s for value in values]
    pairs = zip(values, field_ttls, strict=True)
    return [
        None if value is None else key_s if ttl == -1 else min(key_s, _seconds(ttl))
        for value, ttl in pairs
    ]


def _seconds(ttl_ms: int) -> float:
    """A TTL in seconds. Of a value that was written only just now there may be none: -2."""
    return math.inf if ttl_ms == -1 else max(0, ttl_ms) / 1000


def _age(values: Any, group: GroupReader, column: ReadColumn, now_ms: int) -> float | None:
    """Seconds since the newest event of the value's view, where the view keeps it."""
    if not column.event_time_field or not isinstance(values, list):
        return None
    clock = values[group.fields + group.clocks.index(column.event_time_field)]
    if values[column.slot] is None or not isinstance(clock, bytes) or not clock.isdigit():
        return None
    return (now_ms - int(clock)) / 1000
