"""A TCP proxy on loopback that injects faults.

with FaultProxy(server.socket) as proxy:  # forwards 127.0.0.1:proxy.port to a unix socket
    proxy.to_client.cut_after(100)  # 100 more bytes of replies, then the connection dies
    proxy.to_server.cut_after(100)  # the same for requests; the next connection works
    proxy.to_server.cut_after(0, again=True)  # ... or dies the same way, until heal()
    proxy.to_server.drop = True  # discard bytes, keep the connection open
    proxy.to_client.delay = 0.2  # delay each part of a reply by 0.2 s
    proxy.refuse()  # reset open and new connections, until heal()
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass
class Direction:
    """The faults of one direction; any thread may change them at any time."""

    delay: float = 0.0
    drop: bool = False
    passed: int = 0
    cut_at: int | None = None
    again: bool = False

    def cut_after(self, count: int, *, again: bool = False) -> None:
        self.cut_at, self.again = self.passed + count, again

    def must_cut(self) -> bool:
        """Return whether the connection must be cut now: once, unless `again`."""
        if self.cut_at is None or self.passed < self.cut_at:
            return False
        if not self.again:
            self.cut_at = None
        return True

    def heal(self) -> None:
        self.delay, self.drop, self.passed, self.cut_at = 0.0, False, 0, None


class FaultProxy:
    """The proxy, which runs on its own thread."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)
        self.to_server = Direction()
        self.to_client = Direction()
        self.connections = 0
        self.round_trips = 0
        self._answered = True
        self._refusing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Reset every open connection."""
        self._on_loop(self._abort_all)

    def refuse(self) -> None:
        """Reset open connections and every new one."""
        self._refusing = True
        self.reset()

    def heal(self) -> None:
        """Remove all faults; open connections stay open."""
        self._refusing = False
        self.to_server.heal()
        self.to_client.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda _loop, _context: None)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, sock=self._listener)
        )
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _on_loop(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def call() -> None:
            act()
            self._loop.call_soon(done.set)  # after the closes that `act` has scheduled

        self._loop.call_soon_threadsafe(call)
        done.wait(timeout=60)

    def _abort_all(self) -> None:
        for writer in list(self._open):
            self._abort(writer)

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0 and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        self._open.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        if self._refusing:
            self._abort(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self.target)
        except OSError:
            self._abort(writer)
            return
        self._open.add(up_writer)
        pumps = [
            asyncio.create_task(self._pump(reader, up_writer, self.to_server)),
            asyncio.create_task(self._pump(up_reader, writer, self.to_client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._abort(writer)
            self._abort(up_writer)

    def _count(self, way: Direction) -> None:
        """Count a round trip when a request follows a reply."""
        is_request = way is self.to_server
        self.round_trips += is_request and self._answered
        self._answered = not is_request

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction
    ) -> None:
        while data := await reader.read(65536):
            self._count(way)
            if way.drop:
                continue
            await asyncio.sleep(way.delay)
            while data:
                if way.must_cut():
                    return
                size = len(data) if way.cut_at is None else min(len(data), way.cut_at - way.passed)
                way.passed += size
                writer.write(data[:size])
                await writer.drain()
                data = data[size:]
            if way.must_cut():
                return
