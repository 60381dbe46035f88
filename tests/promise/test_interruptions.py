from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import LockedError, StoreError, StoreUnavailableError
from featurekit.runtime.lock import ViewLock
from featurekit.stores import open_store
from featurekit.stores.embedded_server import EmbeddedServer
from tests.fault_proxy import FaultProxy
from tests.promise.repos import FRAUD, applied, immortal
from tests.servers import Server

USERS = 8000
VIEWS = ["profile", "scores"]
SOURCED = FRAUD.replace(
    "ttl: 1h, expires: field}",
    "ttl: 1h, expires: field, source: {type: parquet, path: scores.parquet}}",
)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "duckdb",
        "featurekit.repo.feature_store",
        "featurekit.runtime.load_tables",
        "featurekit.stores.redis",
    ]
)


def write_sources(folder: Path, users: int = USERS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"u{i}" for i in range(users)]
    numbers = [None if i % 10 == 0 else i for i in range(users)]
    tags = pa.array([["a", "b"]] * users, pa.list_(pa.string()))
    when = pa.array([1] * users, pa.timestamp("us", "UTC"))
    columns = {"user_id": ids, "country": ["NO"] * users, "tx_count_7d": numbers}
    pq.write_table(pa.table({**columns, "tags": tags, "t": when}), folder / "users.parquet")
    risks = pa.array([0.5] * users)
    table = pa.table({"user_id": ids, "risk": risks, "model": pa.nulls(users, pa.string())})
    pq.write_table(table, folder / "scores.parquet")


@pytest.fixture
def loading(server: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """The shop with two sources of many users."""
    write_sources(tmp_path)
    with applied(tmp_path, server.url, SOURCED) as store:
        yield store


def assert_complete(client: redis.Redis, users: int = USERS) -> None:
    assert client.dbsize() == users
    for user in random.sample(range(users), 50):
        stored = {b"country": b"NO", b"tags": b'["a","b"]', b"risk": b"0.5"}
        if user % 10:
            stored[b"tx_count_7d"] = b"%d" % user
        assert client.hgetall(f"fs:user:u{user}") == stored


def test_a_load_killed_at_any_moment_leaves_nothing_without_its_expiry(
    loading: FeatureStore, client: redis.Redis
) -> None:
    for turn in range(6):
        client.flushall()
        process = start(loading)
        moment = random.randrange(USERS)
        while client.dbsize() <= moment and process.is_alive():
            time.sleep(0.001)
        time.sleep(random.random() * 0.05)
        process.kill()
        process.join()
        assert not immortal(client)
        if turn % 2:
            loading.materialize(VIEWS)
            assert_complete(client)
            assert not immortal(client)


def start(store: FeatureStore) -> multiprocessing.process.BaseProcess:
    """A process that loads."""
    process = PROCESSES.Process(target=FeatureStore.materialize, args=(store, VIEWS))
    process.start()
    return process


def command(store: FeatureStore) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "featurekit", "--repo", str(store.path), "materialize", *VIEWS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(condition: Any, seconds: float = 20) -> None:
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.001)


def test_an_interrupted_load_says_so_and_frees_its_lock(valkey: Server, tmp_path: Path) -> None:
    write_sources(tmp_path, 100_000)
    with applied(tmp_path, valkey.url, SOURCED) as store, valkey.client() as client:
        process = command(store)
        wait_for(lambda: client.dbsize() > 5000)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert b"Traceback" not in said
        assert 5000 < client.dbsize() < 100_000
        assert not client.exists("fs:@lock:profile")
        assert not immortal(client)
        assert store.materialize(["profile"])[0].rows_written == 100_000


def slow_lines(started: threading.Event, end: threading.Event) -> Iterator[str]:
    for i in range(100_000):
        if i == 2000:
            started.set()
        if i > 2000 and end.wait(0.02):
            return
        yield f'{{"user_id": "u{i}", "risk": 0.5}}'


def test_of_two_loads_of_one_view_the_second_is_told(shop: FeatureStore) -> None:
    started, end = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(shop.write_jsonl, "scores", slow_lines(started, end))
        started.wait(10)
        with pytest.raises(
            LockedError, match=r"process \d+ on \S+ is loading feature view 'scores'"
        ):
            shop.write_batch("scores", {"u1": {"risk": 1.0}})
        assert shop.write_batch("profile", {"u1": {}}).rows_written == 1
        end.set()
    assert shop.write_batch("scores", {"u1": {"risk": 1.0}}).rows_written == 1


def test_the_lock_of_a_dead_process_is_taken_over_at_once(
    loading: FeatureStore, client: redis.Redis
) -> None:
    process = start(loading)
    wait_for(lambda: client.exists("fs:@lock:profile"))
    process.kill()
    process.join()
    assert client.exists("fs:@lock:profile")
    began = time.monotonic()
    loading.write_batch("profile", {"u1": {"country": "NO"}})
    assert time.monotonic() - began < 1


def test_a_load_that_loses_its_lock_stops(valkey: Server, shop: FeatureStore) -> None:
    started, end = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool, valkey.client() as client:
        load = pool.submit(shop.write_jsonl, "scores", slow_lines(started, end))
        started.wait(10)
        client.set("fs:@lock:scores", "another's", px=5000)
        time.sleep(2.2)  # a renewal is due
        end.set()
        with pytest.raises(LockedError, match="lost the lock"):
            load.result(30)
        assert client.get("fs:@lock:scores") == b"another's"


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_load_whose_connection_is_cut_completes(
    server: Server, tmp_path: Path, client: redis.Redis, direction: str
) -> None:
    write_sources(tmp_path)
    with FaultProxy(server.socket) as proxy, applied(tmp_path, proxy.url, SOURCED) as store:
        for cut in (1, 9999, 123_456):
            getattr(proxy, direction).cut_after(random.randint(1, cut))
            with suppress(StoreError):  # cut in what is never sent twice
                store.materialize(VIEWS)
            assert not immortal(client)
            proxy.heal()
            store.materialize(VIEWS)
            assert_complete(client)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "online")
    yield server
    server.stop()


def test_a_load_survives_the_restart_of_its_server(
    embedded: EmbeddedServer, tmp_path: Path
) -> None:
    write_sources(tmp_path, 100_000)
    with applied(tmp_path, "embedded://online", SOURCED) as store:
        store.reset()
        with (
            ThreadPoolExecutor(1) as pool,
            redis.Redis(unix_socket_path=str(embedded.socket)) as client,
        ):
            report = pool.submit(store.materialize, ["profile"])
            wait_for(lambda: client.dbsize() > 5000)
            os.kill(embedded.status().pid, signal.SIGKILL)
            assert report.result(60)[0].rows_written == 100_000
        assert store.reset() == 100_000


def test_a_lock_whose_answers_are_lost_is_held_and_freed_all_the_same(valkey: Server) -> None:
    with FaultProxy(valkey.socket) as proxy, valkey.client() as client:
        store = open_store(proxy.url, Path())
        store.call("PING")
        proxy.to_client.cut_after(1)
        with ViewLock(store, "fs", "profile", 0):
            assert client.exists("fs:@lock:profile")
            proxy.to_client.cut_after(1)
        assert not client.exists("fs:@lock:profile")
        store.close()


def test_a_lock_left_behind_by_this_process_keeps_nobody_out(valkey: Server) -> None:
    with FaultProxy(valkey.socket) as proxy, valkey.client() as client:
        store = open_store(proxy.url, Path())
        store.call("PING")
        proxy.to_client.cut_after(len(b"+OK\r\n") + 1)  # taken, but not proven
        with pytest.raises(StoreUnavailableError), ViewLock(store, "fs", "profile", 0):
            pass
        assert client.exists("fs:@lock:profile")
        with ViewLock(store, "fs", "profile", 0), pytest.raises(LockedError):
            ViewLock(store, "fs", "profile", 0).__enter__()
        store.close()
