"""Timeouts of slow clients and silent stores."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from featurekit import FeatureStore
from featurekit.server import protocol, run
from featurekit.server.context import Limits, ServerContext
from tests.promise.repos import FRAUD, write_repo
from tests.server.server_process import listening, wait_until

HEAD = b"POST /v1/features/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


@pytest.fixture
def address(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of a server that waits for nothing for long."""
    for name in ("HEAD_TIMEOUT_S", "DISCARD_TIMEOUT_S", "STALL_TIMEOUT_S"):
        monkeypatch.setattr(protocol, name, 0.3)
    monkeypatch.setattr(run, "KEEP_ALIVE_S", 1)
    with listening(ServerContext(store, Limits(body_timeout_s=0.3))) as address:
        yield address


@pytest.fixture
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=60) as client:
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
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}?timeout=1s&connect_timeout=1s"
        write_repo(tmp_path, url, FRAUD, registry="online")
        with FeatureStore(tmp_path) as store, listening(ServerContext(store)) as (host, port):
            answers: list[int] = []
            body = {"entities": [], "features": ["profile:country"]}
            place = f"http://{host}:{port}"

            def read() -> None:
                path = f"{place}/v1/features/read"
                answers.append(httpx2.post(path, json=body, timeout=60).status_code)

            reading = threading.Thread(target=read)
            reading.start()
            assert httpx2.get(f"{place}/health", timeout=60).status_code == 200
            assert answers == []
            reading.join()
    assert answers == [503]


def trickle(client: socket.socket, data: bytes) -> bytes:
    """Send a byte at a time for some seconds, until the server ends the connection."""
    received = b""
    client.settimeout(0.05)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            client.sendall(data)
            part = client.recv(1000)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return received
        if not part:
            return received
        received += part
    raise AssertionError("the server kept the connection")


@pytest.mark.parametrize("target", ["/nowhere", "/v1/features/read"])
def test_a_body_whose_request_is_answered_is_not_read_for_ever(
    client: socket.socket, target: str
) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100000\r\n\r\n"
    client.sendall(head.encode())
    assert trickle(client, b"x").startswith(b"HTTP/1.1 40")


def test_a_chunked_body_whose_request_is_answered_is_not_read_for_ever(
    client: socket.socket,
) -> None:
    client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert trickle(client, b"1\r\nx\r\n").startswith(b"HTTP/1.1 404 ")


def test_line_ends_between_requests_do_not_keep_a_connection(client: socket.socket) -> None:
    client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert trickle(client, b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_connection_goes_on_after_a_body_that_was_not_read(client: socket.socket) -> None:
    start = time.monotonic()
    for _ in range(3):
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 404 ")
        client.sendall(b"123456789")
    assert client.recv(1000) == b""
    assert time.monotonic() - start > 0.6  # the pause that is allowed between requests


@pytest.mark.parametrize("close", ["", "Connection: close\r\n"])
def test_a_client_that_never_reads_is_disconnected(address: tuple[str, int], close: str) -> None:
    entities = [{"user_id": "u"}] * 5000
    views = ["profile", "scores", "activity"]
    asked = {"features": views, "entities": entities, "freshness": True, "timeout_s": 20}
    body = json.dumps(asked | {"full_feature_names": True})
    head = f"POST /v1/features/read HTTP/1.1\r\nHost: localhost\r\n{close}"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        client.sendall(request)
        errors = select.poll()
        errors.register(client, 0)
        wait_until(lambda: bool(errors.poll(20)))


def test_a_client_that_reads_slowly_gets_the_whole_response(client: socket.socket) -> None:
    count = 100
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * count
    writer = threading.Thread(target=client.sendall, args=(request,))
    writer.start()
    received = bytearray()
    while received.count(b"HTTP/1.1 200 OK") < count:
        part = client.recv(100_000)
        assert part
        received += part
        time.sleep(0.005)
    writer.join()
