"""What reads at some moments could have returned, computed from the history of a batch view.

The value of an entity is that of the last load before the read: the row that was the newest when the load
started. A load writes for a while, may fail in between, and may take only a part of the rows. So
there can be several possible values, of which a correct store has one:

- that of each load which ran during the read;
- that of the last load before it; if that load was partial, also those of earlier ones, up to
  the last whole load;
- none, if all of these can have expired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from featurekit.plan import EVENT_TIMESTAMP, FieldPlan, ViewPlan
from featurekit.repo.history import LoadRecord
from featurekit.repo.key_samples import SampledKey
from featurekit.training.verify import ABSENT, Served
from featurekit.types.arrow import to_arrow

_US = 1000


@dataclass(frozen=True, slots=True)
class OnlineRows:
    """Rows of one entity, read in one call.

    Attributes:
        keys: The keys that were read.
        values: For each feature, as (view, field), its values.
        before_ms: The server's time before the read.
        after_ms: The server's time after the read.
    """

    keys: Sequence[SampledKey]
    values: Mapping[tuple[str, str], Sequence[Served]]
    before_ms: int
    after_ms: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment whose rows a read could have returned.

    Attributes:
        at_us: The moment, in microseconds since the epoch.
        load: The load that took these rows; `None` if a load is assumed at every instant.
    """

    at_us: int
    load: LoadRecord | None = None


class KeyLife(NamedTuple):
    """What a load of the view that owns the TTL of keys does to a key.

    Attributes:
        renewed_ms: The latest time at which it wrote the key.
        ends_ms: The earliest time at which the key then expires.
    """

    renewed_ms: int
    ends_ms: int


def key_lives(owner: ViewPlan, loads: Sequence[LoadRecord]) -> list[KeyLife]:
    """Return the lives of the keys of a view, oldest first; `loads` has the newest first."""
    return [
        KeyLife(load.ended_ms, load.started_ms + (load.ttl_ms or owner.ttl_ms))
        for load in reversed(loads)
        if not load.error
    ]


def loads_moments(loads: Sequence[LoadRecord], rows: OnlineRows) -> list[Moment]:
    """Return the moments of the loads whose rows the store can have; `loads` has the newest first."""
    return [
        moment
        for load in last_loads(loads, rows)
        if not is_foreign(load)
        for moment in _moments_of(load)
    ]


def last_loads(loads: Sequence[LoadRecord], rows: OnlineRows) -> Iterator[LoadRecord]:
    """Yield the loads that wrote what a read returned, back to one that wrote all entities."""
    for load in loads:
        if load.started_ms <= rows.after_ms:
            yield load
            if load.ended_ms < rows.before_ms and _is_whole(load):
                return


def is_foreign(load: LoadRecord) -> bool:
    """Return whether a load wrote rows that are not from the source of its view."""
    return bool(load.fingerprint and load.rows_written and not load.source_identity)


def _moments_of(load: LoadRecord) -> Iterator[Moment]:
    # Rows of the future are those after the start, but rows are read some time later.
    for ms in dict.fromkeys((load.started_ms, max(load.started_ms, load.scanned_ms))):
        end_us = (ms + 1) * _US
        if load.window_end_ms is not None:
            end_us = min(end_us, load.window_end_ms * _US)
        yield Moment(end_us - 1, load)


def instant_moments(rows: OnlineRows, loads: Sequence[LoadRecord]) -> list[Moment]:
    """Return the moments of a read, and the ends of loads during it, which may have written already."""
    ends = [load.ended_ms for load in loads if load.started_ms <= rows.after_ms <= load.ended_ms]
    times_ms = dict.fromkeys((rows.before_ms, rows.after_ms, *ends))
    return [Moment(ms * _US) for ms in times_ms]


def _is_whole(load: LoadRecord) -> bool:
    """Return whether a load wrote the newest row of each entity."""
    is_part = load.window_start_ms is not None or load.missing_only or is_foreign(load)
    is_part |= load.corrects_ms is not None
    return not (load.error or is_part or load.rows_kept or load.rows_rejected)


def labels_at(view: ViewPlan, parts: Sequence[tuple[OnlineRows, Sequence[Moment]]]) -> Any:
    """Return a table with a label for each moment of each row."""
    labels = {}
    pairs = [(key, moment) for rows, moments in parts for key in rows.keys for moment in moments]
    for i, join_key in enumerate(view.key.join_keys):
        labels[join_key.name] = to_arrow(join_key.dtype, [key.entity[i] for key, _ in pairs])
    times = pa.array([moment.at_us for _, moment in pairs], pa.int64())
    return pa.table({**labels, EVENT_TIMESTAMP: times.cast(pa.timestamp("us", "UTC"))})


def possible_values(
    view: ViewPlan,
    parts: Sequence[tuple[OnlineRows, Sequence[Moment]]],
    table: Any,
    key_lives: Sequence[KeyLife],
) -> dict[str, list[list[Served]]]:
    """Return for each field and each row of all parts the values that a read could have returned.

    Args:
        view: The view, with the fields that were read.
        parts: Rows with the moments that were computed.
        table: The training set of `labels_at`, with statuses and full names.
        key_lives: The lives of keys, whose ends take the values along; empty if the view owns them.
    """
    result: dict[str, list[list[Served]]] = {}
    for field in view.fields:
        name = f"{view.name}__{field.name}"
        pairs = zip(table[name].to_pylist(), table[f"{name}__status"].to_pylist(), strict=True)
        computed = (Served.of(value, status) for value, status in pairs)
        result[field.name] = [
            possible
            for rows, moments in parts
            for possible in _possible(
                rows,
                computed,
                [_life(view, field, rows, moment, key_lives) for moment in moments],
            )
        ]
    return result


def _possible(
    rows: OnlineRows, computed: Iterator[Served], lives: Sequence[tuple[bool, bool]]
) -> Iterator[list[Served]]:
    """Yield the possible values of each row, given those of its moments one after another."""
    can_be_absent = all(can_expire for _, can_expire in lives)
    for _ in rows.keys:
        values = islice(computed, len(lives))
        possible = [v for v, (can_live, _) in zip(values, lives, strict=True) if can_live]
        yield [*possible, *([ABSENT] if can_be_absent else [])]


def _life(
    view: ViewPlan,
    field: FieldPlan,
    rows: OnlineRows,
    moment: Moment,
    key_lives: Sequence[KeyLife],
) -> tuple[bool, bool]:
    """Return whether a value of a load can be there during a read, and whether it can be absent."""
    load, ttl_ms = moment.load, field.ttl_ms or view.ttl_ms
    if load is None:
        written_ms, can_live, can_expire = rows.before_ms - ttl_ms, True, False
    else:
        ttl_ms = load.ttl_ms or ttl_ms
        written_ms = load.started_ms
        can_live = rows.before_ms <= load.ended_ms + ttl_ms
        # Until it ends, a load may not have written an entity yet; a load of a part may never do so.
        is_sure = _is_whole(load) and load.ended_ms < rows.before_ms
        can_expire = not is_sure or rows.after_ms > load.started_ms + ttl_ms
    return can_live, can_expire or _key_can_end(key_lives, written_ms, rows.after_ms)


def _key_can_end(lives: Sequence[KeyLife], start_ms: int, end_ms: int) -> bool:
    """Return whether a key can have expired within a time, because it was renewed too late."""
    renewals = [*(life.renewed_ms for life in lives[1:]), end_ms]
    return any(
        start_ms <= life.ends_ms < min(renewed_ms, end_ms)
        for life, renewed_ms in zip(lives, renewals, strict=False)
    )
