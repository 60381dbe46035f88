"""Stores in several processes: after `fork`, and pickled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from featurekit.stores.redis import RedisStore
from featurekit.wire import command
from tests.servers import Server
from tests.stores.conftest import opened

GET = command(b"GET", b"k")


@pytest.fixture
def store(valkey: Server) -> Iterator[RedisStore]:
    store = opened(valkey.url)
    store.call("SET", "k", "1")
    yield store
    store.close()


def in_child(act: Callable[[], object]) -> object:
    """Return the `repr` of the result of `act` in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, repr(act()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_a_forked_child_opens_its_own_connection(store: RedisStore) -> None:
    mine = store.call("CLIENT", "ID")
    reported = in_child(lambda: (store.run([b"k"], [GET]), store.call("CLIENT", "ID") != mine))
    assert reported == "([b'1'], True)"


def test_a_fork_leaves_the_connection_to_the_parent(store: RedisStore) -> None:
    mine = store.call("CLIENT", "ID")
    in_child(lambda: [store.run([b"k"], [GET]), store.close()])
    in_child(store.close)
    assert store.call("CLIENT", "ID") == mine


def test_a_forked_child_keeps_the_capabilities(store: RedisStore) -> None:
    capabilities = store.capabilities
    assert in_child(lambda: store.capabilities) == repr(capabilities)


def test_a_pickled_store_works_in_another_process(store: RedisStore) -> None:
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).call('GET', 'k'))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(store), capture_output=True, check=True
    )
    assert done.stdout == b"b'1'\n"
