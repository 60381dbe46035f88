"""One fixture for the contract: a store of each kind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.stores import open_store
from featurekit.stores.embedded_server import EmbeddedServer
from featurekit.stores.redis import RedisStore
from tests.conftest import KINDS, flushed
from tests.sentinels import Watched, watched
from tests.servers import Server, valkey_binary


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket; an embedded server in it is stopped."""
    path = Path(tempfile.mkdtemp(prefix="fk"))
    yield path
    EmbeddedServer(path).stop()
    shutil.rmtree(path)


def opened(url: str, root: Path = Path()) -> RedisStore:
    """A store, as the class that all of them share."""
    store = open_store(url, root)
    assert isinstance(store, RedisStore)
    return store


@pytest.fixture(scope="session")
def embedded_folder() -> Iterator[Path]:
    """A folder for the embedded server that a whole session shares."""
    path = Path(tempfile.mkdtemp(prefix="fk"))
    yield path
    EmbeddedServer(path).stop()
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def steady() -> Iterator[Watched]:
    """A primary, a replica and a sentinel, for a whole session; they are left as they were."""
    with watched(valkey_binary(), down_after_ms=60_000) as pair:
        yield pair


@pytest.fixture(params=["memory", "embedded", "sentinel", *KINDS])
def url(request: pytest.FixtureRequest, started: dict[str, Server], embedded_folder: Path) -> str:
    """The URL of an empty store of each kind."""
    kind = str(request.param)
    if kind in KINDS:
        return flushed(kind, started).url
    if kind == "sentinel":
        pair: Watched = request.getfixturevalue("steady")
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
