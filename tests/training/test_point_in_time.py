"""Training sets equal what reads at those moments would have returned."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from tests.servers import PATIENT_YAML, Server
from tests.training.simulator import BatchHistory, Load, Row, View, served

START = datetime(2025, 3, 29, 23, 59, tzinfo=UTC)
TICKS = 40
REPO = "project: shop\ndefinitions: [f.yaml]\nonline_store: {{url: '{url}', key_prefix: fs, {options}}}\n"
VIEWS = """
entities:
  - {name: shop, join_keys: {country: string, shop_id: int64}}
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: sales
    entity: shop
    batch: {refresh: 1s, ttl: 2s, source: {type: TYPE, path: sales.TYPE, timestamp_field: at, created_timestamp_field: created}}
    fields: {amount: {type: int64, default: 7}, note: string}
  - name: stock
    entity: shop
    batch: {refresh: 1s, ttl: 1s, expires: field, source: {type: sql, query: "FROM 'stock.parquet'", timestamp_field: at, created_timestamp_field: created}}
    fields: {pieces: int64}
  - name: profile
    entity: user
    batch: {refresh: 1s, ttl: 3s, source: {type: TYPE, path: profile.TYPE, timestamp_field: at, created_timestamp_field: created}}
    fields: {age: int64}
"""
ENTITIES: dict[str, list[tuple[Any, ...]]] = {
    "sales": [("NO", 1), ("NO:1", 1), ("NO", 11), ("%3A", 2**53 + 1), ("NO", 2**53)],
    "profile": [("007",), ("7",), ("æ",), ("u 1",)],
}
ENTITIES["stock"] = ENTITIES["sales"]
KEYS = {"sales": ["country", "shop_id"], "stock": ["country", "shop_id"], "profile": ["user_id"]}
FIELDS = {"sales": ["amount", "note"], "stock": ["pieces"], "profile": ["age"]}
TTLS = {"sales": 2, "stock": 1, "profile": 3}
TIME = pa.timestamp("us", "UTC")


def at(tick: int | None) -> datetime | None:
    return None if tick is None else START + timedelta(seconds=tick)


def open_store(folder: Path, views: str, url: str = "") -> FeatureStore:
    """Apply views in a folder, to a store in memory of the folder's own unless there is a URL."""
    url = url or f"memory://{crc32(bytes(folder))}"  # loads of other tests stay elsewhere
    (folder / "featurerepo.yaml").write_text(REPO.format(url=url, options=PATIENT_YAML))
    (folder / "f.yaml").write_text(views)
    store = FeatureStore(folder)
    store.apply(allow_breaking=True)
    return store


def history(rng: random.Random, view: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows with equal times, late ones, ones created before their time, and nulls."""
    places = iter(rng.sample(range(1000), 1000))
    return {
        entity: [
            Row(
                time := rng.randrange(TICKS),
                rng.choice([None, time, time, time + rng.randrange(12), time - 3]),
                next(places),
                {f: None if rng.random() < 0.3 else rng.randrange(99) for f in FIELDS[view]},
            )
            for _ in range(rng.randrange(8))
        ]
        for entity in ENTITIES[view]
    }


def write(folder: Path, view: str, kind: str, rows: dict[tuple[Any, ...], list[Row]]) -> None:
    """Write the rows in the order of their places."""
    lines = sorted(((e, row) for e, of in rows.items() for row in of), key=lambda x: x[1].n)
    columns: dict[str, Any] = {
        key: [entity[i] for entity, _ in lines] for i, key in enumerate(KEYS[view])
    }
    columns["at"] = pa.array([at(row.time) for _, row in lines], TIME)
    columns["created"] = pa.array([at(row.created) for _, row in lines], TIME)
    for name in FIELDS[view]:
        type_ = pa.string() if name == "note" else pa.int64()
        values = [row.values[name] for _, row in lines]
        columns[name] = pa.array(values, pa.int64()).cast(type_)
    for key in KEYS[view]:
        columns[key] = pa.array(columns[key], pa.int64() if key == "shop_id" else pa.string())
    table = pa.table(columns)
    if kind == "csv":
        for name in ("at", "created"):
            texts = pa.compute.strftime(table[name], format="%Y-%m-%dT%H:%M:%SZ")
            table = table.set_column(table.schema.get_field_index(name), name, texts)
        pyarrow.csv.write_csv(table, folder / f"{view}.csv")
    else:
        pq.write_table(table, folder / f"{view}.parquet", row_group_size=7)


def simulate(view: str, rows: list[Row], *, by_created: bool) -> dict[int, dict[str, object]]:
    """Return what reads at each tick get, if a load runs at each tick."""
    kind: Any = "field" if view == "stock" else "key"
    loads = [Load(tick, tick) for tick in range(TICKS + 9)]
    ttls = dict.fromkeys(FIELDS[view], TTLS[view])
    history = BatchHistory(View(view, kind, ttls), rows, loads, by_created)
    return served([history], [], range(TICKS + 9))


def check_world(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    kind = rng.choice(["parquet", "csv"])
    rows = {view: history(rng, view) for view in FIELDS}
    for view in FIELDS:
        write(folder, view, "parquet" if view == "stock" else kind, rows[view])
    store = open_store(folder, VIEWS.replace("TYPE", kind))
    for as_of in ("event_time", "created", None):
        by_created = as_of != "event_time"
        answers = {
            view: {
                entity: simulate(view, of, by_created=by_created)
                for entity, of in rows[view].items()
            }
            for view in FIELDS
        }
        labels = [
            (rng.choice(ENTITIES["sales"]), rng.choice(ENTITIES["profile"]), tick)
            for tick in rng.choices(range(TICKS + 9), k=200)
        ]
        table = pa.table(
            {
                "target": list(range(200)),
                "country": [shop[0] for shop, _, _ in labels],
                "shop_id": [shop[1] for shop, _, _ in labels],
                "user_id": [user[0] for _, user, _ in labels],
                "event_timestamp": pa.array([at(tick) for *_, tick in labels], TIME),
            }
        )
        features = ["profile", "sales", "stock"]
        found = store.get_historical_features(
            table,
            features,
            as_of=as_of,
            statuses=True,
        ).to_arrow()
        assert found.select(table.schema.names) == table
        for (shop, user, tick), row in zip(labels, found.to_pylist(), strict=True):
            wanted = {
                **answers["sales"][shop][tick],
                **answers["stock"][shop][tick],
                **answers["profile"][user][tick],
            }
            for name in ("age", "amount", "note", "pieces"):
                status = "default" if name == "amount" else "missing"
                status = "present" if name in wanted else status
                value = wanted.get(name, 7 if name == "amount" else None)
                value = str(value) if name == "note" and value is not None else value
                got = row[name], row[f"{name}__status"]
                assert got == (value, status), (seed, kind, as_of, shop, user, tick, name)


@pytest.mark.parametrize("seed", range(2))
def test_a_training_set_equals_the_simulator(tmp_path: Path, seed: int) -> None:
    check_world(tmp_path, seed)


@pytest.mark.slow
def test_many_training_sets_equal_the_simulator(tmp_path: Path) -> None:
    for seed in range(100, 160):
        check_world(tmp_path, seed)


TYPES = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, ttl: 24h, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields:
      s: string
      i: {type: int64, default: -1}
      i32: int32
      f: float64
      f32: float32
      b: bool
      t: timestamp
      d: date
      dec: decimal
      by: bytes
      j: json
      v: 'vector<float32, 2>'
      a: array<int64>
"""


def test_values_and_types_are_those_of_a_read_after_a_load(tmp_path: Path, valkey: Server) -> None:
    rng = random.Random(1)
    n = 60
    moment = START + timedelta(seconds=30)
    maybe: Any = lambda value: None if rng.random() < 0.3 else value  # noqa: E731
    columns = {
        "user_id": pa.array([f"u{rng.randrange(20)}" for _ in range(n)]),
        "at": pa.array([at(rng.randrange(60)) for _ in range(n)], TIME),
        "s": pa.array([maybe(rng.choice(["", "æ\n", "x"])) for _ in range(n)]),
        "i": pa.array([maybe(rng.randrange(-(2**63), 2**63)) for _ in range(n)]),
        "i32": pa.array([maybe(rng.randrange(99)) for _ in range(n)], pa.int8()),
        "f": pa.array([maybe(rng.gauss(0, 1e9)) for _ in range(n)]),
        "f32": pa.array([maybe(rng.random()) for _ in range(n)], pa.float32()),
        "b": pa.array([maybe(rng.random() < 0.5) for _ in range(n)]),
        "t": pa.array([maybe(at(rng.randrange(99))) for _ in range(n)], TIME),
        "d": pa.array([maybe(START.date()) for _ in range(n)]),
        "dec": pa.array([maybe(f"{rng.randrange(999)}.50") for _ in range(n)]).cast(
            pa.decimal128(9, 2)
        ),
        "by": pa.array([maybe(rng.randbytes(3)) for _ in range(n)]),
        "j": pa.array([maybe('{"b": 1, "a": [2.50, null]}') for _ in range(n)]),
        "v": pa.array([maybe([rng.random(), 1.5]) for _ in range(n)], pa.list_(pa.float32(), 2)),
        "a": pa.array([maybe([1, 2][: rng.randrange(3)]) for _ in range(n)], pa.list_(pa.int64())),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with open_store(tmp_path, TYPES, valkey.url) as store:
        store.materialize(end=moment + timedelta(milliseconds=1))
        keys = [f"u{i}" for i in range(22)]
        read = store.get_online_features(["profile"], {"user_id": keys})
        labels = pa.table({"user_id": keys, "event_timestamp": pa.array([moment] * 22, TIME)})
        job = store.get_historical_features(labels, ["profile"], statuses=True)
    names = read.to_arrow().schema.names
    assert job.to_arrow().select(names) == read.to_arrow()
    for name, statuses in read.statuses.items():
        assert job.to_arrow()[f"{name}__status"].to_pylist() == list(statuses)
    assert {"present", "missing", "default"} <= {s for of in read.statuses.values() for s in of}
