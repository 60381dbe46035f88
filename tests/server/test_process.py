"""The server as a process: its start, its registry, its limits and its shutdown."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from featurekit import FeatureStore
from tests.cli.running import run
from tests.promise.repos import FRAUD, applied, write_repo
from tests.server.server_process import Served, served, wait_until
from tests.servers import Server, patient, running, valkey_binary
from tests.stores.test_access import certificates

READ: dict[str, Any] = {"entities": [{"user_id": "u1"}], "features": ["profile:country"]}


@pytest.fixture(scope="module")
def store_server() -> Iterator[Server]:
    with running(valkey_binary()) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, store_server: Server) -> Path:
    return write_repo(tmp_path_factory.mktemp("repo"), store_server.url, FRAUD)


@pytest.fixture(scope="module")
def ready(folder: Path) -> Path:
    with FeatureStore(folder) as store:
        store.apply()
    return folder


@pytest.fixture(scope="module")
def server(ready: Path) -> Iterator[Served]:
    with served(ready, "--max-body", "1024") as server:
        yield server


def status(server: Served, body: dict[str, Any] = READ) -> int:
    return server.client.post("/v1/features/read", json=body).status_code


def test_a_server_starts_without_a_registry_and_loads_a_new_one(
    tmp_path: Path, store_server: Server
) -> None:
    folder = write_repo(tmp_path, store_server.url, FRAUD)
    with served(folder) as server:
        assert server.started["notes"] == [
            "nothing is applied yet: requests get 503 until you run `featurekit apply`"
        ]
        assert server.client.get("/health").status_code == 200
        assert status(server) == 503
        with FeatureStore(folder) as store:
            store.apply()
        wait_until(lambda: status(server) == 200, 3)
        file = folder / "registry.json"
        file.write_text("{")
        wait_until(lambda: "cannot load the new registry" in server.log, 3)
        assert status(server) == 200


def test_an_endless_request_head_is_refused(server: Served) -> None:
    with server.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\n" + b"X-Long: " + b"x" * 70_000)
        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Served) -> None:
    with server.connect() as client:
        client.sendall(
            b"POST /v1/features/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
        )
        answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()


def test_invalid_http_is_refused(server: Served) -> None:
    with server.connect() as client:
        client.sendall(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_head_request_has_no_body(server: Served) -> None:
    answer = server.client.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_open_request_is_answered_before_shutdown(ready: Path) -> None:
    with served(ready) as server:
        with server.connect() as client:
            head = (
                b"POST /v1/features/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
            )
            client.sendall(head + b"{")
            wait_until(lambda: server.client.get("/health").status_code == 200)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: _refuses(server))
            client.sendall(b"}")
            assert client.recv(1000).startswith(b"HTTP/1.1 422 ")
        assert server.process.wait(60) == 0


def _refuses(server: Served) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.slow
def test_workers_share_the_port_and_stop_together(ready: Path) -> None:
    tokens = {"FEATUREKIT_SERVER_TOKENS": "read:abc"}
    with served(ready, "--workers", "2", **tokens) as server:
        assert server.started["workers"] == 2
        assert status(server) == 401
        server.client.headers["Authorization"] = "Bearer abc"
        assert status(server) == 200
        assert server.stop() == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/health")


@pytest.mark.slow
def test_workers_may_take_long_to_start(ready: Path, tmp_path: Path) -> None:
    slow = "import sys, time\nif '--multiprocessing-fork' in sys.orig_argv: time.sleep(6)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    with served(ready, "--workers", "2", PYTHONPATH=str(tmp_path)) as server:
        assert status(server) == 200


@pytest.mark.slow
def test_an_online_registry_is_served_without_yaml(tmp_path: Path, valkey: Server) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with served(empty, "--project", "shop", "--url", patient(valkey.url)) as server:
        assert server.started["project"] == "shop"
        assert status(server) == 503
        with applied(tmp_path / "repo", valkey.url, registry="online"):
            wait_until(lambda: status(server) == 200, 3)


@pytest.mark.slow
def test_a_server_serves_https(ready: Path, tmp_path: Path) -> None:
    certificates(tmp_path)
    files = [
        "--ssl-certfile",
        str(tmp_path / "own.crt"),
        "--ssl-keyfile",
        str(tmp_path / "own.key"),
    ]
    with served(ready, *files) as server:
        assert server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=tmp_path / "ca.crt")
        answer = httpx2.post(
            f"{server.url}/v1/features/read", json=READ, verify=trusted, timeout=60
        )
    assert answer.status_code == 200


def test_a_port_in_use_is_one_error(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        outcome = run("--repo", str(folder), "serve", "--port", port)
    assert outcome.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--ssl-keyfile", "features.yaml"], "--ssl-keyfile needs a certificate"),
        (["--ssl-certfile", "features.yaml"], "cannot load the certificate"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:0"),
    ],
)
def test_invalid_options_are_reported_at_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(folder)
    outcome = run("serve", "--port", "0", *arguments)
    assert outcome.exit_code == 1
    assert text in outcome.stderr
