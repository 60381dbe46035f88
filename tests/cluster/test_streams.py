"""What is promised of stream views, held against clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.clusters import Cluster
from tests.streams import test_event_time, test_writer
from tests.streams.repositories import fields_without_ttl, repository

SLOW = {"test_a_log_in_any_order_ends_in_the_same_state"}
"""Held against single servers alone: its hundreds of looks by redis-py's cluster client take long."""

globals().update(
    {
        name: test
        for module in (test_writer, test_event_time)
        for name, test in vars(module).items()
        if name.startswith("test_") or name in {"now_ms", "writer"}
        if name not in SLOW
    }
)


@pytest.fixture
def server(valkeys: Cluster) -> Cluster:
    return valkeys


@pytest.fixture
def store(valkeys: Cluster, tmp_path: Path) -> Iterator[FeatureStore]:
    with repository(tmp_path / "repo", valkeys.url) as store:
        yield store
    with valkeys.client() as client:
        assert fields_without_ttl(client) == []
