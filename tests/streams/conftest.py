"""A repository with stream views, on each kind of server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.servers import Server
from tests.streams.repositories import fields_without_ttl, repository


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """An applied repository. After each test, every stream field must have a TTL."""
    with repository(tmp_path, server.url) as store:
        yield store
    with server.client() as client:
        assert fields_without_ttl(client) == []
