from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
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
from featurekit.repo.store_handle import now_ms
from featurekit.runtime.lock import ViewLock
from featurekit.runtime.processes import process_identity
from featurekit.stores import open_store
from featurekit.stores.embedded_server import EmbeddedServer
from tests.fault_proxy import FaultProxy
from tests.promise.repos import FRAUD, applied, immortal
from tests.servers import PATIENT, Server

pytestmark = pytest.mark.slow

USERS = 8000
ROWS_OF_A_CHUNK = 16_384
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
    assert len(list(client.scan_iter("fs:user:*", count=10_000))) == users
    for user in random.sample(range(users), 50):
        stored = {b"country": b"NO", b"tags": b'["a","b"]', b"risk": b"0.5"}
        if user % 10:
            stored[b"tx_count_7d"] = b"%d" % user
        assert client.hgetall(f"fs:user:u{user}") == stored


def test_a_load_killed_at_any_moment_leaves_nothing_without_its_expiry(
    loading: FeatureStore, client: redis.Redis
) -> None:
    for turn in range(6):
        loading.reset()
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


def wait_for(condition: Any, seconds: float = 60) -> None:
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
        _, said = process.communicate(timeout=60)
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
        started.wait(60)
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
    assert time.monotonic() - began < 8  # the lock's TTL is 10 seconds


def holder(**other: object) -> str:
    """Return the value of a lock whose owner is this process, or differs from it in some parts."""
    return json.dumps({"host": socket.gethostname(), "since_ms": 0, **process_identity(), **other})


def an_ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("place", ["another container", "another machine", "unknown"])
def test_a_lock_of_another_pid_namespace_is_not_taken_while_its_owner_renews_it(
    shop: FeatureStore, valkey: Server, place: str
) -> None:
    namespace = str(process_identity()["pid_namespace"])
    boot, pids, times = namespace.split(" ")
    other = {
        "another container": f"{boot} pid:[1] {times}",
        "another machine": f"{boot[::-1]} {pids} {times}",
        "unknown": None,
    }[place]
    lock = holder(pid=an_ended_process(), pid_namespace=other)
    with ThreadPoolExecutor(1) as pool, valkey.client() as client:
        client.set("fs:@lock:scores", lock, px=10_000)
        load = pool.submit(shop.write_batch, "scores", {"u1": {"risk": 1.0}})
        while not load.done():
            client.set("fs:@lock:scores", lock, px=10_000)
            time.sleep(0.05)
        with pytest.raises(LockedError, match="is loading feature view 'scores'"):
            load.result()
        assert client.get("fs:@lock:scores") == lock.encode()


def test_a_lock_whose_process_id_was_used_again_is_taken_over_at_once(
    shop: FeatureStore, valkey: Server
) -> None:
    with valkey.client() as client:
        others: list[dict[str, object]] = [
            {"pid": os.getppid(), "start": 1},
            {"pid": an_ended_process()},
        ]
        for other in others:
            client.set("fs:@lock:scores", holder(**other), px=60_000)
            assert shop.write_batch("scores", {"u1": {"risk": 1.0}}).rows_written == 1


def test_a_lock_of_another_format_is_respected(shop: FeatureStore, valkey: Server) -> None:
    with valkey.client() as client:
        client.set("fs:@lock:scores", "[1]")
        with pytest.raises(LockedError):
            shop.write_batch("scores", {"u1": {"risk": 1.0}})


def of_generation(client: redis.Redis, number: int, users: int) -> int:
    """Return how many users have the values of a generation of the source."""
    pipe = client.pipeline(transaction=False)
    for user in range(users):
        pipe.hget(f"fs:user:u{user}", "country")
    return pipe.execute().count(b"%d" % number)


def generation(number: int, users: int) -> pa.Table:
    tags, times = pa.nulls(users, pa.list_(pa.string())), pa.array([1] * users)
    columns: dict[str, Any] = {"user_id": [f"u{i}" for i in range(users)], "tags": tags}
    columns |= {"country": [f"{number}"] * users, "tx_count_7d": [1] * users}
    return pa.table(columns | {"t": times.cast(pa.timestamp("us", "UTC"))})


@pytest.mark.slow
def test_a_load_that_was_paused_overwrites_at_most_one_chunk_of_a_newer_load(
    valkey: Server, tmp_path: Path
) -> None:
    users = 300_000
    with applied(tmp_path, valkey.url, SOURCED) as store, valkey.client() as client:
        pq.write_table(generation(1, users), tmp_path / "users.parquet")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "featurekit",
                "--repo",
                str(tmp_path),
                "materialize",
                "profile",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: client.dbsize() > 20_000)
        process.send_signal(signal.SIGSTOP)
        assert client.dbsize() < users
        newer = generation(2, users).drop_columns("t")
        wait_for(lambda: not client.exists("fs:@lock:profile"))
        assert store.write_batch("profile", newer).rows_written == users
        assert of_generation(client, 2, users) == users
        process.send_signal(signal.SIGCONT)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1
        assert b"lost the lock of feature view 'profile'" in error
        assert of_generation(client, 1, users) <= ROWS_OF_A_CHUNK
        assert not immortal(client)


def test_a_source_that_is_slow_does_not_make_its_server_look_silent(
    valkey: Server, tmp_path: Path
) -> None:
    def lines() -> Iterator[str]:
        for i in range(1536):
            if i == 1024:
                time.sleep(1.5)
            yield json.dumps({"user_id": f"u{i}", "model": "x" * 4000})

    with applied(tmp_path, f"{valkey.url}?load_timeout=1s") as store:
        assert store.write_jsonl("scores", lines()).rows_written == 1536


def test_a_load_that_loses_its_lock_stops(valkey: Server, shop: FeatureStore) -> None:
    started, end = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool, valkey.client() as client:
        load = pool.submit(shop.write_jsonl, "scores", slow_lines(started, end))
        started.wait(60)
        client.set("fs:@lock:scores", "another's", px=60_000)
        time.sleep(2.2)  # a renewal is due
        end.set()
        with pytest.raises(LockedError, match="lost the lock"):
            load.result(60)
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
        store = open_store(proxy.url, Path(), options=PATIENT)
        store.call("PING")
        proxy.to_client.cut_after(1)
        with ViewLock(store, "fs", "profile", now_ms):
            assert client.exists("fs:@lock:profile")
            proxy.to_client.cut_after(1)
        assert not client.exists("fs:@lock:profile")
        store.close()


def test_a_lock_left_behind_by_this_process_keeps_nobody_out(valkey: Server) -> None:
    with FaultProxy(valkey.socket) as proxy, valkey.client() as client:
        store = open_store(proxy.url, Path(), options=PATIENT)
        store.call("PING")
        proxy.to_client.cut_after(1, again=True)  # taken, but its replies are lost
        with pytest.raises(StoreUnavailableError), ViewLock(store, "fs", "profile", now_ms):
            pass
        proxy.heal()
        assert client.exists("fs:@lock:profile")
        with ViewLock(store, "fs", "profile", now_ms), pytest.raises(LockedError):
            ViewLock(store, "fs", "profile", now_ms).__enter__()
        store.close()
