"""The HTTP server over a cluster."""

from __future__ import annotations

from pathlib import Path

from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.clusters import Cluster
from tests.promise.repos import FRAUD, applied
from tests.testclient import TestClient


def test_rows_are_written_and_read_over_http(valkeys: Cluster, tmp_path: Path) -> None:
    ids = [f"u{i}" for i in range(30)]
    with (
        applied(tmp_path, valkeys.url, FRAUD, registry="online") as store,
        TestClient(create_app(ServerContext(store))) as client,
    ):
        assert client.get("/ready").json()["ready"] is True
        rows = [{"user_id": each, "tx_count_5m": n} for n, each in enumerate(ids)]
        response = client.post("/v1/views/activity/write", json={"rows": rows})
        assert response.json()["written"] == 30
        frame = {"user_id": ids, "country": ["NO"] * 30}
        push = {"push_source_name": "profile", "df": frame}
        assert client.post("/push", json=push).status_code == 200
        asked = {"entities": {"user_id": ids}, "feature_service": "fraud_v1"}
        answer = client.post("/get-online-features", json=asked).json()
        names = answer["metadata"]["feature_names"]
        columns = dict(zip(names, answer["results"], strict=True))
        assert columns["tx_count_5m"]["values"] == list(range(30))
        assert columns["country"]["values"] == ["NO"] * 30
        counted = client.get("/metrics").text
    assert (
        'featurekit_http_requests_total{method="POST",route="/push",status="200"} 1.0' in counted
    )
