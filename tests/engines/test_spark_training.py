"""Training sets on Spark: the same labels and histories give the same values as in this process."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.compiler import compile_read
from featurekit.errors import BadRowError, RequestError
from featurekit.history_ports import AsOf
from featurekit.plan import ParquetSourcePlan, SqlSourcePlan, ViewPlan
from featurekit.repo.histories import Histories
from featurekit.repo.load_engines import LoadEngine
from featurekit.training import RetrievalJob, TrainingRequest
from tests.training.test_histories import AS_OF, YAML, check_world
from tests.training.test_jobs import HOUR, NOON
from tests.training.test_point_in_time import (
    ENTITIES,
    FIELDS,
    TICKS,
    TIME,
    VIEWS,
    at,
    history,
    open_store,
    write,
)

pytestmark = pytest.mark.slow

WORLDS = int(os.environ.get("FEATUREKIT_TEST_WORLDS", "1"))
"""Random histories for each test. More of them take long."""

PARQUET_VIEWS = VIEWS.replace("TYPE", "parquet").replace(
    "{type: sql, query: \"FROM 'stock.parquet'\",", "{type: parquet, path: stock.parquet,"
)


def random_labels(rng: random.Random, rows: int = 200) -> Any:
    shops = rng.choices(ENTITIES["sales"], k=rows)
    return pa.table(
        {
            "target": pa.array(range(rows)).cast(pa.int32()),
            "country": pa.array([shop[0] for shop in shops]).dictionary_encode(),
            "shop_id": [shop[1] for shop in shops],
            "user_id": [user[0] for user in rng.choices(ENTITIES["profile"], k=rows)],
            "event_timestamp": pa.array(
                [at(tick) for tick in rng.choices(range(TICKS + 9), k=rows)], TIME
            ),
        }
    )


def check_equal(
    store: FeatureStore, spark: Any, labels: Any, features: Any, **options: Any
) -> Any:
    """Return the training set of both engines, which must be the same."""
    local = store.get_historical_features(labels, features, statuses=True, **options)
    remote = store.get_historical_features(
        labels, features, statuses=True, engine=spark, **options
    )
    with remote:
        expected, found = local.to_arrow(), remote.to_arrow()
        assert found.schema == expected.schema
        assert found.to_pylist() == expected.to_pylist()
        metadata = dict(remote.metadata)
        assert metadata.pop("engine") == "spark"
        wanted = dict(local.metadata)
        for view in wanted["views"]:
            view.pop("identity", None)
        assert metadata == wanted
    return expected


@pytest.mark.parametrize("seed", range(WORLDS))
def test_random_histories_give_the_same_training_sets(
    tmp_path: Path, spark: Any, seed: int
) -> None:
    rng = random.Random(seed)
    for view in FIELDS:
        write(tmp_path, view, "parquet", history(rng, view))
    with open_store(tmp_path, PARQUET_VIEWS) as store:
        check_equal(store, spark, random_labels(rng), ["profile", "sales", "stock"])


def read_on_spark(
    spark: Any, histories: Histories, views: Sequence[ViewPlan], moments: Any, users: list[int]
) -> dict[str, list[Any]]:
    """Return the values of the fields of views at moments, as `test_histories.read_here`."""
    views = [_for_spark(view, histories.root) for view in views]
    repo = replace(histories.repo, views=tuple(views))
    labels = pa.table(
        {"user_id": pa.array(users, pa.int64()), "event_timestamp": moments["at"].cast(TIME)}
    )
    request = TrainingRequest(
        compile_read(repo, [view.name for view in views]),
        tuple(views),
        labels,
        "event_timestamp",
        read_values=lambda *_: pytest.fail("the rows are read in this process"),
        statuses=False,
        run=lambda action, *_: action(),
        now_ms=lambda: 0,
        build=LoadEngine(spark).training_sets(replace(histories, repo=repo), skip_bad_rows=False),
    )
    with RetrievalJob(request) as job:
        return dict(job.to_arrow().drop(labels.schema.names).to_pydict())


def _for_spark(view: ViewPlan, folder: Path) -> ViewPlan:
    """Return a view with files that Spark reads: without nanoseconds and without DuckDB's SQL."""
    if isinstance(view.history, SqlSourcePlan):
        times = {
            name: getattr(view.history, name)
            for name in ("timestamp_field", "created_timestamp_field")
        }
        view = replace(view, history=ParquetSourcePlan(paths=("s.parquet",), **times))
    if view.kind == "batch":
        path = folder / f"{view.name}.parquet"
        table = pq.read_table(path)
        types = [TIME if pa.types.is_timestamp(f.type) else f.type for f in table.schema]
        table = table.cast(pa.schema(list(zip(table.schema.names, types, strict=True))))
        pq.write_table(table, path, row_group_size=9)
    return view


@pytest.mark.parametrize("seed", range(1, 1 + WORLDS))
@pytest.mark.parametrize("as_of", AS_OF)
def test_histories_on_spark_equal_the_simulator(
    tmp_path: Path, spark: Any, as_of: AsOf, seed: int
) -> None:
    with open_store(tmp_path, YAML) as store:
        read = partial(read_on_spark, spark)
        check_world(tmp_path, store.compiled, seed, as_of, 25, 12, read=read)


SHOP = """
entities: [{name: user, join_keys: {user_id: string}}, {name: port, join_keys: {port: int64}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, ttl: 2h, source: {type: parquet, path: 'users/*.parquet', timestamp_field: at}}
    fields: {age: {type: int64, max: 100}, created: {type: string, default: never}}
  - name: weather
    entity: port
    batch: {refresh: 1h, ttl: 90m, expires: field, source: {type: csv, path: weather.csv, timestamp_field: at}}
    fields: {wind: {type: 'vector<float32, 2>'}, rain: decimal}
  - name: rates
    batch: {refresh: 1h, ttl: 3h, source: {type: csv, path: rates.csv, timestamp_field: at}}
    fields: {rate: float64}
  - name: ports
    entity: port
    batch: {refresh: 1h, expires: field, source: {type: parquet, path: ports.parquet, static: true}}
    fields: {name: string}
"""
FEATURES: list[Any] = [
    "profile",
    {"view": "weather", "as": "origin", "join_keys": {"port": "origin"}},
    {"view": "weather", "as": "dest", "join_keys": {"port": "dest"}},
    "rates",
    {"view": "ports", "as": "origin", "join_keys": {"port": "origin"}},
]


LOOKUPS: list[Any] = [
    "profile",
    {"view": "ports", "as": "origin", "join_keys": {"port": "origin"}},
    {"view": "ports", "as": "dest", "join_keys": {"port": "dest"}},
    "rates",
]


def hours(values: Sequence[float]) -> Any:
    return pa.array([NOON + timedelta(hours=h) for h in values], TIME)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "users").mkdir()
    for i in range(2):
        users = {
            "user_id": ["a", "b", "", "c"],
            "age": [i, 40, 1, None],
            "created": ["x", None, "y", "z"],
        }
        times = hours([0, i, 0, -i])
        pq.write_table(pa.table({**users, "at": times}), tmp_path / "users" / f"{i}.parquet")
    wind = "port,wind,rain,at\n" + "".join(
        f'{port},"[{h}, 0.5]",{h}.50,2026-06-01T{12 + h}:00:00Z\n'
        for port in ("1", "007")
        for h in range(3)
    )
    (tmp_path / "weather.csv").write_text(wind)
    (tmp_path / "rates.csv").write_text(
        "rate,at\n1.5,2026-06-01T12:00:00Z\n2.5,2026-06-01T13:00:00Z\n"
    )
    pq.write_table(
        pa.table({"port": [1, 7], "name": ["Oslo", "Bergen"]}), tmp_path / "ports.parquet"
    )
    with open_store(tmp_path, SHOP) as store:
        yield store


LABELS = pa.table(
    {
        "user_id": pa.array(["a", "b", "c", "x", "a"]).dictionary_encode(),
        "origin": pa.array([1, 7, 1, 2, 7], pa.int32()),
        "dest": [7, 7, 1, 1, 3],
        "event_timestamp": hours([0, 1, 3.5, 2, 1.5]).cast(pa.timestamp("ns", "Europe/Oslo")),
        "half": pa.array([1, 2, 3, None, 5], pa.float16()),
    }
)


def test_all_kinds_of_views_and_ages(shop: FeatureStore, spark: Any) -> None:
    limits = {"profile": timedelta(minutes=50), "weather": timedelta(minutes=61)}
    spark.conf.set("spark.sql.adaptive.enabled", "true")
    try:
        check_equal(shop, spark, LABELS, FEATURES, max_age=limits)
    finally:
        spark.conf.set("spark.sql.adaptive.enabled", "false")
    check_equal(shop, spark, None, ["profile"], end_date=NOON + HOUR)


def test_labels_that_spark_reads_and_results_that_it_keeps(
    shop: FeatureStore, spark: Any, tmp_path: Path
) -> None:
    plain = LABELS.drop(["half"]).cast(
        pa.schema(
            [
                ("user_id", pa.string()),
                ("origin", pa.int32()),
                ("dest", pa.int64()),
                ("event_timestamp", TIME),
            ]
        )
    )
    pq.write_table(plain, tmp_path / "labels.parquet")
    folder = tmp_path / "train"
    on_spark = spark.createDataFrame(plain)
    for labels, features in ((tmp_path / "labels.parquet", LOOKUPS), (on_spark, LOOKUPS[:2])):
        wanted = shop.get_historical_features(plain, features).to_arrow()
        with shop.get_historical_features(labels, features, engine=spark) as job:
            found = job.to_arrow()
            assert found.schema.names == wanted.schema.names
            assert found.to_pylist() == wanted.to_pylist()
            assert job.metadata["labels"] == {"rows": 5}
    wanted = shop.get_historical_features(plain, ["profile"]).to_arrow()
    with shop.get_historical_features(on_spark, ["profile"], engine=spark, statuses=True) as job:
        assert job.to_spark().count() == 5
        folder = job.persist(tmp_path / "train")
        job.persist(folder, allow_overwrite=True)
    assert json.loads((folder / "manifest.json").read_text())["engine"] == "spark"
    written = pq.read_table(folder / "data.parquet").select(wanted.schema.names)
    assert sorted(map(str, written.to_pylist())) == sorted(map(str, wanted.to_pylist()))
    shop.get_historical_features(plain, ["profile"]).persist(folder, allow_overwrite=True)
    assert (folder / "data.parquet").is_file()


def test_labels_on_spark_are_checked(shop: FeatureStore, spark: Any) -> None:
    def refused(frame: Any) -> str:
        with pytest.raises(RequestError) as error:
            shop.get_historical_features(frame, ["profile"], engine=spark).to_arrow()
        return str(error.value)

    moment = "timestamp '2026-06-01 12:00:00Z' AS event_timestamp"
    assert "labels, join key user_id" in refused(spark.sql(f"SELECT '' AS user_id, {moment}"))
    assert "7 is not a string" in refused(spark.sql(f"SELECT 7 AS user_id, {moment}"))
    assert "no column 'user_id'" in refused(spark.sql(f"SELECT {moment}"))
    assert "name of a feature" in refused(spark.sql(f"SELECT 'a' AS user_id, 1 AS age, {moment}"))
    naive = "timestamp_ntz '2026-06-01 12:00:00' AS event_timestamp"
    assert "no time zone" in refused(spark.sql(f"SELECT 'a' AS user_id, {naive}"))
    none = "CAST(NULL AS timestamp) AS event_timestamp"
    assert "no time" in refused(spark.sql(f"SELECT 'a' AS user_id, {none}"))
    here = pa.table(
        {"user_id": ["a"], "event_timestamp": hours([0]), "n": pa.array([1], pa.timestamp("ns"))}
    )
    assert "labels, n" in refused(here)
    here = here.set_column(2, "n", pa.array([1], pa.time64("us")))
    assert "no type for time64" in refused(here)
    with pytest.raises(RequestError, match="engine='spark'"):
        shop.get_historical_features(here, ["profile"]).to_spark()
    with pytest.raises(RequestError, match="no engine 5"):
        shop.get_historical_features(here, ["profile"], engine=5)


def test_rows_that_do_not_fit_fail_or_are_skipped(
    shop: FeatureStore, spark: Any, tmp_path: Path
) -> None:
    row = {"user_id": ["a", "b"], "age": [101, 7], "created": ["x", "y"], "at": hours([2, 2])}
    pq.write_table(pa.table(row), tmp_path / "users" / "2.parquet")
    labels = pa.table({"user_id": ["a", "a", "b"], "event_timestamp": hours([3, 3, 3])})
    check_equal(shop, spark, labels, ["profile"], on_bad_row="skip")
    with pytest.raises(
        BadRowError, match=r"profile, 2.parquet, row 1, age: 101 is above"
    ) as error:
        shop.get_historical_features(labels, ["profile"], engine=spark).to_arrow()
    assert "Traceback" not in str(error.value)


def test_the_file_of_the_repository_names_the_engine(
    shop: FeatureStore, spark: Any, tmp_path: Path
) -> None:
    config = tmp_path / "featurerepo.yaml"
    config.write_text(config.read_text() + "engine: spark\n")
    labels = pa.table({"user_id": ["a"], "event_timestamp": hours([0])})
    with FeatureStore(tmp_path) as store:
        store.apply()
        job = store.get_historical_features(labels, ["profile"])
        assert job.metadata["engine"] == "spark"
        job.close()
        local = store.get_historical_features(labels, ["profile"], engine="duckdb")
        assert "engine" not in local.metadata
