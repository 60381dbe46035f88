"""Sites for tests: a repository of entities of one key and of two, of batch and of stream views."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.server.running import await_jobs
from tests.servers import Server


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """The fraud repository, applied, with nothing stored."""
    with applied(tmp_path, valkey.url) as store:
        yield store
        await_jobs()
