"""Training sets on Spark: the same labels and histories give the same values as in this process."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.compiler import compile_read
from featurekit.history_ports import AsOf
from featurekit.plan import ParquetSourcePlan, SqlSourcePlan, ViewPlan
from featurekit.repo.histories import Histories
from featurekit.repo.load_engines import LoadEngine
from featurekit.training import RetrievalJob, TrainingRequest
from tests.training.test_histories import AS_OF, YAML, check_world
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


@pytest.mark.parametrize("seed", range(2))
def test_random_histories_give_the_same_training_sets(
    tmp_path: Path, spark: Any, seed: int
) -> None:
    rng = random.Random(seed)
    for view in FIELDS:
        write(tmp_path, view, "parquet", history(rng, view))
    with open_store(tmp_path, PARQUET_VIEWS) as store:
        for as_of in ("event_time", "created", None):
            check_equal(
                store, spark, random_labels(rng), ["profile", "sales", "stock"], as_of=as_of
            )


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


@pytest.mark.parametrize("as_of", AS_OF)
def test_histories_on_spark_equal_the_simulator(tmp_path: Path, spark: Any, as_of: AsOf) -> None:
    with open_store(tmp_path, YAML) as store:
        read = partial(read_on_spark, spark)
        check_world(tmp_path, store.compiled, 1, as_of, 25, 12, read=read)
