"""A sample is measured on all nodes of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.data.repos import write_repo
from tests.data.test_estimate import ACTIVITY, profile, write_users


@pytest.mark.slow
def test_a_sample_is_measured_on_a_cluster_and_deleted(url: str, tmp_path: Path) -> None:
    write_users(write_repo(tmp_path, profile() + ACTIVITY, url), 300)
    with FeatureStore(tmp_path) as store:
        report = store.data.estimate({"user": 1_000_000}, sample=100)
        pages = store.handle.store.scan("*")
        assert not [key for page in pages for key in page if b":@" in key]
    assert report.servers >= 3
    assert report.entities[0].sample == 100
