"""How a load ends if its store or its source fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.errors import SourceError, StoreError
from featurekit.lower.write_group import command_errors
from featurekit.ports import Chunk, OnlineStore
from featurekit.runtime.load import LoadBatch, LoadCallbacks, MaterializeReport, send_batches
from featurekit.stores import open_store
from featurekit.wire import command


def batch_of(*args: bytes) -> LoadBatch:
    return LoadBatch(Chunk(command(*args), 1, 1, 1), command_errors, lambda _: "fs:user:a")


class Source:
    """Yields two batches, then waits as a long query does."""

    def __init__(self, *batches: LoadBatch) -> None:
        self.batches = batches
        self.interrupted = threading.Event()
        self.closed_in: threading.Thread | None = None

    def __iter__(self) -> Iterator[LoadBatch]:
        try:
            yield from self.batches
            self.interrupted.wait()
            raise SourceError("interrupted")
        finally:
            self.closed_in = threading.current_thread()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OnlineStore]:
    store = open_store("memory://", tmp_path)
    yield store
    store.close()


def send(store: OnlineStore, source: Source, stop_after: int = 1000) -> None:
    def on_batch(rows: int) -> None:
        if rows == stop_after:
            raise KeyboardInterrupt

    report = MaterializeReport("profile")
    send_batches(
        store,
        iter(source),
        report,
        skip=False,
        callbacks=LoadCallbacks(on_batch, interrupt=source.interrupted.set),
    )


def test_a_source_has_stopped_when_a_load_raises_an_error_of_the_store(store: OnlineStore) -> None:
    source = Source(
        batch_of(b"SET", b"fs:user:a", b"text"), batch_of(b"HSET", b"fs:user:a", b"n", b"1")
    )
    with pytest.raises(StoreError, match="WRONGTYPE"):
        send(store, source)
    assert source.closed_in is not None
    assert not source.closed_in.is_alive()
    assert source.closed_in.name == "featurekit load"


def test_a_source_has_stopped_when_a_load_is_interrupted(store: OnlineStore) -> None:
    source = Source(batch_of(b"HSET", b"fs:user:b", b"n", b"1"))
    with pytest.raises(KeyboardInterrupt):
        send(store, source, stop_after=1)
    assert source.closed_in is not None
    assert not source.closed_in.is_alive()
