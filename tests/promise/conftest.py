from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.servers import Server


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop, applied, on a server of each kind."""
    with applied(tmp_path / "repo", server.url) as store:
        yield store


@pytest.fixture
def shop(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop, applied, on Valkey."""
    with applied(tmp_path / "repo", valkey.url) as store:
        yield store


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A plain client of the server."""
    with server.client() as client:
        yield client
