"""Timeouts of slow clients and silent stores."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from featurekit import FeatureStore
from featurekit.server import protocol
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import FRAUD, write_repo
from tests.server.server_process import listening

HEAD = b"POST /v1/features/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


@pytest.fixture
def client(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    with (
        listening(ServerContext(store, Limits(body_timeout_s=0.3))) as address,
        socket.create_connection(address, timeout=20) as client,
    ):
        yield client


def test_a_body_that_does_not_arrive_is_408(client: socket.socket) -> None:
    client.sendall(HEAD + b"{")
    answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body took more than 0.3 s to arrive" in answer
    assert client.recv(1000) == b""


def test_the_timeout_covers_a_body_sent_byte_by_byte(client: socket.socket) -> None:
    client.sendall(HEAD)
    client.settimeout(0.05)
    answer = b""
    for _ in range(20):
        client.sendall(b" ")
        try:
            answer = client.recv(1000)
            break
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nX-Slow:"])
def test_a_connection_without_a_request_is_closed(client: socket.socket, sent: bytes) -> None:
    client.sendall(sent)
    assert client.recv(1000) == b""


def test_the_head_timeout_applies_to_every_request(client: socket.socket) -> None:
    client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    client.sendall(b"GET /health HTTP/1.1\r\n")
    assert client.recv(1000) == b""


def test_a_silent_store_does_not_block_other_requests(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}?timeout=2s"
        write_repo(tmp_path, url, FRAUD, registry="online")
        with FeatureStore(tmp_path) as store, listening(ServerContext(store)) as (host, port):
            answers: list[int] = []
            body = {"entities": [], "features": ["profile:country"]}
            place = f"http://{host}:{port}"

            def read() -> None:
                path = f"{place}/v1/features/read"
                answers.append(httpx2.post(path, json=body, timeout=20).status_code)

            reading = threading.Thread(target=read)
            reading.start()
            assert httpx2.get(f"{place}/health", timeout=20).status_code == 200
            assert answers == []
            reading.join()
    assert answers == [503]
