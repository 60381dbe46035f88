"""Fixtures: real clusters, shared by a session and emptied before each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.stores import open_store
from featurekit.stores.cluster.store import ClusterStore
from tests.clusters import Cluster
from tests.promise.repos import applied
from tests.servers import PATIENT, redis_binary, valkey_binary

KINDS = {"valkey": (valkey_binary(), 3, 1)}
if redis_binary():
    KINDS |= {"redis8": (redis_binary(), 3, 0)}


@pytest.fixture(scope="session")
def clusters() -> Iterator[dict[str, Cluster]]:
    """The clusters that this process has started, by kind."""
    started: dict[str, Cluster] = {}
    yield started
    for cluster in started.values():
        cluster.remove()


def emptied(kind: str, clusters: dict[str, Cluster]) -> Cluster:
    """Return the empty cluster of a kind; start it at the first call."""
    if kind not in clusters:
        clusters[kind] = Cluster(*KINDS[kind])
    clusters[kind].flush()
    return clusters[kind]


@pytest.fixture
def valkeys(clusters: dict[str, Cluster]) -> Cluster:
    """An empty Valkey cluster: three primaries with one replica each."""
    return emptied("valkey", clusters)


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest, clusters: dict[str, Cluster]) -> Cluster:
    """An empty cluster of each kind that this machine has."""
    return emptied(str(request.param), clusters)


def opened(url: str) -> ClusterStore:
    """Open a store on a cluster."""
    store = open_store(url, Path(), options=PATIENT)
    assert isinstance(store, ClusterStore)
    return store


@pytest.fixture
def url(cluster: Cluster) -> str:
    """The URL of an empty cluster of each kind."""
    return cluster.url


@pytest.fixture
def store(url: str) -> Iterator[ClusterStore]:
    """An empty store on a cluster of each kind."""
    store = opened(url)
    yield store
    store.close()


@pytest.fixture
def shop(cluster: Cluster, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop, applied, on a cluster of each kind."""
    with applied(tmp_path / "repo", cluster.url) as store:
        yield store
