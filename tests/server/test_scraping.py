"""`GET /metrics`, of one process and of several."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from featurekit import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.auth import Tokens
from featurekit.server.context import ServerContext
from featurekit.server.metrics_endpoint import SNAPSHOT_INTERVAL_S
from tests.promise.repos import FRAUD, applied
from tests.server.running import Served, served, wait_until
from tests.servers import Server
from tests.streams.repos import repository

READ = {"entities": [{"user_id": "u1"}], "features": ["profile:country"]}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """All samples by their name and the values of their labels, in the order of these."""
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
    told = samples(client.get("/metrics").text)
    name = "featurekit_http_requests_total"
    assert told[name, "POST", "/v1/features/read", "200"] == 1
    assert told[name, "POST", "/v1/features/read", "422"] == 1
    assert told[name, "GET", "/v1/views/{name}", "200"] == 1
    assert told[name, "GET", "/v1/views/{name}", "404"] == 1
    assert told[name, "GET", "unmatched", "404"] == 1
    assert told[name, "DELETE", "unmatched", "405"] == 1
    assert told["featurekit_http_request_seconds_count", "/v1/features/read"] == 2
    assert told["featurekit_features_total", "missing", "profile"] == 1


def test_event_times_that_feasts_route_reads_are_no_features(
    tmp_path: Path, valkey: Server
) -> None:
    with repository(tmp_path, valkey.url) as store:
        client = TestClient(create_app(ServerContext(store)))
        body = {"entities": {"user_id": ["u1"]}, "features": ["session:step"]}
        assert client.post("/get-online-features", json=body).is_success
        text = client.get("/metrics").text
    assert samples(text)["featurekit_features_total", "missing", "session"] == 1
    assert "@session" not in text


def test_metrics_are_for_those_who_may_read(store: FeatureStore) -> None:
    client = TestClient(create_app(ServerContext(store, tokens=Tokens.parse("read:abc"))))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer abc"}).is_success


@pytest.fixture
def two(tmp_path: Path, valkey: Server) -> FeatureStore:
    with applied(tmp_path, valkey.url, FRAUD) as store:
        return store


def requests(server: Served) -> float:
    told = samples(server.client.get("/metrics").text)
    return told.get(("featurekit_http_requests_total", "POST", "/v1/features/read", "200"), 0)


def test_workers_are_told_of_together_and_what_died_stays_counted(
    tmp_path: Path, two: FeatureStore
) -> None:
    with served(tmp_path, "--workers", "2") as server:
        for _ in range(20):
            server.client.post(
                "/v1/features/read", json=READ, headers={"Connection": "close"}
            ).raise_for_status()
        wait_until(lambda: requests(server) == 20)
        time.sleep(
            1.5 * SNAPSHOT_INTERVAL_S
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
    """The processes that a process started, but for the helper of multiprocessing."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text, command = status.read_text(), (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if re.search(rf"^PPid:\t{pid}$", text, re.MULTILINE) and "spawn_main" in command:
            found.append(int(status.parent.name))
    return found
