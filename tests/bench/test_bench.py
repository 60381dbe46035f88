from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.promise.repos import applied
from tests.servers import Server

from featurekit import FeatureStore
from featurekit.bench import run, run_bench
from featurekit.bench.workload import sample_columns
from featurekit.errors import RequestError, StoreError


@pytest.fixture
def store(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url) as opened:
        yield opened


def keys(server: Server) -> list[bytes]:
    with server.client() as client:
        return list(client.scan_iter("fs:*"))


def test_it_reports_reads_and_a_load_and_leaves_no_key(
    store: FeatureStore, valkey: Server
) -> None:
    report = run_bench(store, entities=1000, seconds=0.1)
    assert [read.entities for read in report.reads] == [1, 100, 1000]
    assert report.load.rows == 1000
    assert set(report.to_dict()) == {"server", "reads", "load"}
    assert keys(valkey) == []


def test_an_interrupted_run_leaves_no_key(
    store: FeatureStore, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(rows: object) -> None:
        assert len(keys(valkey)) == 1000
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "decode_by_hand", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_bench(store, entities=1000, seconds=0.1)
    assert keys(valkey) == []


def test_its_values_are_the_same_in_each_run() -> None:
    assert sample_columns(50) == sample_columns(50)


def test_it_needs_enough_entities_and_time(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="at least 1000, not 10"):
        run_bench(store, entities=10)
    with pytest.raises(RequestError, match="greater than 0"):
        run_bench(store, seconds=0)


def test_it_needs_a_server(tmp_path: Path) -> None:
    with (
        applied(tmp_path, "memory://bench") as store,
        pytest.raises(StoreError, match="needs a store on a server, not memory://bench"),
    ):
        run_bench(store, entities=1000, seconds=0.1)
