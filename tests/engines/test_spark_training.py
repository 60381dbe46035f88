"""Training sets on Spark: the same labels and histories give the same values as in this process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
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
