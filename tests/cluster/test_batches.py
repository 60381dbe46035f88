"""What is promised of batch views, held against clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from featurekit import FeatureStore
from tests.cluster.test_moves import assert_all_expire
from tests.clusters import Cluster
from tests.promise import test_expiry, test_odd_rows
from tests.promise.repos import applied

globals().update(
    {
        name: test
        for module in (test_expiry, test_odd_rows)
        for name, test in vars(module).items()
        if name.startswith("test_")
    }
)


@pytest.fixture
def server(valkeys: Cluster) -> Cluster:
    return valkeys


@pytest.fixture
def store(valkeys: Cluster, tmp_path: Path) -> Iterator[FeatureStore]:
    with applied(tmp_path / "repo", valkeys.url) as store:
        yield store


@pytest.fixture
def shop(store: FeatureStore) -> FeatureStore:
    return store


@pytest.fixture
def client(valkeys: Cluster) -> Iterator[redis.RedisCluster]:
    with valkeys.client() as client:
        yield client
    assert_all_expire(valkeys)
