"""Reads over HTTP, beside a bare Starlette route that answers a constant of the same size.

Both run in processes of their own under the very settings of `featurekit serve`; the client sends
prepared bytes on connections that are kept.
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
from featurekit.bench.workload import entity_ids, sample_columns
from featurekit.server.run import Options, uvicorn_config
from tests.benchmarks.environment import ground
from tests.benchmarks.results import Row, summary
from tests.server.server_process import served

SIZES = (1, 100)
CLIENTS = 32
FEAST, ROWS, BARE = "/get-online-features", "/v1/services/all_ten/read", "/constant"


def measure(seconds: float) -> Iterator[Row]:
    """One client with 1 and with 100 entities of ten features; then many clients at once."""
    import pyarrow as pa

    with ground("tcp") as place, served(place.root) as server:
        place.store.write_batch("ten", pa.table(sample_columns(max(SIZES))))
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        for size in SIZES:
            yield from _one_client(address, size, seconds)
        with bare(600) as constant:
            for place_of, path in ((constant, BARE), (address, FEAST), (address, ROWS)):
                yield from asyncio.run(_many_clients(place_of, path, seconds))


def _one_client(address: tuple[str, int], size: int, seconds: float) -> Iterator[Row]:
    for path in (FEAST, ROWS):
        with _Client(address) as ours:
            yield from _beside_bare(ours, path, size, seconds)


def _beside_bare(ours: _Client, path: str, size: int, seconds: float) -> Iterator[Row]:
    request, asked = question(path, entity_ids(size)), question(BARE, entity_ids(size))
    answer = ours.ask(request)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    length = len(answer.partition(b"\r\n\r\n")[2])
    with bare(length) as address, _Client(address) as constant:
        contestants = {"bare route": lambda: constant.ask(asked), path: lambda: ours.ask(request)}
        result = time_in_turns(contestants, seconds)
    yield from summary(f"HTTP, {size} x 10, {length} bytes", result, "bare route", "")


async def _many_clients(address: tuple[str, int], path: str, seconds: float) -> list[Row]:
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
        Row(work, f"{path} p50", cuts[49] * 1000),
        Row(work, f"{path} p99", cuts[98] * 1000, of_least=cuts[98] / cuts[49]),
        Row(work, f"{path} rate", len(times) / seconds, unit="/s"),
    ]


def question(path: str, ids: list[str]) -> bytes:
    """A request as it is sent."""
    asked: dict[str, object] = {"entities": [{"user_id": each} for each in ids]}
    if path != ROWS:
        asked = {"entities": {"user_id": ids}, "feature_service": "all_ten"}
    body = json.dumps(asked).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client:
    """A connection that is kept."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send a request and wait for all of its answer."""
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
    """The bare route in a process of its own, while the block runs; gives its address."""
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
    """Serve the constant until terminated; prints the port."""
    constant = b" " * length

    async def answer(_request: Request) -> Response:
        return Response(constant, media_type="application/json")

    make: Callable[[], Starlette] = lambda: Starlette(  # noqa: E731 - a factory in a word
        routes=[Route(BARE, answer, methods=["POST"])]
    )
    with socket.create_server(("127.0.0.1", 0)) as place:
        print(place.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn_config(Options(), make)).run([place])
