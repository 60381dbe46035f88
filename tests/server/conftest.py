"""A repository with entities of one and two join keys, and with batch and stream views."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.server.server_process import await_jobs
from tests.servers import Server


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """The applied fraud repository with an empty store."""
    with applied(tmp_path, valkey.url) as store:
        yield store
        await_jobs()
