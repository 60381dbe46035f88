"""`GET /metrics` with one and several processes."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.context import ServerContext
from featurekit.server.metrics_endpoint import SNAPSHOT_INTERVAL_S
from tests.promise.repos import FRAUD, applied
from tests.server.server_process import Served, served, wait_until
from tests.servers import Server
from tests.streams.repositories import repository
from tests.testclient import TestClient

READ = {"entities": [{"user_id": "u1"}], "features": ["profile:country"]}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return all samples by name and label values, sorted by label."""
    return {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_method_and_status(store: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(store)))
    client.post("/v1/features/read", json=READ)
    client.post("/v1/features/read", json={})
    client.get("/v1/views/profile")
    client.get("/v1/views/nothing")
    client.get("/nowhere")
    client.delete("/health")
    result = samples(client.get("/metrics").text)
    name = "featurekit_http_requests_total"
    assert result[name, "POST", "/v1/features/read", "200"] == 1
    assert result[name, "POST", "/v1/features/read", "422"] == 1
    assert result[name, "GET", "/v1/views/{name}", "200"] == 1
    assert result[name, "GET", "/v1/views/{name}", "404"] == 1
    assert result[name, "GET", "unmatched", "404"] == 1
    assert result[name, "DELETE", "unmatched", "405"] == 1
    assert result["featurekit_http_request_seconds_count", "/v1/features/read"] == 2
    assert result["featurekit_features_total", "missing", "profile"] == 1


def test_event_times_read_for_feast_are_not_counted_as_features(
    tmp_path: Path, valkey: Server
) -> None:
    with repository(tmp_path, valkey.url) as store:
        client = TestClient(create_app(ServerContext(store)))
        body = {"entities": {"user_id": ["u1"]}, "features": ["session:step"]}
        assert client.post("/get-online-features", json=body).is_success
        text = client.get("/metrics").text
    assert samples(text)["featurekit_features_total", "missing", "session"] == 1
    assert "@session" not in text


def test_metrics_need_a_read_token(store: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(store, tokens=Tokens.parse("read:abc"))))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer abc"}).is_success


@pytest.fixture
def two(tmp_path: Path, valkey: Server) -> FeatureStore:
    with applied(tmp_path, valkey.url, FRAUD) as store:
        return store


def requests(server: Served) -> float:
    result = samples(server.client.get("/metrics").text)
    return result.get(("featurekit_http_requests_total", "POST", "/v1/features/read", "200"), 0)


@pytest.mark.slow
def test_metrics_are_the_sum_of_all_workers_including_dead_ones(
    tmp_path: Path, two: FeatureStore
) -> None:
    with served(tmp_path, "--workers", "2") as server:
        for _ in range(20):
            server.client.post(
                "/v1/features/read", json=READ, headers={"Connection": "close"}
            ).raise_for_status()
        wait_until(lambda: requests(server) == 20)
        time.sleep(
            4 * SNAPSHOT_INTERVAL_S
        )  # what a worker counted since its last snapshot dies with it
        workers = _children(server.process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: workers[0] not in _children(server.process.pid))
        wait_until(lambda: _counts(server, 20))


def _counts(server: Served, wanted: float) -> bool:
    try:
        return requests(server) == wanted
    except httpx2.TransportError:  # the connection was to the worker that died
        return False


def _children(pid: int) -> list[int]:
    """Return the child processes of a process, without multiprocessing's helper."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text, command = status.read_text(), (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if re.search(rf"^PPid:\t{pid}$", text, re.MULTILINE) and "spawn_main" in command:
            found.append(int(status.parent.name))
    return found
