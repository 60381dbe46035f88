"""A primary, a replica and a sentinel that watches them, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import Server

SERVICE = "main"
DOWN_AFTER_MS = 500


def free_ports(count: int) -> list[int]:
    """Return ports that are not in use."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def on_free_port(start: Callable[[int], Server]) -> tuple[int, Server]:
    """Start a server on a free port; try another one if the port was taken meanwhile."""
    for _ in range(4):
        [port] = free_ports(1)
        try:
            return port, start(port)
        except RuntimeError:
            continue
    [port] = free_ports(1)
    return port, start(port)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


class SentinelGroup:
    """A primary, a replica and a sentinel. At the start, the first server is the primary.

    Attributes:
        servers: Maps a port to its server.
        url: A store URL whose first sentinel does not exist.
    """

    def __init__(self, binary: str, *, password: str = "", down_after_ms: int) -> None:
        fast_sync = ("--repl-diskless-sync-delay", "0")
        first, self.first = on_free_port(
            lambda port: Server(binary, *_port_options(port), *fast_sync)
        )
        replicaof = ("--replicaof", f"127.0.0.1 {first}")
        second, self.second = on_free_port(
            lambda port: Server(binary, *_port_options(port), *replicaof, *fast_sync)
        )
        self.servers = {first: self.first, second: self.second}
        until(self._is_replicating)
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {first} 1",
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 2000",
            *([f"requirepass {password}"] if password else []),
        ]
        self.port, self.sentinel = on_free_port(
            lambda port: Server(binary, *_port_options(port), sentinel=lines)
        )
        [unused_port] = free_ports(1)
        self.url = f"redis+sentinel://127.0.0.1:{unused_port},127.0.0.1:{self.port}/{SERVICE}"
        self._password = password
        until(self._is_ready_for_failover)

    def query_sentinel(self, method: str) -> object:
        """Call a method of redis-py on the sentinel: `sentinel_master` or `sentinel_slaves`."""
        with redis.Redis(
            port=self.port,
            password=self._password or None,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return getattr(client, method)(SERVICE)

    @property
    def primary(self) -> Server:
        """The server that the sentinel reports as the primary."""
        state = self.query_sentinel("sentinel_master")
        assert isinstance(state, dict)
        return self.servers[state["port"]]

    @property
    def replica(self) -> Server:
        """The server that is not the primary."""
        return self.second if self.primary is self.first else self.first

    def freeze(self, server: Server) -> None:
        """Suspend a server; its connections stay open."""
        os.kill(server.process.pid, signal.SIGSTOP)

    def thaw(self, server: Server) -> None:
        """Resume a suspended server."""
        os.kill(server.process.pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop all servers and delete their folders."""
        for server in (self.sentinel, self.first, self.second):
            server.remove()

    def _is_ready_for_failover(self) -> bool:
        replicas = self.query_sentinel("sentinel_slaves")
        assert isinstance(replicas, list)
        return [each["master-link-status"] for each in replicas] == ["ok"]

    def _is_replicating(self) -> bool:
        with self.second.client() as client:
            return str(client.info("replication")["master_link_status"]) == "up"


def _port_options(port: int) -> list[str]:
    return ["--port", str(port), "--bind", "127.0.0.1"]


@contextmanager
def sentinel_group(
    binary: str, *, password: str = "", down_after_ms: int = DOWN_AFTER_MS
) -> Iterator[SentinelGroup]:
    """Run a group for the duration of a `with` block."""
    group = SentinelGroup(binary, password=password, down_after_ms=down_after_ms)
    try:
        yield group
    finally:
        group.remove()
