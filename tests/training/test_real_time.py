"""What a real server serves, with loads, events and expiry in real time, and what histories say of it.

A load is written at some moment between its start and its end, an event between two looks at the
clock, and so is a read. So the history is computed with all loads and events early and with all
late, also with TTLs that are longer and shorter by the longest load, and then with each load and
each event at a random moment of its own: a value can depend on one that was early and one that was
late. A value is undecided where any two of these differ.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.history_ports import PastLoad
from featurekit.lower.columns import encode_ids
from featurekit.plan import ParquetSourcePlan, ViewPlan
from featurekit.repo.histories import Histories
from featurekit.repo.source_access import SourceAccess
from featurekit.training import stored_values
from tests.servers import Server
from tests.training.test_point_in_time import open_store

KEYS, SECONDS = 40, 8.0
FIELDS = ("a1", "a2", "b1", "b2", "s1", "s2")
YAML = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: a
    entity: user
    batch: {refresh: 100ms, ttl: 900ms, source: {type: parquet, path: a.parquet, timestamp_field: at}}
    fields: {a1: int64, a2: int64}
  - name: b
    entity: user
    batch: {refresh: 100ms, ttl: 1100ms, expires: field, source: {type: parquet, path: b.parquet, timestamp_field: at}}
    fields: {b1: {type: int64, ttl: 600ms}, b2: int64}
  - name: s
    entity: user
    stream: {refresh: 100ms, ttl: 2500ms, ordering: ORDERING, max_ahead: 1s}
    fields: {s1: {type: int64, ttl: 500ms}, s2: int64}
feature_services: [{name: all, features: [a, b, s]}]
"""


@dataclass(frozen=True)
class Sent:
    """An event, and the milliseconds before and after it was written."""

    key: int
    event_ms: int
    values: dict[str, int | None]
    before_ms: int
    after_ms: int


@dataclass(frozen=True)
class Seen:
    """What a read returned, and the milliseconds before and after it."""

    before_ms: int
    after_ms: int
    rows: list[dict[str, Any]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def write_rows(folder: Path, view: str, rng: random.Random, start_ms: int) -> None:
    span = int(SECONDS * 1000)
    lines = [
        (key, start_ms + rng.randrange(-span // 2, span), rng.randrange(99), rng.randrange(99))
        for key in range(KEYS)
        for _ in range(rng.randrange(1, 7))
    ]
    rng.shuffle(lines)
    keys, times, first, second = zip(*lines, strict=True)
    maybe = [None if rng.random() < 0.2 else value for value in second]
    columns = {
        "user_id": pa.array(keys, pa.int64()),
        "at": pa.array(times, pa.timestamp("ms", "UTC")),
        f"{view}1": pa.array(first, pa.int64()),
        f"{view}2": pa.array(maybe, pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / f"{view}.parquet")


def run(store: FeatureStore, rng: random.Random) -> tuple[list[Sent], list[Seen]]:
    """Load, write events and read at random until the time is over."""
    reader, writer = store.online_reader("all"), store.stream_writer("s")
    sent: list[Sent] = []
    seen: list[Seen] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        action = rng.random()
        if action < 0.2:
            start = None if rng.random() < 0.5 else now_ms() - rng.choice([500, 1500])
            moment = None if start is None else pa.scalar(start, pa.timestamp("ms", "UTC")).as_py()
            store.materialize([rng.choice("ab")], start=moment)
        elif action < 0.6:
            for _ in range(5):
                names = rng.choice([["s1"], ["s2"], ["s1", "s2"]])
                values = {n: None if rng.random() < 0.2 else rng.randrange(99) for n in names}
                key, lag = rng.randrange(KEYS), rng.choice([0, 0, 100, 700, 2600])
                before = now_ms()
                writer.write(key, values, event_timestamp=before - lag)
                sent.append(Sent(key, before - lag, values, before, now_ms()))
        else:
            time.sleep(rng.choice([0.0, 0.02, 0.1, 0.3]))  # for values to expire
        before = now_ms()
        rows = [
            {n: v for n, v in row.to_dict().items() if row.statuses[n] == "present"}
            for row in reader.read_many(range(KEYS))
        ]
        seen.append(Seen(before, now_ms(), rows))
    return sent, seen


@dataclass(frozen=True)
class Case:
    """When loads and events were written in their spans, and how much longer TTLs were.

    Attributes:
        loads: 0 for the start of the span, 1 for its end, `None` for a random moment of each load.
        events: The same, of events.
        longer_ms: How much longer TTLs were.
        seed: Of the random moments.
    """

    loads: int | None
    events: int | None
    longer_ms: int
    seed: int = 0

    def moments(self, spans: Sequence[tuple[int, int]], of: str) -> list[int]:
        """Return a moment in each span."""
        rng, at = random.Random(f"{self.seed} {of}"), self.events if of == "s" else self.loads
        moments = [
            rng.choice([first, last, rng.randint(first, last)])
            if at is None
            else (first, last)[at]
            for first, last in spans
        ]
        if of == "s":  # one writer sent them one after the other
            for i in range(1, len(moments)):
                moments[i] = max(moments[i], moments[i - 1])
        return moments


def cases(store: FeatureStore) -> list[Case]:
    longest = max(record.ended_ms - record.started_ms for record in store.load_history()) + 1
    ends = [(0, 0), (1, 0), (0, longest), (1, -longest)]
    fixed = [Case(loads, events, longer) for loads, longer in ends for events in (0, 1)]
    rng = random.Random(0)
    return fixed + [
        Case(None, None, rng.choice([-longest, 0, 0, longest]), seed) for seed in range(24)
    ]


def write_log(folder: Path, sent: Sequence[Sent], case: Case) -> ParquetSourcePlan:
    arrivals = case.moments([(event.before_ms, event.after_ms) for event in sent], "s")
    columns = {
        "user_id": pa.array([event.key for event in sent], pa.int64()),
        "at": pa.array([event.event_ms for event in sent], pa.timestamp("ms", "UTC")),
        "arrived": pa.array(arrivals, pa.timestamp("ms", "UTC")),
        "sent": pa.array([list(event.values) for event in sent], pa.list_(pa.string())),
        **{n: pa.array([event.values.get(n) for event in sent], pa.int64()) for n in ("s1", "s2")},
    }
    pq.write_table(pa.table(columns), folder / "log.parquet")
    return ParquetSourcePlan(
        paths=("log.parquet",),
        timestamp_field="at",
        created_timestamp_field="arrived",
        sent_fields_column="sent",
    )


def past_loads(store: FeatureStore, view: ViewPlan, case: Case) -> list[PastLoad]:
    records = [record for record in store.load_history(view.name) if view.kind == "batch"]
    written = case.moments([(record.scanned_ms, record.ended_ms) for record in records], view.name)
    return [
        PastLoad(record.scanned_ms, written_ms, record.window_start_ms, record.end_ms)
        for record, written_ms in zip(records, written, strict=True)
    ]


def with_longer_ttls(view: ViewPlan, longer_ms: int) -> ViewPlan:
    fields = [
        replace(f, ttl_ms=max(1, f.ttl_ms + longer_ms)) if f.ttl_ms else f for f in view.fields
    ]
    return replace(view, ttl_ms=max(1, view.ttl_ms + longer_ms), fields=tuple(fields))


def computed(
    store: FeatureStore, folder: Path, sent: Sequence[Sent], moments: Any, case: Case
) -> dict[str, list[Any]]:
    """Return the values of all fields."""
    repo = store.compiled
    log = write_log(folder, sent, case)
    views = [
        replace(v, history=log) if v.kind == "stream" else with_longer_ttls(v, case.longer_ms)
        for v in repo.views
    ]
    histories = Histories(
        replace(repo, views=tuple(views)),
        SourceAccess(None, allow_sources=True),
        folder,
        "loads",
        lambda view: past_loads(store, view, case),
    )
    found: dict[str, list[Any]] = {}
    for view in views:
        stored = stored_values(view, histories.rows_at(view, moments))
        found |= pa.Table.from_batches(stored.batches).to_pydict()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ordering", ["arrival", "event_time"])
def test_histories_equal_a_real_server(tmp_path: Path, valkey: Server, ordering: str) -> None:
    rng = random.Random(ordering)
    for view in "ab":
        write_rows(tmp_path, view, rng, now_ms())
    with open_store(tmp_path, YAML.replace("ORDERING", ordering), valkey.url) as store:
        sent, seen = run(store, rng)
        reads = [
            (ms, key)
            for read in seen
            for ms in (read.before_ms, read.after_ms + 1)
            for key in range(KEYS)
        ]
        keys = encode_ids(
            store.compiled.view("a"), "native", pa.table({"user_id": [k for _, k in reads]})
        )
        moments = pa.table(
            {
                "rid": pa.array(range(len(reads)), pa.int64()),
                "k": keys.keys,
                "at": pa.array([ms * 1000 for ms, _ in reads], pa.int64()),
            }
        )
        answers = [computed(store, tmp_path, sent, moments, case) for case in cases(store)]
    decided = 0
    for i, read in enumerate(seen):
        for key, row in enumerate(read.rows):
            for name in FIELDS:
                first = 2 * i * KEYS + key
                possible = {answer[name][at] for answer in answers for at in (first, first + KEYS)}
                decided += len(possible) == 1
                value = row.get(name)
                got = None if value is None else str(value).encode()
                assert len(possible) > 1 or got in possible, (
                    name,
                    key,
                    read.before_ms,
                    got,
                    possible,
                )
    assert decided > len(seen) * KEYS * len(FIELDS) / 3
