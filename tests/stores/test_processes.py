"""Stores in several processes: after `fork`, and pickled."""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from featurekit.ports import Chunk
from featurekit.stores.connection import PING
from featurekit.stores.deadline import Deadline
from featurekit.stores.redis import RedisStore
from featurekit.wire import command
from tests.servers import Server
from tests.stores.conftest import opened, store_and_pool

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


@pytest.mark.slow
def test_a_pickled_store_works_in_another_process(store: RedisStore) -> None:
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).call('GET', 'k'))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(store), capture_output=True, check=True
    )
    assert done.stdout == b"b'1'\n"


def test_a_child_may_use_all_connections_although_the_parent_uses_them(valkey: Server) -> None:
    store, pool = store_and_pool(f"{valkey.url}?max_connections=1&timeout=5s")
    permit = pool.acquire_permit(Deadline(1))
    assert in_child(lambda: store.run([b"no"], [command(b"GET", b"no")])) == "[None]"
    permit.release()
    store.close()


def test_a_child_closes_the_connections_that_the_parent_uses(valkey: Server) -> None:
    store, pool = store_and_pool(valkey.url)
    connection = pool.get(Deadline(1), time.monotonic())

    def put_back_and_read() -> object:
        pool.put(connection)  # as a load does that the child's garbage collector closes
        return connection.closed, len(pool.idle), store.run([b"no"], [command(b"GET", b"no")])

    assert in_child(put_back_and_read) == "(True, 0, [None])"
    assert connection.exchange(PING, 1, 5) == [b"PONG"]
    pool.put(connection)
    store.close()


def test_a_load_that_a_child_drops_continues_in_the_parent(valkey: Server) -> None:
    store = opened(valkey.url)
    chunk = Chunk(command(b"SET", b"k", b"1"), 1, 1, 1)
    load = store.load(chunk for _ in range(20))
    next(load)
    assert isinstance(load, Generator)

    def drop_and_read() -> object:
        load.close()
        return store.run([b"k"], [GET])

    assert in_child(drop_and_read) == "[b'1']"
    assert len(list(load)) == 19
    store.close()


NUMBERS = [b"%d" % number for number in range(200)]


def wrong_answers(store: RedisStore, reads: int) -> list[bytes]:
    """Return the keys of `NUMBERS` that were answered with another value than themselves."""
    keys = random.choices(NUMBERS, k=reads)
    return [key for key in keys if store.run([key], [command(b"GET", key)]) != [key]]


def wrong_answers_in_threads(store: RedisStore) -> list[bytes]:
    with ThreadPoolExecutor(8) as threads:
        return list(chain(*threads.map(lambda _: wrong_answers(store, 4), range(8))))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_threads_of_a_child_never_read_replies_of_the_parent(valkey: Server) -> None:
    store = opened(valkey.url)
    store.run(NUMBERS, [command(b"SET", key, key) for key in NUMBERS])
    stop, wrong = threading.Event(), []

    def read_until_stopped() -> None:
        while not stop.is_set():
            wrong.extend(wrong_answers(store, 10))

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    parent = threading.Thread(target=read_until_stopped)
    try:
        wrong_answers_in_threads(store)
        parent.start()
        reported = {in_child(lambda: wrong_answers_in_threads(store)) for _ in range(25)}
    finally:
        stop.set()
        parent.join()
        sys.setswitchinterval(interval_s)
    assert (reported, wrong) == ({"[]"}, [])
    store.close()


def test_a_process_that_was_forked_without_pythons_knowledge_starts_empty(
    valkey: Server,
) -> None:
    store = opened(valkey.url)
    mine = store.call("CLIENT", "ID")
    read, write = os.pipe()
    if not ctypes.CDLL(None).fork():
        os.write(write, b"%d" % (store.call("CLIENT", "ID") != mine))
        os._exit(0)
    os.wait()
    assert os.read(read, 10) == b"1"
    assert store.call("CLIENT", "ID") == mine
    os.close(read)
    os.close(write)
    store.close()
