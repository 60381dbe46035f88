from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError, StoreError
from featurekit.repo import bench as benches
from tests.promise.repos import applied
from tests.servers import Server


@pytest.fixture
def store(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url) as opened:
        yield opened


def keys(server: Server) -> list[bytes]:
    with server.client() as client:
        return list(client.scan_iter("fs:*"))


def test_it_tells_of_reads_and_a_load_and_leaves_no_key(
    store: FeatureStore, valkey: Server
) -> None:
    report = store.bench(entities=1000, seconds=0.1)
    assert [read.entities for read in report.reads] == [1, 100, 1000]
    assert report.load.rows == 1000
    assert set(report.to_dict()) == {"server", "reads", "load"}
    assert keys(valkey) == []


def test_an_interrupted_one_leaves_no_key_either(
    store: FeatureStore, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(rows: object) -> None:
        assert len(keys(valkey)) == 1000
        raise KeyboardInterrupt

    monkeypatch.setattr(benches, "by_hand", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.bench(entities=1000, seconds=0.1)
    assert keys(valkey) == []


def test_its_values_are_the_same_in_each_run() -> None:
    assert benches.bench_columns(50) == benches.bench_columns(50)


def test_it_needs_a_server_and_enough_entities(tmp_path: Path, valkey: Server) -> None:
    with applied(tmp_path / "a", valkey.url) as store, pytest.raises(RequestError, match="1000"):
        store.bench(entities=10)
    with (
        applied(tmp_path / "b", "memory://bench") as store,
        pytest.raises(StoreError, match="server"),
    ):
        store.bench(entities=1000, seconds=0.1)
