"""One partition of a load, as tasks of an engine write it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import BadRowError, LockedError
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.runtime import lock as locks
from featurekit.runtime import partition
from featurekit.runtime.lock import ViewLock
from featurekit.runtime.partition import LoadTicket, write_partition
from tests.promise.repos import applied
from tests.servers import Server

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h}
    fields: {n: {type: int64, min: 0}, name: string}
"""


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, VIEW) as store:
        yield store


def batches(rows: int, size: int = 100, *, n: int = 0) -> Iterator[Any]:
    for start in range(0, rows, size):
        numbers = range(start, min(start + size, rows))
        yield pa.record_batch(
            {
                "user_id": [f"u{i}" for i in numbers],
                "n": [n + i for i in numbers],
                "name": [None if i % 3 else f"name {i}" for i in numbers],
                "_source_row": [i + 1 for i in numbers],
            }
        )


def ticket_of(store: FeatureStore, **options: Any) -> LoadTicket:
    return LoadTicket(store.compiled.view("profile"), store.handle, **options)


def stored(valkey: Server) -> dict[bytes, Any]:
    with valkey.client() as client:
        return {key: client.hgetall(key) for key in client.keys("fs:user:*")}


def test_a_partition_writes_what_a_load_writes_and_can_be_repeated(
    store: FeatureStore, valkey: Server
) -> None:
    store.write_batch("profile", pa.Table.from_batches(batches(250)).drop(["_source_row"]))
    expected = stored(valkey)
    with valkey.client() as client:
        client.delete(*expected)
    ticket = pickle.loads(pickle.dumps(ticket_of(store)))
    for _ in range(2):
        report = write_partition(ticket, batches(250))
        assert (report.rows_written, report.rows_rejected) == (250, 0)
        assert stored(valkey) == expected


def test_a_row_that_does_not_fit_stops_a_partition_or_is_counted(store: FeatureStore) -> None:
    with pytest.raises(BadRowError, match="-1"):
        write_partition(ticket_of(store), batches(10, n=-1))
    report = write_partition(ticket_of(store, skip_bad_rows=True), batches(10, n=-1))
    assert (report.rows_written, report.rows_rejected) == (9, 1)


def test_a_task_of_another_owner_of_the_lock_writes_nothing(
    store: FeatureStore, valkey: Server
) -> None:
    handle = store.handle
    with ViewLock(handle.store, "fs", "profile", handle.now_ms) as lock:
        ticket = ticket_of(store, lock=lock.token)
        assert write_partition(ticket, batches(10)).rows_written == 10
        other = replace(ticket, lock=replace(lock.token, value="other"))
        before = stored(valkey)
        with pytest.raises(LockedError, match="lost the lock"):
            write_partition(other, batches(20, n=5))
        assert stored(valkey) == before


def test_a_task_stops_soon_after_its_load_is_fenced_off(
    store: FeatureStore, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "FENCE_S", 0.0)
    monkeypatch.setattr(locks, "FENCE_S", 0.0)
    handle = store.handle
    with ViewLock(handle.store, "fs", "profile", handle.now_ms) as lock:
        ticket = ticket_of(store, lock=lock.token)

        def rows() -> Iterator[Any]:
            for i, batch in enumerate(batches(1000, 10)):
                if i == 50:
                    lock.fence_off_tasks()
                yield batch

        with pytest.raises(LockedError, match="lost the lock"):
            write_partition(ticket, rows())
        assert len(stored(valkey)) <= 500
        with (
            pytest.raises(LockedError, match="is loading"),
            ViewLock(handle.store, "fs", "profile", handle.now_ms),
        ):
            pass
    with ViewLock(handle.store, "fs", "profile", handle.now_ms):
        pass  # the lock is free once the driver has ended


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://me:secret@h:1/2?timeout=1s", "redis://me@h:1/2?timeout=1s"),
        ("redis://:secret@h", "redis://h"),
        ("redis://h", "redis://h"),
        ("unix://:secret@/run/s", "unix:///run/s"),
        (
            "redis+sentinel://a:secret@h:1,i:2/m?sentinel_password=secret&timeout=1s",
            "redis+sentinel://a@h:1,i:2/m?timeout=1s",
        ),
        ("embedded://folder", "embedded://folder"),
    ],
)
def test_a_handle_for_other_machines_has_no_password(url: str, expected: str) -> None:
    handle = LazyStoreHandle(url, Path(), {"sentinel_password": "secret"}).for_tasks()
    assert handle.url == expected
    assert b"secret" not in pickle.dumps(handle)
    assert handle.passwords == {}
