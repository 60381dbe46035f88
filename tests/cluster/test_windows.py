"""Windows on clusters: the mark of a view is in another slot, and read in the same fan-out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.clusters import Cluster
from tests.windows.test_reads import MARK, REPO, VIEWS


@pytest.fixture
def shop(valkeys: Cluster, tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "featurerepo.yaml").write_text(REPO.replace("URL", valkeys.url))
    (tmp_path / "f.yaml").write_text(VIEWS)
    with FeatureStore(tmp_path) as store:
        store.apply()
        yield store


async def test_windows_are_read_under_their_mark(shop: FeatureStore, valkeys: Cluster) -> None:
    ids = [f"u{i}" for i in range(40)]
    writer = shop.stream_writer("pushed")
    writer.write_many([(each, {"points": i}) for i, each in enumerate(ids)])
    time.sleep(0.01)
    reader = shop.online_reader("all_v1")
    rows = reader.read_many(ids)
    assert [row.total for row in rows] == [*range(40)]
    assert {row.statuses["n"] for row in rows} == {"stale"}
    with valkeys.client() as client:
        client.hset(MARK, "p0", str(int(time.time() * 1000)))
    for rows in (reader.read_many(ids), await reader.read_many_async(ids)):
        assert {(row.n, row.statuses["n"]) for row in rows} == {(0, "present")}
    response = shop.get_online_features("tx_v1", {"user_id": ids})
    assert response.to_dict()["n"] == [0] * 40
    assert reader.read("u7").pushes == 1
