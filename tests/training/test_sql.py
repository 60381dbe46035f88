"""The SQL of a training set gives the rows of the job, or is refused by name."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import FeatureKitError, RequestError
from featurekit.history_ports import AsOf
from tests.training import test_point_in_time as world
from tests.training.test_jobs import NOON, THREE, labels
from tests.training.test_jobs import VIEWS as REFUSED
from tests.training.test_point_in_time import START, TICKS, TIME, at, open_store


def check(job: Any) -> Any:
    """Run the SQL of a job, compare it with its table, and return that."""
    table = job.to_arrow()
    found = duckdb.connect().sql(job.to_sql()).to_arrow_table()
    assert found.schema.names == table.schema.names
    for name in table.schema.names:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        assert pa.types.is_null(column.type) or found[name].type == column.type, name
        assert found[name].combine_chunks().to_pylist() == column.to_pylist(), name
    return table


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sql_gives_the_rows_of_the_job(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for view in world.FIELDS:
        world.write(tmp_path, view, "parquet", world.history(rng, view))
    views = world.VIEWS.replace("TYPE", "parquet")
    lookback = rng.choice(["", "lookback: 2s, ", "lookback: 9s, "])
    store = open_store(
        tmp_path,
        views.replace("ttl: 3s", f"{lookback}ttl: 3s").replace("ttl: 1s", f"{lookback}ttl: 1s"),
    )
    shops = rng.choices(world.ENTITIES["sales"], k=300)
    micros = [tick * 1_000_000 + i for tick in range(TICKS + 9) for i in (0, 0, 1, 999_999)]
    table = pa.table(
        {
            "i": list(range(300)),
            "country": [shop[0] for shop in shops],
            "shop_id": [shop[1] for shop in shops],
            "user_id": [user[0] for user in rng.choices(world.ENTITIES["profile"], k=300)],
            "event_timestamp": pa.array(
                [START + timedelta(microseconds=rng.choice(micros)) for _ in range(300)], TIME
            ),
        }
    )
    pq.write_table(table, tmp_path / "l.parquet", row_group_size=40)
    choices: tuple[AsOf | None, ...] = ("event_time", "created", None)
    for as_of in choices:
        for form in (tmp_path / "l.parquet", "FROM 'l.parquet' ORDER BY i % 7, i -- as they are"):
            job = store.get_historical_features(
                form, ["stock", "profile", "sales"], as_of=as_of, statuses=True
            )
            assert check(job)["age"].null_count not in (0, 300)


TYPES = """
entities: [{name: user, join_keys: {user_id: string}}, {name: shop, join_keys: {shop_id: int64}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, ttl: 24h, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields:
      s: {type: string, default: "it's"}
      i: {type: int64, default: -1}
      i32: int32
      f: {type: float64, default: 0.1}
      f32: float32
      n: {type: float64, allow_nan: true}
      b: {type: bool, default: false}
      t: {type: timestamp, default: "2020-01-01T00:00:00Z"}
      d: date
  - name: rates
    batch: {refresh: 1h, source: {type: sql, query: "SELECT DATE '2025-03-01' AS day, 1.5::DOUBLE AS rate;", timestamp_field: day}}
    fields: {rate: float64}
  - name: visits
    entity: shop
    batch:
      refresh: 1h
      ttl: 24h
      source: {type: sql, query: "SELECT 3::SMALLINT AS shop, TIMESTAMP '2025-03-30' AS at, 9 AS visits", timestamp_field: at, columns: {shop_id: shop}}
    fields: {visits: int64}
"""


@pytest.fixture
def typed(tmp_path: Path) -> FeatureStore:
    rng = random.Random(1)
    n = 60
    maybe: Any = lambda value: None if rng.random() < 0.3 else value  # noqa: E731
    columns = {
        "user_id": pa.array([maybe(rng.choice(["", "007", "7", "æ"])) for _ in range(n)]),
        "at": pa.array(
            [at(maybe(rng.randrange(60))) for _ in range(n)], pa.timestamp("ns", "UTC")
        ),
        "s": pa.array([maybe(rng.choice(["", "æ\n", "x"])) for _ in range(n)]),
        "i": pa.array([maybe(rng.randrange(-(2**63), 2**63)) for _ in range(n)]),
        "i32": pa.array([maybe(rng.randrange(99)) for _ in range(n)], pa.int8()),
        "f": pa.array([maybe(rng.random()) for _ in range(n)], pa.float32()),
        "f32": pa.array([maybe(rng.random()) for _ in range(n)], pa.float32()),
        "n": pa.array([maybe(rng.choice([-0.0, float("inf")])) for _ in range(n)], pa.float64()),
        "b": pa.array([maybe(rng.random() < 0.5) for _ in range(n)]),
        "t": pa.array([at(maybe(rng.randrange(99))) for _ in range(n)], TIME),
        "d": pa.array([maybe(START.date()) for _ in range(n)]),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    return open_store(tmp_path, TYPES)


def test_labels_and_values_have_the_types_of_the_job(typed: FeatureStore, tmp_path: Path) -> None:
    lines = ["user_id,event_timestamp,shop_id,other_shop,x,y,empty,z"]
    for i in range(40):
        time = f"2025-03-30T{i % 2:02}:{i:02}:00.5+0{i % 3}:00"
        lines.append(
            f'{["007", "7", "æ"][i % 3]},{time},{3 - i % 2},{3},{i / 2},{["true", ""][i % 2]},,"a, ""b"""'
        )
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    features: list[Any] = [
        {"view": "visits", "as": "other", "join_keys": {"shop_id": "other_shop"}},
        "profile",
        "rates",
        "visits",
    ]
    for statuses in (False, True):
        table = check(
            typed.get_historical_features(tmp_path / "l.csv", features, statuses=statuses)
        )
        assert table["rate"].to_pylist() == [1.5] * 40
        assert table["other__visits"].null_count < table["visits"].null_count
        assert 0 < table["i32"].null_count < 40
    assert (
        check(
            typed.get_historical_features(
                tmp_path / "l.csv", ["profile:t", "profile:s"], full_feature_names=True
            )
        ).num_rows
        == 40
    )


@pytest.mark.parametrize(
    ("column", "values"),
    [("f", [float("nan")]), ("i32", [2**31]), ("t", [2**60])],
)
def test_a_row_that_does_not_fit_fails_in_sql_too(
    typed: FeatureStore, tmp_path: Path, column: str, values: list[Any]
) -> None:
    table = pq.read_table(tmp_path / "rows.parquet").slice(0, 1)
    row = {"user_id": ["7"], "at": pa.array([START], TIME)}
    kind = TIME if column == "t" else None
    for name in table.schema.names[2:]:
        row[name] = pa.array(values, kind) if name == column else pa.nulls(1, table[name].type)
    pq.write_table(pa.table(row), tmp_path / "rows.parquet")
    pq.write_table(labels(["7", "8"], [START] * 2), tmp_path / "l.parquet")
    job = typed.get_historical_features(tmp_path / "l.parquet", ["profile"])
    with pytest.raises(FeatureKitError):
        job.to_arrow()
    with pytest.raises(duckdb.Error):
        duckdb.connect().sql(job.to_sql()).fetchall()
    pq.write_table(labels(["8"], [START]), tmp_path / "l.parquet")
    check(typed.get_historical_features(tmp_path / "l.parquet", ["profile"]))


BOUND = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: bound
    entity: user
    batch: {refresh: 1h, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields:
      age: {type: int64, min: 0, max: 100, required: true}
      ratio: {type: float64, min: 0.1, max: 1, allow_nan: true}
      share: {type: float32, min: 0.1}
"""


@pytest.mark.parametrize(
    ("age", "ratio", "share", "fits"),
    [
        (0, 0.1, 0.1, True),
        (100, 1.0, None, True),
        (1, float("nan"), 1.0, True),
        (1, None, 0.5, True),
        (None, 0.5, 0.5, False),
        (-1, 0.5, 0.5, False),
        (101, 0.5, 0.5, False),
        (1, 0.0999, 0.5, False),
        (1, float("inf"), 0.5, False),
        (1, 0.5, 0.09, False),
        (1, 0.5, float("nan"), False),
    ],
)
def test_bounds_hold_in_sql_too(
    tmp_path: Path, age: int | None, ratio: float | None, share: float | None, *, fits: bool
) -> None:
    row = {"user_id": ["7"], "at": pa.array([START], TIME), "age": pa.array([age], pa.int64())}
    row |= {"ratio": pa.array([ratio], pa.float64()), "share": pa.array([share], pa.float32())}
    pq.write_table(pa.table(row), tmp_path / "rows.parquet")
    pq.write_table(labels(["7", "8"], [START] * 2), tmp_path / "l.parquet")
    job = open_store(tmp_path, BOUND).get_historical_features(tmp_path / "l.parquet", ["bound"])
    if fits:
        assert repr(duckdb.connect().sql(job.to_sql()).fetchall()[0][2:]) == repr(
            tuple(column[0].as_py() for column in job.to_arrow().columns[2:])
        )
        return
    with pytest.raises(FeatureKitError):
        job.to_arrow()
    with pytest.raises(duckdb.Error, match="does not fit"):
        duckdb.connect().sql(job.to_sql()).fetchall()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",2025-03-30T00:00:00Z", "no key"),
        ("7,", "no time"),
        ("7,2025-03-30T00:00:00", "time zone"),
    ],
)
def test_labels_that_a_job_refuses_fail_in_sql_too(
    typed: FeatureStore, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "l.csv").write_text(f"user_id,event_timestamp\n7,2025-03-30T00:00:00Z\n{line}\n")
    job = typed.get_historical_features(tmp_path / "l.csv", ["profile"])
    with pytest.raises(RequestError):
        job.to_arrow()
    with pytest.raises(duckdb.Error, match=message):
        duckdb.connect().sql(job.to_sql()).fetchall()


MORE = """
  - name: plans
    entity: user
    batch: {refresh: 1h, lookback: 1h, schedule: {every: 1h}, expires: field, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields: {width: int64, years: int32, tags: json}
  - name: coded
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: parquet, path: rows.parquet, timestamp_field: at}}
    fields: {code: {type: int64, one_of: [1]}}
  - name: texts
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: csv, path: rows.csv, timestamp_field: at}}
    fields: {text: string}
  - name: fixed
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: parquet, path: rows.parquet, static: true}}
    fields: {fixed: int64}
  - name: bound
    entity: user
    batch: {refresh: 1h, expires: field, source: {type: sql, query: "SELECT '7' AS user_id, now() AS at, $x AS bound", parameters: {x: y}, timestamp_field: at}}
    fields: {bound: string}
  - name: events
    entity: user
    stream: {refresh: 1h, batch_source: {type: jsonl, path: e.jsonl, timestamp_field: at}}
    fields: {taps: int64}
feature_services: []
"""
GOOD = "SELECT '7' AS user_id, TIMESTAMPTZ '2026-06-01 12:00Z' AS event_timestamp"


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (["coded"], {}, "field code: to_sql.. does not check one_of, pattern or max_length"),
        (["plans:width"], {}, "feature view plans: to_sql.. does not say when loads ran"),
        (["plans:width"], {"as_of": "loads"}, "does not say when loads ran"),
        (
            ["plans:tags"],
            {"as_of": "event_time"},
            "field tags: .* does not give the values of json",
        ),
        (["plans:years"], {"as_of": "event_time"}, None),
        (["texts"], {}, "feature view texts: .* cannot read a Csv source"),
        (["fixed"], {}, "feature view fixed: .* static"),
        (["bound"], {}, "feature view bound: .* parameters"),
        (["function"], {}, "feature view function: .* Python source"),
        (["events"], {}, "feature view events: .* events"),
        (["plans:years"], {"as_of": "event_time", "max_age": {"plans": "1m"}}, "max_age"),
        (["plans:years"], {"as_of": "event_time", "on_bad_row": "skip"}, "skip"),
    ],
)
def test_what_sql_cannot_say_is_refused(
    tmp_path: Path, features: list[str], options: dict[str, Any], message: str | None
) -> None:
    columns = {
        "user_id": ["7"],
        "at": pa.array([NOON], TIME),
        "width": [1],
        "age": [1],
        "years": [2],
        "tags": ["1"],
        "fixed": [3],
        "code": [1],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "e.jsonl").touch()
    (tmp_path / "rows.csv").write_text("user_id,at,text\n")
    (tmp_path / "m.py").write_text("")
    store = open_store(tmp_path, REFUSED.partition("feature_services")[0] + MORE.lstrip("\n"))
    job = store.get_historical_features(GOOD, features, **options)
    if message is None:
        check(job)
        return
    with pytest.raises(RequestError, match=message) as raised:
        job.to_sql()
    assert raised.value.hint


def test_labels_that_sql_cannot_read_are_refused(typed: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    pq.write_table(THREE, tmp_path / "folder/l.parquet")
    forms: list[tuple[Any, str]] = [
        (THREE, "labels that SQL can read"),
        (None, "labels that SQL can read"),
        (tmp_path / "folder", "a folder of labels"),
        ("SELECT '7' AS user_id, now()::TIMESTAMP AS event_timestamp", "not TIMESTAMP"),
        (
            "SELECT 7 AS user_id, now() AS event_timestamp",
            "does not compare INTEGER with a string",
        ),
        ("SELECT 7 AS user_id", "no column 'event_timestamp'"),
        ("SELECT '7' AS user_id, now() AS event_timestamp, 1 AS i", "also the name of a feature"),
    ]
    for form, message in forms:
        with pytest.raises(RequestError, match=message) as raised:
            typed.get_historical_features(form, ["profile"]).to_sql()
        assert raised.value.hint


def test_keys_that_expire_with_those_of_another_view_are_refused(tmp_path: Path) -> None:
    rows = {"user_id": ["7"], "at": pa.array([NOON], TIME), "size": [1], "age": [2]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    source = "source: {type: parquet, path: rows.parquet, timestamp_field: at}"
    store = open_store(
        tmp_path,
        f"""
entities: [{{name: user, join_keys: {{user_id: string}}}}]
feature_views:
  - {{name: owner, entity: user, batch: {{refresh: 1h, lookback: 1h, {source}}}, fields: {{age: int64}}}}
  - {{name: other, entity: user, batch: {{refresh: 1h, ttl: 1d, expires: field, {source}}}, fields: {{size: int64}}}}
""",
    )
    with pytest.raises(RequestError, match=r"feature view other: .* feature view owner renews"):
        store.get_historical_features(GOOD, ["other"]).to_sql()
    check(store.get_historical_features(GOOD, ["owner"]))
