"""Fixtures: an empty store of each kind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.ports import AsyncOnlineStore
from featurekit.stores import open_async_store, open_store
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.pool import Pool
from featurekit.stores.redis import RedisStore
from featurekit.stores.url import StoreUrl
from tests.conftest import KINDS, flushed
from tests.sentinels import SentinelGroup, sentinel_group
from tests.servers import PATIENT, Server, valkey_binary


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket; its embedded server is stopped."""
    path = Path(tempfile.mkdtemp(prefix="fk"))
    yield path
    EmbeddedServer(path).stop()
    shutil.rmtree(path)


def opened(url: str, root: Path = Path()) -> RedisStore:
    """Open a store, typed as the base class of the stores under test."""
    store = open_store(url, root, options=PATIENT)
    assert isinstance(store, RedisStore)
    return store


def opened_async(url: str, root: Path = Path()) -> AsyncOnlineStore:
    """Open a store for an event loop, with time to connect on a busy machine."""
    return open_async_store(url, root, options=PATIENT)


def store_and_pool(url: str) -> tuple[RedisStore, Pool]:
    """Open a store on one server, and return its connection pool too."""
    parsed = StoreUrl.parse(url, PATIENT)
    pool = Pool(parsed)
    return RedisStore(parsed, pool), pool


@pytest.fixture(scope="session")
def embedded_folder() -> Iterator[Path]:
    """The folder of an embedded server that all tests of the session share."""
    path = Path(tempfile.mkdtemp(prefix="fk"))
    yield path
    EmbeddedServer(path).stop()
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def stable_group() -> Iterator[SentinelGroup]:
    """A group for the whole session; each test restores its state."""
    with sentinel_group(valkey_binary(), down_after_ms=60_000) as pair:
        yield pair


@pytest.fixture(params=["memory", "embedded", "sentinel", *KINDS])
def url(request: pytest.FixtureRequest, started: dict[str, Server], embedded_folder: Path) -> str:
    """The URL of an empty store of each kind."""
    kind = str(request.param)
    if kind in KINDS:
        return flushed(kind, started).url
    if kind == "sentinel":
        pair: SentinelGroup = request.getfixturevalue("stable_group")
        url = pair.url
    else:
        url = f"{kind}://{embedded_folder}"
    store = opened(url)
    store.call("FLUSHALL")
    store.close()
    return url


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    """An empty store of each kind."""
    store = opened(url)
    yield store
    store.close()
