"""A console on entities with a string key, an integer key and a composite key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.console import console_routes
from featurekit.server.context import ServerContext
from tests.promise.repos import applied
from tests.servers import Server
from tests.testclient import TestClient


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    """The applied repository with an empty store."""
    with applied(tmp_path, valkey.url) as store:
        yield store


def fill(store: FeatureStore, users: int = 3) -> None:
    """Store some of each entity: users u1, u2, …; only u1 has stream features."""
    names = [f"u{number}" for number in range(1, users + 1)]
    store.write_batch("profile", {u: {"country": "NO", "tx_count_7d": 7} for u in names})
    store.write_batch("shop", {42: {"country": "SE", "sales": 9}})
    store.write_batch("delays", {("JFK", "L:A"): {"minutes": 2.5}})
    store.stream_writer("activity").write("u1", {"tx_count_5m": 3})


def console(store: FeatureStore, *, tokens: str = "", writes: bool = False) -> TestClient:
    """Return a client of the console of a store."""
    context = ServerContext(store=store, tokens=Tokens.parse(tokens), allow_writes=writes)
    return TestClient(create_app(context, console_routes(context)), base_url="http://127.0.0.1")


@pytest.fixture
def client(store: FeatureStore) -> Iterator[TestClient]:
    """A client of a console with data."""
    fill(store)
    with console(store) as client:
        yield client
