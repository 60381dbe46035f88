"""Kills, cut connections and refusals: events stay complete, and every field keeps a TTL."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

from featurekit import FeatureStore
from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.runtime.write_arguments import Values
from tests.fault_proxy import FaultProxy
from tests.servers import Server
from tests.streams.repositories import fields_without_ttl, repository, stored
from tests.streams.worker_processes import forked


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("view", ["activity", "session"])
def test_writers_killed_at_random_leave_complete_events(
    store: FeatureStore, server: Server, view: str
) -> None:
    names = {"activity": (b"count", b"failed"), "session": (b"step", b"page")}[view]
    rng = random.Random(view)
    for _ in range(settings().max_examples // 10):
        sure = killed_after(partial(feed, store, view), rng.uniform(0.0, 0.05))
        with server.client() as client:
            assert fields_without_ttl(client) == []
            for user in range(20):
                found = client.hgetall(f"fs:user:u{user}")
                assert found[names[0]] == found[names[1]], found
                assert int(found[names[0]]) >= sure
            client.delete(*client.keys("fs:*"))


def feed(store: FeatureStore, view: str, report: Callable[[int], None]) -> None:
    """Write events in batches and one by one; report the last number surely written."""
    writer = store.stream_writer(view)
    for number in itertools.count(1):
        at = now_ms()
        if view == "session":
            timed: Values = {"step": number, "page": str(number)}
            writer.write_many([(f"u{i}", timed, at) for i in range(20)])
            writer.write("u0", {**timed, "score": 0.5}, event_timestamp=at)
        else:
            values: Values = {"count": number, "failed": number}
            writer.write_many([(f"u{i}", values) for i in range(20)])
            writer.write("u0", {**values, "device": None})
        report(number)


def killed_after(work: Callable[[Callable[[int], None]], None], seconds: float) -> int:
    """Kill a process some time after its first report; return its last report."""
    reading, writing = os.pipe()
    with forked(lambda: work(lambda number: os.write(writing, b"%d\n" % number))):  # type: ignore[arg-type]
        os.close(writing)
        reported = os.read(reading, 1)
        time.sleep(seconds)
    with os.fdopen(reading, "rb") as rest:
        reported += rest.read()
    return int(reported.split()[-1])


@pytest.fixture
def proxied(server: Server, tmp_path: Path) -> Iterator[tuple[FeatureStore, FaultProxy]]:
    with FaultProxy(server.socket) as proxy:
        url = f"{proxy.url}?retries=0"
        with repository(tmp_path, url) as store:
            yield store, proxy
        with server.client() as client:
            assert fields_without_ttl(client) == []


@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_connections_cut_anywhere_leave_complete_events(
    proxied: tuple[FeatureStore, FaultProxy], server: Server, way: str
) -> None:
    store, proxy = proxied
    writers = {view: store.stream_writer(view) for view in ("activity", "session")}
    for writer in writers.values():
        writer.write_many([])
    direction = getattr(proxy, way)
    for count in [1, 3, 7, 20, 44, 60, 90, 130, 200, 300, 900]:
        at = now_ms()
        direction.cut_after(count)
        try_writing(store, count, at)
        proxy.heal()
        found = stored(server, "fs:user:u1")
        assert (b"count" in found) == (b"failed" in found)
        assert found.get(b"count") == found.get(b"failed")
        assert (b"step" in found) == (b"@session" in found)
        with server.client() as client:
            assert fields_without_ttl(client) == []
        assert writers["activity"].write("u1", {"count": 1, "failed": 1})
        assert writers["session"].write("u1", {"step": 1}, event_timestamp=at + 1)


def try_writing(store: FeatureStore, number: int, at: int) -> None:
    """Write both views over a connection that may be cut."""
    values: dict[str, object] = {"count": number, "failed": number, "device": None}
    writers = (store.stream_writer("activity"), store.stream_writer("session"))
    try:
        writers[0].write("u1", values)
        writers[0].write_many([("u1", values)] * 5)
        writers[1].write("u1", {"step": number, "page": "p"}, event_timestamp=at)
    except StoreUnavailableError:
        pass


def test_a_cut_load_of_events_is_completed_by_retrying(server: Server, tmp_path: Path) -> None:
    with FaultProxy(server.socket) as proxy, repository(tmp_path, proxy.url) as store:
        writer = store.stream_writer("activity")
        events = [(f"u{i}", {"count": i, "failed": i}) for i in range(2000)]
        writer.write_many(events[:1])
        proxy.to_server.cut_after(50_000)
        assert writer.write_many(events).written == 2000
        proxy.to_client.cut_after(1000)
        assert writer.write_many(events).written == 2000
        assert stored(server, "fs:user:u1999") == {b"count": b"1999", b"failed": b"1999"}


@pytest.mark.parametrize("right", ["hset", "hsetex", "hpexpire", "hpexpireat", "evalsha", "multi"])
def test_a_revoked_permission_leaves_no_field_without_expiry(
    server: Server, tmp_path: Path, right: str
) -> None:
    with server.client() as client:
        rights = ["+@all"]
        client.acl_setuser("w", enabled=True, passwords=["+p"], keys="*", commands=rights)
        url = server.url.replace("unix://", "unix://w:p@")
        try:
            with repository(tmp_path, url) as store:
                activity, session = store.stream_writer("activity"), store.stream_writer("session")
                assert activity.write("u1", {"count": 1})
                assert session.write("u1", {"step": 1}, event_timestamp=now_ms())
                has_hsetex = store.handle.store.capabilities.hsetex
                if (right == "hsetex") != has_hsetex and right not in ("evalsha", "multi"):
                    return  # this server is written to without it
                client.acl_setuser("w", enabled=True, commands=[f"-{right}"])
                refusals = 0
                for values in ({"count": 2}, {"count": 2, "failed": 2}):
                    refusals += is_refused(partial(activity.write, "u1", values))
                at = now_ms() + 1
                refusals += is_refused(
                    partial(session.write, "u1", {"step": 2, "page": "p"}, event_timestamp=at)
                )
                assert fields_without_ttl(client) == []
                report = activity.write_many(
                    [("u2", {"count": 2, "failed": 2})], on_bad_event="skip"
                )
                assert ("NOPERM" in report.refusal) == bool(report.rejected)
                found = stored(server, "fs:user:u1")
                assert found[b"count"] == found.get(b"failed", found[b"count"])
                assert refusals
        finally:
            client.acl_deluser("w")


def is_refused(write: Callable[[], object]) -> bool:
    try:
        write()
    except StoreError as error:
        return "NOPERM" in error.message or "ACL" in error.message
    return False


def test_a_full_server_accepts_complete_events_or_none(
    store: FeatureStore, server: Server
) -> None:
    activity, session = store.stream_writer("activity"), store.stream_writer("session")
    activity.write("u0", {"count": 0})
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            events = [(f"u{i}", {"count": 5, "failed": 5}) for i in range(300)]
            report = activity.write_many(events, on_bad_event="skip")
            assert (report.written, len(report.rejected)) == (0, 300)
            assert report.refusal.startswith("OOM")
            timed = [(f"u{i}", {"step": 5, "page": "p"}, now_ms()) for i in range(300)]
            report = session.write_many(timed, on_bad_event="skip")
            assert (report.written, report.refusal[:3]) == (0, "OOM")
            with pytest.raises(StoreError, match="OOM"):
                session.write("u0", {"step": 1}, event_timestamp=now_ms())
        finally:
            client.config_set("maxmemory", 0)
        assert fields_without_ttl(client) == []
        assert client.keys("fs:*") == [b"fs:user:u0"]


def test_a_write_to_a_replica_is_refused_and_changes_nothing(
    store: FeatureStore, server: Server
) -> None:
    writer = store.stream_writer("session")
    writer.write("u1", {"step": 1}, event_timestamp=now_ms())
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(
                StoreUnavailableError, match="does not accept writes: it is a replica now"
            ):
                writer.write_many([("u1", {"step": 2}, now_ms())], on_bad_event="skip")
            with pytest.raises(
                StoreUnavailableError, match="does not accept writes: it is a replica now"
            ):
                writer.write("u1", {"step": 2}, event_timestamp=now_ms())
        finally:
            client.replicaof("NO", "ONE")


def test_batch_and_stream_on_the_same_entities_lose_no_field_and_no_ttl(
    store: FeatureStore, server: Server
) -> None:
    late = time.monotonic() + 2
    users = [f"u{i}" for i in range(40)]
    rounds = {"batch": 0, "activity": 0, "session": 0, "look": 0}
    faults: list[BaseException] = []

    activity, session = store.stream_writer("activity"), store.stream_writer("session")
    acts: dict[str, Callable[[int], object]] = {
        "batch": lambda n: store.write_batch(
            "profile", {key: {"tx_count_7d": n} for key in users}
        ),
        "activity": lambda n: activity.write_many([(u, {"count": n, "failed": n}) for u in users]),
        "session": lambda n: session.write_many([(u, {"step": n}, now_ms()) for u in users]),
        "look": lambda _: no_immortal(server),
    }

    def repeat(name: str) -> None:
        while time.monotonic() < late:
            rounds[name] += 1
            acts[name](rounds[name])

    run_all([partial(repeat, name) for name in acts], faults)
    assert faults == []
    for user in users:
        found = stored(server, f"fs:user:{user}")
        assert found[b"tx_count_7d"] == b"%d" % rounds["batch"]
        assert found[b"count"] == found[b"failed"] == b"%d" % rounds["activity"]
        assert found[b"step"] == b"%d" % rounds["session"]


def no_immortal(server: Server) -> None:
    with server.client() as client:
        assert fields_without_ttl(client) == []


def run_all(targets: list[Callable[[], None]], faults: list[BaseException]) -> None:
    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - reported by the test
            faults.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_restarted_server_accepts_events_again(tmp_path: Path, valkey: Server) -> None:
    with repository(tmp_path, valkey.url) as store:
        writer = store.stream_writer("session")
        writer.write("u1", {"step": 1}, event_timestamp=now_ms())
        valkey.stop()
        with pytest.raises(StoreUnavailableError):
            writer.write("u1", {"step": 2}, event_timestamp=now_ms())
        valkey.start()
        assert writer.write("u1", {"step": 3}, event_timestamp=now_ms())
