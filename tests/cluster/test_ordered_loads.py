"""What is promised of batch views that are ordered by event time, held against clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.cluster.conftest import KINDS, emptied
from tests.clusters import Cluster
from tests.repo import test_ordered_loads as ordered

for _test in (
    ordered.test_an_older_row_is_left_out_and_one_of_an_equal_time_wins,
    ordered.test_an_older_row_leaves_everything_as_it_is_also_the_ttl,
    ordered.test_allow_older_overwrites_and_is_the_newest_from_then_on,
    ordered.test_missing_only_keeps_values_and_newer_rows_without_values,
    ordered.test_a_load_survives_a_server_that_lost_its_scripts,
    ordered.test_rows_of_a_program_have_a_time,
    ordered.test_ages_count_from_the_time_of_the_row,
):
    globals()[_test.__name__] = _test


EXPIRES = {"valkey": "key", "redis8": "field"}


@pytest.fixture(params=[kind for kind in EXPIRES if kind in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of server."""
    return str(request.param)


@pytest.fixture
def server(kind: str, clusters: dict[str, Cluster]) -> Cluster:
    return emptied(kind, clusters)


@pytest.fixture
def store(kind: str, tmp_path: Path, server: Cluster) -> Iterator[FeatureStore]:
    with ordered.open_store(tmp_path, server.url, EXPIRES[kind]) as store:
        yield store
