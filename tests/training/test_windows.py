"""Windows at past moments equal brute force over the events: late ones, repeated ones, expired keys."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import BadRowError, SourceError
from featurekit.expressions import FLOAT64, parse
from featurekit.history_ports import AsOf, HistoryQuery
from featurekit.lower.columns import encode_ids
from featurekit.plan import (
    AggregatePlan,
    FieldPlan,
    JsonlSourcePlan,
    ParquetSourcePlan,
    RepoPlan,
    SourcePlan,
    SqlSourcePlan,
    ViewPlan,
    WindowsPlan,
)
from featurekit.sources import open_source
from featurekit.training import stored_values
from featurekit.types import DType, codec_of
from featurekit.types.arrow import arrow_type
from tests.training.test_point_in_time import open_store

TIME = pa.timestamp("us", "UTC")
START = 1_743_292_795_000
END = 400
YAML = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - {name: s, entity: user, stream: {refresh: 1s}, fields: {s1: int64}}
"""
INPUTS = {"amount": "float64", "pieces": "int64", "shop": "string", "weight": "float32"}
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "count": ("", "amount", "shop"),
    "sum": ("amount", "pieces", "weight"),
    "min": ("amount", "pieces", "weight"),
    "max": ("amount", "pieces", "weight"),
    "mean": ("amount", "pieces", "weight"),
    "stddev": ("amount", "pieces", "weight"),
    "count_distinct": ("shop", "pieces", "amount"),
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> RepoPlan:
    with open_store(tmp_path_factory.mktemp("repo"), YAML) as store:
        return store.compiled


@dataclass(frozen=True)
class Event:
    """An event, in milliseconds since `START`; `number` is its place in the history."""

    user: int
    time: int | None
    arrival: int
    number: int
    id: str | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """The declarations of a world."""

    windows: tuple[AggregatePlan, ...]
    form: str
    has_time: bool
    has_arrival: bool
    has_id: bool
    max_ahead: int
    as_of: AsOf
    key_ends: Mapping[int, Sequence[int]]

    @property
    def by_arrival(self) -> bool:
        return self.has_arrival and self.as_of != "event_time"


def is_large(amount: float | None) -> bool | None:
    return None if amount is None else amount > 0


LARGE = parse("amount > 0", {"amount": FLOAT64})


def draw_world(rng: random.Random, as_of: AsOf) -> World:
    windows = []
    for _ in range(rng.randrange(1, 8)):
        function: Any = rng.choice(list(FUNCTIONS))
        tile = rng.choice([1, 5, 10, 17])
        windows.append(
            AggregatePlan(
                function=function,
                of=rng.choice(FUNCTIONS[function]) or None,
                window_ms=tile * rng.choice([2, 3, 6]),
                tile_ms=tile,
                where=rng.choice([None, None, LARGE]),
                is_zero_if_empty=True,
            )
        )
    has_time = rng.random() < 0.9
    has_arrival = not has_time or as_of == "created" or rng.random() < 0.7
    forms = ["parquet", "jsonl", "sql"]
    ends = {user: sorted(rng.sample(range(END), 3)) for user in range(2) if rng.random() < 0.3}
    return World(
        tuple(windows),
        rng.choice(forms),
        has_time,
        has_arrival,
        rng.random() < 0.4,
        rng.choice([3, 17, 300_000]),
        as_of,
        ends,
    )


def draw_events(rng: random.Random, users: int, *, has_time: bool) -> list[Event]:
    events = []
    shops = rng.choice([3, 200])
    for number in range(rng.choice([0, 5, 60, 60, 400])):
        time = rng.randrange(END)
        if rng.random() < 0.3:
            time -= time % 10
        delay = rng.choice([0, 0, 0, 1, 4, 15, 60, -1, -4])
        values = {
            "amount": rng.choice([None, 0.1, -5.0, -0.0, 0.0, round(rng.uniform(-9, 99), 2)]),
            "pieces": rng.choice([None, 0, rng.randrange(-9, 9), 2**40]),
            "shop": rng.choice([None, "", f"shop {rng.randrange(shops)}", "æ"]),
            "weight": rng.choice([None, 0.5, 0.1, 2.25]),
        }
        known = None if not has_time or rng.random() < 0.05 else time
        user = rng.randrange(users)
        event_id = rng.choice([None, f"e{rng.randrange(200)}"])
        events.append(Event(user, known, max(0, time + delay), number, event_id, values))
    return events


def hash_of(name: str, value: object) -> int:
    data = codec_of(DType(INPUTS[name])).encode(value).replace(b"-0", b"0", value == 0)
    return int(hashlib.sha1(data).hexdigest()[:12], 16)


def brute_force(
    window: AggregatePlan, events: Sequence[tuple[int, Mapping[str, Any]]], at_us: int
) -> float | int | None:
    """Return the value of a window over the times (in microseconds) and values of events."""
    tile, length = window.tile_ms * 1000, window.window_ms * 1000
    low = at_us // tile * tile - length
    inside = [values for time, values in events if low <= time < at_us]
    if window.where is not None:
        inside = [values for values in inside if is_large(values["amount"])]
    if window.of is None:
        return len(inside)
    found = [values[window.of] for values in inside if values[window.of] is not None]
    if window.function == "count":
        return len(found)
    if window.function == "count_distinct":
        hashes = sorted({hash_of(window.of, value) for value in found})
        return len(hashes) if len(hashes) < 64 else round(63 * 2**48 / (hashes[63] + 1))
    if not found or (window.function == "stddev" and len(found) < 2):
        return None
    mean = math.fsum(found) / len(found)
    of: dict[str, Callable[[], float]] = {
        "sum": lambda: sum(found) if isinstance(found[0], int) else math.fsum(found),
        "min": lambda: min(found),
        "max": lambda: max(found),
        "mean": lambda: mean,
        "stddev": lambda: math.sqrt(math.fsum((x - mean) ** 2 for x in found) / (len(found) - 1)),
    }
    return of[window.function]()


def arrival_of(world: World, event: Event) -> int:
    """Return when an event counts; -1 if that is not known."""
    known = [event.arrival, event.time] if world.by_arrival else [event.time, event.arrival]
    if not world.has_arrival:
        known = [event.time]
    return next((time for time in known if time is not None), -1)


def accepted(world: World, events: Sequence[Event], user: int) -> list[Event]:
    """Return the events of a user that a store accepts, with their arrival and time."""
    counted = [
        replace(event, arrival=arrived, time=arrived if event.time is None else event.time)
        for event in sorted(events, key=lambda e: (arrival_of(world, e), e.number))
        if event.user == user and (arrived := arrival_of(world, event)) >= 0
    ]
    return [e for e in counted if e.time is not None and e.time <= e.arrival + world.max_ahead]


def expected(
    world: World, events: Sequence[Event], user: int, at_us: int
) -> list[float | int | None]:
    """Return what each window of a user has at a moment."""
    visible: list[tuple[int, Mapping[str, Any]]] = []
    seen: set[tuple[int | None, str | None]] = set()
    for event in accepted(world, events, user):
        ends = (tick for tick in world.key_ends.get(user, ()) if event.arrival <= tick)
        end = next(ends, None)  # when the key takes the event along
        if world.has_id and (event.id is None or (end, event.id) in seen):
            continue
        seen.add((end, event.id))
        is_there = end is None or at_us // 1000 <= START + end
        if is_there and (START + event.arrival) * 1000 <= at_us:
            visible.append(((START + (event.time or 0)) * 1000, event.values))
    return [brute_force(window, visible, at_us) for window in world.windows]


def micros(ticks: Sequence[int | None]) -> Any:
    times = [None if tick is None else (START + tick) * 1000 for tick in ticks]
    return pa.array(times, TIME)


def write_events(folder: Path, world: World, events: Sequence[Event]) -> SourcePlan:
    used: dict[str, Any] = {
        "timestamp_field": "at" if world.has_time else None,
        "created_timestamp_field": "arrived" if world.has_arrival else None,
    }
    columns: dict[str, Any] = {
        "user_id": pa.array([event.user for event in events], pa.int64()),
        "at": micros([event.time for event in events]),
        "arrived": micros([event.arrival for event in events]),
        "id": pa.array([event.id for event in events], pa.string()),
    }
    for name, kind in INPUTS.items():
        type_ = {"float64": pa.float64(), "float32": pa.float32(), "int64": pa.int64()}
        values = [event.values[name] for event in events]
        columns[name] = pa.array(values, type_.get(kind, pa.string()))
    if world.form == "jsonl":
        with (folder / "s.jsonl").open("w") as file:
            for event in events:
                at = [
                    None if t is None else str(t.as_py())
                    for t in micros([event.time, event.arrival])
                ]
                line = {"user_id": event.user, "at": at[0], "arrived": at[1], "id": event.id}
                file.write(json.dumps(line | dict(event.values)) + "\n")
        return JsonlSourcePlan(paths=("s.jsonl",), absent="null", **used)
    pq.write_table(pa.table(columns), folder / "s.parquet", row_group_size=50)
    if world.form == "sql":
        return SqlSourcePlan(query="FROM 's.parquet'", **used)
    return ParquetSourcePlan(paths=("s.parquet",), **used)


def with_windows(view: ViewPlan, world: World, history: SourcePlan) -> ViewPlan:
    dtypes = {"count": "int64", "count_distinct": "int64", "mean": "float64", "stddev": "float64"}

    def dtype(window: AggregatePlan) -> DType:
        of = INPUTS.get(window.of or "", "")
        if window.function == "sum":
            return DType("int64" if of == "int64" else "float64")
        return DType(dtypes.get(window.function, of))

    fields = (
        FieldPlan(f"w{i}", dtype(window), aggregate=window)
        for i, window in enumerate(world.windows)
    )
    windows = WindowsPlan(
        inputs=tuple(FieldPlan(name, DType(kind)) for name, kind in INPUTS.items()),
        once="event_id" if world.has_id else "none",
        event_id="id" if world.has_id else None,
        max_mark_age_ms=5000,
    )
    return replace(
        view,
        fields=tuple(fields),
        windows=windows,
        history=history,
        max_ahead_ms=world.max_ahead,
    )


def encoded_keys(view: ViewPlan, users: Sequence[int | str]) -> Any:
    kind = arrow_type(view.key.join_keys[0].dtype)
    return encode_ids(view, "native", pa.table({"user_id": pa.array(users, kind)})).keys


def read(
    folder: Path,
    view: ViewPlan,
    at: Sequence[tuple[int | str, int]],
    as_of: AsOf | None = None,
    key_ends: Mapping[int, Sequence[int]] | None = None,
) -> list[list[Any]]:
    """Return the values of the fields of a view at moments of users."""
    moments = pa.table(
        {
            "rid": pa.array(range(len(at)), pa.int64()),
            "k": encoded_keys(view, [user for user, _ in at]),
            "at": pa.array([time for _, time in at], pa.int64()),
        }
    )
    ends = [(user, START + tick) for user, ticks in (key_ends or {}).items() for tick in ticks]
    ends_ms = pa.array([tick for _, tick in ends], pa.int64())
    of_keys = pa.table({"k": encoded_keys(view, [user for user, _ in ends]), "end_ms": ends_ms})
    assert view.history is not None
    history = open_source(view.history, folder)
    rows = history.rows_at(view, HistoryQuery(moments, as_of, key_ends=of_keys))
    found = stored_values(view, rows)
    table = pa.Table.from_batches(found.batches).to_pydict()
    codecs = [codec_of(field.dtype) for field in view.fields]
    columns = [
        [None if data is None else codec.decode(data) for data in table[field.name]]
        for field, codec in zip(view.fields, codecs, strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def is_same(window: AggregatePlan, got: Any, wanted: Any) -> bool:
    if got is None or wanted is None:
        return got is wanted
    is_exact = window.function in ("count", "count_distinct", "min", "max") or (
        window.function == "sum" and window.of == "pieces"
    )
    if window.of == "weight" and window.function in ("min", "max"):
        return math.isclose(got, wanted, rel_tol=1e-7)
    return got == wanted if is_exact else math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)


def check_world(folder: Path, repo: RepoPlan, seed: int, as_of: AsOf) -> None:
    rng = random.Random(seed)
    world, users = draw_world(rng, as_of), rng.choice([1, 3])
    events = draw_events(rng, users, has_time=world.has_time)
    view = with_windows(repo.view("s"), world, write_events(folder, world, events))
    at = [
        (
            rng.randrange(users),
            (START + rng.randrange(END + 60)) * 1000 + rng.choice([0, 0, 1, 999]),
        )
        for _ in range(rng.choice([1, 40, 80]))
    ]
    for moment, got in zip(at, read(folder, view, at, as_of, world.key_ends), strict=True):
        for window, a, b in zip(world.windows, got, expected(world, events, *moment), strict=True):
            assert is_same(window, a, b), (seed, as_of, moment, window, a, b)


@pytest.mark.parametrize("as_of", ["event_time", "created"])
def test_windows_of_a_random_history_equal_brute_force(
    tmp_path: Path, repo: RepoPlan, as_of: AsOf
) -> None:
    check_world(tmp_path, repo, 1, as_of)


@pytest.mark.slow
@pytest.mark.parametrize("as_of", ["event_time", "created"])
def test_windows_of_many_random_histories_equal_brute_force(
    tmp_path: Path, repo: RepoPlan, as_of: AsOf
) -> None:
    for seed in range(50):
        check_world(tmp_path, repo, seed, as_of)


VIEW = """
entities: [{{name: user, join_keys: {{user_id: string}}}}]
feature_views:
  - name: tx
    entity: user
    stream:
      refresh: 1m
      {stream}
      batch_source: {{type: parquet, path: tx.parquet, timestamp_field: at}}
    inputs: {{amount: float64, shop: string}}
    fields:
      count_5m: {{type: int64, aggregate: count, window: 5m, tile: 1m}}
      mean_5m: {{type: float64, aggregate: mean, of: amount, window: 5m, default: 0}}
      shops_5m: {{type: int64, aggregate: count_distinct, of: shop, window: 5m}}
      most_5m: {{type: float64, aggregate: max, of: amount, window: 5m}}
"""
WORKER = "source: {type: redis_stream, stream: tx}"
PUSHED = "once: {event_id: id}"


def write_transactions(folder: Path, amounts: Sequence[float | None]) -> None:
    """Write transactions of one user, two minutes apart, each of which came twice."""
    rows = [amount for amount in amounts for _ in range(2)]
    at = [START // 60_000 * 60_000 + i // 2 * 120_000 for i in range(len(rows))]
    table = {
        "user_id": ["u1"] * len(rows),
        "at": pa.array([time * 1000 for time in at], TIME),
        "id": [f"e{time}" for time in at],
        "amount": pa.array(rows, pa.float64()),
        "shop": ["a"] * len(rows),
    }
    pq.write_table(pa.table(table), folder / "tx.parquet")


def labels(*minutes: float) -> Any:
    start = START // 60_000 * 60
    times = [int((start + 60 * minute) * 1_000_000) for minute in minutes]
    return pa.table(
        {
            "user_id": ["u1"] * len(times),
            "event_timestamp": pa.array(times, TIME),
        }
    )


def test_an_empty_window_counts_zero_and_has_no_mean(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=WORKER)) as store:
        write_transactions(tmp_path, [1.5])
        job = store.get_historical_features(labels(0, 1, 30), ["tx"], statuses=True)
        rows = job.to_arrow().drop_columns(["user_id", "event_timestamp"]).to_pylist()
        assert [list(row.values())[:4] for row in rows] == [
            [0, 0.0, 0, None],
            [2, 1.5, 1, 1.5],
            [0, 0.0, 0, None],
        ]
        assert list(rows[0].values())[4:] == ["present", "default", "present", "missing"]
        assert list(rows[1].values())[4:] == ["present"] * 4
        assert "no value is stale" in job.metadata["views"][0]["marks"]


def test_a_repeated_event_counts_once_and_without_a_worker_zero_is_a_default(
    tmp_path: Path,
) -> None:
    with open_store(tmp_path, VIEW.format(stream=PUSHED)) as store:
        write_transactions(tmp_path, [1.5, 2.5, None])
        job = store.get_historical_features(labels(5, 30), ["tx"], statuses=True)
        rows = job.to_arrow().drop_columns(["user_id", "event_timestamp"]).to_pylist()
        assert [list(row.values())[:4] for row in rows] == [[3, 2.0, 1, 2.5], [0, 0.0, 0, None]]
        assert rows[0]["count_5m__status"] == "present"
        assert rows[1]["count_5m__status"] == rows[1]["shops_5m__status"] == "default"


def test_an_event_that_does_not_fit_is_refused_or_left_out(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=WORKER)) as store:
        write_transactions(tmp_path, [1.5, math.inf])
        with pytest.raises(
            BadRowError, match=r"row \d of its source, amount: inf is not finite\n"
        ):
            store.get_historical_features(labels(3), ["tx"]).to_arrow()
        job = store.get_historical_features(labels(3), ["tx"], on_bad_row="skip")
        assert job.to_arrow()["count_5m"].to_pylist() == [2]
        assert job.metadata["views"][0]["rows_rejected"] == 2


def test_a_history_without_an_input_or_an_id_names_it(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=PUSHED)) as store:
        write_transactions(tmp_path, [1.5])
        table = pq.read_table(tmp_path / "tx.parquet")
        pq.write_table(table.drop_columns(["id", "shop"]), tmp_path / "tx.parquet")
        with pytest.raises(
            SourceError, match=r"no column 'shop' \(field shop\), 'id' \(event_id\)"
        ):
            store.get_historical_features(labels(3), ["tx:count_5m"]).to_arrow()


def test_a_window_beyond_float64_is_invalid_as_in_a_read(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=WORKER)) as store:
        write_transactions(tmp_path, [1e308])
        job = store.get_historical_features(labels(1, 30), ["tx"], statuses=True)
        rows = job.to_arrow().to_pylist()
        assert [(row["mean_5m"], row["mean_5m__status"]) for row in rows] == [
            (None, "invalid"),
            (0.0, "default"),
        ]
        assert (rows[0]["most_5m"], rows[0]["count_5m"]) == (1e308, 2)
        [mean] = [each for each in job.metadata["features"] if each["name"].endswith("mean_5m")]
        assert mean["statuses"]["invalid"] == 1


def test_an_event_with_a_null_input_is_counted_but_not_averaged(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=WORKER)) as store:
        write_transactions(tmp_path, [None])
        row = store.get_historical_features(labels(1), ["tx"]).to_arrow().to_pylist()[0]
        assert (row["count_5m"], row["mean_5m"], row["most_5m"]) == (2, 0.0, None)


def test_verify_compares_windows_with_the_events(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=PUSHED)) as store:
        now = datetime.now(UTC)
        at = [now - timedelta(seconds=seconds) for seconds in (200, 150, 100, 3)]
        events = [{"id": f"e{i}", "amount": 0.1 * i, "shop": f"s{i % 2}"} for i in range(4)]
        writer = store.stream_writer("tx")
        sent = [("u1", event, time) for event, time in zip(events, at, strict=True)]
        assert writer.write_many(sent).written == 4
        table = pa.Table.from_pylist(events).append_column("user_id", pa.array(["u1"] * 4))
        table = table.append_column("at", pa.array(at, TIME))
        pq.write_table(table, tmp_path / "tx.parquet")
        checked = store.verify(["tx"], sample=10)
        assert checked.differences == 0
        assert {check.name: check.equal for check in checked.features}["tx:mean_5m"] > 1
        assert checked.not_compared == ()
        pq.write_table(table.slice(1), tmp_path / "tx.parquet")
        checked = store.verify(["tx"], sample=10)
        wrong = {each.feature for each in checked.examples if each.kind == "mismatch"}
        assert wrong == {"tx:count_5m", "tx:mean_5m"}


def test_inputs_may_be_named_like_columns_of_the_engine(tmp_path: Path) -> None:
    names = ["k", "rn", "at", "rid", "event", "arrived", "v0", "end_ms", "deadline", "part"]
    inputs = ", ".join(f"{name}: int64" for name in names)
    fields = "".join(
        f"      sum_{name}: {{type: int64, aggregate: sum, of: {name}, window: 5m, tile: 1m}}\n"
        for name in names
    )
    head, _, _ = (
        VIEW.format(stream=WORKER)
        .replace("timestamp_field: at", "timestamp_field: time")
        .partition("    inputs:")
    )
    with open_store(tmp_path, f"{head}    inputs: {{{inputs}}}\n    fields:\n{fields}") as store:
        table = {"user_id": ["u1"], "time": pa.array([(START // 60_000 * 60_000) * 1000], TIME)}
        table |= {name: [i] for i, name in enumerate(names)}
        pq.write_table(pa.table(table), tmp_path / "tx.parquet")
        row = store.get_historical_features(labels(1), ["tx"]).to_arrow().to_pylist()[0]
        assert [row[f"sum_{name}"] for name in names] == [*range(len(names))]


def test_many_distinct_values_are_estimated_as_online(tmp_path: Path) -> None:
    with open_store(tmp_path, VIEW.format(stream=WORKER)) as store:
        shops, at = [f"shop {i}" for i in range(300)], (START // 60_000 * 60_000) * 1000
        rows = {"user_id": ["u1"] * 300, "at": pa.array([at + i for i in range(300)], TIME)}
        rows |= {"amount": [1.0] * 300, "shop": shops}
        pq.write_table(pa.table(rows), tmp_path / "tx.parquet")
        hashes = sorted(hash_of("shop", shop) for shop in shops)
        moments = [at + count for count in (63, 64, 300)]
        table = labels(0, 0, 0).set_column(1, "event_timestamp", pa.array(moments, TIME))
        found = store.get_historical_features(table, ["tx:shops_5m"]).to_arrow()["shops_5m"]
        wanted = [sorted(hash_of("shop", s) for s in shops[:n])[63] for n in (64, 300)]
        assert found.to_pylist() == [63, *(round(63 * 2**48 / (last + 1)) for last in wanted)]
        assert wanted[1] == hashes[63]
