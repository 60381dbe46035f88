"""Reads over HTTP, compared with a bare Starlette route that returns as many constant bytes.

Each server runs in its own process with the settings of `featurekit serve`. The client sends
prepared bytes on persistent connections.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles
from time import perf_counter

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featurekit.bench.timing import time_in_turns
from featurekit.bench.workload import entity_ids, sample_table
from featurekit.server.run import Options, uvicorn_config
from tests.benchmarks.environment import bench_repo
from tests.benchmarks.results import Measurement, measurements
from tests.server.server_process import served

SIZES = (1, 100)
CLIENTS = 32
FEAST, ROWS, BARE = "/get-online-features", "/v1/services/all_ten/read", "/constant"


def measure(seconds: float) -> Iterator[Measurement]:
    """Measure one client with 1 and 100 entities of ten features, then many clients at once."""
    with bench_repo("tcp") as repo, served(repo.root) as server:
        repo.store.write_batch("ten", sample_table(max(SIZES)))
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        for size in SIZES:
            yield from _one_client(address, size, seconds)
        with bare(600) as constant:
            for target, path in ((constant, BARE), (address, FEAST), (address, ROWS)):
                yield from asyncio.run(_many_clients(target, path, seconds))


def _one_client(address: tuple[str, int], size: int, seconds: float) -> Iterator[Measurement]:
    for path in (FEAST, ROWS):
        with _Client(address) as ours:
            yield from _compare_with_bare(ours, path, size, seconds)


def _compare_with_bare(
    ours: _Client, path: str, size: int, seconds: float
) -> Iterator[Measurement]:
    request, asked = question(path, entity_ids(size)), question(BARE, entity_ids(size))
    answer = ours.ask(request)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    length = len(answer.partition(b"\r\n\r\n")[2])
    with bare(length) as address, _Client(address) as constant:
        functions = {"bare route": lambda: constant.ask(asked), path: lambda: ours.ask(request)}
        result = time_in_turns(functions, seconds)
    yield from measurements(f"HTTP, {size} x 10, {length} bytes", result, "bare route", "")


async def _many_clients(address: tuple[str, int], path: str, seconds: float) -> list[Measurement]:
    request = question(path, entity_ids(1))
    late = perf_counter() + seconds
    times: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(*address)
        while (began := perf_counter()) < late:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readexactly(_length(head))
            times.append(perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    cuts = quantiles(times, n=100)
    work = f"HTTP, {CLIENTS} clients, 1 x 10"
    return [
        Measurement(work, f"{path} p50", cuts[49] * 1000),
        Measurement(work, f"{path} p99", cuts[98] * 1000, of_lower_bound=cuts[98] / cuts[49]),
        Measurement(work, f"{path} rate", len(times) / seconds, unit="/s"),
    ]


def question(path: str, ids: list[str]) -> bytes:
    """Return the bytes of a request."""
    asked: dict[str, object] = {"entities": [{"user_id": each} for each in ids]}
    if path != ROWS:
        asked = {"entities": {"user_id": ids}, "feature_service": "all_ten"}
    body = json.dumps(asked).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client:
    """A persistent connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send a request and return its whole response."""
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._socket.recv(65536)
        whole = end + 4 + _length(answer[:end])
        while len(answer) < whole:
            answer += self._socket.recv(65536)
        return answer

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])


@contextmanager
def bare(length: int) -> Iterator[tuple[str, int]]:
    """Run the bare route in its own process during the block; yield its address."""
    code = f"from tests.benchmarks.http import serve_bare; serve_bare({length})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield ("127.0.0.1", int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def serve_bare(length: int) -> None:
    """Serve the constant until terminated; print the port first."""
    constant = b" " * length

    async def answer(_request: Request) -> Response:
        return Response(constant, media_type="application/json")

    make: Callable[[], Starlette] = lambda: Starlette(  # noqa: E731 - a one-line factory
        routes=[Route(BARE, answer, methods=["POST"])]
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn_config(Options(), make)).run([listener])
