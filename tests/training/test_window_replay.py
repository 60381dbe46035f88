"""Windows of training sets equal those that a real server has after the same events."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.lower.read import ROW_ERRORS
from featurekit.lower.windows import fold_function
from featurekit.plan import ParquetSourcePlan, ViewPlan
from featurekit.runtime.window_writer import WriteAttempt
from featurekit.runtime.writer import StreamWriter
from tests.conftest import KINDS
from tests.servers import Server
from tests.training.test_windows import TIME, read
from tests.windows.simulation import (
    FEATURES,
    HOUR,
    INPUTS,
    MINUTE,
    Handle,
    Sent,
    from_stored,
    is_close,
    positioned,
    random_log,
    windowed_view,
)

ARROW = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string()}


def write_history(folder: Path, events: list[tuple[str, int, Sent]]) -> ParquetSourcePlan:
    """Write events with their users and when they were applied."""
    columns: dict[str, Any] = {
        "user_id": pa.array([user for user, _, _ in events], pa.string()),
        "at": pa.array([each.time_ms * 1000 for _, _, each in events], TIME),
        "arrived": pa.array([at_ms * 1000 for _, at_ms, _ in events], TIME),
        "tx_id": pa.array([str(each.offset) for _, _, each in events], pa.string()),
    }
    for name, kind in INPUTS.items():
        values = [each.values.get(name) for _, _, each in events]
        columns[name] = pa.array(values, ARROW[kind])
    pq.write_table(pa.table(columns), folder / "tx.parquet")
    return ParquetSourcePlan(
        paths=("tx.parquet",), timestamp_field="at", created_timestamp_field="arrived"
    )


@pytest.mark.parametrize(
    "server",
    [kind if kind == "valkey" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
    indirect=True,
)
def test_windows_equal_those_of_a_server_that_had_the_same_events(
    server: Server, tmp_path: Path
) -> None:
    handle = Handle(server.url)
    view = windowed_view("event_id")
    writer = StreamWriter(view, handle)
    applied: list[tuple[str, int, Sent]] = []
    reads: list[tuple[str, int, list[bytes | None]]] = []
    base_ms = int(time.time() * 1000) + HOUR
    for seed in range(4):
        rng, user = random.Random(seed), f"u{seed}"
        log = random_log(rng, base_ms, rng.randint(1, 80))
        steps = [(each.arrived_ms, [each]) for each in log]
        for _ in range(8):
            later = rng.choice([0, 1, MINUTE, rng.randint(1, HOUR), rng.randint(1, 5 * HOUR)])
            steps.append((rng.choice(log).arrived_ms + later, []))
        for now_ms, batch in sorted(steps, key=lambda step: (step[0], not step[1])):
            handle.clock_ms = now_ms
            if not batch:
                key = f"fs:user:{user}"
                data: Any = handle.store.call("HMGET", key, *FEATURES, key=key)
                reads.append((user, now_ms, data))
                continue
            again = log[: batch[0].offset][-3:] if rng.random() < 0.3 else []
            for each in (*batch, *again):
                values = each.values | {"tx_id": str(each.offset)}
                event = positioned(user, replace(each, values=values), None)
                writer.write_read([event], WriteAttempt(is_repeated=False))
                applied.append((user, now_ms, each))
    handle.close()
    random.Random(0).shuffle(applied)
    view = replace(view, history=write_history(tmp_path, applied))
    # A read sees what happened in its millisecond, a label what happened before it.
    moments = [(user, now_ms * 1000 + 1) for user, now_ms, _ in reads]
    for (user, now_ms, data), row in zip(reads, read(tmp_path, view, moments), strict=True):
        for name, stored, got in zip(FEATURES, data, row, strict=True):
            wanted = from_stored(name, stored, now_ms)
            is_count = FEATURES[name][1] in ("count", "count_distinct")
            value = 0 if got is None and is_count else got
            assert is_close(name, value, wanted), (user, now_ms, name, value, wanted)


HUGE = [
    [1e16, 1.0, -1e16],
    [1.0, 1e16, -1e16, 3.0],
    [0.1, 0.2, -0.3],
    [2.0**53, 1.0, 1.0, -(2.0**53)],
    [1e308, 1e308, -1e308],
    [1e308, 5.0],
    [5.0, -5.0],
]


def test_sums_that_cancel_are_added_as_the_server_adds_them(
    valkey: Server, tmp_path: Path
) -> None:
    handle = Handle(valkey.url)
    features = {name: FEATURES[name] for name in ("sum_1h", "mean_1h", "count_24h")}
    features["points_mean_1h"] = ("float64", "mean", "points", HOUR, 5 * MINUTE)
    view = windowed_view("event_id", features)
    writer = StreamWriter(view, handle)
    base_ms = int(time.time() * 1000) // HOUR * HOUR + HOUR
    rng, applied, users = random.Random(5), [], list[str]()
    for tile_ms in (0, 5 * MINUTE):  # all in one tile, or in several
        for amounts in [
            *HUGE,
            *([rng.choice([1e17, -1e17, 1.5, -0.25]) for _ in range(9)] for _ in range(20)),
        ]:
            users.append(f"u{len(users)}")
            for number, amount in enumerate(amounts):
                now_ms = base_ms + number * (1 + tile_ms)
                points = int(max(-(2**62), min(2**62, amount)))
                values = {"amount": amount, "points": points, "tx_id": str(number)}
                event = Sent(now_ms, now_ms, values, number)
                handle.clock_ms = now_ms
                assert writer.write_read(
                    [positioned(users[-1], event, None)], WriteAttempt()
                ).written
                applied.append((users[-1], now_ms, event))
    at_ms = base_ms + 50 * MINUTE
    handle.clock_ms = at_ms
    served = []
    for user in users:
        key = f"fs:user:{user}"
        data: Any = handle.store.call("HMGET", key, *features, key=key)
        served.append([_folded(view, n, d, at_ms) for n, d in zip(features, data, strict=True)])
    handle.close()
    random.Random(0).shuffle(applied)
    view = replace(view, history=write_history(tmp_path, applied))
    trained = read(tmp_path, view, [(user, at_ms * 1000 + 1) for user in users])
    for wanted, got in zip(served, trained, strict=True):
        assert got == pytest.approx(wanted, rel=1e-9, abs=0, nan_ok=True)
    assert served[0][0] == 0.0
    assert served[2][0] == 0.1 + 0.2 - 0.3


def _folded(view: ViewPlan, name: str, data: bytes | None, now_ms: int) -> Any:
    try:
        return fold_function(view.field(name))(data, now_ms)
    except ROW_ERRORS:
        return math.nan  # invalid
