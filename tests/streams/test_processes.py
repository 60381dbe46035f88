"""Worker processes that are killed, stopped, or lose their server lose no events."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from featurekit import FeatureStore, StreamOptions
from featurekit.runtime.worker import WorkerOptions
from tests.servers import Server, running, valkey_binary
from tests.streams.repositories import fields_without_ttl, repository
from tests.streams.worker_processes import counts, emit, ended, forked, newest, until, worker

pytestmark = pytest.mark.slow

PACE = WorkerOptions(batch_size=50, wait_s=0.05, min_retry_s=0.02, max_retry_s=0.2)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def work(store: FeatureStore, consumer: str) -> None:
    store.streams.run(["activity"], StreamOptions(consumer=consumer, worker=PACE))


def pending(client: redis.Redis) -> int:
    summary = client.xpending("activity-events", "shop-activity")
    assert isinstance(summary, dict)
    return int(summary["pending"])


@pytest.mark.parametrize("names", [("w",) * 10, tuple(f"w{i}" for i in range(10))])
def test_killed_workers_lose_no_events(
    store: FeatureStore, client: redis.Redis, names: tuple[str, ...]
) -> None:
    rng = random.Random(3)
    total = 0
    for name in names:
        with forked(partial(work, store, name)):
            emit(client, total, 300, users=10**6)
            total += 300
            time.sleep(rng.uniform(0, 0.06))
    pace = WorkerOptions(wait_s=0.05)
    store.streams.run(["activity"], StreamOptions("w", claim_after_ms=1, once=True, worker=pace))
    assert pending(client) == 0
    assert counts(client, total) == list(range(total))
    assert fields_without_ttl(client) == []


def test_a_worker_asked_to_stop_writes_and_acknowledges_what_it_read(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 20_000)
    with worker(store.path, "activity", "--consumer", "w", "--batch", "100", "--json") as process:
        until(lambda: max(counts(client)) > 1000)
        began = time.monotonic()
        code, out, err = ended(process)
        assert time.monotonic() - began < 30
    assert (code, err) == (0, "")
    report = json.loads(out.splitlines()[-1])
    [group] = client.xinfo_groups("activity-events")
    assert (pending(client), report["written"]) == (0, group["entries-read"])
    assert counts(client) == newest(report["read"])


def test_an_interrupt_stops_a_worker_which_then_reports(
    store: FeatureStore, client: redis.Redis
) -> None:
    emit(client, 0, 100)
    client.xadd("activity-events", {"user_id": "u1", "count": "x"})
    with worker(store.path, "--interval", "200ms") as process:
        until(lambda: counts(client) == newest(100))
        time.sleep(0.3)
        code, out, err = ended(process, signal.SIGINT)
    assert code == 0
    assert "activity: " in out
    assert ", 100 written, 1 rejected, lag 0, newest " in out
    assert "session: 0 events/s, 0 written, lag 0\n" in out
    assert "'x' is not an int64" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_without_its_server_stops_in_time(tmp_path: Path, number: int) -> None:
    with running(valkey_binary()) as server, repository(tmp_path, server.url) as store:
        with server.client() as client:
            emit(client, 0, 10)
            with worker(store.path, "activity", "--interval", "300ms") as process:
                until(lambda: counts(client, 10) == newest(10, 10))
                server.process.send_signal(number)
                time.sleep(0.5)
                began = time.monotonic()
                code, _, err = ended(process)
                assert time.monotonic() - began < 30
        assert code == 0
        assert number == signal.SIGSTOP or "waiting: nothing listens at unix://" in err


def test_a_worker_continues_after_its_server_restarts(tmp_path: Path) -> None:
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with running(valkey_binary(), *durable) as server, repository(tmp_path, server.url) as store:
        stop = threading.Event()
        how = StreamOptions(consumer="w", worker=PACE)
        thread = threading.Thread(target=lambda: store.streams.run(["activity"], how, stop=stop))
        thread.start()
        for turn in range(3):
            with server.client() as client:
                emit(client, turn * 500, 500)
            server.stop()
            server.start()
        with server.client() as client:
            until(lambda: counts(client) == newest(1500))
            until(lambda: pending(client) == 0)
            assert fields_without_ttl(client) == []
        stop.set()
        thread.join()
