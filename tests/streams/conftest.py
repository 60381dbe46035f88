"""A repository with stream views, on each kind of server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.servers import Server
from tests.streams.repos import immortal, repository


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """An applied repository; whatever a test does, no stream field is left without expiry."""
    with repository(tmp_path, server.url) as store:
        yield store
    with server.client() as client:
        assert immortal(client) == []
