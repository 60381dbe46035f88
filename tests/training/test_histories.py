"""Histories equal the simulator: loads and events, expired keys, all meanings of "as of"."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError, SourceError
from featurekit.history_ports import AsOf, PastLoad
from featurekit.lower.columns import encode_ids
from featurekit.plan import (
    JsonlSourcePlan,
    ParquetSourcePlan,
    RepoPlan,
    SchedulePlan,
    SourcePlan,
    SqlSourcePlan,
    ViewPlan,
)
from featurekit.repo.histories import Histories
from featurekit.repo.source_access import SourceAccess
from featurekit.training import stored_values
from tests.training.simulator import BatchHistory, Event, Load, Row, View, served
from tests.training.test_point_in_time import open_store

START = 1_743_292_795_000  # a summer time begins within the times of a world
END = 60
YAML = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - {name: a, entity: user, batch: {refresh: 1s}, fields: {a1: int64, a2: int64}}
  - {name: b, entity: user, batch: {refresh: 1s, expires: field}, fields: {b1: int64, b2: int64}}
  - {name: s, entity: user, stream: {refresh: 1s}, fields: {s1: int64, s2: int64}}
"""
AS_OF: tuple[AsOf, ...] = ("event_time", "created", "schedule", "loads")


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> RepoPlan:
    with open_store(tmp_path_factory.mktemp("repo"), YAML) as store:
        return store.compiled


@dataclass(frozen=True)
class Batch:
    """A batch view, as a simulated and as a compiled one."""

    view: View
    lookback: int | None
    loads: tuple[Load, ...] = field(repr=False)
    schedule: SchedulePlan | None = None


@dataclass(frozen=True)
class World:
    """The declarations of a world."""

    as_of: AsOf
    has_created: bool
    batches: tuple[Batch, ...]
    stream: View
    form: Literal["parquet", "sent", "delete", "jsonl", "sql"]
    has_time: bool
    has_arrival: bool

    @property
    def by_created(self) -> bool:
        return self.has_created and self.as_of != "event_time"


def draw_batch(rng: random.Random, view: View, as_of: AsOf) -> Batch:
    lookback = rng.choice([None, None, 0, 3, 10, 25])
    schedule = None
    if as_of == "schedule":
        every, takes = rng.choice([1, 4, 10, 17]), rng.choice([0, 0, 1, 3])
        at = (START + rng.randrange(every)) % every
        schedule = SchedulePlan(every, at, takes)
        first = -((START - at) % every) - 40 * every
        times = [(s, s + takes) for s in range(first, END + 45, every)]
    elif as_of == "loads":
        starts = sorted(rng.sample(range(-5, END), rng.randrange(1, 14)))
        ends = [*starts[1:], END + 9]
        times = [(s, min(s + rng.choice([0, 1, 2]), e)) for s, e in zip(starts, ends, strict=True)]
    else:
        times = [(s, s) for s in range(-40, END + 45)]
    mixed = as_of == "loads" and rng.random() < 0.4
    lag = rng.choice([0, 0, 2, 6]) if as_of == "loads" else 0
    loads = []
    for s, w in times:
        back = rng.choice([None, 5, 5, 5, 12]) if mixed else lookback
        start = None if back is None else s - back
        loads.append(Load(s, w, start, s - lag if lag else None))
    return Batch(view, lookback, tuple(loads), schedule)


def with_older_loads(rng: random.Random, batch: Batch) -> Batch:
    """Return a batch view some of whose loads took only older rows, and wrote them over newer ones."""
    loads = []
    for load in batch.loads:
        if rng.random() < 0.35:
            end = load.scanned - rng.randrange(30)
            start = rng.choice([None, end - 4, end - 15])
            loads.append(replace(load, start=start, end=end))
        else:
            loads.append(load)
    return replace(batch, loads=tuple(loads))


def draw_world(rng: random.Random, as_of: AsOf) -> World:
    ttl = rng.choice([1, 3, 8, 20, 200])
    a = View("a", "key", {"a1": ttl, "a2": ttl})
    b = View("b", "field", {"b1": rng.choice([1, 4, 9, 30]), "b2": rng.choice([2, 5, 40])})
    kind: Any = rng.choice(["arrival", "event_time"])
    ttls = {"s1": rng.choice([1, 3, 10]), "s2": rng.choice([2, 6, 25, 90])}
    has_time = rng.random() < 0.8
    return World(
        as_of,
        as_of == "created" or rng.random() < 0.6,
        (draw_batch(rng, a, as_of), draw_batch(rng, b, as_of)),
        View("s", kind, ttls, max_ahead=rng.choice([2, 300_000])),
        rng.choice(["parquet", "sent", "delete", "jsonl", "sql"]),
        has_time,
        not has_time or as_of == "created" or rng.random() < 0.7,
    )


def draw_rows(rng: random.Random, view: View, *, needs_value: bool) -> list[Row]:
    rows = []
    for n in range(rng.randrange(8)):
        time = rng.randrange(END)
        created = rng.choice(
            [None, time, time, time + 1, time + 5, time + 12, time + 30, time - 3]
        )
        values = {f: None if rng.random() < 0.25 else rng.randrange(100) for f in view.ttls}
        if needs_value and all(value is None for value in values.values()):
            values[next(iter(values))] = 7
        rows.append(Row(time, created, n, values))
    return rows


def draw_events(rng: random.Random, world: World) -> list[Event]:
    events = []
    for n in range(rng.randrange(12)):
        time = rng.randrange(END)
        arrival = time + rng.choice([0, 0, 0, 1, 2, 7, 15, 40, -1, -4])
        sent = 3 if world.form == "delete" else rng.randrange(1, 4)
        is_null = 0.0 if world.form in ("parquet", "sql") else 0.2
        values = {
            name: None if rng.random() < is_null else rng.randrange(100)
            for i, name in enumerate(world.stream.ttls)
            if sent >> i & 1
        }
        known = None if not world.has_time or rng.random() < 0.1 else time
        events.append(Event(known, arrival, n, values))
    return events


def simulated(world: World, events: Sequence[Event]) -> list[Event]:
    """Return events as they arrive by this history and this meaning of "as of"."""
    if world.has_arrival and world.as_of != "event_time":
        return list(events)
    if not world.has_arrival:
        events = [event for event in events if event.time is not None]
    return [replace(e, arrival=e.arrival if e.time is None else e.time) for e in events]


def times(ticks: Sequence[int | None], unit: str = "us") -> Any:
    """Return ticks as times; a tick is a millisecond."""
    micros = [None if tick is None else (START + tick) * 1000 for tick in ticks]
    return pa.array(micros, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))


def write_rows(folder: Path, batch: Batch, rows: Mapping[int, Sequence[Row]]) -> None:
    lines = [(key, row) for key, of in rows.items() for row in of]
    lines.sort(key=lambda line: line[1].n)
    units = random.Random(len(lines)).choices(["ms", "us", "ns"], k=2)
    columns: dict[str, Any] = {
        "user_id": pa.array([key for key, _ in lines], pa.int64()),
        "at": times([row.time for _, row in lines], units[0]),
        "created": times([row.created for _, row in lines], units[1]),
    }
    for name in batch.view.ttls:
        columns[name] = pa.array([row.values[name] for _, row in lines], pa.int64())
    pq.write_table(pa.table(columns), folder / f"{batch.view.name}.parquet", row_group_size=9)


def write_events(folder: Path, world: World, events: Mapping[int, Sequence[Event]]) -> SourcePlan:
    lines = [(key, event) for key, of in events.items() for event in of]
    lines.sort(key=lambda line: line[1].n)
    used: dict[str, Any] = {
        "timestamp_field": "at" if world.has_time else None,
        "created_timestamp_field": "arrived" if world.has_arrival else None,
    }
    if world.form == "jsonl":
        with (folder / "s.jsonl").open("w") as file:
            for key, event in lines:
                at = [None if t is None else t.as_py() for t in times([event.time, event.arrival])]
                texts = [None if t is None else str(t) for t in at]
                line = {"user_id": key, "at": texts[0], "arrived": texts[1], **event.values}
                file.write(json.dumps(line) + "\n")
        return JsonlSourcePlan(paths=("s.jsonl",), absent="null", **used)
    columns: dict[str, Any] = {
        "user_id": pa.array([key for key, _ in lines], pa.int64()),
        "at": times([e.time for _, e in lines]),
        "arrived": times([e.arrival for _, e in lines]),
        "sent": pa.array([list(e.values) for _, e in lines], pa.list_(pa.string())),
    }
    for name in world.stream.ttls:
        columns[name] = pa.array([e.values.get(name) for _, e in lines], pa.int64())
    pq.write_table(pa.table(columns), folder / "s.parquet", row_group_size=9)
    if world.form == "sql":
        return SqlSourcePlan(query="FROM 's.parquet'", **used)
    if world.form == "sent":
        used["sent_fields_column"] = "sent"
    if world.form == "delete":
        used["nulls"] = "delete"
    return ParquetSourcePlan(paths=("s.parquet",), **used)


def with_batch(view: ViewPlan, world: World, batch: Batch) -> ViewPlan:
    source = ParquetSourcePlan(
        paths=(f"{view.name}.parquet",),
        timestamp_field="at",
        created_timestamp_field="created" if world.has_created else None,
    )
    ttls = batch.view.ttls
    fields = tuple(
        replace(field, ttl_ms=ttls[field.name] if view.expires == "field" else 0)
        for field in view.fields
    )
    return replace(
        view,
        source=source,
        fields=fields,
        ttl_ms=max(ttls.values()),
        lookback_ms=batch.lookback,
        schedule=batch.schedule,
    )


def with_stream(view: ViewPlan, world: World, history: SourcePlan) -> ViewPlan:
    stream = world.stream
    fields = tuple(replace(field, ttl_ms=stream.ttls[field.name]) for field in view.fields)
    return replace(
        view,
        history=history,
        fields=fields,
        ttl_ms=max(stream.ttls.values()),
        ordering="event_time" if stream.kind == "event_time" else "arrival",
        max_ahead_ms=stream.max_ahead,
    )


def read_here(
    histories: Histories, views: Sequence[ViewPlan], moments: Any, _users: Sequence[int]
) -> dict[str, list[Any]]:
    """Return the values of the fields of views at moments."""
    got: dict[str, list[Any]] = {}
    for view in views:
        found = histories.rows_at(view, moments)
        got |= pa.Table.from_batches(stored_values(view, found).batches).to_pydict()
    return got


def check_world(
    folder: Path,
    repo: RepoPlan,
    seed: int,
    as_of: AsOf,
    keys: int,
    moments: int,
    *,
    read: Callable[..., dict[str, list[Any]]] = read_here,
    older_loads: bool = False,
) -> None:
    rng = random.Random(seed)
    world = draw_world(rng, as_of)
    if older_loads:
        batches = tuple(with_older_loads(rng, batch) for batch in world.batches)
        world = replace(world, batches=batches)
    a, b = world.batches
    rows = {
        batch.view.name: {
            key: draw_rows(rng, batch.view, needs_value=batch is a) for key in range(keys)
        }
        for batch in world.batches
    }
    for batch in world.batches:
        write_rows(folder, batch, rows[batch.view.name])
    events = {key: draw_events(rng, world) for key in range(keys)}
    log = write_events(folder, world, events)
    if not world.has_created:
        rows = {
            n: {k: [replace(r, created=None) for r in rs] for k, rs in of.items()}
            for n, of in rows.items()
        }
    at = [(key, rng.randrange(END + 40)) for key in range(keys) for _ in range(moments)]
    rng.shuffle(at)
    wanted = {
        key: served(
            [
                BatchHistory(batch.view, rows[batch.view.name][key], batch.loads, world.by_created)
                for batch in world.batches
            ],
            [(world.stream, simulated(world, events[key]))],
            [tick for k, tick in at if k == key],
        )
        for key in range(keys)
    }
    table = pa.table(
        {
            "rid": pa.array(range(len(at)), pa.int64()),
            "k": encode_ids(
                repo.view("a"), "native", pa.table({"user_id": [k for k, _ in at]})
            ).keys,
            "at": pa.array([(START + t) * 1000 + rng.randrange(1000) for _, t in at], pa.int64()),
        }
    )
    views = (
        with_batch(repo.view("a"), world, a),
        with_batch(repo.view("b"), world, b),
        with_stream(repo.view("s"), world, log),
    )
    histories = Histories(
        replace(repo, views=views),
        SourceAccess(None, allow_sources=True),
        folder,
        None if as_of == "schedule" else as_of,
        lambda view: [
            PastLoad(
                START + load.scanned,
                START + load.written,
                None if load.start is None else START + load.start,
                None if load.end is None else START + load.end,
            )
            for batch in world.batches
            if batch.view.name == view.name
            for load in batch.loads
        ],
    )
    got = read(histories, views, table, [key for key, _ in at])
    for i, (key, tick) in enumerate(at):
        row = {name: int(values[i]) for name, values in got.items() if values[i] is not None}
        assert row == wanted[key][tick], (
            seed,
            world,
            key,
            tick,
            [rows[n][key] for n in rows],
            events[key],
        )


@pytest.mark.parametrize("as_of", AS_OF)
def test_histories_equal_the_simulator(tmp_path: Path, repo: RepoPlan, as_of: AsOf) -> None:
    check_world(tmp_path, repo, 1, as_of, keys=25, moments=12)


def test_loads_of_older_rows_write_over_newer_ones(tmp_path: Path, repo: RepoPlan) -> None:
    for seed in range(3):
        check_world(tmp_path, repo, seed, "loads", keys=25, moments=12, older_loads=True)


@pytest.mark.slow
def test_many_loads_of_older_rows_write_over_newer_ones(tmp_path: Path, repo: RepoPlan) -> None:
    for seed in range(200, 260):
        check_world(tmp_path, repo, seed, "loads", keys=60, moments=10, older_loads=True)


@pytest.mark.parametrize("repeated", [0, pytest.param(10**9, marks=pytest.mark.slow)])
def test_rows_are_encoded_once_or_for_each_label_alike(
    tmp_path: Path, repo: RepoPlan, repeated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.sources.batch_history._REPEATED", repeated)
    check_world(tmp_path, repo, 2, "loads", keys=25, moments=12)


@pytest.mark.slow
@pytest.mark.parametrize("as_of", AS_OF)
def test_many_histories_equal_the_simulator(tmp_path: Path, repo: RepoPlan, as_of: AsOf) -> None:
    for seed in range(100, 140):
        check_world(tmp_path, repo, seed, as_of, keys=60, moments=10)


DECLARED = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: clicks
    entity: user
    stream:
      refresh: 1m
      ttl: 10m
      batch_source: {type: jsonl, path: clicks.jsonl, timestamp_field: at, created_timestamp_field: arrived}
    fields: {clicks: {type: int64, default: 0}, page: {type: string, required: true, ttl: 1m}}
  - name: profile
    entity: user
    batch:
      refresh: 24h
      lookback: 2d
      schedule: {every: 24h, at: "02:00", takes: 10m}
      source: {type: python, callable: "training_rows:rows", timestamp_field: day}
    fields: {age: int64}
  - name: country
    entity: user
    batch: {refresh: 24h, expires: field, source: {type: csv, path: countries.csv, static: true}}
    fields: {country: string}
"""
ROWS = """
import datetime, pathlib
import pyarrow as pa
def rows(view, start, end):
    with pathlib.Path(__file__).with_name("calls").open("a") as file:
        file.write(f"{view} {start} {end};")
    days = [datetime.datetime(2026, 6, day, tzinfo=datetime.UTC) for day in (1, 2, 6)]
    return pa.table({"user_id": [1, 1, 2], "day": days, "age": [41, 42, 50]})
"""
CLICKS = """
{"user_id": 1, "at": "2026-06-02T12:00:00Z", "arrived": "2026-06-02T12:02:00Z", "clicks": 7, "page": "/"}
{"user_id": 1, "at": "2026-06-02T12:05:00Z", "arrived": "2026-06-02T12:05:00Z", "page": "/cart"}
{"user_id": 1, "at": null, "arrived": "2026-06-02T12:06:00Z", "clicks": null}
"""


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    monkeypatch.delitem(sys.modules, "training_rows", raising=False)
    (tmp_path / "training_rows.py").write_text(ROWS)
    (tmp_path / "clicks.jsonl").write_text(CLICKS.lstrip())
    (tmp_path / "countries.csv").write_text("user_id,country\n1,NO\n1,SE\n2,DK\n")
    return open_store(tmp_path, DECLARED)


def labels(*texts: str, user: int = 1) -> Any:
    moments = pa.array([f"2026-06-{text}Z" for text in texts]).cast(pa.timestamp("us", "UTC"))
    return pa.table(
        {"user_id": pa.array([user] * len(texts), pa.int64()), "event_timestamp": moments}
    )


def test_features_of_events_come_from_their_history(declared: FeatureStore) -> None:
    table = labels(
        "02T12:01:59", "02T12:02:00", "02T12:05:01", "02T12:05:59", "02T12:06:00", "02T12:06:01"
    )
    job = declared.get_historical_features(table, ["clicks"], statuses=True)
    found = job.to_arrow()
    # The page of the first event has expired on its arrival.
    assert found["clicks"].to_pylist() == [0, 7, 7, 7, 0, 0]
    assert found["page"].to_pylist() == [None, None, "/cart", "/cart", "/cart", None]
    assert found["clicks__status"].to_pylist() == ["default"] + ["present"] * 3 + ["default"] * 2
    assert job.metadata["views"][0]["as_of"] == "created"
    job = declared.get_historical_features(table, ["clicks"], as_of="event_time")
    assert job.to_arrow()["clicks"].to_pylist() == [7, 7, 7, 7, 0, 0]


def test_a_declared_schedule_is_the_default(declared: FeatureStore) -> None:
    table = labels("02T02:09:59", "02T02:10:00", "03T02:09:59", "05T02:10:00", "05T02:10:00.001")
    job = declared.get_historical_features(table, ["profile"])
    assert job.to_arrow()["age"].to_pylist() == [41, 42, 42, 42, None]
    assert job.metadata["views"][0]["schedule"]["takes_ms"] == 600_000
    # The load of 3 June is the last one that takes the row; its TTL is two days.
    assert job.metadata["views"][0]["as_of"] == "schedule"
    table = labels("01T00:00:00", "02T00:00:00", "07T00:00:00")
    job = declared.get_historical_features(table, ["profile"], as_of="event_time")
    assert job.to_arrow()["age"].to_pylist() == [41, 42, None]  # 2 days later, no load takes it


def test_static_rows_hold_for_all_times(declared: FeatureStore) -> None:
    table = labels("01T00:00:00").set_column(1, "event_timestamp", times([-(10**12)]))
    job = declared.get_historical_features(table, ["country"])
    assert job.to_arrow()["country"].to_pylist() == ["SE"]
    assert job.metadata["views"][0]["as_of"] == "static"


def test_a_python_function_is_called_once(declared: FeatureStore, tmp_path: Path) -> None:
    features: list[Any] = [
        "clicks",
        "profile",
        {"view": "profile", "as": "other", "join_keys": {"user_id": "o"}},
    ]
    table = labels("02T12:02:00").append_column("o", pa.array([2], pa.int64()))
    job = declared.get_historical_features(table, features)
    assert job.to_arrow().select(["clicks", "age", "other__age"]).to_pylist() == [
        {"clicks": 7, "age": 42, "other__age": None}
    ]
    assert (tmp_path / "calls").read_text() == "profile None None;"


def test_loads_of_the_log_are_obeyed(tmp_path: Path) -> None:
    views = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: wages
    entity: user
    batch: {refresh: 24h, source: {type: csv, path: rows.csv, timestamp_field: day}}
    fields: {age: int64}
  - name: written
    entity: user
    batch: {refresh: 24h, expires: field, batch_source: {type: csv, path: rows.csv, timestamp_field: day}}
    fields: {age_written: int64}
  - name: fixed
    entity: user
    batch: {refresh: 24h, expires: field, source: {type: csv, path: rows.csv, static: true}}
    fields: {age_fixed: int64}
"""
    (tmp_path / "rows.csv").write_text(
        "user_id,day,age,age_written,age_fixed\n1,2026-06-01T00:00:00Z,41,42,43\n"
    )
    store = open_store(tmp_path, views)
    now = datetime.now(UTC)
    moments = pa.array([now, now + timedelta(hours=1), now + timedelta(days=3)])
    table = pa.table({"user_id": [1, 1, 1], "event_timestamp": moments})
    job = store.get_historical_features(table, ["wages"], as_of="loads")
    with pytest.raises(RequestError, match="no load of the view is in the log"):
        job.to_arrow()
    store.materialize(["wages"])
    job = store.get_historical_features(table, ["wages", "written", "fixed"], as_of="loads")
    assert job.to_arrow()["age"].to_pylist() == [None, 41, None]
    assert job.to_arrow()["age_fixed"].to_pylist() == [43, 43, 43]
    # Programs write these rows, and no load of the log says when.
    assert job.to_arrow()["age_written"].to_pylist() == [42, 42, 42]
    assert [v["as_of"] for v in job.metadata["views"]] == ["loads", "event_time", "static"]
    view = job.metadata["views"][0]
    assert view["as_of"] == "loads"
    assert view["loads"]["count"] == 1


OLDER = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: wages
    entity: user
    batch:
      refresh: 24h
      lookback: 3000d
      ORDERING
      source: {type: csv, path: rows.csv, timestamp_field: day}
    fields: {age: int64}
"""


@pytest.mark.parametrize("ordering", ["arrival", "event_time"])
def test_a_load_until_an_earlier_end_writes_over_newer_rows_or_is_refused(
    tmp_path: Path, ordering: str
) -> None:
    (tmp_path / "rows.csv").write_text(
        "user_id,day,age\n1,2026-06-01T00:00:00Z,41\n1,2026-06-03T00:00:00Z,43\n"
    )
    is_ordered = ordering == "event_time"
    yaml = OLDER.replace("ORDERING", "ordering: event_time" if is_ordered else "")
    store = open_store(tmp_path, yaml)
    store.materialize(["wages"])
    between = datetime.now(UTC) + timedelta(milliseconds=1)
    while datetime.now(UTC) <= between + timedelta(milliseconds=1):
        pass
    store.materialize(["wages"], end=datetime(2026, 6, 2, tzinfo=UTC), allow_older=True)
    assert store.get_online_features(["wages"], [{"user_id": 1}]).to_dict()["age"] == [41]
    moments = pa.array([between, datetime.now(UTC) + timedelta(seconds=1)])
    table = pa.table({"user_id": [1, 1], "event_timestamp": moments})
    job = store.get_historical_features(table, ["wages"], as_of="loads")
    if is_ordered:
        with pytest.raises(RequestError, match="does not say which of them `ordering"):
            job.to_arrow()
        (found,) = store.verify(["wages"]).features
        assert (found.mismatch, found.missing, found.extra) == (0, 0, 0)
        return
    assert job.to_arrow()["age"].to_pylist() == [43, 41]
    loads = [PastLoad(10, 11), PastLoad(20, 21, end_ms=5)]
    access = SourceAccess(None, allow_sources=True)
    histories = Histories(store.compiled, access, tmp_path, "loads", lambda _: loads)
    with ExitStack() as stack, pytest.raises(RequestError, match="Spark does not compute what"):
        histories.on_spark(store.compiled.view("wages"), stack)


def test_only_folders_of_the_needed_days_are_read(tmp_path: Path) -> None:
    views = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: visits
    entity: user
    batch:
      refresh: 24h
      lookback: 1d
      source: {type: parquet, path: visits, timestamp_field: at, hive_partitioning: true, date_partition_column: day}
    fields: {visits: int64}
"""
    for day in range(1, 9):
        folder = tmp_path / f"visits/day=2026-06-{day:02}"
        folder.mkdir(parents=True)
        at = pa.array([f"2026-06-{day:02}T12:00:00Z"]).cast(pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"user_id": [1], "at": at, "visits": [day]}), folder / "a.parquet")
    for day in (1, 8):
        (tmp_path / f"visits/day=2026-06-{day:02}/a.parquet").write_bytes(b"is not read")
    store = open_store(tmp_path, views)
    job = store.get_historical_features(labels("05T13:00:00", "06T11:00:00"), ["visits"])
    assert job.to_arrow()["visits"].to_pylist() == [5, 5]
    assert job.metadata["views"][0]["rows_read"] == 3
    with pytest.raises(SourceError, match="day=2026-06-08"):
        store.get_historical_features(labels("08T13:00:00"), ["visits"]).to_arrow()


def test_views_without_an_entity_join_every_label(tmp_path: Path) -> None:
    views = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: rates
    batch: {refresh: 24h, source: {type: csv, path: rates.csv, timestamp_field: day}}
    fields: {usd: float64}
  - name: mood
    stream: {refresh: 24h, batch_source: {type: jsonl, path: mood.jsonl, timestamp_field: at}}
    fields: {mood: string}
  - name: limits
    batch: {refresh: 24h, source: {type: sql, query: "SELECT DATE '2026-06-01' AS day, 3 AS most", timestamp_field: day}}
    fields: {most: int64}
"""
    (tmp_path / "rates.csv").write_text("day,usd\n2026-06-01,1.5\n2026-06-02,2.5\n")
    (tmp_path / "mood.jsonl").write_text('{"at": "2026-06-02T00:00:00Z", "mood": "up"}\n')
    store = open_store(tmp_path, views)
    table = labels("01T12:00:00", "02T12:00:00", "01T12:00:00")
    found = store.get_historical_features(table, ["rates", "mood", "limits"]).to_arrow()
    assert found["usd"].to_pylist() == [1.5, 2.5, 1.5]
    assert found["mood"].to_pylist() == [None, "up", None]
    assert found["most"].to_pylist() == [3, 3, 3]


NANOSECONDS = """
entities: [{name: user, join_keys: {user_id: int64}}]
feature_views:
  - name: profile
    entity: user
    batch:
      refresh: 24h
      schedule: {every: 1s, at: "00:00"}
      source: {type: parquet, path: rows.parquet, timestamp_field: at, created_timestamp_field: created}
    fields: {name: string}
  - name: clicks
    entity: user
    stream:
      refresh: 24h
      batch_source: {type: parquet, path: rows.parquet, timestamp_field: at, created_timestamp_field: arrived}
    fields: {page: string}
"""


def test_rows_of_one_microsecond_rank_by_nanoseconds(tmp_path: Path) -> None:
    def nanoseconds(*after: int) -> Any:
        return pa.array([START * 1_000_000 + n for n in after]).cast(pa.timestamp("ns", "UTC"))

    columns = {
        "user_id": [1, 1],
        "at": nanoseconds(0, 2),
        "created": nanoseconds(2_000_000_000, 1),
        "arrived": nanoseconds(1_999, 1_001),
        "name": ["old", "new"],
        "page": ["new", "old"],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    store = open_store(tmp_path, NANOSECONDS)
    store.materialize(["profile"])
    assert store.get_online_features(["profile"], {"user_id": [1]}).to_dict()["name"] == ["new"]
    for as_of in (*AS_OF, None):
        job = store.get_historical_features(labels_now(), ["profile"], as_of=as_of)
        assert job.to_arrow()["name"].to_pylist() == ["new"], as_of
    moment = {"user_id": [1] * 2, "event_timestamp": nanoseconds(999, 1_000)}
    job = store.get_historical_features(pa.table(moment), ["clicks"])
    assert job.to_arrow()["page"].to_pylist() == [None, "new"]


def labels_now() -> Any:
    now = pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC"))
    return pa.table({"user_id": [1], "event_timestamp": now})
